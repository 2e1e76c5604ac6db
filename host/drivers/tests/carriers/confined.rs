//! What a driver's process may not do.

use crate::support::open;
use convoy_driver_sdk::protocol::Info;
use convoy_drivers::RequestContext;
use std::path::Path;
use std::time::Duration;

fn status(pid: &str, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

fn open_files(pid: &str) -> Vec<String> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .map(|target| target.display().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_has_no_more_than_storage_needs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("of-the-host");
    // As a library might leave it: every child of the host inherits it.
    let left_open = std::fs::File::create(&path).unwrap();
    rustix::io::fcntl_setfd(&left_open, rustix::io::FdFlags::empty()).unwrap();
    let opened = open("process:misbehaving").await;
    let options = RequestContext::new("who").within(Duration::from_secs(60));
    let pid = opened.driver.call(Info::new(), options).await.unwrap().info["Pid"].clone();

    let own = open_files("self");
    assert!(own.iter().any(|file| Path::new(file) == path), "{own:?}");
    let theirs = open_files(&pid);
    assert!(!theirs.iter().any(|file| Path::new(file) == path), "{theirs:?}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let fields: Vec<&str> = after_name.split(' ').collect();
    assert_eq!((fields[2], fields[3]), (pid.as_str(), pid.as_str()), "its group and its session: {stat}");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{core:?}");

    if rustix::process::geteuid().is_root() {
        assert_eq!(status(&pid, "NoNewPrivs"), "1");
        let has = |pid: &str, capability: u32| {
            u64::from_str_radix(&status(pid, "CapBnd"), 16).unwrap() & (1 << capability) != 0
        };
        // As the kernel numbers them: CAP_SYS_TIME, CAP_SYS_BOOT, CAP_NET_RAW and CAP_BPF against
        // CAP_SYS_ADMIN, CAP_MKNOD and CAP_CHOWN.
        for gone in [25, 22, 13, 39] {
            assert!(!has(&pid, gone), "{gone}");
        }
        for kept in [21, 27, 0] {
            assert_eq!(has(&pid, kept), has("self", kept), "{kept}");
        }
    }
    drop(left_open);
}
