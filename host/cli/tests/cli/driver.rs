//! `convoy driver`, with real drivers and without a daemon.

use crate::daemon::{Daemon, answer};
use crate::run::{Ran, convoy, run};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where no daemon is.
fn nobody() -> PathBuf {
    "/nowhere/convoy.sock".into()
}

/// Runs the program in a directory.
fn run_in(dir: &Path, words: &[&str]) -> Ran {
    convoy(&nobody()).current_dir(dir).env("TMPDIR", temporary(dir)).args(words).output().unwrap().into()
}

/// The directory for temporary files of what is run there: the machine's has those of others.
fn temporary(dir: &Path) -> PathBuf {
    let temporary = dir.join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    temporary
}

/// The library of the misbehaving driver, which cargo builds along with the tests of the whole workspace.
fn misbehaving() -> String {
    let own = std::env::current_exe().unwrap();
    let file = own.ancestors().nth(2).unwrap().join("examples/libconvoy_driver_misbehaving.so");
    if !file.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build =
            ["build", "--quiet", "--package", "convoy-drivers", "--example", "convoy_driver_misbehaving"];
        assert!(Command::new(cargo).args(build).status().unwrap().success());
    }
    file.display().to_string()
}

/// What a library does in a call that does not end.
const HANGS: [&str; 4] = ["--opt", "do=sleep", "--opt", "ms=3600000"];

#[test]
fn a_library_that_hangs_is_left_and_its_rule_told() {
    let dir = tempfile::tempdir().unwrap();
    let library = misbehaving();
    let begun = Instant::now();
    let line = ["--output", "table", "driver", "run", &library, "--timeout", "1", "--", "create", "v1"];
    let ran = run_in(dir.path(), &[&line[..], &HANGS].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    assert!(ran.stderr.contains("volume.create did not end before its deadline"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("volume.create goes on after") && ran.stderr.contains("R31: "),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains('\x1b'), "colours in a pipe: {:?}", ran.stderr);

    // What that left, because a thread could still write to it, the next one removes.
    let left = || std::fs::read_dir(temporary(dir.path())).unwrap().count();
    assert_eq!(left(), 1);
    let described = run_in(dir.path(), &["driver", "run", &library, "--", "probe"]);
    assert_eq!((described.code, left()), (Some(0), 0), "{described:?}");

    let line =
        ["driver", "test", &library, "--timeout", "1", "--case", "volume.life", "--case", "volume.mount"];
    let hangs = ["--create-option", "do=sleep", "--create-option", "ms=3600000", "--output", "table"];
    let ran = run_in(dir.path(), &[&line[..], &hangs].concat());
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains("volume.life failed: ") && ran.stdout.contains("R39: "), "{}", ran.stdout);
    assert!(ran.stdout.contains("a call of an earlier case does not end"), "{}", ran.stdout);
    assert!(begun.elapsed() < Duration::from_secs(300), "{:?}", begun.elapsed());
}

/// The number of Ctrl-C's signal.
const SIGINT: u32 = 2;

#[test]
fn ctrl_c_ends_a_run_of_a_library_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let line = ["driver", "run", &misbehaving(), "--timeout", "3600", "--", "create", "v1"];
    let mut command = convoy(&nobody());
    command.args(line).args(HANGS).env("TMPDIR", temporary(dir.path()));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It listens for Ctrl-C once it catches the signal.
    let status = format!("/proc/{}/status", child.id());
    let catches = || {
        let text = std::fs::read_to_string(&status).unwrap();
        let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(mask, 16).unwrap() & (1 << (SIGINT - 1)) != 0
    };
    while !catches() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(10));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.contains("interrupted") && ran.stderr.contains("R32: "), "{}", ran.stderr);
}

