//! The checked-in schemas: the newest is what the types say, and no minor version breaks an earlier one.
//!
//! `CONVOY_UPDATE_DOCS=1 cargo nextest run -p convoy-driver-sdk schema` writes that of the present version
//! anew. A file of an earlier version is never changed.

// Helpers outside of test functions fail tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod compare;

use compare::breaks;
use convoy_driver_sdk::PROTOCOL_VERSION;
use convoy_driver_sdk::protocol::METHODS;
use convoy_driver_sdk::schema::document;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[test]
fn the_checked_in_schema_is_what_the_types_say() {
    let file = dir().join(format!("{PROTOCOL_VERSION}.json"));
    let expected = format!("{:#}\n", document());
    if std::env::var_os("CONVOY_UPDATE_DOCS").is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{} is out of date: see the head of this file", file.display());
}

#[test]
fn no_minor_version_breaks_an_earlier_one() {
    let present = version(PROTOCOL_VERSION).unwrap();
    let mut earlier = 0;
    for entry in std::fs::read_dir(dir()).unwrap() {
        let path = entry.unwrap().path();
        let of = version(path.file_stem().unwrap().to_str().unwrap()).unwrap();
        assert!(of <= present, "{} is of the future", path.display());
        if of.0 == present.0 && of != present {
            assert_eq!(breaks(&read(&path), &document()), Vec::<String>::new(), "since {}.{}", of.0, of.1);
            earlier += 1;
        }
    }
    assert_eq!(earlier, present.1, "the schema of every minor version is kept");
}

#[test]
fn every_method_has_a_schema() {
    let document = document();
    for method in METHODS {
        for part in ["params", "result"] {
            assert!(document["methods"][method][part].is_object(), "{method} {part}");
        }
    }
}

/// The document with one thing changed.
fn changed(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut document = document();
    change(&mut document);
    breaks(&crate::document(), &document)
}

fn only(found: &[String], expected: &[&str]) {
    assert!(!found.is_empty(), "nothing was found");
    for line in found {
        assert!(expected.iter().all(|part| line.contains(part)), "{line}");
    }
}

#[test]
fn what_breaks_is_found() {
    assert_eq!(changed(|_| {}), Vec::<String>::new());
    let volume = "/$defs/Volume/properties";
    only(
        &changed(|new| drop(new.pointer_mut(volume).unwrap().as_object_mut().unwrap().remove("size"))),
        &["result", "size", "removed"],
    );
    only(
        &changed(|new| {
            new["$defs"]["CreateVolume"]["properties"]["colour"] = json!({"type": "string"});
            new["$defs"]["CreateVolume"]["required"].as_array_mut().unwrap().push("colour".into());
        }),
        &["volume.create params", "colour", "required"],
    );
    only(
        &changed(|new| new["$defs"]["Probed"]["required"] = json!([])),
        &["driver.probe result", "healthy", "no longer required"],
    );
    only(
        &changed(|new| new["$defs"]["Extent"]["properties"]["offset"]["type"] = "string".into()),
        &["snapshot.extents result", "offset", "type"],
    );
    only(
        &changed(|new| new["$defs"]["ListVolumes"]["properties"]["limit"]["format"] = "uint16".into()),
        &["volume.list params", "limit", "format"],
    );
    only(&changed(|new| new["$defs"]["Name"]["maxLength"] = 100.into()), &["maxLength", "100"]);
    only(
        &changed(|new| drop(new["methods"].as_object_mut().unwrap().remove("volume.get"))),
        &["volume.get", "removed"],
    );
    only(
        &changed(|new| drop(new["notifications"].as_object_mut().unwrap().remove("log"))),
        &["log", "removed"],
    );
}

#[test]
fn sets_are_open_or_closed() {
    let variants = |new: &mut Value, of: &str, by: &str, change: &dyn Fn(&mut Vec<Value>)| {
        change(new["$defs"][of][by].as_array_mut().unwrap());
    };
    let kind = json!({"type": "string", "const": "tired"});
    let add = |list: &mut Vec<Value>| list.push(kind.clone());
    let remove = |list: &mut Vec<Value>| drop(list.remove(0));
    // The error kinds are closed both ways; capabilities are only added.
    only(&changed(|new| variants(new, "ErrorKind", "oneOf", &add)), &["error", "tired", "added"]);
    only(&changed(|new| variants(new, "ErrorKind", "oneOf", &remove)), &["error", "not_found", "removed"]);
    assert_eq!(changed(|new| variants(new, "Capability", "anyOf", &add)), Vec::<String>::new());
    only(&changed(|new| variants(new, "Capability", "anyOf", &remove)), &["snapshots", "removed"]);
    only(
        &changed(|new| variants(new, "SourceLocation", "oneOf", &remove)),
        &["snapshot.open result", "tree", "removed"],
    );
}

#[test]
fn what_a_minor_version_may_add_is_no_break() {
    let found = changed(|new| {
        new["$defs"]["Volume"]["properties"]["colour"] = json!({"type": "string"});
        new["methods"]["volume.paint"] = json!({"params": {}, "result": {}});
        new["$defs"]["Volume"]["description"] = "Another text.".into();
    });
    assert_eq!(found, Vec::<String>::new());
}
