//! What operators do: settings in a file, two sockets, sockets from systemd, and what Docker's Remove does.

use crate::harness::{Daemon, write_secret};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn text(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A call at any socket: status line and body together.
fn ask(socket: &std::path::Path, line: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn settings_come_from_a_file_and_change_while_the_daemon_runs() {
    let mut daemon = Daemon::prepare(&[]);
    let file = daemon.dir.path().join("convoy.toml");
    std::fs::write(
        &file,
        "docker-remove = \"keep\"\nlog-level = \
        \"info\"\n[destinations.\"s3://b1/\"]\nproxy = \"http://me:hush@p:1\"\n",
    )
    .unwrap();
    daemon.add_arguments(&["--config", file.to_str().unwrap()]);
    daemon.launch();
    let shown = text(&daemon.cli(&["config", "show"]));
    let line = |n: u32| format!("\"Source\": \"{}:{n}\"", file.display());
    assert!(
        shown.contains(&line(1)) && shown.contains("flag --root") && shown.contains("(not shown)"),
        "{shown}"
    );
    assert!(!shown.contains("hush"), "{shown}");
    assert!(text(&daemon.cli(&["config", "check", file.to_str().unwrap()])).contains("all well"));

    daemon.docker("Create", r#"{"Name":"gone1"}"#);
    let place = daemon.volumes().join("gone1");
    assert!(place.is_dir());
    std::fs::write(&file, "\ndocker-remove = \"delete\"\ndriver-path = [\"/elsewhere\"]\n").unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    let give_up = Instant::now() + Duration::from_secs(10);
    while !text(&daemon.cli(&["config", "show"])).contains(&line(2)) {
        assert!(Instant::now() < give_up, "the settings were not read again");
        std::thread::sleep(Duration::from_millis(20));
    }
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("change with the next restart"), "{log}");
    daemon.docker("Remove", r#"{"Name":"gone1"}"#);
    assert!(!place.exists(), "Docker's Remove deletes, as the file says now");

    std::fs::write(&file, "docker-remove = \"never\"\n").unwrap();
    let said = text(&daemon.cli(&["config", "check", file.to_str().unwrap()]));
    assert!(said.contains("convoy.toml:1") && said.contains("expected keep or delete"), "{said}");
    daemon.signal(rustix::process::Signal::HUP);
    let give_up = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(daemon.log()).unwrap().contains("the settings stay as they are") {
        assert!(Instant::now() < give_up, "a file that is wrong is not noticed");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(text(&daemon.cli(&["config", "show"])).contains("delete"));
    daemon.kill();
    let refused = daemon.refused();
    assert!(!refused.status.success() && text(&refused).contains("expected keep or delete"), "{refused:?}");
}

#[test]
fn settings_that_cannot_be_used_are_told_of_until_they_are_mended() {
    let mut daemon = Daemon::prepare(&[]);
    let file = daemon.dir.path().join("convoy.toml");
    std::fs::write(&file, "docker-remove = \"keep\"\n").unwrap();
    daemon.add_arguments(&["--config", file.to_str().unwrap()]);
    daemon.launch();
    let doctor = || daemon.call("POST", "/doctor", "{}").body;
    let info = || daemon.call("GET", "/info", "").body;
    assert!(!info().contains("Settings") && !doctor().contains("it is not what runs"));

    // Nobody has read it yet, and it is told all the same.
    std::fs::write(&file, "docker-remove = \"never\"\n").unwrap();
    assert!(info().contains("expected keep or delete"), "{}", info());
    let told = doctor();
    assert!(told.contains("it is not what runs") && told.contains("convoy.toml:1"), "{told}");
    let reload = daemon.cli(&["config", "reload"]);
    assert!(!reload.status.success());
    let said = text(&reload);
    assert!(
        said.contains("the settings stay as they are") && said.contains("expected keep or delete"),
        "{said}"
    );
    assert!(text(&daemon.cli(&["config", "show"])).contains("\"Value\": \"keep\""));

    // With underscores, which are understood; and with what only a restart brings.
    std::fs::write(&file, "docker_remove = \"delete\"\ndriver-path = [\"/elsewhere\"]\n").unwrap();
    let told = doctor();
    assert!(told.contains("these settings changed: docker-remove"), "{told}");
    let reload = daemon.cli(&["config", "reload"]);
    assert!(reload.status.success(), "{reload:?}");
    assert!(text(&reload).contains("\"docker-remove\""), "{reload:?}");
    let told = doctor();
    assert!(told.contains("these settings changed: driver-path") && told.contains("restart"), "{told}");
    assert!(!told.contains("docker-remove"), "{told}");
    let log = std::fs::read_to_string(daemon.log()).unwrap();
    assert!(log.contains("docker_remove is spelt docker-remove"), "{log}");
}

/// Keys and tokens are in its memory.
#[test]
fn the_daemon_leaves_no_core() {
    let daemon = Daemon::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

#[test]
fn locks_are_root_s_alone() {
    let daemon = Daemon::start();
    let socket_lock = daemon.dir.path().join("convoy.sock.lock");
    for lock in [socket_lock, daemon.root().join("lock")] {
        assert_eq!(
            std::fs::metadata(&lock).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            lock.display()
        );
    }
}

/// What would else be found at night, or at the next start.
#[test]
fn a_check_finds_what_a_start_does_not_need_yet() {
    let daemon = Daemon::prepare(&[]);
    let file = daemon.dir.path().join("convoy.toml");
    let key = daemon.dir.path().join("key").display().to_string();
    let check = |settings: &str| {
        std::fs::write(&file, settings).unwrap();
        let output = daemon.cli(&["config", "check", file.to_str().unwrap()]);
        (output.status.success(), text(&output))
    };
    let destination = format!("[destinations.\"s3://b1/\"]\ncredentials_file = \"{key}\"\n");
    let schedule = format!(
        "\n[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\n\
         destination = \"s3://b1/\"\npassphrase-file = \"{key}\"\n"
    );
    for (settings, line, said) in [
        (destination.as_str(), 2, "is named in the settings and cannot be read: No such file"),
        (&schedule, 8, "is named in the settings and cannot be read: No such file"),
        (&schedule.replace(&key, "/"), 8, "cannot be read: is a directory"),
        (&schedule.replace("s3://b1/", "gs://b1/"), 7, "invalid destination"),
        ("[driver-options]\nvfs.pth = \"/srv\"\n", 2, "no driver knows the option vfs.pth"),
        ("drivers = [\"vfs\"]\n[driver-options]\ndm.datadev = \"/x\"\n", 3, "known are vfs.path"),
    ] {
        let (good, told) = check(settings);
        assert!(!good && told.contains(said), "{settings}: {told}");
        assert!(told.contains(&format!("convoy.toml:{line})")), "{settings}: {told}");
    }
    write_secret(Path::new(&key), "a passphrase");
    let (good, told) = check(&format!("{destination}{schedule}[driver-options]\nvfs.path = \"/srv\"\n"));
    assert!(good && told.contains("8 settings, all well\n"), "{told}");
    // What nobody can know here is said to be unchecked.
    let (good, told) = check("drivers = [\"elsewhere\"]\n[driver-options]\nels.x = 1\n");
    assert!(good && told.contains("since driver elsewhere cannot be loaded here"), "{told}");
    let (good, _) = check("[driver-options]\ndm.datadev = \"/x\"\n");
    assert!(good, "a flag may name the driver");
}

#[test]
fn a_time_zone_that_nobody_knows_is_refused_by_its_name() {
    let mut daemon = Daemon::prepare(&[]);
    let file = daemon.dir.path().join("convoy.toml");
    let schedule =
        "[[schedule]]\nname = \"nightly\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"snapshot\"\n";
    let mut check = |variable: &str, more: &str| {
        std::fs::write(&file, format!("{schedule}{more}")).unwrap();
        daemon.add_environment(&[("TZ", variable)]);
        let checked = daemon.cli(&["config", "check", &file.display().to_string()]);
        (checked.status.code(), text(&checked))
    };
    for known in ["Europe/Berlin", "UTC", "", "CET-1CEST,M3.5.0,M10.5.0/3"] {
        assert_eq!(check(known, "").0, Some(0), "{known}");
    }
    for unknown in ["Mars/Base", ":Mars/Base", "/usr/share/zoneinfo/Mars"] {
        let (code, told) = check(unknown, "");
        assert!(code == Some(1) && told.contains(unknown) && told.contains("tzdata"), "{unknown}: {told}");
        assert_eq!(check(unknown, "timezone = \"Asia/Tokyo\"\n").0, Some(0), "the schedule has its own");
    }
    let (code, told) = check("UTC", "timezone = \"Mars/Base\"\n");
    assert!(code == Some(1) && told.contains("invalid timezone") && told.contains("Mars/Base"), "{told}");
}

#[test]
fn docker_has_a_socket_of_its_own_without_the_admin_api() {
    let mut daemon = Daemon::prepare(&[]);
    let socket = daemon.dir.path().join("docker.sock");
    daemon.add_arguments(&["--docker-socket", socket.to_str().unwrap(), "--docker-socket-group", "0"]);
    daemon.launch();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&daemon.socket()), mode(&socket)), (0o600, 0o660));
    for call in ["POST /Plugin.Activate", "POST /VolumeDriver.List", "GET /healthz"] {
        assert!(ask(&socket, call).starts_with("HTTP/1.1 200"), "{call}");
        assert!(ask(&daemon.socket(), call).starts_with("HTTP/1.1 200"), "{call}");
    }
    for call in [
        "GET /v1/info",
        "GET /volumes/list",
        "GET /config",
        "DELETE /volumes/",
        "GET /v1//info",
        "GET /events",
    ] {
        let answer = ask(&socket, call);
        assert!(!answer.starts_with("HTTP/1.1 200"), "{call}: {answer}");
    }
    assert!(ask(&socket, "GET /healthz").contains("\"Status\": \"ok\""));
    assert!(daemon.stop().success());
    assert!(!socket.exists() && !daemon.socket().exists());
}

#[test]
fn sockets_of_systemd_are_used_and_left() {
    let dir = tempfile::tempdir().unwrap();
    let admin = UnixListener::bind(dir.path().join("admin.sock")).unwrap();
    let docker = UnixListener::bind(dir.path().join("docker.sock")).unwrap();
    // As systemd does: descriptors from 3 on, and the pid of the very process.
    let script = format!(
        "exec 3<&{0} 4<&{1}; export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=admin:docker; exec {2} daemon \
         --root {3}",
        admin.as_raw_fd(),
        docker.as_raw_fd(),
        env!("CARGO_BIN_EXE_convoy"),
        dir.path().join("root").display()
    );
    for fd in [&admin, &docker] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).unwrap();
    }
    let mut child = std::process::Command::new("/bin/bash")
        .args(["-c", &script])
        .env("CONVOY_CONFIG", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Asked before the daemon is ready: the call waits.
    let answer = ask(&dir.path().join("admin.sock"), "GET /v1/info");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(ask(&dir.path().join("docker.sock"), "GET /v1/info").starts_with("HTTP/1.1 404"));
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(dir.path().join("admin.sock").exists(), "systemd's own");
}

#[test]
fn a_volume_has_its_own_word_on_docker_remove() {
    let mut daemon = Daemon::start();
    let place = |name: &str| daemon.volumes().join(name);
    daemon.docker("Create", r#"{"Name":"kept1"}"#);
    daemon.docker("Create", r#"{"Name":"temp1","Opts":{"retain":"delete"}}"#);
    daemon.docker("Create", r#"{"Name":"temp2"}"#);
    assert!(daemon.cli(&["retain", "temp2", "delete"]).status.success());
    assert!(text(&daemon.cli(&["inspect", "temp1"])).contains("\"DockerRemove\": \"delete\""));
    let places = ["kept1", "temp1", "temp2"].map(place);
    // What was said is not forgotten.
    daemon.kill();
    daemon.launch();
    for name in ["kept1", "temp1", "temp2"] {
        daemon.docker("Remove", &format!("{{\"Name\":\"{name}\"}}"));
    }
    assert_eq!(places.map(|place| place.exists()), [true, false, false]);
    // A later volume of that name is another one.
    daemon.docker("Create", r#"{"Name":"temp1"}"#);
    assert!(!text(&daemon.cli(&["inspect", "temp1"])).contains("DockerRemove"));
    assert!(!daemon.cli(&["retain", "nosuch", "keep"]).status.success());
    let answer = daemon.docker("Create", r#"{"Name":"temp3","Opts":{"retain":"maybe"}}"#);
    assert!(answer.contains("keep or delete") && !daemon.volumes().join("temp3").exists(), "{answer}");
}

/// A file system without quotas.
struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    fn on(dir: &std::path::Path) -> Self {
        let place = dir.join("tmpfs");
        std::fs::create_dir(&place).unwrap();
        let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&place).status();
        assert!(mounted.unwrap().success());
        Self(place)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let unmounted = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.unwrap().success() || std::thread::panicking());
    }
}

#[test]
fn a_size_that_nothing_enforces_is_told_to_people_and_not_to_scripts() {
    let strict = ["--driver-opts", "vfs.strictsize=true"];
    let dir = tempfile::tempdir().unwrap();
    let place = Tmpfs::on(dir.path());
    let path = format!("vfs.path={}", place.0.join("volumes").display());
    let mut daemon = Daemon::bare(&["--driver-opts", &path]);
    daemon.launch();
    // As 0.5 in a pipe, with a word for people.
    let piped = daemon.cli(&["create", "piped", "--size", "5G"]);
    assert_eq!((text(&piped).as_str(), piped.stderr.as_slice()), ("piped\n", b"".as_slice()));
    let told = daemon.cli(&["--output", "table", "create", "told", "--size", "5G"]);
    assert!(text(&told).contains("told"), "{told:?}");
    let aside = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(aside.starts_with("warning: the size of volume told is not enforced: "), "{aside}");
    assert_eq!(daemon.docker("Create", r#"{"Name":"docked","Opts":{"size":"5G"}}"#), "{}");
    for size in ["1X", "-1", "9223372036854775808"] {
        let body = format!(r#"{{"Name":"never","Opts":{{"size":"{size}"}}}}"#);
        assert!(daemon.docker("Create", &body).contains("invalid size"), "{size}");
    }
    for volume in ["piped", "told", "docked"] {
        let shown = text(&daemon.cli(&["inspect", volume]));
        let why = r#""SizeNotEnforced": "5368709120 bytes, but the file system"#;
        assert!(shown.contains(r#""SizeEnforced": "false""#) && shown.contains(why), "{shown}");
    }
    assert!(!text(&daemon.cli(&["list"])).contains("SizeNotEnforced"));
    let report = text(&daemon.cli(&["--output", "table", "doctor"]));
    assert!(report.contains("the sizes of docked, piped, told are not enforced"), "{report}");
    daemon.stop();
    daemon.add_arguments(&strict);
    daemon.launch();
    let refused = daemon.cli(&["--output", "table", "create", "strict", "--size", "5G"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && why.contains("cannot be enforced") && why.contains("prjquota"),
        "{why}"
    );
    let answer = daemon.docker("Create", r#"{"Name":"strict","Opts":{"size":"5G"}}"#);
    assert!(answer.contains("cannot be enforced"), "{answer}");
    assert!(daemon.cli(&["create", "strict"]).status.success());
}
