//! A look into backups and snapshots, through the command line and the API: the same of both, and the same as
//! GNU tar and the file system tell.

use crate::harness::{Daemon, write_secret};
use convoy_driver_sdk::Timestamp;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

const CONF: &str = "etc/app/app.conf";

/// A name that is no text and has a line end.
fn odd() -> &'static OsStr {
    OsStr::from_bytes(b"odd \xff\n%41")
}

/// A volume with one of everything, two snapshots of it, and two backups; then it is as in the second.
struct Lab {
    daemon: Daemon,
    urls: [String; 2],
    key: PathBuf,
}

impl Lab {
    fn new(encrypted: bool) -> Self {
        let daemon = Daemon::start();
        let key = daemon.dir.path().join("key");
        write_secret(&key, [7; 64]);
        ok(&daemon, &["create", "data"]);
        let top = daemon.volumes().join("data");
        std::fs::create_dir_all(top.join("etc/app")).unwrap();
        std::fs::write(top.join(CONF), "port = 1\n").unwrap();
        std::fs::write(top.join("etc/old"), "old").unwrap();
        std::fs::write(top.join(odd()), "odd").unwrap();
        std::fs::write(top.join("etc/linked"), "linked").unwrap();
        std::fs::hard_link(top.join("etc/linked"), top.join("zlink")).unwrap();
        symlink("etc/app", top.join("app")).unwrap();
        setxattr(top.join("etc/linked"), "user.colour", b"blue", XattrFlags::empty()).unwrap();
        let sparse = std::fs::File::create(top.join("sparse")).unwrap();
        sparse.write_at(b"end", 3 << 20).unwrap();
        mknodat(CWD, top.join("pipe"), FileType::Fifo, Mode::from_bits_retain(0o600), 0).unwrap();
        std::fs::set_permissions(top.join("etc/old"), PermissionsExt::from_mode(0o4711)).unwrap();
        let mut lab =
            Self { daemon, urls: Default::default(), key: if encrypted { key } else { PathBuf::new() } };
        lab.urls[0] = lab.back_up("one");
        std::fs::write(top.join(CONF), "port = 80\n").unwrap();
        std::fs::remove_file(top.join("etc/old")).unwrap();
        std::fs::write(top.join("etc/new.conf"), "new").unwrap();
        std::fs::set_permissions(top.join("etc/linked"), PermissionsExt::from_mode(0o600)).unwrap();
        // Backups are told apart by the second.
        wait_for_the_next_second();
        lab.urls[1] = lab.back_up("two");
        lab
    }

    fn store(&self) -> PathBuf {
        self.daemon.dir.path().join("store")
    }

    fn destination(&self) -> String {
        format!("vfs://{}", self.store().display())
    }

    fn back_up(&self, snapshot: &str) -> String {
        std::fs::create_dir_all(self.store()).unwrap();
        ok(&self.daemon, &["snapshot", "create", "data", "--name", snapshot]);
        let out = self.ok(&["backup", "create", snapshot, "--dest", &self.destination()]);
        out.trim().replace("\\u0026", "&")
    }

    /// A command, with the key if there is one.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = self.daemon.command();
        if words[0] == "backup" && !self.key.as_os_str().is_empty() {
            command.env("CONVOY_ENCRYPTION_KEY_FILE", &self.key);
        }
        command.args(words).output().unwrap()
    }

    fn ok(&self, words: &[&str]) -> String {
        String::from_utf8(self.bytes(words)).unwrap()
    }

    fn bytes(&self, words: &[&str]) -> Vec<u8> {
        let ran = self.run(words);
        assert!(ran.status.success(), "{words:?}: {ran:?}");
        ran.stdout
    }

    /// What a command that fails says to people.
    fn refused(&self, words: &[&str]) -> String {
        let words: Vec<&str> = words.iter().chain(&["--output", "table"]).copied().collect();
        let ran = self.run(&words);
        assert_eq!(ran.status.code(), Some(1), "{words:?}: {ran:?}");
        String::from_utf8_lossy(&ran.stderr).into_owned()
    }

    fn lines(&self, words: &[&str]) -> Vec<Value> {
        self.ok(words).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The command for a snapshot or a backup, with what names it.
    fn both<'a>(&'a self, command: &'a str, number: usize) -> [[&'a str; 3]; 2] {
        let snapshot = ["one", "two"][number];
        [["backup", command, &self.urls[number]], ["snapshot", command, snapshot]]
    }
}

