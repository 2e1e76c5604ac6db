//! What is told when something does not go: to people which object it is about, what was expected and what to
//! type next; to scripts, in a pipe, the words of convoy 0.5.

use crate::harness::{Daemon, names};
use std::process::Command;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The error that a pipe gets on standard output.
fn piped(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.cli(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let error = answer["Error"].as_str().unwrap().to_owned();
    error.trim_start_matches("Error response from server, ").trim_end_matches('\n').to_owned()
}

/// What people get on standard error: the error, and the hint.
fn told(daemon: &Daemon, arguments: &[&str]) -> (String, String) {
    let output = daemon.cli(&[arguments, &["--output", "table"][..]].concat());
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{arguments:?}");
    let said = text(&output.stderr);
    let (error, hint) = said.split_once('\n').unwrap();
    let error = error.strip_prefix("error: ").unwrap_or_else(|| panic!("no error: {said}")).to_owned();
    let hint = hint.strip_prefix("hint: ").unwrap_or_else(|| panic!("{arguments:?} without a hint: {said}"));
    for rust in ["Some(", "Error {", "ErrorKind", "  ", "NotFound"] {
        assert!(!said.contains(rust), "{rust:?} in {said}");
    }
    (error, hint.trim_end().to_owned())
}

/// A daemon with the volume `data`, its snapshot `monday`, and a backup of it at the destination that is
/// answered.
fn prepared() -> (Daemon, String) {
    let daemon = Daemon::start();
    let place = daemon.dir.path().join("backups");
    std::fs::create_dir(&place).unwrap();
    let destination = format!("vfs://{}", place.display());
    for arguments in [
        &["create", "data"][..],
        &["snapshot", "create", "data", "--name", "monday"],
        &["backup", "create", "monday", "--dest", &destination],
    ] {
        assert!(daemon.cli(arguments).status.success(), "{arguments:?}");
    }
    (daemon, destination)
}

#[test]
fn people_are_told_which_object_and_what_to_type_next_and_scripts_what_0_5_said() {
    let (daemon, at) = prepared();
    let plain = at.trim_start_matches("vfs://").to_owned();
    let no_backup = format!("{at}?backup=backup-0123456789abcdef&volume=data");
    let no_volume = format!("{at}?backup=backup-0123456789abcdef&volume=nosuch");
    let record = "cannot find convoy-objectstore/volumes/da/ta/data/backups/backup_backup-0123456789abcdef.cfg in objectstore";
    let config = "cannot find convoy-objectstore/volumes/no/su/nosuch/volume.cfg in objectstore";
    let there_is_no = format!("there is no backup backup-0123456789abcdef of volume data at {at}");
    let list = format!("`convoy backup list {at}` shows");
    let id = "backup-0123456789abcdef";
    let is_id = "backup-0123456789abcdef is the name of a backup and does not say where it is";
    let no_names = "Invalid name parsed, got  and ";
    let cases: &[(&[&str], &str, &str, &str)] = &[
        (&["backup", "inspect", &no_backup], record, &there_is_no, &list),
        (&["backup", "delete", &no_backup], record, &there_is_no, &list),
        (&["backup", "verify", &no_backup], record, &there_is_no, &list),
        (&["create", "copy", "--backup", &no_backup], record, &there_is_no, &list),
        (
            &["backup", "inspect", &no_volume],
            config,
            &format!("there are no backups of volume nosuch at {at}"),
            &list,
        ),
        (
            &["backup", "list", &at, "--volume-name", "nosuch"],
            config,
            &format!("there are no backups of volume nosuch at {at}"),
            &list,
        ),
        (&["backup", "inspect", id], no_names, is_id, "<destination>?backup=<backup>&volume=<volume>"),
        (&["backup", "delete", id], no_names, is_id, "convoy backup list"),
        (&["create", "copy", "--backup", id], no_names, is_id, "convoy backup list"),
        (&["backup", "verify", id], "Driver  is not supported!", is_id, "convoy backup list"),
        (
            &["backup", "inspect", &at],
            no_names,
            &format!("{at} is a destination and names no backup"),
            "<destination>?backup=<backup>&volume=<volume>",
        ),
        (&["backup", "inspect", ""], "Cannot find driver  for restoring", "no backup is named", "its URL"),
        (
            &["backup", "create", "monday", "--dest", &plain],
            "Driver  is not supported!",
            &format!("{plain} is no destination"),
            &format!("say {at}"),
        ),
        (
            &["backup", "list", &plain],
            "Driver  is not supported!",
            &format!("{plain} is no destination"),
            &format!("say {at}"),
        ),
        (
            &["backup", "create", "monday", "--dest", "ftp://x/"],
            "Driver ftp is not supported!",
            "ftp://x/ is no destination",
            "vfs:///dir/ and s3://bucket@region/path/",
        ),
        (
            &["backup", "create", "monday"],
            "Destination URL hasn't been specified",
            "no destination is named",
            "vfs:///dir/ and s3://bucket@region/path/",
        ),
        (
            &["backup", "list", ""],
            "Destination URL hasn't been specified",
            "no destination is named",
            "vfs:///dir/",
        ),
        (
            &["backup", "list", "vfs://srv/x"],
            "VFS path must follow: vfs:///path/ format",
            "vfs://srv/x is no destination",
            "absolute path",
        ),
        (
            &["backup", "--s3-endpoint", "http://e", "list", &at],
            "Driver vfs does not support custom endpoints",
            &format!("an S3 endpoint is named, and {at} is not in S3"),
            "--s3-endpoint",
        ),
        (&["inspect", "nosuch"], "Volume not found.", "volume nosuch doesn't exist", "convoy list"),
        (&["retain", "nosuch", "keep"], "Volume not found.", "volume nosuch doesn't exist", "convoy list"),
        (&["mount", "nosuch"], "volume nosuch doesn't exist", "volume nosuch doesn't exist", "convoy list"),
        (
            &["create", "data"],
            "Volume data already exists ",
            "volume data already exists",
            "convoy inspect data",
        ),
        (
            &["snapshot", "inspect", "nosuch"],
            "cannot find volume for snapshot nosuch",
            "there is no snapshot nosuch",
            "convoy snapshot list",
        ),
        (
            &["backup", "create", "nosuch", "--dest", &at],
            "Cannot find volume of snapshot nosuch",
            "there is no snapshot nosuch",
            "convoy snapshot list",
        ),
        (
            &["snapshot", "inspect", "monday", "--volume", "nosuch"],
            "volume nosuch has no snapshot monday",
            "volume nosuch has no snapshot monday",
            "convoy snapshot list",
        ),
        (
            &["mount", "data", "--mountpoint", "/mnt"],
            "VFS doesn't support specified mount point",
            "driver vfs mounts volumes only in its own place",
            "leave the mount point out",
        ),
        (&["create", "x"], "Invalid name x", "\"x\" cannot be a name", "2 to 200"),
        (&["inspect", ""], "Invalid name ", "the name is empty", "2 to 200"),
        (
            &["restore", &no_backup],
            "the following required arguments were not provided: --into <VOLUME>",
            "the following required arguments were not provided: --into <VOLUME>",
            "convoy create NAME --backup 'URL'",
        ),
        (
            &["backup", "restore", &no_backup],
            "Unrecognized command: restore",
            "Unrecognized command: restore",
            "convoy create NAME --backup 'URL'",
        ),
        (
            &["backup", "create", "monday", "--dest", "vfs:///proc/nowhere"],
            "VFS path /proc/nowhere doesn't exist or is not a directory",
            "VFS path /proc/nowhere doesn't exist or is not a directory",
            "mkdir -p /proc/nowhere",
        ),
        (&["jobs", "cancel", "j-1"], "job j-1 not found", "job j-1 not found", "convoy jobs"),
    ];
    for (arguments, in_a_pipe, to_people, hint) in cases {
        assert_eq!(piped(&daemon, arguments), *in_a_pipe, "{arguments:?}");
        let (error, hinted) = told(&daemon, arguments);
        assert_eq!(error, *to_people, "{arguments:?}");
        assert!(hinted.contains(hint), "{arguments:?}: {hint:?} is not in {hinted:?}");
    }
    // Of one that cannot be deleted scripts have always got a line more.
    let deleted = text(&daemon.cli(&["delete", "nosuch"]).stdout);
    assert!(
        deleted.starts_with("Error deleting nosuch: Error response from server, Volume not found."),
        "{deleted}"
    );
    assert_eq!(told(&daemon, &["delete", "nosuch"]).0, "volume nosuch doesn't exist");
}

#[test]
fn docker_is_told_how_long_a_name_is() {
    let daemon = Daemon::start();
    let said = daemon.docker("Create", "{\"Name\": \"x\"}");
    let of_0_5 = "Invalid volume name x. Can only contain 0-9, a-z, dash(-), underscore(_) and dot(.)";
    assert!(said.contains(of_0_5) && said.contains("2 to 200 characters"), "{said}");
    let said = daemon.docker("Create", "{\"Name\": \"a b\"}");
    assert!(said.ends_with("underscore(_) and dot(.)\"\n}"), "{said}");
}

/// A file system of 3 MiB, unmounted in the end.
struct Small<'a>(&'a std::path::Path);

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_destination_without_room_is_named_and_so_is_what_is_left_there() {
    let mut daemon = Daemon::prepare(&[]);
    let place = daemon.dir.path().join("small");
    std::fs::create_dir(&place).unwrap();
    let mount = |options: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&place).status().unwrap()
    };
    assert!(mount("size=3M,mode=700").success());
    let _small = Small(&place);
    daemon.launch();
    let at = format!("vfs://{}", place.display());
    assert!(daemon.cli(&["create", "data"]).status.success());
    let mut noise = vec![0; 8 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    std::fs::write(daemon.volumes().join("data/file"), noise).unwrap();
    assert!(daemon.cli(&["snapshot", "create", "data", "--name", "monday"]).status.success());

    let create = ["backup", "create", "monday", "--dest", &at];
    let (error, hint) = told(&daemon, &create);
    assert!(error.starts_with(&format!("no room is left at {at}: no backup was made")), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
    assert!(hint.contains(&format!("`convoy backup prune {at}` removes it")), "{hint}");
    assert!(piped(&daemon, &create).starts_with(&format!("no room is left at {at}")));

    // What is said is so: there is a leftover, prune removes it, and with room the same command succeeds.
    let used = || {
        let space = rustix::fs::statvfs(&place).unwrap();
        (space.f_blocks - space.f_bfree) * space.f_frsize
    };
    let left = used();
    let pruned = daemon.cli(&["backup", "prune", &at]);
    assert!(pruned.status.success(), "{pruned:?}");
    assert!(used() < left, "{left} bytes were left and {} still are: {:?}", used(), names(&place));
    assert!(mount("remount,size=32M").success());
    let made = daemon.cli(&create);
    assert!(made.status.success(), "{made:?}");
}
