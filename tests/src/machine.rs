//! A machine with systemd, as far as one needs no kernel of its own for that: a container of systemd-nspawn,
//! booted over the files of this machine. What is written there goes to a layer above them, and is there at
//! the next boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::fs::XattrFlags;

use crate::child::Child;
use crate::error::{Context, Error, Result};
use crate::lab::{MARK, Origin};
use crate::namespace::apart;
use crate::run::{self, Output};
use crate::{Lab, Storage, patience, turns};

/// How long a boot and a shutdown may take.
const LIMIT: Duration = Duration::from_secs(80);

/// The layer's size in bytes. It is sparse.
const SIZE: u64 = 8 << 30;

/// Directories that the new machine does not share with this one: engines keep their data there, and convoy
/// its own.
const OWN: [&str; 6] =
    ["etc/convoy", "etc/docker", "root", "var/lib/containerd", "var/lib/docker", "var/lib/rancher"];

/// What is started at a boot beside what every machine needs.
const TARGET: &str = "\
[Unit]
Description=What the test needs
Requires=basic.target
Wants=lab-cgroups.service convoy.service docker.service
After=basic.target
AllowIsolate=yes
";

/// With cgroups of version 1 only systemd's own can be written in the container; Docker needs all.
const CGROUPS: &str = "\
[Unit]
Description=Cgroups that can be written
Before=docker.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c \"for at in $$(grep -w cgroup /proc/self/mountinfo | cut -d' ' -f5); do mount -o remount,bind,rw $$at; done\"
";

/// A machine. Dropping it switches it off.
#[derive(Debug)]
pub struct Machine {
    // In the order in which they have to go.
    booted: Option<Booted>,
    root: Root,
    _layer: Storage,
    origin: Origin,
    log: PathBuf,
}

#[derive(Debug)]
struct Booted {
    child: Child,
    /// Its first process, as this machine counts them.
    init: Pid,
}

/// Where its files are mounted.
#[derive(Debug)]
struct Root(PathBuf);

impl Drop for Root {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::empty());
    }
}

impl Machine {
    /// Makes a machine and boots it, when no other test has one.
    ///
    /// # Errors
    /// When the kernel or systemd-nspawn refuses, or it does not come up.
    pub fn boot(lab: &Lab) -> Result<Self> {
        turns::take()?;
        let layer = Storage::new(lab, "ext4", SIZE, "")?;
        let (upper, work) = (layer.path().join("upper"), layer.path().join("work"));
        for directory in OWN {
            let path = upper.join(directory);
            fs::create_dir_all(&path).during(|| format!("cannot make {}", path.display()))?;
            // What lies below in the same place is not seen: Documentation/filesystems/overlayfs.rst.
            rustix::fs::setxattr(&path, "trusted.overlay.opaque", b"y", XattrFlags::empty())
                .during(|| format!("cannot hide what is below {}", path.display()))?;
        }
        let units = upper.join("etc/systemd/system");
        fs::create_dir_all(&units)
            .and_then(|()| fs::create_dir(&work))
            .and_then(|()| fs::write(upper.join("etc/fstab"), ""))
            .and_then(|()| fs::write(upper.join("etc/machine-id"), "c0ffeec0ffeec0ffeec0ffeec0ffee00\n"))
            .and_then(|()| fs::write(units.join("lab.target"), TARGET))
            .and_then(|()| fs::write(units.join("lab-cgroups.service"), CGROUPS))
            .during(|| format!("cannot write to {}", upper.display()))?;
        let root = lab.make("machine")?;
        let layers = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
        mount(Some("overlay"), &root, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
            .during(|| format!("cannot mount an overlay at {}", root.display()))?;
        // Images of containers forbid by it that packages start what they bring.
        let _ = fs::remove_file(root.join("usr/sbin/policy-rc.d"));
        let mut machine = Self {
            booted: None,
            root: Root(root),
            _layer: layer,
            origin: lab.origin(),
            log: lab.path("machine.log"),
        };
        machine.boot_again()?;
        Ok(machine)
    }

    /// Where its files are seen from outside.
    pub fn root(&self) -> &Path {
        &self.root.0
    }

    /// Boots it after it was switched off.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot_again(&mut self) -> Result<()> {
        // Below its own root, systemd-nspawn keeps every mount there was.
        let words = apart("exec systemd-nspawn \"$@\"");
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .arg("sh")
            .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"])
            .args(["--machine=lab", "--console=pipe"])
            // Docker's runtime makes a keyring for each container, and programs for its devices.
            .arg("--system-call-filter=@keyring bpf")
            .arg(format!("--directory={}", self.root.0.display()))
            // So that whoever cleans up finds its first process: it outlives a killed systemd-nspawn.
            .arg(format!("--setenv={MARK}={}", self.origin.directory().display()))
            .arg("systemd.unit=lab.target");
        self.origin.mark(&mut command);
        let mut child = Child::start(&mut command, &self.log)?;
        let mut init = None;
        patience::until("the machine's first process", LIMIT, || {
            if let Some(status) = child.ended()? {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                return Err(Error::Unexpected(format!("systemd-nspawn: {status}\n{log}")));
            }
            init = first_process(child.id());
            Ok(init.is_some())
        })?;
        let init = init.ok_or_else(|| Error::Unexpected("a machine without a process".to_owned()))?;
        self.booted = Some(Booted { child, init });
        patience::until("the machine's boot", LIMIT, || {
            Ok(self.run(&["systemctl", "is-active", "lab.target"])?.success())
        })
    }

    /// Switches it off as its power button does.
    ///
    /// # Errors
    /// When it does not go down.
    pub fn shut_down(&mut self) -> Result<()> {
        let Some(mut booted) = self.booted.take() else { return Ok(()) };
        booted.child.signal(Signal::SIGTERM)?;
        booted.child.wait(LIMIT).map(|_| ())
    }

    /// Ends everything on it at once. What it has written so far, this machine keeps.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut booted) = self.booted.take() else { return Ok(()) };
        // All it runs goes with its first process; systemd-nspawn sees that, and ends.
        kill(booted.init, Signal::SIGKILL).during(|| "cannot kill the machine".to_owned())?;
        booted.child.wait(LIMIT).map(|_| ())
    }

    /// A command on the machine, by root with an ordinary environment.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        let off = || Error::Unexpected("the machine is off".to_owned());
        let booted = self.booted.as_ref().ok_or_else(off)?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", booted.init))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--wd=/", "--"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("DEBIAN_FRONTEND", "noninteractive");
        Ok(command)
    }

    /// Runs a command on the machine.
    ///
    /// # Errors
    /// When the machine is off.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        run::capture(&mut self.command(words)?)
    }

    /// Runs a command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        self.run(words)?.ok()
    }

    /// Runs a line of shell that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn shell(&self, line: &str) -> Result<String> {
        self.ok(&["sh", "-c", line])
    }
}

/// The process that is the first one in the machine's own count.
fn first_process(of: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).ok()?;
    let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    let mut pids = pids.filter(|pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // One number for each count it is in, the innermost last.
        let counts = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        counts.split_whitespace().count() > 1 && counts.ends_with("\t1")
    });
    pids.next().map(Pid::from_raw)
}

impl Drop for Machine {
    fn drop(&mut self) {
        // For whoever has to find out what went wrong.
        if let Ok(output) = self.run(&["journalctl", "--boot", "--no-pager", "--lines=60"]) {
            let _ = fs::write(self.log.with_file_name("journal.log"), output.stdout);
        }
        let _ = self.kill();
    }
}
