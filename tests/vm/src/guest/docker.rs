//! A Docker engine in the machine: containers on a thin volume.

use super::check::{Failure, Step};
use super::daemon::Daemon;
use super::lab::{no_leaks, sh};
use crate::{ensure, ensure_eq};
use convoy_tests::patience;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long the engine may take to answer: it is large, and everything is slow here.
const START_LIMIT: Duration = Duration::from_secs(150);
const END_LIMIT: Duration = Duration::from_secs(60);
const DOCKER: &str = "docker -H unix:///run/docker.sock";
/// What the engine runs containers with. It starts one itself, and gives that fifteen seconds, which is too
/// little here.
const CONTAINERD: &str = "/run/containerd.sock";
const CONTAINERD_SETTINGS: &str = r#"
version = 2
root = "/run/containerd"
state = "/run/containerd-state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd.sock"
"#;

/// Asks the engine. A client that waits for ever would say nothing.
fn docker(words: &str) -> Step<String> {
    sh(&format!("timeout 90 {DOCKER} {words}"))
}

pub(super) fn run() -> Step {
    let daemon =
        Daemon::start("/run/service", &[("dm.datadev", "/dev/vda"), ("dm.metadatadev", "/dev/vdb")], &[])?;
    sh("mkdir -p /etc/docker/plugins; echo unix:///run/service/socket > /etc/docker/plugins/convoy.spec
        mount -t cgroup2 cgroup /sys/fs/cgroup; mkdir -p /run/image/bin
        cp /bin/busybox /run/image/bin; ln -s busybox /run/image/bin/sh; ln -s busybox /run/image/bin/cat")?;
    let log = std::fs::File::create("/run/dockerd.log")?;
    std::fs::write("/run/containerd.toml", CONTAINERD_SETTINGS)?;
    let mut containerd = Command::new("containerd")
        .args(["--config", "/run/containerd.toml"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?)
        .spawn()?;
    let said = || sh("tail -5 /run/dockerd.log");
    let serves = patience::wait("containerd", START_LIMIT, || {
        ensure!(containerd.try_wait()?.is_none(), "containerd ended");
        Ok(UnixStream::connect(CONTAINERD).is_ok())
    });
    serves.map_err(|failure| failure.with(&said()))?;
    let mut engine = Command::new("dockerd")
        .args(["--data-root", "/run/docker", "--exec-root", "/run/docker-exec", "-p", "/run/docker.pid"])
        .args(["--containerd", CONTAINERD])
        .args(["-H", "unix:///run/docker.sock", "--iptables=false", "--ip6tables=false", "--bridge=none"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    let answers = patience::wait("an answer of the engine", START_LIMIT, || {
        ensure!(engine.try_wait()?.is_none(), "the engine ended");
        Ok(sh(&format!("timeout 20 {DOCKER} version")).is_ok())
    });
    answers.map_err(|failure| failure.with(&said()))?;
    println!("the engine answers");
    sh(&format!("tar -C /run/image -c . | timeout 90 {DOCKER} import - busybox"))?;
    let container = |volume: &str, script: &str| {
        let run = "run --rm --network none --volume-driver convoy -v";
        docker(&format!("{run} {volume}:/data busybox /bin/sh -c '{script}'"))
    };
    docker("volume create -d convoy -o size=320M -o fs=xfs tiny")?;
    container("tiny", "echo hello > /data/file")?;
    println!("a container wrote to a thin volume");
    daemon.run(&["snapshot", "create", "tiny", "--name", "s1"])?;
    ensure_eq!(container("tiny", "cat /data/file; echo bye > /data/file")?, "hello");
    // A volume that the engine has never heard of, made of the snapshot.
    daemon.run(&["snapshot", "clone", "s1", "copy"])?;
    ensure_eq!(container("copy", "cat /data/file")?, "hello");
    daemon.run(&["snapshot", "revert", "s1"])?;
    ensure_eq!(container("tiny", "cat /data/file")?, "hello");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains("/mounts/"), "a volume that no container uses is mounted");
    docker("volume rm tiny")?;
    println!("the volume went back to its snapshot, and was removed");
    sh("kill $(cat /run/docker.pid)")?;
    let ended = patience::wait("the end of the engine", END_LIMIT, || Ok(engine.try_wait()?.is_some()));
    ended.map_err(|failure: Failure| failure.with(&said()))?;
    println!("the engine ended");
    containerd.kill()?;
    containerd.wait()?;
    // Docker's removal keeps the data.
    ensure_eq!(daemon.info("KeptVolumes")?, "1");
    daemon.run(&["create", "tiny"])?;
    daemon.run(&["delete", "tiny", "copy"])?;
    daemon.stop()?;
    no_leaks(&["convoy-pool"])
}
