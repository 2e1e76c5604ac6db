//! The types of the API print what convoy 0.5 printed: each recorded answer, read and printed again, is the
//! same.

use convoy_client::gojson;
use convoy_client::types::{BackupInfo, CreatedBackup, Info, Pairs, Snapshot, Volume};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

fn again<T: DeserializeOwned + Serialize>(text: &str) -> String {
    gojson::to_string(&serde_json::from_str::<T>(text).unwrap()).unwrap()
}

#[test]
fn recorded_answers_are_printed_again_to_the_byte() {
    let recordings = include_str!("../recordings/console.md");
    let mut checked = BTreeMap::<&str, usize>::new();
    for block in recordings.split("```console\n$ convoy ").skip(1) {
        let (line, rest) = block.split("\n```").next().unwrap().split_once('\n').unwrap();
        let Some(rest) = rest.strip_prefix("[exit 0]\n--- stdout ") else { continue };
        let Some((_, answer)) = rest.split_once('\n') else { continue };
        if !answer.starts_with('{') {
            continue;
        }
        let printer: (&str, fn(&str) -> String) = match line.trim_start_matches("--verbose ") {
            "info" => ("info", |text| gojson::info(&serde_json::from_str::<Info>(text).unwrap()).unwrap()),
            "list" => ("list", again::<BTreeMap<String, Volume>>),
            "list --driver" => ("list --driver", again::<BTreeMap<String, Pairs>>),
            line if line.starts_with("snapshot") => ("snapshot", again::<Snapshot>),
            line if line.starts_with("backup create") => ("backup create", again::<CreatedBackup>),
            line if line.starts_with("backup list") => ("backup list", again::<BTreeMap<String, BackupInfo>>),
            line if line.starts_with("backup inspect") => ("backup inspect", again::<BackupInfo>),
            _ => ("volume", again::<Volume>),
        };
        assert_eq!((printer.1)(answer), answer, "{line}");
        *checked.entry(printer.0).or_default() += 1;
    }
    assert_eq!(checked.len(), 8, "{checked:?}");
}
