//! A Docker engine in the machine: containers on a thin volume.

use super::check::Step;
use super::daemon::Daemon;
use super::lab::{no_leaks, sh};
use crate::{ensure, ensure_eq};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the engine may take to answer: it is large, and everything is slow here.
const START_LIMIT: Duration = Duration::from_secs(150);
const DOCKER: &str = "docker -H unix:///run/docker.sock ";

pub(super) fn run() -> Step {
    let daemon =
        Daemon::start("/run/service", &[("dm.datadev", "/dev/vda"), ("dm.metadatadev", "/dev/vdb")], &[])?;
    sh("mkdir -p /etc/docker/plugins; echo unix:///run/service/socket > /etc/docker/plugins/convoy.spec
        mount -t cgroup2 cgroup /sys/fs/cgroup; mkdir -p /run/image/bin
        cp /bin/busybox /run/image/bin; ln -s busybox /run/image/bin/sh; ln -s busybox /run/image/bin/cat")?;
    let log = std::fs::File::create("/run/dockerd.log")?;
    let mut engine = Command::new("dockerd")
        .args(["--data-root", "/run/docker", "--exec-root", "/run/docker-exec", "-p", "/run/docker.pid"])
        .args(["-H", "unix:///run/docker.sock", "--iptables=false", "--ip6tables=false", "--bridge=none"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let deadline = Instant::now() + START_LIMIT;
    while sh(&format!("{DOCKER} version")).is_err() {
        let said = || sh("tail -5 /run/dockerd.log");
        ensure!(engine.try_wait()?.is_none(), "the engine ended: {}", said()?);
        ensure!(Instant::now() < deadline, "the engine does not answer: {}", said()?);
        std::thread::sleep(Duration::from_millis(250));
    }
    sh(&format!("tar -C /run/image -c . | {DOCKER} import - busybox"))?;
    let container = |volume: &str, script: &str| {
        let run = "run --rm --network none --volume-driver convoy -v";
        sh(&format!("{DOCKER} {run} {volume}:/data busybox /bin/sh -c '{script}'"))
    };
    sh(&format!("{DOCKER} volume create -d convoy -o size=320M -o fs=xfs tiny"))?;
    container("tiny", "echo hello > /data/file")?;
    daemon.run(&["snapshot", "create", "tiny", "--name", "s1"])?;
    ensure_eq!(container("tiny", "cat /data/file; echo bye > /data/file")?, "hello");
    // A volume that the engine has never heard of, made of the snapshot.
    daemon.run(&["snapshot", "clone", "s1", "copy"])?;
    ensure_eq!(container("copy", "cat /data/file")?, "hello");
    daemon.run(&["snapshot", "revert", "s1"])?;
    ensure_eq!(container("tiny", "cat /data/file")?, "hello");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains("/mounts/"), "a volume that no container uses is mounted");
    sh(&format!("{DOCKER} volume rm tiny"))?;
    sh("kill $(cat /run/docker.pid)")?;
    engine.wait()?;
    // Docker's removal keeps the data.
    ensure_eq!(daemon.info("KeptVolumes")?, "1");
    daemon.run(&["create", "tiny"])?;
    daemon.run(&["delete", "tiny", "copy"])?;
    daemon.stop()?;
    no_leaks(&["convoy-pool"])
}
