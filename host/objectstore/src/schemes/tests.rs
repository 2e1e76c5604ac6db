//! The registry, with a store of its own.

pub(super) mod memory;

use super::*;
use crate::{BackupUrl, Depth, Destination, PutOutcome};

/// What a new store has to do beside its own module is to stand in [`SCHEMES`].
#[tokio::test]
async fn a_store_that_is_registered_is_parsed_set_probed_and_opened() {
    let url: BackupUrl = "memory://lab/nightly?backup=b1&volume=v1".parse().unwrap();
    let at = url.destination.place();
    assert_eq!((at.scheme.name(), at.host.as_str(), at.path.as_str()), ("memory", "lab", "nightly/"));
    assert_eq!("memory://".parse::<Destination>().unwrap_err().to_string(), "a memory has a name");
    assert!(at.admits(at) && at.scheme.abilities().create_if_absent);

    let mut options = StoreOptions::default();
    options.set("label", "x".to_owned());
    assert_eq!(options.check(at.scheme), Ok(()));
    assert_eq!(url.destination.probe(&options).unwrap(), "a memory with the label x");
    options.set("endpoint", "http://e".to_owned());
    let refused = options.check(at.scheme).unwrap_err();
    assert_eq!(refused, ("endpoint", "only an s3:// destination has it".to_owned()));
    let store = url.destination.open(&options).await.unwrap();
    store.put("a/b", "data".into()).await.unwrap();
    assert_eq!(store.put_if_absent("a/b", "other".into()).await.unwrap(), PutOutcome::Exists);
    let again = url.destination.open(&StoreOptions::default()).await.unwrap();
    assert_eq!(again.get_range("a/b", 1..3).await.unwrap(), "at");
    assert_eq!(again.list("", Depth::One, None).await.unwrap().dirs, ["a/"]);
    let elsewhere: Destination = "memory://lab/other/".parse().unwrap();
    assert!(elsewhere.open(&options).await.unwrap().get("a/b", 10).await.is_err());
}

#[test]
fn a_store_that_cannot_lock_or_read_parts_is_refused() {
    let all = scheme("memory").unwrap().abilities();
    let told = |able: Abilities| able.suffice("memory").map_err(|error| error.to_string());
    assert_eq!(told(all), Ok(()));
    assert_eq!(told(Abilities { create_if_absent: false, locks: true, ..all }), Ok(()));
    let refused = |what: &str| Err(format!("stores of memory:// cannot {what}"));
    assert_eq!(told(Abilities { ranges: false, ..all }), refused("read a part of an object"));
    let lockless = Abilities { create_if_absent: false, ..all };
    assert_eq!(told(lockless), refused("create an object only if it is not there"));
}

#[test]
fn a_setting_has_one_kind_in_all_schemes() {
    let all: Vec<_> = SCHEMES.iter().flat_map(|scheme| scheme.settings()).collect();
    for setting in &all {
        assert!(all.iter().all(|it| it.key != setting.key || it.kind == setting.kind), "{}", setting.key);
        assert!(!setting.doc.is_empty(), "{}", setting.key);
    }
}

#[test]
fn the_document_lists_the_settings() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/backups.md");
    let document = std::fs::read_to_string(path).unwrap();
    let rows = |scheme: &&&dyn Scheme| {
        let rows = scheme.settings().iter();
        rows.map(|it| format!("| `{}` | {} |\n", it.key, it.doc)).collect::<String>()
    };
    let table: String =
        SCHEMES.iter().filter(|scheme| scheme.name() != "memory").map(|it| rows(&it)).collect();
    const BEGIN: &str = "<!-- Made from the schemes' settings; do not edit. -->\n\n";
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let head = "| setting of `s3://` | meaning |\n| --- | --- |\n";
    let renewed = format!("{before}{BEGIN}{head}{table}\n{after}");
    if std::env::var_os("CONVOY_UPDATE_DOCS").is_some() {
        return std::fs::write(path, renewed).unwrap();
    }
    assert!(document == renewed, "docs/backups.md is behind: run this test once with CONVOY_UPDATE_DOCS=1");
}
