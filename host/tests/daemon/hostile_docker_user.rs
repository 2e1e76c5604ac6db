//! An adversary who may call Docker, and nothing else of this host: what comes from Docker's engine reads no
//! path of the host, reaches no address, uses no key, and shows nobody's answers. Each test fails when the
//! attack succeeds.

use crate::harness::{Daemon, write_secret};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What no Docker user is to read.
const SECRET: &str = "internal-answer-4711";

/// Docker's Create, with options.
fn create(daemon: &Daemon, name: &str, options: &[(&str, &str)]) -> String {
    let options: serde_json::Map<_, _> =
        options.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    daemon.docker("Create", &json!({"Name": name, "Opts": options}).to_string())
}

/// A store with a backup of a volume with a file, made by an operator; gives the backup's URL.
fn backup_in(daemon: &Daemon, dir: &Path) -> String {
    std::fs::create_dir_all(dir).unwrap();
    daemon.call("POST", "/volumes/create", r#"{"Name":"src"}"#);
    std::fs::write(daemon.volumes().join("src/file"), SECRET).unwrap();
    daemon.call("POST", "/snapshots/create", r#"{"VolumeName":"src","Name":"src-snap"}"#);
    let body = json!({"URL": format!("vfs://{}", dir.display()), "SnapshotName": "src-snap"}).to_string();
    let made = daemon.call("POST", "/backups/create", &body);
    assert_eq!(made.status, 200, "{}", made.body);
    made.body.replace("\\u0026", "&")
}

/// A server that counts who comes, and answers everybody with the secret.
fn server(status: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0; 64 << 10]);
            let body = format!("<Error><Code>{SECRET}</Code><Message>{SECRET}</Message></Error>");
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nx-amz-request-id: {SECRET}\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    (address, came)
}

