//! Files of thin volumes: backed up as a tree, restored into a directory, and from there onto a device again.

use super::bytes;
use super::check::{Failure, Step};
use super::daemon::Daemon;
use super::lab::sh;
use crate::{ensure, ensure_eq};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const STORE: &str = "vfs:///run/store";
/// Until a backup has mounted what it reads.
const MOUNT_LIMIT: Duration = Duration::from_secs(60);

/// Names, kinds, modes, owners, times, links and contents. How many links a directory has is a matter of the
/// file system.
fn described(top: &str) -> Step<String> {
    sh(&format!(
        "cd {top} && find . -mindepth 1 '(' -type d -printf '%p %y %m %U:%G %T@\\n' ')' -o -printf '%p %y %m %U:%G %T@ %n %l\\n' |
             sort && find . -type f | sort | xargs -d '\\n' sha256sum"
    ))
}

fn backup(daemon: &Daemon, snapshot: &str) -> Step<String> {
    daemon.run(&["backup", "create", snapshot, "--dest", STORE, "--as", "tree"])
}

/// What the last backup read.
fn read(daemon: &Daemon) -> Step<u64> {
    let log = daemon.log()?;
    let line = log.lines().rev().find(|line| line.contains("backed up"));
    let figure = line.and_then(|line| line.split(" read=").nth(1)?.split(' ').next()?.parse().ok());
    figure.ok_or_else(|| Failure::new(format!("the log does not tell of the backup: {log}")))
}

/// There and back, with a snapshot of a file system in use.
pub(super) fn run(daemon: &Daemon, kind: &str) -> Step {
    let size = match kind {
        "ext4" => "48M",
        "xfs" => "320M",
        _ => "256M",
    };
    // The next backup of files believes what is older than the two whole seconds before that of the snapshot.
    let settle = if kind == "ext4" { "3.1" } else { "0" };
    let filesystem = format!("fs={kind}");
    daemon.run(&["create", "t1", "--size", size, "--opt", &filesystem])?;
    let mountpoint = daemon.run(&["mount", "t1"])?;
    bytes::write(&Path::new(&mountpoint).join("synced"), 1, 3 << 20)?;
    sh(&format!(
        "cd {mountpoint} && mkdir -m 2750 d && for n in $(seq 50); do echo $n > d/$n; done && chown 123:456 d/7 &&
         ln d/7 hard && ln -s d/7 sym && mkfifo fifo && chmod 3771 . && sleep {settle}"
    ))?;
    // Not synced: in the journal, or still in memory, when the snapshot is taken.
    std::fs::write(Path::new(&mountpoint).join("unsynced"), bytes::noise(5, 1 << 20))?;
    let monday = described(&mountpoint)?;
    daemon.run(&["snapshot", "create", "t1", "--name", "monday"])?;
    let mut backups = vec![(backup(daemon, "monday")?, monday)];
    if kind == "ext4" {
        // What is known is not read again: once is enough where every step takes its time.
        sh(&format!("cd {mountpoint} && rm hard && echo changed > d/8 && sleep 2.5 && echo later > later"))?;
        let tuesday = described(&mountpoint)?;
        daemon.run(&["snapshot", "create", "t1", "--name", "tuesday"])?;
        backups.push((backup(daemon, "tuesday")?, tuesday));
        let bytes = read(daemon)?;
        // `unsynced` was too young to be believed; `synced` is not read again.
        ensure!(bytes < 2 << 20, "{bytes} bytes were read for a small change");
    }
    daemon.run(&["umount", "t1"])?;
    for (url, expected) in &backups {
        daemon.run(&["create", "t2", "--driver", "vfs", "--backup", url])?;
        let directory = daemon.run(&["mount", "t2"])?;
        ensure_eq!(&described(&directory)?, expected);
        daemon.run(&["umount", "t2"])?;
        daemon.run(&["snapshot", "create", "t2", "--name", "of-t2"])?;
        let again = backup(daemon, "of-t2")?;
        let words = ["create", "t3", "--driver", "devicemapper", "--size", size, "--opt", &filesystem];
        daemon.run(&[&words[..], &["--backup", &again]].concat())?;
        let mounted = daemon.run(&["mount", "t3"])?;
        ensure_eq!(&described(&mounted)?, expected);
        let mounts = sh(&format!("grep {mounted} /proc/mounts"))?;
        ensure!(mounts.contains(&format!(" {kind} ")), "{mounts}");
        daemon.run(&["umount", "t3"])?;
        for volume in ["t2", "t3"] {
            daemon.run(&["delete", volume])?;
        }
    }
    daemon.run(&["delete", "t1"])?;
    nothing_is_left(daemon)
}

/// Begins a backup of the files of the volume `kept` that takes long, and answers when they are mounted.
pub(super) fn begin_slowly(daemon: &Daemon) -> Step<Child> {
    daemon.run(&["snapshot", "create", "kept", "--name", "cut-off"])?;
    let words = ["backup", "create", "cut-off", "--dest", STORE, "--as", "tree", "--compression", "19"];
    let mut command = daemon.command(&words)?;
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let trees = daemon.driver_root().join("trees").display().to_string();
    let deadline = Instant::now() + MOUNT_LIMIT;
    while !std::fs::read_to_string("/proc/self/mountinfo")?.contains(&trees) {
        ensure!(Instant::now() < deadline, "no snapshot was mounted: {}", daemon.log()?);
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(child)
}

/// No mount, no device and no thin device of a snapshot whose files were read, or of a restore of files.
pub(super) fn nothing_is_left(daemon: &Daemon) -> Step {
    let root = daemon.driver_root();
    for place in ["trees", "restores"] {
        let below = root.join(place);
        ensure!(
            !std::fs::read_to_string("/proc/self/mountinfo")?.contains(&below.display().to_string()),
            "mounts"
        );
        ensure_eq!(std::fs::read_dir(&below).map_or(0, Iterator::count), 0);
    }
    let devices = sh("dmsetup ls")?;
    ensure!(!devices.contains("+tree+") && !devices.contains("+restore+"), "{devices}");
    let config = std::fs::read_to_string(root.join("devicemapper.cfg"))?;
    ensure!(!config.contains("read the files"), "{config}");
    Ok(())
}