#[test]
fn a_driver_that_ends_is_not_said_to_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("convoy-driver-short");
    let text = include_str!("../../templates/driver.py.txt").replace("{{name}}", "short");
    let text = text.replace(
        "def volume_create(self, request):",
        "def volume_create(self, request):\n        os._exit(9)",
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    let ran = run_in(dir.path(), &["driver", "run", "./convoy-driver-short", "--", "create", "v1"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("the driver process ended (exit status: 9)"), "{ran:?}");
    assert!(!ran.stdout.contains("again"), "{ran:?}");
}

#[test]
fn a_run_restores_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let (from, records) = (dir.path().join("from"), dir.path().join("records"));
    std::fs::create_dir_all(from.join("inner")).unwrap();
    std::fs::write(from.join("inner/file"), "content").unwrap();
    let line = ["driver", "run", "./convoy-driver-folder", "--root", "records", "--"];
    let ran = run_in(dir.path(), &[&line[..], &["restore", "v1", "from"]].concat());
    assert_eq!(json(&ran.stdout)["name"], "v1", "{ran:?}");
    let restored = std::fs::read_to_string(records.join("volumes/v1/data/inner/file")).unwrap();
    assert_eq!(restored, "content");
    // What cannot be restored leaves no volume.
    let ran = run_in(dir.path(), &[&line[..], &["restore", "v2", "nothing"]].concat());
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let ran = run_in(dir.path(), &[&line[..], &["restore", "v1", "from"]].concat());
    assert!(ran.code == Some(1) && ran.stdout.contains("already_exists"), "{ran:?}");
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// An installed copy of the Python example.
fn folder(dir: &Path) -> String {
    let file = dir.join("convoy-driver-folder");
    std::fs::copy(checkout().join("examples/python/convoy-driver-folder"), &file).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
    file.display().to_string()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_driver_is_run_without_a_daemon() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let file = "./convoy-driver-folder";
    let described = run_in(dir.path(), &["driver", "run", file, "--", "describe"]);
    assert_eq!((described.code, described.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(&described.stdout)["name"], "folder");

    let created = run_in(
        dir.path(),
        &["driver", "run", file, "--root", "records", "--", "create", "v1", "--opt", "mode=700"],
    );
    assert_eq!((created.code, created.stderr.as_str()), (Some(0), ""));
    assert_eq!(json(&created.stdout)["name"], "v1");
    let mounted =
        json(&run_in(dir.path(), &["driver", "run", file, "--root", "records", "--", "mount", "v1"]).stdout);
    let data = Path::new(mounted["mountpoint"].as_str().unwrap());
    assert_eq!(data, dir.path().canonicalize().unwrap().join("records/volumes/v1/data"));
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o700);

    // Several commands to one driver, for people.
    let line = ["driver", "run", file, "--root", "records", "--output", "table", "--"];
    let more = [
        "snapshot", "create", "v1", "s1", "--", "snapshot", "read", "v1", "s1", "--", "list", "--", "delete",
        "v1",
    ];
    let ran = run_in(dir.path(), &[&line[..], &more[..]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("made a snapshot"), "its log is not seen: {}", ran.stderr);
    assert!(
        ran.stdout.contains("NAME   BYTES   SNAPSHOTS   MOUNTED AT   HEALTH\nv1     0       1"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("location:"), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("\ndone\n"), "{}", ran.stdout);
}

#[test]
fn what_goes_wrong_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    folder(dir.path());
    let fails = |words: &[&str]| {
        let ran = run_in(dir.path(), &[&["--output", "table", "driver", "run"], words].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{words:?}");
        ran.stderr
    };
    let file = "./convoy-driver-folder";
    let error = fails(&[file, "--", "create", "v1", "--opt", "colour=red"]);
    assert!(error.contains("volume.create: unknown option 'colour' (invalid_argument)"), "{error}");
    assert!(error.contains("hint: known options: mode"), "{error}");
    let error = fails(&[file, "--", "create", "../x"]);
    assert!(error.starts_with("error: invalid name \"../x\": expected"), "{error}");
    let error = fails(&[file, "--option", "x=y", "--", "list"]);
    assert!(error.contains("driver.open: unknown option 'x'"), "{error}");
    assert!(fails(&[file, "--", "fly"]).contains("unrecognized subcommand 'fly'"));
    assert!(fails(&[file]).contains("<COMMAND>..."));
    let error = fails(&["./nothing", "--", "list"]);
    assert!(error.contains("there is no file ") && error.contains("/nothing\n"), "{error}");
    assert!(error.contains("hint: give the file of a driver"), "{error}");
    let error = fails(&["process:nothing", "--", "list"]);
    assert!(error.contains("looked for convoy-driver-nothing") && error.contains("--driver-path"), "{error}");
    for nothing in [["--timeout", "0"], ["--kills", "0"]] {
        let ran = run_in(dir.path(), &[&["driver", "test", file][..], &nothing].concat());
        assert!(ran.code == Some(1) && ran.stdout.contains("0 is not in 1.."), "{ran:?}");
    }
    // Nothing is tested whose report would have nowhere to go.
    for (words, way_out) in
        [(["--junit", "none/x"], "cannot write none/x"), (["--work", "none"], "name one that is there")]
    {
        let ran = run_in(
            dir.path(),
            &[&["--output", "table", "driver", "test", file, "--case", "list."][..], &words].concat(),
        );
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains(way_out), "{ran:?}");
    }
    // A temporary root leaves nothing.
    assert_eq!(std::fs::read_dir(temporary(dir.path())).unwrap().count(), 0);
}

#[test]
fn the_list_says_where_drivers_are_and_why_one_cannot_be_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let file = folder(dir.path());
    let write = |name: &str, text: &str, mode: u32| {
        std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::set_permissions(dir.path().join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    write("convoy-driver-broken", "#!/bin/sh\necho my configuration is missing\nexit 3\n", 0o755);
    write("convoy-driver-open", "#!/bin/sh\n", 0o777);
    write("libconvoy_driver_strange.so", "no library", 0o644);
    let list = |daemon: &Path, form: &str| {
        let mut command = convoy(daemon);
        command.env("CONVOY_DRIVER_PATH", dir.path()).args(["driver", "list", "--output", form]);
        let ran: Ran = command.output().unwrap().into();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        ran.stdout
    };
    let listed = json(&list(&nobody(), "json"));
    assert_eq!(listed["folder"]["Path"], file.as_str());
    assert_eq!(listed["folder"]["Carrier"], "process");
    assert_eq!(listed["folder"]["NotLoaded"], true);
    assert_eq!(
        listed["folder"]["Capabilities"],
        serde_json::json!(["snapshots", "read_tree", "restore_tree"])
    );
    for (name, reason) in [
        ("broken", "it wrote: my configuration is missing"),
        ("open", "can be written by everybody"),
        ("open", "chmod go-w "),
        ("strange", "cannot load"),
    ] {
        let error = listed[name]["Error"].as_str().unwrap_or_else(|| panic!("{name}: {listed:#}"));
        assert!(error.contains(reason), "{name}: {error}");
    }
    let text = list(&nobody(), "table");
    let row = |name: &str| {
        text.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap().to_owned()
    };
    assert!(row("folder").ends_with("installed") && row("broken").ends_with("cannot be loaded"), "{text}");
    assert!(text.contains("No daemon answers"), "{text}");

    // A daemon that has loaded it says how it is.
    let told = format!(
        r#"{{"folder": {{"Name": "folder", "Version": "1.0", "Carrier": "process", "Path": "{}", "PID": 7, "Healthy": true}}}}"#,
        Path::new(&file).canonicalize().unwrap().display()
    );
    let daemon = Daemon::new([answer(&told)]);
    let listed = json(&list(&daemon.socket(), "json"));
    assert_eq!(
        (&listed["folder"]["Healthy"], &listed["folder"]["NotLoaded"]),
        (&Value::Bool(true), &Value::Null)
    );
    assert!(listed.get("process:folder").is_none() && listed.get("broken").is_some(), "{listed:#}");
}

/// Builds a new project with the dependencies and the settings of this workspace, so that what is compiled is
/// used.
fn build(project: &Path) {
    let above = project.parent().unwrap().join(".cargo");
    std::fs::create_dir_all(&above).unwrap();
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let config = format!(
        "[build]\nbuild-dir = {target:?}\n[profile.dev]\ndebug = \
         \"line-tables-only\"\n[profile.dev.package.\"*\"]\ndebug = false\n"
    );
    std::fs::write(above.join("config.toml"), config).unwrap();
    std::fs::copy(checkout().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet"]).current_dir(project).env_remove("CARGO_TARGET_DIR");
    let told = cargo.output().unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    // A warning in what beginners start with would be a bad beginning.
    assert_eq!(String::from_utf8_lossy(&told.stderr), "");
}

fn lives(dir: &Path, driver: &str) {
    let words = ["driver", "run", driver, "--root", "root", "--"];
    let life = "create v1 -- create v2 -- mount v1 -- umount v1 -- delete v2 -- list -- inspect v1";
    let ran = run_in(dir, &words.into_iter().chain(life.split(' ')).collect::<Vec<_>>());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{}", ran.stdout);
    let again = run_in(dir, &words.into_iter().chain(["create", "v1"]).collect::<Vec<_>>());
    assert!(again.stdout.contains("already_exists") && again.code == Some(1), "{again:?}");
    // What a delete by reference kept comes back.
    std::fs::write(dir.join("root/volumes/v1/data/file"), "kept").unwrap();
    let ran =
        run_in(dir, &words.into_iter().chain("delete v1 -r -- create v1".split(' ')).collect::<Vec<_>>());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(std::fs::read_to_string(dir.join("root/volumes/v1/data/file")).unwrap(), "kept");
    std::fs::remove_dir_all(dir.join("root")).unwrap();
    // It keeps the rules, as it stands.
    let words = ["driver", "test", driver, "--kills", "2", "--output", "table", "--work", "."];
    let ran = run_in(dir, &words);
    assert_eq!(ran.code, Some(0), "{} {}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains(" passed, 0 failed"), "{}", ran.stdout);
}

/// Small enough to be read at once.
fn is_short(file: &Path) {
    let lines = std::fs::read_to_string(file).unwrap().lines().count();
    assert!((30..=100).contains(&lines), "{} has {lines} lines", file.display());
}

#[test]
fn a_new_rust_driver_builds_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let sdk = checkout().join("driver-sdk").display().to_string();
    for (kind, name, file) in [
        ("library", "new-one", "libconvoy_driver_new_one.so"),
        ("process", "new-two", "convoy-driver-new-two"),
    ] {
        let ran = run_in(dir.path(), &["driver", "new", name, "--kind", kind, "--sdk", &sdk]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        let project = dir.path().join(format!("convoy-driver-{name}"));
        build(&project);
        is_short(&project.join("src").join(if kind == "library" { "lib.rs" } else { "main.rs" }));
        lives(dir.path(), &project.join("target/debug").join(file).display().to_string());
    }
}

#[test]
fn a_new_python_driver_works() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run_in(dir.path(), &["driver", "new", "scratch", "--lang", "python", "--output", "table"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    for step in [
        "convoy driver run ./convoy-driver-scratch -- create v1 -- list",
        "convoy driver test ./convoy-driver-scratch",
    ] {
        assert!(ran.stdout.contains(step), "{}", ran.stdout);
    }
    is_short(&dir.path().join("convoy-driver-scratch/convoy-driver-scratch"));
    lives(dir.path(), "./convoy-driver-scratch/convoy-driver-scratch");
    let again = run(&nobody(), &["driver", "new", "scratch", "--lang", "python", "--kind", "library"]);
    assert!(again.stdout.contains("Rust only"), "{again:?}");
    for (name, way_out) in [
        ("convoy-driver-tape", "say: convoy driver new tape"),
        ("Tape", "small letters"),
        ("tape-", "single dashes"),
        ("", "small letters"),
    ] {
        let refused =
            run_in(dir.path(), &["--output", "table", "driver", "new", "--lang", "python", "--", name]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(&format!("Invalid name {name:?}")), "{refused:?}");
        assert!(refused.stderr.contains(way_out), "{refused:?}");
    }
    let words =
        ["driver", "new", "tape", "--lang", "python", "--directory", "it's here", "--output", "table"];
    let steps = run_in(dir.path(), &words);
    assert!(steps.stdout.contains(r"cd 'it'\''s here'"), "{steps:?}");
    let again = run_in(dir.path(), &["driver", "new", "scratch", "--lang", "python"]);
    assert!(again.code == Some(1) && again.stdout.contains("cannot make"), "{again:?}");
    let nowhere = run_in(dir.path(), &["--output", "table", "driver", "new", "other"]);
    assert!(
        nowhere.stderr.contains("not on crates.io") && nowhere.stderr.contains("--sdk DIRECTORY"),
        "{nowhere:?}"
    );
}