fn settings(daemon: &Daemon, text: &str) -> String {
    let file = daemon.dir.path().join("convoy.toml");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn no_backup_is_read_from_where_the_settings_name_none() {
    let mut daemon = Daemon::start();
    let (store, below) = (daemon.dir.path().join("store"), daemon.dir.path().join("store/below"));
    let (url, url_below) = (backup_in(&daemon, &store), backup_in(&daemon, &below));
    std::os::unix::fs::symlink(&store, daemon.dir.path().join("link")).unwrap();
    let attack = |daemon: &Daemon, url: &str| {
        let refused = create(daemon, "stolen", &[("backup", url)]);
        assert!(
            refused.contains("restore only from destinations that the settings name"),
            "{url}: {refused}"
        );
        assert!(!daemon.volumes().join("stolen").exists() && !refused.contains(SECRET));
        refused
    };
    for url in [&url, "vfs:///etc/?backup=backup-1&volume=passwd", "vfs:///proc/1/root/?backup=ab&volume=cd"]
    {
        attack(&daemon, url);
    }
    // An operator may; and says in the settings that Docker's users may, in the words of the refusal.
    let refused = attack(&daemon, &url);
    let line = refused.split("add the line ").nth(1).and_then(|rest| rest.split(" to convoy.toml").next());
    let line = line.unwrap().replace("\\\"", "\"");
    let file = settings(&daemon, &format!("{line}\n"));
    daemon.kill();
    daemon.add_arguments(&["--config", &file]);
    daemon.launch();
    assert_eq!(create(&daemon, "restored", &[("backup", &url)]), "{}");
    assert_eq!(std::fs::read_to_string(daemon.volumes().join("restored/file")).unwrap(), SECRET);
    // What lies beside, below or beyond it, and links to it, are other places.
    let around =
        |path: &str| url.replace(&store.display().to_string(), &format!("{}{path}", store.display()));
    for url in [
        url_below,
        around("/../store2"),
        around("/below/.."),
        around("/%2e%2e"),
        url.replace("/store", "/link"),
    ] {
        attack(&daemon, &url);
    }
}

#[test]
fn a_mount_that_creates_asks_for_no_more_than_a_create() {
    let daemon = Daemon::with(&["--create-on-docker-mount"]);
    let url = backup_in(&daemon, &daemon.dir.path().join("store"));
    let body = json!({"Name": "stolen", "ID": "x", "Opts": {"backup": url}}).to_string();
    let refused = daemon.docker("Mount", &body);
    assert!(refused.contains("that the settings name"), "{refused}");
    assert!(!daemon.volumes().join("stolen").exists());
}

#[test]
fn no_request_goes_to_an_address_that_docker_names() {
    let (address, came) = server("200 OK");
    let daemon = Daemon::prepare(&[]);
    let credentials = daemon.dir.path().join("credentials");
    std::fs::write(&credentials, "[default]\naws_access_key_id = AKID\naws_secret_access_key = KEY\n")
        .unwrap();
    let file = settings(
        &daemon,
        &format!(
            "[destinations.\"s3://b1@us-east-1/\"]\ncredentials-file = \"{}\"\n[destinations.\"s3://\"]\n\
             credentials_file = \"{0}\"\nendpoint = \"{address}\"\n",
            credentials.display()
        ),
    );
    let mut daemon = daemon;
    daemon.add_arguments(&["--config", &file]);
    daemon.launch();
    let url = "s3://b1@us-east-1/?backup=backup-1&volume=vol1";
    for options in [
        &[("backup", url), ("endpoint", &*address)][..],
        &[("endpoint", &*address)],
        // The settings name no bucket by saying how all are reached.
        &[("backup", "s3://b2@us-east-1/?backup=backup-1&volume=vol1")],
    ] {
        let refused = create(&daemon, "vol1", options);
        assert!(refused.contains("Docker's users"), "{options:?}: {refused}");
    }
    for key in ["encryption_key_file", "passphrase_file", "EncryptionKeyFile", "credentials_file", "profile"]
    {
        let refused = create(&daemon, "vol1", &[(key, "/etc/shadow")]);
        assert!(refused.contains("unknown option"), "{key}: {refused}");
    }
    assert_eq!(came.load(Ordering::SeqCst), 0, "a request was sent for a Docker user");
    assert_eq!(daemon.docker("List", ""), "{}");
}

#[test]
fn what_a_server_answers_is_not_shown() {
    for status in ["403 Forbidden", "400 Bad Request", "501 Not Implemented"] {
        let (address, came) = server(status);
        let mut daemon = Daemon::prepare(&[]);
        let credentials = daemon.dir.path().join("credentials");
        write_secret(&credentials, "[default]\naws_access_key_id = AKID\naws_secret_access_key = KEY\n");
        let file = settings(
            &daemon,
            &format!(
                "[destinations.\"s3://b1@us-east-1/\"]\ncredentials_file = \"{}\"\nendpoint = \
                 \"{address}\"\n",
                credentials.display()
            ),
        );
        daemon.add_arguments(&["--config", &file]);
        daemon.launch();
        let url = "s3://b1@us-east-1/?backup=backup-1&volume=vol1";
        let refused = create(&daemon, "vol1", &[("backup", url)]);
        assert!(came.load(Ordering::SeqCst) > 0, "{status}: the server was not asked: {refused}");
        assert!(refused.contains("\"Err\"") && refused.contains("log has its answer"), "{status}: {refused}");
        assert!(!refused.contains(SECRET), "{status}: {refused}");
        // The operator finds it.
        assert!(std::fs::read_to_string(daemon.log()).unwrap().contains(SECRET), "{status}");
    }
}

#[test]
fn snapshots_that_were_there_are_not_for_docker_to_delete() {
    let daemon = Daemon::start();
    backup_in(&daemon, &daemon.dir.path().join("store"));
    let snapshot = daemon.volumes().join("config/snapshots/src/src-snap/tree/file");
    assert!(snapshot.exists());
    // Forgotten and made again with another word on its removal; and once more, since it is there.
    assert_eq!(daemon.docker("Remove", r#"{"Name":"src"}"#), "{}");
    for _ in 0..2 {
        assert_eq!(create(&daemon, "src", &[("retain", "delete")]), "{}");
    }
    assert_eq!(daemon.docker("Remove", r#"{"Name":"src"}"#), "{}");
    assert!(snapshot.exists(), "a Docker user deleted an operator's snapshot");
    // Of a volume of his own he has the word.
    assert_eq!(create(&daemon, "scratch", &[("retain", "delete")]), "{}");
    assert_eq!(daemon.docker("Remove", r#"{"Name":"scratch"}"#), "{}");
    assert!(!daemon.volumes().join("scratch").exists());
}
