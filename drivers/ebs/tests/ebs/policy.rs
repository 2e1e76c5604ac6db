//! The IAM policy of the documentation allows what the code asks for, and no more.

use convoy_driver_ebs::ec2::ACTIONS;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn policy() -> Value {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drivers/ebs.md");
    let text = std::fs::read_to_string(page).unwrap();
    let block = text.split("```json").nth(1).and_then(|rest| rest.split("```").next());
    serde_json::from_str(block.expect("the page has a policy")).unwrap()
}

#[test]
fn the_policy_allows_every_call_and_no_other() {
    let policy = policy();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    let ec2: BTreeSet<_> =
        actions.filter_map(|action| action.as_str().unwrap().strip_prefix("ec2:")).collect();
    assert_eq!(ec2, ACTIONS.iter().copied().collect());
    assert!(statements.iter().all(|statement| statement["Effect"] == "Allow"));
}

#[test]
fn the_code_makes_every_call_by_its_name() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut called, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let squeezed = text.split_whitespace().collect::<String>();
        for rest in squeezed.split(".call(\"").skip(1) {
            called.insert(rest.split('"').next().unwrap().to_owned());
        }
        for rest in squeezed.split("dry!(\"").skip(1) {
            tried.insert(rest.split('"').next().unwrap().to_owned());
        }
        // Nothing is sent in another way.
        for line in text.lines().filter(|line| line.contains(".send()")) {
            assert!(!line.contains(".await"), "{line}");
        }
    }
    assert_eq!(called, ACTIONS.iter().map(|action| (*action).to_owned()).collect());
    // What a check tries without doing it is what is done at other times; a copy cannot be tried without a
    // source.
    tried.insert("CopySnapshot".to_owned());
    assert_eq!(tried, called);
}
