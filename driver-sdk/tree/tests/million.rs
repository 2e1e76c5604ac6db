//! Figures, by hand: `cargo test -p convoy-tree --test million -- --ignored --nocapture`; `CONVOY_TEST_FILES`
//! for more or fewer.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::time::Instant;

use convoy_tree::{CopyOptions, Previous, WalkOptions, copy_tree, remove_tree, walk};

fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap().to_owned()
}

#[test]
#[ignore = "measures; a million files need 10 GB of disk and minutes"]
fn million() {
    let thousands: u64 =
        std::env::var("CONVOY_TEST_FILES").map_or(1000, |n| n.parse::<u64>().unwrap() / 1000);
    // On a disk, and not in the sources: a test that is killed leaves what it made.
    let dir = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let live = dir.path().join("live");
    for d in 0..thousands {
        let sub = live.join(format!("d{}/e{d}", d / 100));
        fs::create_dir_all(&sub).unwrap();
        for f in 0..1000 {
            fs::write(sub.join(format!("file-{f}")), b"small").unwrap();
        }
    }
    let timed = |what: &str, start: Instant| println!("{what}: {:?}, {}", start.elapsed(), peak());
    let start = Instant::now();
    let count = walk(&live, WalkOptions::default()).unwrap().filter(|found| found.is_ok()).count();
    timed("walk with attributes", start);
    let entries = thousands * 1001 + thousands.div_ceil(100) + 1;
    assert_eq!(count as u64, entries);
    let snapshot = |name: &str, previous: Option<&str>| {
        let index = |name: &str| dir.path().join(format!("{name}.index"));
        fs::create_dir(dir.path().join(name)).unwrap();
        let options = CopyOptions {
            previous: previous.map(|p| Previous { tree: dir.path().join(p), index: index(p) }),
            index: Some(index(name)),
            ..CopyOptions::default()
        };
        let start = Instant::now();
        let report = copy_tree(&live, &dir.path().join(name), &options).unwrap();
        timed(name, start);
        assert_eq!(report.entries, entries);
        report
    };
    snapshot("first", None);
    assert_eq!(snapshot("second", Some("first")).unchanged, thousands * 1000);
    let start = Instant::now();
    remove_tree(&dir.path().join("first")).unwrap();
    timed("remove", start);
}
