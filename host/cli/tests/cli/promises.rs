//! `docs/semantics.md` and `docs/security.md` name the tests that prove each line: every name has to be a
//! test.

use std::collections::BTreeSet;
use std::path::Path;

const DOCUMENTS: [(&str, &str); 2] = [
    ("docs/semantics.md", include_str!("../../../../docs/semantics.md")),
    ("docs/security.md", include_str!("../../../../docs/security.md")),
];

/// The names of all functions and modules of the workspace that a test filter could choose.
fn names() -> BTreeSet<String> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = BTreeSet::new();
    for part in ["host", "driver-sdk", "drivers", "examples", "tests", "xtask"] {
        walk(&top.join(part), &mut found);
    }
    found
}

fn walk(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" {
            walk(&path, found);
        } else if let Some(stem) = name.strip_suffix(".rs") {
            found.insert(stem.to_owned());
            let source = std::fs::read_to_string(&path).unwrap();
            for line in source.lines() {
                let words = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ");
                let item = words.trim_start_matches("async ").trim_start_matches("fn ");
                // Some tests are made by macros, which take their names first.
                let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
                found.insert(item[..end].to_owned());
            }
        }
    }
}

/// The names in code marks in the last cell of each row of the document's tables.
fn named(document: &str) -> Vec<&str> {
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let proofs =
        rows.filter_map(|row| row.trim_end().trim_end_matches('|').rsplit_once(" | ").map(|it| it.1));
    let marked = proofs.flat_map(|proof| proof.split('`').skip(1).step_by(2));
    marked.filter(|name| name.contains('_') && !name.contains(['/', ' ', '.', '-'])).collect()
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let names = names();
    for (document, text) in DOCUMENTS {
        let named = named(text);
        assert!(named.len() > 20, "{document} was not read: {named:?}");
        let missing: Vec<_> = named.iter().filter(|name| !names.contains(**name)).collect();
        assert!(missing.is_empty(), "{document} names tests that are not there: {missing:#?}");
    }
    assert!(!names.contains("a_test_that_nobody_wrote"));
}
