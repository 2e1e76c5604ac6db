//! Destinations that are none, and stores that somebody else has written to, through the daemon.

use crate::harness::Daemon;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

/// A daemon with a backup at `<dir>/nightly`, and its URL.
fn with_backup() -> (Daemon, String) {
    let daemon = Daemon::start();
    let store = daemon.dir.path().join("nightly");
    std::fs::create_dir(&store).unwrap();
    ok(&daemon, &["create", "vol1"]);
    std::fs::write(daemon.volumes().join("vol1/file"), "content").unwrap();
    ok(&daemon, &["snapshot", "create", "vol1", "--name", "snap1"]);
    let url = ok(&daemon, &["backup", "create", "snap1", "--dest", &format!("vfs://{}/", store.display())]);
    (daemon, url.trim().replace("\\u0026", "&"))
}

fn ok(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Code, and all that is said.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    (output.status.code(), text)
}

/// Whatever looks at a whole destination.
const LOOKS: [&[&str]; 4] =
    [&["backup", "list"], &["backup", "verify"], &["backup", "prune"], &["backup", "key", "list"]];

#[test]
fn a_wrong_destination_is_an_error_and_the_right_one_is_named() {
    let (daemon, url) = with_backup();
    let at = |name: &str| format!("vfs://{}/{name}", daemon.dir.path().display());
    std::fs::create_dir_all(daemon.dir.path().join("nigthly")).unwrap();
    std::fs::create_dir_all(daemon.dir.path().join("nightly/2026")).unwrap();
    std::fs::create_dir_all(daemon.dir.path().join("elsewhere/deep")).unwrap();
    for look in LOOKS {
        let run = |destination: &str| said(&daemon.cli(&[look, &[destination]].concat()));
        // Mistyped, with a directory of that name and without; too long; too short.
        for wrong in ["nigthly/", "nigtly", "nightly/2026/", ""] {
            let (code, text) = run(&at(wrong));
            assert_eq!(code, Some(1), "{look:?} {wrong}: {text}");
            assert!(
                text.contains(&format!("there are some at {}", at("nightly/"))),
                "{look:?} {wrong}: {text}"
            );
        }
        let (code, text) = run(&at("elsewhere/deep/"));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(&at("elsewhere/deep/")) && text.contains("check the spelling"), "{text}");
        let (code, text) = run(&at("nightly/"));
        assert_eq!(code, Some(0), "{look:?}: {text}");
    }
    // One that was used and is empty now is a destination; so it stays.
    ok(&daemon, &["backup", "delete", &url]);
    for look in LOOKS {
        let (code, text) = said(&daemon.cli(&[look, &[at("nightly/").as_str()]].concat()));
        assert_eq!(code, Some(0), "{look:?}: {text}");
    }
    // As 0.5 answered programs that ask the API.
    let asked = format!("{{\"URL\":\"{}\"}}", at("nigthly/"));
    let answer = daemon.call("GET", "/backups/list", &asked);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
}

/// Everything below a directory, with what is in it.
fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            let data = std::fs::read(&path).unwrap();
            found.push((path, data));
        }
    }
    found.sort();
    found
}

#[test]
fn a_store_whose_directories_became_links_lets_nothing_out_and_nothing_in() {
    for part in ["packs", "manifests", "backups", "locks", "moves", ""] {
        let (daemon, url) = with_backup();
        let volume = daemon.dir.path().join("nightly/convoy-objectstore/volumes/vo/l1/vol1");
        let outside = daemon.dir.path().join("outside");
        let place = if part.is_empty() { volume } else { volume.join(part) };
        if std::fs::rename(&place, &outside).is_err() {
            std::fs::create_dir(&outside).unwrap();
        }
        // Whatever it is that prune would remove.
        for name in ["packs/0000000000000001/00000001.pack", "0000000000000001/00000001.pack", "precious"] {
            let path = outside.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "precious").unwrap();
        }
        std::os::unix::fs::symlink(&outside, &place).unwrap();
        let before = tree(&outside);
        let destination = format!("vfs://{}/", daemon.dir.path().join("nightly").display());
        let works: [&[&str]; 7] = [
            &["backup", "list", &destination],
            &["backup", "verify", &destination, "--read-data"],
            &["create", "copy", "--backup", &url],
            &["backup", "create", "snap1", "--dest", &destination],
            &["backup", "prune", &destination],
            &["backup", "delete", &url],
            &["backup", "inspect", &url],
        ];
        let texts: Vec<_> = works.iter().map(|work| said(&daemon.cli(work)).1).collect();
        assert_eq!(tree(&outside), before, "{part}: {texts:#?}");
        // What needs the part is refused, and says why.
        let told = texts.iter().any(|text| text.contains("symbolic link"));
        assert!(told || part.is_empty(), "{part}: {texts:#?}");
        ok(&daemon, &["create", "other"]);
    }
}

#[test]
fn a_store_full_of_fifos_does_not_wedge_the_daemon() {
    let (daemon, url) = with_backup();
    let record = |name: &str| {
        let volume = daemon.dir.path().join("nightly/convoy-objectstore/volumes/vo/l1/vol1");
        volume.join(format!("backups/backup_{name}.cfg"))
    };
    rustix::fs::mknodat(rustix::fs::CWD, record("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    let base = url.split("?backup=").next().unwrap();
    let fifo = format!("{base}?backup=fifo&volume=vol1");
    let daemon = Arc::new(daemon);
    let creates = (0..8).map(|thread| {
        let (daemon, fifo) = (Arc::clone(&daemon), fifo.clone());
        std::thread::spawn(move || {
            for n in 0..140 {
                let body = format!("{{\"Name\":\"t{thread}-{n}\",\"BackupURL\":\"{fifo}\"}}");
                let answer = daemon.call("POST", "/volumes/create", &body);
                assert!(answer.status != 200 && answer.body.contains("FIFO"), "{answer:?}");
            }
        })
    });
    let creates: Vec<_> = creates.collect();
    creates.into_iter().for_each(|thread| thread.join().unwrap());
    ok(&daemon, &["create", "copy", "--backup", &url]);
    assert_eq!(std::fs::read(daemon.volumes().join("copy/file")).unwrap(), b"content");
}

/// The AWS SDK would log the id of the access key, at `info`; this daemon logs at `debug`.
#[test]
fn no_access_key_is_logged() {
    let mut daemon = Daemon::prepare(&[]);
    let (credentials, config) =
        (daemon.dir.path().join("credentials"), daemon.dir.path().join("convoy.toml"));
    let id = "AKIAQUIETLYQUIETLY22";
    let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = secretly\n");
    std::fs::write(&credentials, text).unwrap();
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "[destinations.\"s3://bucket\"]\nendpoint = \"http://127.0.0.1:{port}/\"\nregion = \"r\"\n\
         credentials_file = \"{}\"\n",
        credentials.display()
    );
    std::fs::write(&config, text).unwrap();
    daemon.add_arguments(&["--config", config.to_str().unwrap()]);
    daemon.launch();
    let (code, text) = said(&daemon.cli(&["backup", "list", "s3://bucket/path/"]));
    assert_eq!(code, Some(1), "{text}");
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("s3://bucket") || log.contains("/backups/list"), "it was asked: {log}");
    for secret in [id, "secretly"] {
        assert!(!log.contains(secret) && !text.contains(secret), "{text}\n{log}");
    }
}
