//! Commands that driver packages bring along.

use crate::run::{Ran, convoy};
use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

const SCRIPT: &str =
    "#!/bin/sh\necho \"socket=$CONVOY_SOCKET form=$CONVOY_OUTPUT\"; printf '<%s>' \"$@\"; exit 7\n";

/// A driver `disks` with the command `tidy-up`, which says how it was called.
fn installed() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in [("convoy-driver-disks", ""), ("convoy-disks-tidy-up", SCRIPT)] {
        let path = dir.path().join(file);
        write(&path, text).unwrap();
        set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn run(dir: &Path, words: &[&str]) -> Ran {
    let mut command = convoy(Path::new("/nowhere/convoy.sock"));
    command.env("CONVOY_DRIVER_PATH", dir).args(words).output().unwrap().into()
}

#[test]
fn a_drivers_command_is_run_with_all_that_follows_it() {
    let dir = installed();
    let ran = run(dir.path(), &["disks", "tidy-up", "-size", "1G", "--debug=false", "--", "--help", ""]);
    assert_eq!(ran.stdout, "socket=/nowhere/convoy.sock form=\n<-size><1G><--debug=false><--><--help><>");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(7), ""));
    let ran = run(dir.path(), &["-s", "/x/y", "--output", "table", "disks", "tidy-up"]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("socket=/x/y form=table\n<>", Some(7)));
}

#[test]
fn help_tells_of_them() {
    let dir = installed();
    for words in [&["--help"][..], &["help"], &[], &["-h"]] {
        let help = run(dir.path(), words).stdout;
        assert!(help.contains("  convoy disks tidy-up\n") && help.contains("convoy create data"), "{help}");
    }
    assert!(!run(dir.path(), &["backup", "--help"]).stdout.contains("tidy-up"));
    for words in [&["disks"][..], &["disks", "--help"]] {
        let ran = run(dir.path(), words);
        let expected = "Commands that the driver disks brings along:\n  convoy disks tidy-up --help\n";
        assert_eq!((ran.stdout.as_str(), ran.code), (expected, Some(0)));
    }
}

#[test]
fn what_is_not_there_or_not_trusted_is_not_run() {
    let dir = installed();
    let ran = run(dir.path(), &["disks", "bogus"]);
    assert!(ran.stdout.contains("Unrecognized command: disks bogus"), "{ran:?}");
    assert!(ran.stderr.contains("the driver disks has: tidy-up") && ran.code == Some(1), "{ran:?}");
    // No driver of that name, as if there were no such thing as a driver's command.
    let ran = run(dir.path(), &["disk", "tidy-up"]);
    assert!(ran.stdout.contains("\"Unrecognized command: disk\"") && ran.code == Some(1), "{ran:?}");
    set_permissions(dir.path().join("convoy-disks-tidy-up"), Permissions::from_mode(0o757)).unwrap();
    let ran = run(dir.path(), &["disks", "tidy-up", "--output", "table"]);
    assert!(ran.stdout.contains("refusing to run") && ran.stdout.contains("everybody"), "{ran:?}");
    assert!(ran.stderr.contains("chmod go-w") && ran.code == Some(1), "{ran:?}");
}
