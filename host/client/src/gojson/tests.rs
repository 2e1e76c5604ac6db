use super::*;
use crate::types::{CreateVolume, Volume};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn escapes_as_go_does() {
    let text = "<a href=\"x\">&\u{2028}\u{2029}\u{8}\u{c}\n\r\t\u{1}\u{7f}ä\\";
    let expected =
        "\"\\u003ca href=\\\"x\\\"\\u003e\\u0026\\u2028\\u2029\\u0008\\u000c\\n\\r\\t\\u0001\u{7f}ä\\\\\"";
    assert_eq!(to_string(text).unwrap(), expected);
}

#[test]
fn indents_with_tabs_and_ends_without_a_newline() {
    let value: BTreeMap<&str, Vec<u8>> = [("a", vec![1, 2]), ("b", vec![])].into();
    assert_eq!(to_string(&value).unwrap(), "{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t],\n\t\"b\": []\n}");
}

#[test]
fn reads_what_go_read() {
    let create =
        parse::<CreateVolume>(br#"{"name": "dv1", "SIZE": null, "backupurl": "u"} trailing"#).unwrap();
    assert_eq!((create.name.as_str(), create.size, create.backup_url.as_str()), ("dv1", 0, "u"));
    assert_eq!(parse::<CreateVolume>(b"null").unwrap(), CreateVolume::default());
    assert_eq!(parse::<CreateVolume>(br#"{"Unknown": 1}"#).unwrap(), CreateVolume::default());
}

#[test]
fn refuses_what_is_no_request() {
    assert_eq!(parse::<CreateVolume>(b" ").unwrap_err().to_string(), "EOF");
    for bad in [&b"{bad"[..], b"[]", br#"{"Name":7}"#, br#"{"Size":"10G"}"#, br#"{"Size":-1}"#, b"\xff"] {
        let error = parse::<CreateVolume>(bad).unwrap_err().to_string();
        assert!(error.starts_with("invalid request: "), "{error}");
    }
    let error = parse::<CreateVolume>(br#"{"Name": "dv1", "size": "10G"}"#).unwrap_err().to_string();
    assert_eq!(error, "invalid request: field \"Size\": invalid type: string \"10G\", expected u64");
}

proptest! {
    #[test]
    fn any_text_reads_back(text in any::<String>()) {
        let printed = to_string(&text).unwrap();
        prop_assert!(!printed.contains(['<', '>', '&', '\n']));
        prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), text);
    }

    #[test]
    fn any_volume_reads_back(name in "\\PC*", info in prop::option::of(prop::collection::btree_map("\\PC*", "\\PC*", 0..4))) {
        let volume = Volume { name, driver_info: info, ..Volume::default() };
        prop_assert_eq!(serde_json::from_str::<Volume>(&to_string(&volume).unwrap()).unwrap(), volume);
    }
}
