//! What is sent for which command line.

use crate::daemon::{Daemon, answer};
use crate::run::{run, words};
use serde_json::{Value, json};

#[test]
fn commands_are_the_calls_of_0_5() {
    let empty_create = json!({"Name": "", "DriverName": "", "Size": 0, "BackupURL": "", "Endpoint": "",
        "DriverVolumeID": "", "Type": "", "IOPS": 0, "PrepareForVM": false, "Verbose": false});
    let with = |base: &Value, changes: Value| {
        let mut merged = base.clone();
        for (key, value) in changes.as_object().unwrap() {
            merged[key] = value.clone();
        }
        merged
    };
    let url = r"vfs:///b?backup=backup-1\u0026volume=v1";
    let cases = [
        ("info", "GET /v1/info", Value::Null),
        ("list", "GET /v1/volumes/list", Value::Null),
        ("list --driver", "GET /v1/volumes/list?driver=1", Value::Null),
        ("list --kept", "GET /v1/volumes/kept", Value::Null),
        ("create", "POST /v1/volumes/create", empty_create.clone()),
        ("create ''", "POST /v1/volumes/create", empty_create.clone()),
        (
            "create v1 --driver d --size 1K --id i --type t --iops 7 --vm --verbose",
            "POST /v1/volumes/create",
            with(
                &empty_create,
                json!({"Name": "v1", "DriverName": "d", "Size": 1024, "DriverVolumeID": "i",
                "Type": "t", "IOPS": 7, "PrepareForVM": true, "Verbose": true}),
            ),
        ),
        (
            &format!("create v1 --backup '{url}' --s3-endpoint http://e"),
            "POST /v1/volumes/create",
            with(&empty_create, json!({"Name": "v1", "BackupURL": url, "Endpoint": "http://e"})),
        ),
        (
            "create v1 --backup ebs://us-east-1/snap-1 --copy",
            "POST /v1/volumes/create",
            with(
                &empty_create,
                json!({"Name": "v1", "BackupURL": "ebs://us-east-1/snap-1", "Options": {"copy": "true"}}),
            ),
        ),
        (
            "create v1 --opt a=b=c --opt d=",
            "POST /v1/volumes/create",
            with(&empty_create, json!({"Name": "v1", "Options": {"a": "b=c", "d": ""}})),
        ),
        ("delete v1", "DELETE /v1/volumes/", json!({"VolumeName": "v1", "ReferenceOnly": false})),
        ("delete -r v1", "DELETE /v1/volumes/", json!({"VolumeName": "v1", "ReferenceOnly": true})),
        ("delete --kept v1", "DELETE /v1/volumes/kept", json!({"VolumeName": "v1"})),
        (
            "delete --kept v1 --driver d",
            "DELETE /v1/volumes/kept",
            json!({"VolumeName": "v1", "DriverName": "d"}),
        ),
        (
            "mount v1 --mountpoint /m",
            "POST /v1/volumes/mount",
            json!({"VolumeName": "v1", "MountPoint": "/m", "Verbose": false}),
        ),
        ("umount v1", "POST /v1/volumes/umount", json!({"VolumeName": "v1"})),
        ("unmount v1 --force", "POST /v1/volumes/umount", json!({"VolumeName": "v1", "Force": true})),
        ("inspect v1", "GET /v1/volumes/", json!({"VolumeName": "v1"})),
        (
            "resize v1 2M",
            "POST /v1/volumes/resize",
            json!({"VolumeName": "v1", "Size": 2097152, "Verbose": false}),
        ),
        (
            "snapshot create v1 --name s1",
            "POST /v1/snapshots/create",
            json!({"Name": "s1", "VolumeName": "v1", "Verbose": false}),
        ),
        (
            "snapshot clone s1 v2 --size 1K",
            "POST /v1/volumes/create",
            with(&empty_create, json!({"Name": "v2", "SnapshotName": "s1", "Size": 1024})),
        ),
        ("snapshot revert s1", "POST /v1/snapshots/revert", json!({"SnapshotName": "s1", "Verbose": false})),
        ("snapshot list v1", "GET /v1/volumes/", json!({"VolumeName": "v1"})),
        ("snapshot list", "GET /v1/volumes/list", Value::Null),
        ("snapshot inspect s1", "GET /v1/snapshots/", json!({"SnapshotName": "s1"})),
        (
            "snapshot delete s1 --volume v1",
            "DELETE /v1/snapshots/",
            json!({"SnapshotName": "s1", "VolumeName": "v1"}),
        ),
        (
            "backup --s3-endpoint http://e create s1 --dest s3://b/",
            "POST /v1/backups/create",
            json!({"URL": "s3://b/", "Endpoint": "http://e", "SnapshotName": "s1", "Verbose": false}),
        ),
        (
            "backup create s1 --dest d --format v0 --full --encryption-key-file /k",
            "POST /v1/backups/create",
            json!({"URL": "d", "Endpoint": "", "SnapshotName": "s1", "Verbose": false, "Format": "v0", "Full": true,
                "EncryptionKeyFile": "/k"}),
        ),
        (
            "backup create s1 --dest d --passphrase-file /p",
            "POST /v1/backups/create",
            json!({"URL": "d", "Endpoint": "", "SnapshotName": "s1", "Verbose": false, "PassphraseFile": "/p"}),
        ),
        (
            "backup create s1 --dest d --encryption none --passphrase-file /p",
            "POST /v1/backups/create",
            json!({"URL": "d", "Endpoint": "", "SnapshotName": "s1", "Verbose": false, "Encryption": "none"}),
        ),
        (
            "backup verify d --allow-unencrypted",
            "POST /v1/backups/verify",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "", "ReadData": 0, "AllowUnencrypted": true}),
        ),
        (
            "backup prune d --allow-unencrypted",
            "POST /v1/backups/prune",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "", "DryRun": false, "AllowUnencrypted": true}),
        ),
        (
            "create v1 --backup b --allow-unencrypted",
            "POST /v1/volumes/create",
            with(&empty_create, json!({"Name": "v1", "BackupURL": "b", "AllowUnencrypted": true})),
        ),
        (
            "backup key add d --passphrase-file /p --new-passphrase-file /q",
            "POST /v1/backups/keys/add",
            json!({"URL": "d", "Endpoint": "", "EncryptionKeyFile": "", "PassphraseFile": "/p",
                "NewKeyFile": "", "NewPassphraseFile": "/q"}),
        ),
        (&format!("backup delete '{url}'"), "DELETE /v1/backups", json!({"URL": url, "Endpoint": ""})),
        (&format!("backup inspect '{url}'"), "GET /v1/backups/inspect", json!({"URL": url, "Endpoint": ""})),
        (
            "backup list d --volume-uuid v1",
            "GET /v1/backups/list",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "v1", "SnapshotName": ""}),
        ),
        (
            "backup verify d --read-data",
            "POST /v1/backups/verify",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "", "ReadData": 100}),
        ),
        (
            "backup prune d --dry-run",
            "POST /v1/backups/prune",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "", "DryRun": true}),
        ),
        (
            "backup stats d --volume v1 --passphrase-file /p",
            "POST /v1/backups/stats",
            json!({"URL": "d", "Endpoint": "", "VolumeName": "v1", "PassphraseFile": "/p"}),
        ),
        (
            "restore s1 --into v1 --path a/b --exclude '*.log' --at c --existing newer --delete-extra --dry-run",
            "POST /v1/restores",
            json!({"SnapshotName": "s1", "VolumeName": "v1", "Paths": ["a/b"], "Exclude": ["*.log"], "At": "c",
                "Existing": "newer", "DeleteExtra": true, "DryRun": true}),
        ),
        (
            &format!("restore '{url}' --into v1 --s3-endpoint http://e --passphrase-file /p"),
            "POST /v1/restores",
            json!({"URL": url, "Endpoint": "http://e", "VolumeName": "v1", "Existing": "keep",
                "PassphraseFile": "/p"}),
        ),
        (
            "restore s1 --volume v2 --in-place v1 --stop --keep-as k1",
            "POST /v1/restores",
            json!({"SnapshotName": "s1", "SnapshotVolume": "v2", "VolumeName": "v1", "InPlace": true,
                "Stop": true, "KeepAs": "k1"}),
        ),
        (
            &format!("restore '{url}' --in-place v1 --no-keep --dry-run"),
            "POST /v1/restores",
            json!({"URL": url, "VolumeName": "v1", "InPlace": true, "NoKeep": true, "DryRun": true}),
        ),
        ("restore --accept v1", "DELETE /v1/restores", json!({"VolumeName": "v1"})),
        (
            "snapshot revert s1 --stop",
            "POST /v1/snapshots/revert",
            json!({"SnapshotName": "s1", "Verbose": false, "Stop": true}),
        ),
        ("jobs", "GET /v1/jobs", Value::Null),
        ("jobs cancel j1", "POST /v1/jobs/cancel", json!({"ID": "j1"})),
        ("driver list", "GET /v1/drivers", Value::Null),
    ];
    for (line, call, body) in cases {
        let daemon = Daemon::new([answer("{}")]);
        let ran = run(&daemon.socket(), &words(line));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{line}");
        let asked = daemon.asked();
        assert_eq!(asked.len(), 1, "{line}");
        assert_eq!(asked[0].call, call, "{line}");
        let sent = if asked[0].body.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&asked[0].body).unwrap()
        };
        assert_eq!(sent, body, "{line}");
        assert!(
            asked[0].headers.iter().any(|header| header.eq_ignore_ascii_case("user-agent: Convoy-Client/1"))
        );
    }
}

#[test]
fn paths_are_made_absolute_since_the_daemon_runs_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    let daemon = Daemon::new([answer("")]);
    let ran = crate::run::convoy(&daemon.socket())
        .current_dir(&at)
        .args(["mount", "v1", "--mountpoint", "m"])
        .output();
    assert!(ran.unwrap().status.success());
    let expected = format!(r#""MountPoint":"{}/m""#, at.display());
    assert!(daemon.asked()[0].body.contains(&expected));
}

#[test]
fn invalid_names_are_not_sent_and_nothing_before_them_is_deleted() {
    let daemon = Daemon::new([]);
    let ran = run(&daemon.socket(), &["delete", "good1", "../x"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "{\n\t\"Error\": \"Invalid name ../x\"\n}\n"));
    assert!(daemon.asked().is_empty());
}

#[test]
fn an_option_given_twice_is_refused() {
    let daemon = Daemon::new([]);
    let ran = run(&daemon.socket(), &["create", "v1", "--opt", "a=1", "--opt", "a=2"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("the option a is given twice") && daemon.asked().is_empty());
}