fn ok(daemon: &Daemon, words: &[&str]) {
    let ran = daemon.cli(words);
    assert!(ran.status.success(), "{words:?}: {ran:?}");
}

fn wait_for_the_next_second() {
    let now = Timestamp::now();
    while Timestamp::now() == now {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn paths(lines: &[Value]) -> BTreeSet<String> {
    lines.iter().map(|line| line["Path"].as_str().unwrap().to_owned()).collect()
}

fn tar(archive: &Path, words: &[&str]) -> Output {
    let mut command = std::process::Command::new("tar");
    command.arg("--file").arg(archive).args(words).env("LC_ALL", "C").output().unwrap()
}

#[test]
fn backups_and_snapshots_are_listed_read_compared_and_dumped_alike() {
    for encrypted in [false, true] {
        let lab = Lab::new(encrypted);
        let top = lab.daemon.volumes().join("data");
        let keyless = lab.daemon.cli(&["backup", "ls", &lab.urls[1]]);
        assert_eq!(keyless.status.success(), !encrypted, "{keyless:?}");
        let all: BTreeSet<String> = [
            "app",
            "etc",
            "etc/app",
            CONF,
            "etc/linked",
            "etc/new.conf",
            "odd %FF%0A%2541",
            "pipe",
            "sparse",
            "zlink",
        ]
        .map(str::to_owned)
        .into();
        for which in lab.both("ls", 1) {
            let with = |more: &[&'static str]| -> Vec<&str> {
                which.iter().copied().chain(more.iter().copied()).collect()
            };
            let listed = lab.lines(&with(&["-R"]));
            assert_eq!(paths(&listed), all);
            let of = |path: &str| listed.iter().find(|line| line["Path"] == path).unwrap().clone();
            assert_eq!(
                (&of("sparse")["Size"], &of("pipe")["Type"]),
                (&((3 << 20) + 3).into(), &"fifo".into())
            );
            assert_eq!(
                (&of("app")["Target"], &of("zlink")["FirstName"]),
                (&"etc/app".into(), &"etc/linked".into())
            );
            assert_eq!(
                (&of("etc/linked")["Mode"], &of("etc/linked")["Xattrs"][0]),
                (&"0600".into(), &"user.colour".into())
            );
            assert_eq!(
                paths(&lab.lines(&with(&["/etc/"]))),
                ["etc/app", "etc/linked", "etc/new.conf"].map(str::to_owned).into()
            );
            let people = lab.ok(&with(&["--output", "table"]));
            assert_eq!(people, "app\netc/\n$'odd \\xff\\n%41'\npipe\nsparse\nzlink\n");
        }
        for which in lab.both("cat", 1) {
            for path in [CONF, "sparse", "zlink"] {
                let read = lab.bytes(&[which[0], which[1], which[2], path]);
                assert!(read == std::fs::read(top.join(path)).unwrap(), "{which:?} {path}");
            }
            let mut command = lab.daemon.command();
            command.args(which).arg(odd()).env("CONVOY_ENCRYPTION_KEY_FILE", &lab.key);
            assert_eq!(command.output().unwrap().stdout, b"odd");
        }
        for which in lab.both("dump", 1) {
            let archive = lab.daemon.dir.path().join("dump.tar");
            std::fs::write(&archive, lab.bytes(&which)).unwrap();
            let differs = tar(&archive, &["--compare", "--xattrs", "-C", top.to_str().unwrap()]);
            assert!(differs.status.success() && differs.stdout.is_empty(), "{differs:?}");
            let listed =
                tar(&archive, &["--list", "--quoting-style=literal", "--show-transformed-names", "--null"]);
            assert!(listed.status.success(), "{listed:?}");
            let told = String::from_utf8(tar(&archive, &["--list"]).stdout).unwrap();
            assert_eq!(told.lines().count(), all.len() + 1, "{told}");
            let out = lab.daemon.dir.path().join("out");
            std::fs::create_dir(&out).unwrap();
            let unpacked =
                tar(&archive, &["--extract", "--xattrs", "--xattrs-include=*", "-C", out.to_str().unwrap()]);
            assert!(unpacked.status.success(), "{unpacked:?}");
            let mut value = [0; 8];
            let length = rustix::fs::getxattr(out.join("zlink"), "user.colour", &mut value).unwrap();
            assert_eq!(&value[..length], b"blue");
            std::fs::remove_dir_all(&out).unwrap();
            let part = lab.bytes(&[which[0], which[1], which[2], "etc/app"]);
            std::fs::write(&archive, part).unwrap();
            assert_eq!(tar(&archive, &["--list"]).stdout, b"etc/app/\netc/app/app.conf\n");
            let zip = lab.run(&[which[0], which[1], which[2], "--format", "zip"]);
            let said = String::from_utf8_lossy(&zip.stderr);
            assert!(
                zip.status.success() && said.contains("/pipe (a named pipe, which no zip holds)"),
                "{said}"
            );
            assert!(zip.stdout.starts_with(b"PK\x03\x04") && zip.stdout.len() > 500);
        }
        let [old, new] = &lab.urls;
        for words in [["backup", "diff", old, new], ["snapshot", "diff", "one", "two"]] {
            let told: Vec<(String, String)> = lab
                .lines(&words)
                .iter()
                .map(|line| {
                    let word = |key| line[key].as_str().unwrap_or_default().to_owned();
                    (word("Change"), word("Path"))
                })
                .collect();
            let expected = [
                ("changed", CONF),
                ("metadata", "etc/linked"),
                ("added", "etc/new.conf"),
                ("removed", "etc/old"),
                ("metadata", "zlink"),
            ];
            assert_eq!(told, expected.map(|(change, path)| (change.to_owned(), path.to_owned())));
        }
        let people = lab.ok(&["snapshot", "diff", "one", "two", "etc/old", "--output", "table"]);
        assert_eq!(
            people,
            "- etc/old  3 B\n0 added (0 B), 1 removed (3 B), 0 changed (0 B), 0 with other metadata\n"
        );
    }
}

#[test]
fn each_version_is_found_once_the_newest_first() {
    let lab = Lab::new(false);
    let destination = lab.destination();
    for find in [["backup", "find", &destination].as_slice(), &["snapshot", "find"]] {
        let find = |more: &[&str]| -> Vec<(String, String)> {
            let words: Vec<&str> = find.iter().chain(more).copied().collect();
            let told = |line: &Value| {
                let word = |value: &Value| value.as_str().unwrap().to_owned();
                (word(&line["SnapshotName"]), word(&line["File"]["Path"]))
            };
            lab.lines(&words).iter().map(told).collect()
        };
        let owned = |of: &[(&str, &str)]| -> Vec<(String, String)> {
            of.iter().map(|(snapshot, path)| ((*snapshot).to_owned(), (*path).to_owned())).collect()
        };
        let all = owned(&[("two", CONF), ("two", "etc/new.conf"), ("one", CONF)]);
        assert_eq!(find(&["*.conf"]), all);
        assert_eq!(find(&["etc/app/*"]), owned(&[("two", CONF), ("one", CONF)]));
        assert_eq!(find(&["sparse", "--volume", "data"]), owned(&[("two", "sparse")]));
        assert_eq!(find(&["no such"]), owned(&[]));
        assert_eq!(find(&["*.conf", "--since", "2099-01-01T00:00:00Z"]), owned(&[]));
        assert_eq!(find(&["*.conf", "--since", "24h"]), all);
    }
    let people = lab.ok(&["backup", "find", &destination, "etc/old", "--output", "table"]);
    assert!(people.lines().nth(1).unwrap().ends_with(&format!("  etc/old  '{}'", lab.urls[0])), "{people}");
}

#[test]
fn what_cannot_be_looked_at_is_told() {
    let lab = Lab::new(false);
    let (url, destination) = (lab.urls[1].as_str(), lab.destination());
    for (words, said) in [
        (
            &["backup", "ls", url, "etc/nginx/conf.d"][..],
            "has nothing at /etc/nginx/conf.d; the nearest that it has is /etc",
        ),
        (&["snapshot", "ls", "two", "etc/nginx"], "snapshot two of volume data has nothing at /etc/nginx"),
        (&["backup", "cat", url, "etc"], "/etc is a directory and not a regular file"),
        (&["snapshot", "cat", "two", "pipe"], "/pipe is a named pipe and not a regular file"),
        (&["backup", "cat", url, "../etc/passwd"], "is not a plain relative path"),
        (&["backup", "find", &destination, "["], "is no pattern"),
        (&["backup", "find", &destination, "x", "--volume", "none"], "there are no backups of volume none"),
        (&["backup", "find", "vfs:///srv/nowhere-at-all", "x"], "nowhere-at-all"),
        (&["snapshot", "find", "x", "--volume", "none"], "none"),
        (&["backup", "ls", &destination], "names no backup"),
        (&["snapshot", "ls", "three"], "three"),
        (&["snapshot", "diff", "one", "two", "nothing"], "has nothing at /nothing"),
        (&["snapshot", "ls", "two", "--volume", "other"], "volume other has no snapshot two"),
    ] {
        let told = lab.refused(words);
        assert!(told.contains(said), "{words:?}: {told}");
    }
    // What is wrong with a request is told before anything is sent.
    for (body, said) in [
        (r#"{"Tree":{}}"#, "found neither"),
        (r#"{"Tree":{"URL":"u","SnapshotName":"s"}}"#, "found both"),
        (r#"{"Tree":{"SnapshotName":"two"},"Format":"rar"}"#, "expected tar or zip"),
        (r#"{"Tree":{"SnapshotName":"two"},"Path":"a%00"}"#, "NUL"),
    ] {
        let answer = lab.daemon.call("GET", "/browse/dump", body);
        assert!(answer.status == 400 && answer.body.contains(said), "{answer:?}");
    }
}

/// What 0.5 can restore is one archive: it is read whole, once, and all commands tell what a backup of the new
/// format tells, but for what no such archive holds.
#[test]
fn archives_of_0_5_are_listed_searched_compared_dumped_and_restored_in_part() {
    let lab = Lab::new(false);
    let (store, volumes) = (lab.store().with_file_name("old-store"), lab.daemon.volumes());
    std::fs::create_dir(&store).unwrap();
    let destination = format!("vfs://{}", store.display());
    let back_up = |snapshot: &str| {
        let made = lab.ok(&["backup", "create", snapshot, "--dest", &destination, "--format", "v0"]);
        made.trim().replace("\\u0026", "&")
    };
    let old = back_up("one");
    wait_for_the_next_second();
    let new = back_up("two");
    let note = "is one archive of convoy 0.5: all of it was read to look into it";
    let listed = lab.run(&["backup", "ls", &new, "-R"]);
    assert!(String::from_utf8_lossy(&listed.stderr).contains(note), "{listed:?}");
    let old_paths = paths(&lab.lines(&["backup", "ls", &new, "-R"]));
    assert_eq!(old_paths, paths(&lab.lines(&["backup", "ls", &lab.urls[1], "-R"])));
    assert_eq!(lab.ok(&["backup", "cat", &new, CONF]), "port = 80\n");
    assert_eq!(lab.ok(&["backup", "cat", &old, CONF]), "port = 1\n");
    assert_eq!(lab.ok(&["backup", "cat", &old, "zlink"]), "linked");
    let told = |line: &Value| {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        (word(&line["SnapshotName"]), word(&line["File"]["Path"]))
    };
    let words = ["backup", "find", &destination, "*.conf"];
    let found: Vec<_> = lab.lines(&words).iter().map(told).collect();
    let expected = [("two", CONF), ("two", "etc/new.conf"), ("one", CONF)];
    assert_eq!(found, expected.map(|(one, other)| (one.to_owned(), other.to_owned())));
    let noted = lab.run(&words);
    assert_eq!(String::from_utf8_lossy(&noted.stderr).matches(note).count(), 1, "{noted:?}");
    let differs = paths(&lab.lines(&["backup", "diff", &old, &new]));
    let expected =
        BTreeSet::from([CONF, "etc/old", "etc/new.conf", "etc/linked", "zlink"].map(str::to_owned));
    assert_eq!(differs, expected);
    let archive = lab.daemon.dir.path().join("etc.tar");
    std::fs::write(&archive, lab.bytes(&["backup", "dump", &old, "etc"])).unwrap();
    let names = String::from_utf8(tar(&archive, &["-t"]).stdout).unwrap();
    assert!(names.contains("etc/old") && names.contains(CONF), "{names}");
    let top = volumes.join("data");
    std::fs::write(top.join(CONF), "spoilt").unwrap();
    let restore = ["restore", &old, "--path", CONF, "--into", "data", "--existing", "replace"];
    lab.ok(&[&restore[..], &["--dry-run"]].concat());
    assert_eq!(std::fs::read_to_string(top.join(CONF)).unwrap(), "spoilt");
    lab.ok(&restore);
    assert_eq!(std::fs::read_to_string(top.join(CONF)).unwrap(), "port = 1\n");
    lab.ok(&["restore", &old, "--path", "etc/old", "--into", "data"]);
    let mode = std::fs::metadata(top.join("etc/old")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o4711);
    assert_eq!(std::fs::read_to_string(top.join("etc/old")).unwrap(), "old");
}

/// Damages one of two large files in the store, without knowing which.
#[test]
fn a_damaged_chunk_spoils_the_file_that_has_it_and_no_other() {
    let lab = Lab::new(false);
    let top = lab.daemon.volumes().join("data");
    for (name, seed) in [("large-a", 1_u64), ("large-b", 2)] {
        let mut state = seed;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).to_le_bytes()[0]
        });
        std::fs::write(top.join(name), noise.take(6 << 20).collect::<Vec<u8>>()).unwrap();
    }
    let url = lab.back_up("three");
    let (file, length) = largest(&lab.store());
    let opened = std::fs::File::options().write(true).open(file).unwrap();
    opened.write_all_at(&[0x5a; 64], length / 4).unwrap();
    let read = |name: &str| lab.run(&["backup", "cat", &url, name]);
    let (damaged, whole) = match read("large-a").status.success() {
        true => ("large-b", "large-a"),
        false => ("large-a", "large-b"),
    };
    assert!(read(whole).stdout == std::fs::read(top.join(whole)).unwrap());
    let told = lab.refused(&["backup", "cat", &url, damaged]);
    assert!(told.contains(&format!("cannot read /{damaged}")), "{told}");
    let dumped = lab.run(&["backup", "dump", &url]);
    let told = String::from_utf8_lossy(&dumped.stderr);
    assert_eq!(dumped.status.code(), Some(1));
    assert!(told.contains("1 file could not be read") && told.contains(&format!("/{damaged}")), "{told}");
    let archive = lab.daemon.dir.path().join("dump.tar");
    std::fs::write(&archive, dumped.stdout).unwrap();
    let compared = tar(&archive, &["--compare", "-C", top.to_str().unwrap()]);
    let differs = String::from_utf8_lossy(&compared.stdout);
    assert!(differs.lines().all(|line| line.starts_with(damaged)), "{differs}");
    assert!(tar(&archive, &["--list"]).stdout.windows(whole.len()).any(|part| part == whole.as_bytes()));
    // Without trailers the connection breaks, and what is there is not taken for whole.
    let body = format!("{{\"Tree\":{{\"URL\":\"{url}\"}},\"Path\":\"{damaged}\"}}");
    let mut stream = std::os::unix::net::UnixStream::connect(lab.daemon.socket()).unwrap();
    let head = format!("GET /browse/cat HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let refused = answer.starts_with(b"HTTP/1.1 400");
    assert!(refused || !answer.ends_with(b"0\r\n\r\n"), "{} bytes", answer.len());
}

fn largest(dir: &Path) -> (PathBuf, u64) {
    let (mut found, mut dirs) = ((PathBuf::new(), 0), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let data = entry.metadata().unwrap();
            if data.is_dir() {
                dirs.push(entry.path());
            } else if data.len() > found.1 {
                found = (entry.path(), data.len());
            }
        }
    }
    found
}

#[test]
fn a_client_that_goes_away_ends_the_work_and_the_snapshot_is_closed() {
    let lab = Lab::new(false);
    let large = std::fs::File::create(lab.daemon.volumes().join("data/huge")).unwrap();
    // A hole: it is never read to its end, and takes no room.
    large.set_len(1 << 36).unwrap();
    let url = lab.back_up("huge");
    for words in [["snapshot", "dump", "huge"], ["backup", "dump", &url]] {
        let mut command = lab.daemon.command();
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut [0; 1 << 20]).unwrap();
        let running = lab.ok(&["jobs"]);
        assert!(running.contains(&format!("{} dump", words[0])), "{running}");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(out);
        let give_up = Instant::now() + Duration::from_secs(60);
        while lab.ok(&["jobs"]).contains(" dump") {
            assert!(Instant::now() < give_up, "{words:?} still runs");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    // Whatever was open would keep these.
    ok(&lab.daemon, &["snapshot", "delete", "huge"]);
    ok(&lab.daemon, &["delete", "data"]);
}

/// The commands of `docs/bring-back.md`, as they stand but for the place of the backups and their ids.
#[test]
fn the_page_on_bringing_back_is_followed() {
    let daemon = Daemon::start();
    let work = tempfile::tempdir().unwrap();
    let store = work.path().join("backups");
    std::fs::create_dir(&store).unwrap();
    let destination = format!("vfs://{}", store.display());
    ok(&daemon, &["create", "data"]);
    let top = daemon.volumes().join("data");
    std::fs::create_dir_all(top.join("etc/app")).unwrap();
    std::fs::write(top.join("etc/app/app.conf"), "port = 80\n").unwrap();
    ok(&daemon, &["snapshot", "create", "data", "--name", "monday"]);
    let made = daemon.cli(&["backup", "create", "monday", "--dest", &destination]).stdout;
    let made = String::from_utf8(made).unwrap();
    let id = made.split_once("backup=").unwrap().1.split(['&', '\\']).next().unwrap();
    let page = include_str!("../../../docs/bring-back.md");
    let mut ran = 0;
    // Mounts and servers stay in the foreground: `tests/tests/backup_mounts.rs` runs them.
    let elsewhere =
        ["mkdir -p /mnt/", "tar -C /mnt/", "curl ", "convoy backup mount ", "convoy backup serve "];
    let lines = page.lines().filter_map(|line| line.strip_prefix("    "));
    for line in lines.filter(|line| !elsewhere.iter().any(|begin| line.starts_with(begin))) {
        assert!(line.starts_with("convoy "), "no command: {line}");
        let line = line.replace("vfs:///srv/backups", &destination);
        let line = ["backup-0123456789abcdef", "backup-fedcba9876543210"]
            .iter()
            .fold(line, |line, example| line.replace(example, id));
        let mut shell = std::process::Command::new("bash");
        let function = "convoy() { \"$PROGRAM\" --socket \"$SOCKET\" \"$@\"; }; set -o pipefail; ";
        shell.args(["-ec", &format!("{function}{line}")]).current_dir(work.path());
        shell.env("PROGRAM", env!("CARGO_BIN_EXE_convoy")).env("SOCKET", daemon.socket());
        let done = shell.env("CONVOY_CONFIG", "/dev/null").output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
        ran += 1;
    }
    assert!(ran > 15, "{ran}");
    assert_eq!(std::fs::read(work.path().join("app.conf")).unwrap(), b"port = 80\n");
    let newest: Value =
        serde_json::from_slice(&std::fs::read(work.path().join("newest.json")).unwrap()).unwrap();
    assert_eq!(newest["File"]["Path"], "etc/app/app.conf");
    for copy in ["copy", "copy2"] {
        assert_eq!(
            std::fs::read(daemon.volumes().join(copy).join("etc/app/app.conf")).unwrap(),
            b"port = 80\n"
        );
    }
}
