//! Drivers that die, hang, lie or send nonsense: the host stays up and says who it was.

use crate::support::{Opened, drivers, logged, open};
use convoy_driver_sdk::protocol::{CreateSnapshot, Info, Open, Probe, ResizeVolume};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::{DriverHandle, DriverHealth, LoadError, RequestContext};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const PROCESS: &str = "process:misbehaving";

fn quick() -> RequestContext {
    RequestContext::new("quick").within(Duration::from_secs(20))
}

async fn pid(opened: &Opened) -> i32 {
    opened.driver.call(Info::new(), quick()).await.unwrap().info["Pid"].parse().unwrap()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(15), "not {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_retryable(error: &DriverError, reason: &str) {
    assert_eq!((error.kind, error.retryable), (ErrorKind::Unavailable, true), "{error}");
    assert!(error.message.contains("driver misbehaving") && error.message.contains(reason), "{error}");
    assert!(error.message.contains("try again"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_fails_its_calls_and_comes_back_open() {
    let opened = open(PROCESS).await;
    let first = pid(&opened).await;
    let driver = opened.driver.clone();
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let driver = driver.clone();
            tokio::spawn(async move { driver.call(crate::support::doing("sleep", 60_000), quick()).await })
        })
        .collect();
    until("under way", || opened.driver.status().calls == 4).await;
    kill(first);
    for call in calls {
        is_retryable(&call.await.unwrap().unwrap_err(), "signal: 9");
    }
    // The next call waits for the next process, which is open.
    let second = pid(&opened).await;
    assert_ne!(first, second);
    let status = opened.driver.status();
    assert_eq!(
        (status.restarts, status.health, status.pid),
        (1, DriverHealth::Ready, u32::try_from(second).ok())
    );
    assert!(status.last_error.unwrap().contains("signal: 9"));
    logged(|record| record.is("recovered after a restart: process")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abort_takes_only_its_process() {
    let (opened, other) = (open(PROCESS).await, open(PROCESS).await);
    is_retryable(&opened.create("abort", 0, quick()).await.unwrap_err(), "signal: 6");
    other.driver.call(Probe::new(), quick()).await.unwrap();
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert_eq!((opened.driver.status().restarts, other.driver.status().restarts), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_given_up_and_can_be_restarted_by_hand() {
    let opened = open(PROCESS).await;
    std::fs::write(opened.root.path().join("crash"), "").unwrap();
    kill(pid(&opened).await);
    until("given up", || opened.driver.status().health == DriverHealth::Failed).await;
    let error = opened.driver.call(Probe::new(), quick()).await.unwrap_err();
    assert!(!error.retryable && error.message.contains("given up") && error.hint.is_some(), "{error:?}");
    assert!(error.message.contains("exit status: 7"), "{error}");
    std::fs::remove_file(opened.root.path().join("crash")).unwrap();
    opened.driver.restart();
    until("ready", || opened.driver.status().health == DriverHealth::Ready).await;
    opened.driver.call(Probe::new(), quick()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_none_ends_the_process() {
    let opened = open(PROCESS).await;
    let error = opened.create("garbage", 0, quick()).await.unwrap_err();
    is_retryable(&error, "found \"this is no message\"");
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert_eq!(opened.driver.status().restarts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_too_long_is_an_error_of_its_call() {
    let opened = open(PROCESS).await;
    let error = opened.create("huge", 0, quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Exhausted, "{error}");
    assert!(error.message.contains("67108864"), "{error}");
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert_eq!(opened.driver.status().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_long_is_not_sent() {
    let opened = open(PROCESS).await;
    let mut request = crate::support::doing("nothing", 0);
    request.options.insert("long".to_owned(), "x".repeat(65 << 20));
    let error = opened.driver.call(request, quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument, "{error}");
    opened.driver.call(Probe::new(), quick()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_stop_is_made_to() {
    let opened = open(PROCESS).await;
    let process = pid(&opened).await;
    let driver = opened.driver.clone();
    let call =
        tokio::spawn(async move { driver.call(crate::support::doing("sleep", 60_000), quick()).await });
    until("under way", || opened.driver.status().calls == 1).await;
    let begun = Instant::now();
    opened.driver.stop(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(!PathBuf::from(format!("/proc/{process}")).exists());
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_takes_the_process_with_it() {
    let opened = open(PROCESS).await;
    let process = pid(&opened).await;
    drop(opened.driver);
    until("gone", || !PathBuf::from(format!("/proc/{process}")).exists()).await;
}

/// Not a test of its own: the host that the next test kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by a_killed_host_leaves_no_process"]
async fn host_to_be_killed() {
    let opened = open(PROCESS).await;
    println!("\npid {}", pid(&opened).await);
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_host_leaves_no_process() {
    use std::io::{BufRead, BufReader};
    let mut host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["hostile::host_to_be_killed", "--exact", "--ignored", "--nocapture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(host.stdout.take().unwrap()).lines();
    let found = lines.map_while(Result::ok).find_map(|line| line.strip_prefix("pid ").map(str::to_owned));
    let process = PathBuf::from(format!("/proc/{}", found.unwrap()));
    assert!(process.exists());
    host.kill().unwrap();
    host.wait().unwrap();
    until("gone", || !process.exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_of_the_environment_is_handed_on() {
    let opened = open(PROCESS).await;
    let names = opened.driver.call(Info::new(), quick()).await.unwrap().info["Environment"].clone();
    assert!(names.split(' ').any(|name| name == "CONVOY_DRIVER_FD"), "{names}");
    // Set by cargo and nextest, so that it is there to be dropped.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && !names.contains("CARGO"), "{names}");
}

/// Loads the misbehaving process through a script that sets its mode.
async fn try_in_mode(mode: &str) -> Result<(DriverHandle, tempfile::TempDir), LoadError> {
    let dir = tempfile::tempdir().unwrap();
    let program = crate::support::built()[0].join("convoy-driver-misbehaving");
    let script = dir.path().join("convoy-driver-misbehaving");
    let text = format!("#!/bin/sh\nMISBEHAVING_MODE={mode} exec {}\n", program.display());
    std::fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let spec = format!("process:{}", script.display()).parse().unwrap();
    drivers().load(&spec).await.map(|driver| (driver, dir))
}

async fn load_in_mode(mode: &str) -> LoadError {
    try_in_mode(mode).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_start_is_waited_for() {
    let begun = Instant::now();
    let (driver, _dir) = try_in_mode("slow").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1) && driver.name().as_str() == "misbehaving");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_cannot_do_what_it_declares_is_named() {
    let (driver, dir) = try_in_mode("lies").await.unwrap();
    driver.open(Open::new(dir.path().to_owned()), quick()).await.unwrap();
    let (volume, snapshot) = (Name::from_static("vol1"), Name::from_static("snap1"));
    let error = driver.call(CreateSnapshot::new(volume, snapshot), quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(error.message.contains("driver misbehaving declares snapshots"), "{error}");
    assert!(error.hint.as_ref().unwrap().contains("report it to its author"), "{error:?}");
    // What it does not declare is no lie.
    let error = driver.call(ResizeVolume::new(Name::from_static("vol1"), 1), quick()).await.unwrap_err();
    assert!(!error.message.contains("declares"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_leaks_is_its_own_and_ends_with_it() {
    let opened = open(PROCESS).await;
    let descriptors = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let first = pid(&opened).await;
    let (before, of_driver) =
        (descriptors(rustix::process::getpid().as_raw_nonzero().get()), descriptors(first));
    for _ in 0..200 {
        opened.create("leak", 0, quick()).await.unwrap();
    }
    assert!(descriptors(first) >= of_driver + 200);
    // Other tests of this program open some meanwhile.
    assert!(descriptors(rustix::process::getpid().as_raw_nonzero().get()) < before + 150);
    kill(first);
    // A call that is under way when it ends fails.
    until("started again", || opened.driver.status().restarts == 1).await;
    assert!(descriptors(pid(&opened).await) < of_driver + 100);
}

/// Not a test of its own: the host that the next test lets a library bring down.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by an_abort_in_a_library_takes_the_host_down"]
async fn host_of_a_library_that_aborts() {
    let opened = open("library:misbehaving").await;
    let _ = opened.create("abort", 0, quick()).await;
    println!("still here");
}

/// As docs/choosing-a-carrier.md says: nothing can be done about it but to make it a process.
#[test]
fn an_abort_in_a_library_takes_the_host_down() {
    use std::os::unix::process::ExitStatusExt;
    let host = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["hostile::host_of_a_library_that_aborts", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    assert_eq!(host.status.signal(), Some(6), "{host:?}");
    assert!(!String::from_utf8_lossy(&host.stdout).contains("still here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_before_the_hello_quotes_its_last_words() {
    let error = load_in_mode("exit").await;
    assert!(matches!(error, LoadError::Hello { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("exit status: 3") && text.contains("cannot find my configuration"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_not_waited_for_forever() {
    let begun = Instant::now();
    let error = load_in_mode("silent").await.to_string();
    assert!(error.contains("no answer to hello within 10 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(14));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_language_is_refused_with_what_was_expected() {
    for (mode, expected) in [("version", "found \"2.0\""), ("stranger", "found \"nfs\"")] {
        let error = load_in_mode(mode).await;
        assert!(matches!(error, LoadError::Protocol { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().contains("rebuild the driver"), "{}", error.hint());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_for_a_hello_is_quoted() {
    let error = load_in_mode("garbage").await.to_string();
    assert!(error.contains("found \"hello yourself\""), "{error}");
    let error = load_in_mode("huge").await.to_string();
    assert!(error.contains("more than 67108864 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_under_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("convoy-driver-other");
    std::fs::copy(crate::support::built()[0].join("convoy-driver-misbehaving"), &file).unwrap();
    let spec = format!("process:{}", file.display()).parse().unwrap();
    let error = drivers().load(&spec).await.unwrap_err();
    assert!(matches!(error, LoadError::WrongName { .. }), "{error:?}");
    // Under a name that is no driver's it is whoever it says it is.
    let any = dir.path().join("any");
    std::fs::rename(&file, &any).unwrap();
    let driver = drivers().load(&format!("process:{}", any.display()).parse().unwrap()).await.unwrap();
    assert_eq!(driver.name().as_str(), "misbehaving");
    driver.open(Open::new(dir.path().to_owned()), quick()).await.unwrap();
}
