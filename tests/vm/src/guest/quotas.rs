//! Volumes of the vfs driver that are kept to their size by quotas of projects.

use super::check::{Failure, Step};
use super::daemon::Daemon;
use super::lab::{MIB, sh};
use crate::{ensure, ensure_eq};
use convoy_tests::patience;
use std::process::Stdio;
use std::time::Duration;

const DIR: &str = "/run/quotas";
const STORE: &str = "vfs:///run/store";
const OPTIONS: [&str; 4] = ["--drivers", "vfs", "--driver-opts", "vfs.path=/srv/volumes"];
/// How long a removal in the background may take.
const REMOVAL: Duration = Duration::from_secs(60);

struct Lab {
    daemon: Daemon,
}

impl Lab {
    fn launch() -> Step<Self> {
        Ok(Self { daemon: Daemon::launch(DIR, &OPTIONS)? })
    }

    fn run(&self, words: &[&str]) -> Step<String> {
        self.daemon.run(words)
    }

    /// What `inspect` says of a volume: its size, and whether it is enforced.
    fn told(&self, volume: &str) -> Step<(String, String)> {
        let shown: serde_json::Value = serde_json::from_str(&self.run(&["inspect", volume])?)?;
        let value = |key: &str| shown["DriverInfo"][key].as_str().unwrap_or_default().to_owned();
        Ok((value("Size"), value("SizeEnforced")))
    }

    fn enforced(&self, volume: &str, mib: u64) -> Step {
        ensure_eq!(self.told(volume)?, ((mib * MIB).to_string(), "true".to_owned()));
        Ok(())
    }

    /// Every volume that the driver lists.
    fn names(&self) -> Step<Vec<String>> {
        let listed: serde_json::Value = serde_json::from_str(&self.run(&["list"])?)?;
        Ok(listed.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect())
    }
}

/// Writes what a backup does not take for holes into a volume, as a container does: as root, and without the
/// capability that quotas of ext4 do not hold for.
fn fill(volume: &str, file: &str, mib: u64) -> Step {
    sh(&format!(
        "cd /srv/volumes/{volume} && setpriv --bounding-set=-sys_resource \
         dd if=/dev/urandom of={file} bs=1M count={mib} conv=fsync"
    ))?;
    Ok(())
}

fn full(volume: &str, mib: u64) -> Step {
    let Err(failure) = fill(volume, "more", mib) else {
        return Err(Failure::new(format!("{mib} MiB more were written into {volume}")));
    };
    let said = failure.to_string();
    // XFS says of a project that it has no space left.
    ensure!(said.contains("quota exceeded") || said.contains("No space left"), "{said}");
    sh(&format!("rm /srv/volumes/{volume}/more && sync"))?;
    Ok(())
}

/// The limits of all projects, in MiB.
fn limits() -> Step<Vec<u64>> {
    let report = sh("sync; xfs_quota -f -x -c 'report -p -b -n -N' /srv")?;
    let hard = report.lines().filter_map(|line| line.split_whitespace().nth(3)?.parse::<u64>().ok());
    let mut limits: Vec<u64> = hard.filter(|limit| *limit > 0).map(|limit| limit / 1024).collect();
    limits.sort_unstable();
    Ok(limits)
}

/// Waits until projects have these limits and no others.
fn wait_for_limits(expected: &[u64]) -> Step {
    let mut found = Vec::new();
    patience::wait("limits of volumes only", REMOVAL, || {
        found = limits()?;
        Ok(found == expected)
    })
    .map_err(|failure: Failure| Failure::new(format!("{failure}: {found:?}, not {expected:?}")))
}

pub(super) fn run(filesystem: &str) -> Step {
    sh(match filesystem {
        "ext4" => {
            "modprobe quota_v2; mkfs.ext4 -q -O quota,project -E quotatype=usrquota:grpquota:prjquota /dev/vda"
        }
        _ => "mkfs.xfs -q /dev/vda",
    })?;
    sh("mkdir -p /srv /run/store && mount -o prjquota /dev/vda /srv && mkdir -m 700 /srv/volumes")?;
    let lab = Lab::launch()?;
    lab.run(&["create", "v1", "--size", "16M"])?;
    lab.enforced("v1", 16)?;
    ensure_eq!(sh("df -B1M --output=size /srv/volumes/v1 | tail -n 1 | tr -d ' '")?, "16");
    fill("v1", "file", 10)?;
    full("v1", 10)?;
    // A project of somebody else is left alone.
    sh(
        "mkdir /srv/theirs && xfs_quota -f -x -c 'project -s -p /srv/theirs 7' -c 'limit -p bhard=5m 7' /srv",
    )?;
    snapshots(&lab)?;
    copies(&lab)?;
    sizes(&lab)?;
    // Where vfs.path passes on a project, that one counts.
    sh("chattr -p 7 +P /srv/volumes")?;
    lab.run(&["create", "inside", "--size", "16M"])?;
    ensure_eq!(lab.told("inside")?.1, "false");
    lab.run(&["delete", "inside"])?;
    sh("chattr -p 0 -P /srv/volumes")?;
    let lab = kills(lab)?;
    for volume in lab.names()? {
        lab.run(&["delete", &volume])?;
    }
    wait_for_limits(&[5])?;
    strangers(&lab)?;
    lab.daemon.stop()
}

/// A snapshot takes nothing of the size, and a volume that goes back to it has its limit.
fn snapshots(lab: &Lab) -> Step {
    lab.run(&["snapshot", "create", "v1", "--name", "snap"])?;
    sh("rm /srv/volumes/v1/file && sync")?;
    fill("v1", "other", 12)?;
    lab.run(&["snapshot", "revert", "snap"])?;
    lab.enforced("v1", 16)?;
    ensure_eq!(sh("ls /srv/volumes/v1; stat -c %s /srv/volumes/v1/file")?, "file\n10485760");
    full("v1", 10)?;
    // Nothing of the tree that was exchanged keeps its limit.
    wait_for_limits(&[5, 16])
}

/// Clones and restores have limits of their own.
fn copies(lab: &Lab) -> Step {
    lab.run(&["snapshot", "clone", "snap", "copy"])?;
    lab.enforced("copy", 16)?;
    let said = lab.daemon.fails(&["snapshot", "clone", "snap", "tight", "--size", "8M"])?;
    ensure!(said.contains("more than the 8388608 that it may have"), "{said}");
    let url = lab.run(&["backup", "create", "snap", "--dest", STORE])?;
    lab.run(&["create", "back", "--backup", &url, "--size", "12M"])?;
    lab.run(&["create", "again", "--backup", &url])?;
    lab.enforced("back", 12)?;
    lab.enforced("again", 16)?;
    for volume in ["copy", "back", "again"] {
        full(volume, 10)?;
        ensure_eq!(sh(&format!("cd /srv/volumes/{volume}; ls; stat -c %s file"))?, "file\n10485760");
    }
    wait_for_limits(&[5, 12, 16, 16, 16])?;
    for volume in ["copy", "back", "again"] {
        lab.run(&["delete", volume])?;
    }
    wait_for_limits(&[5, 16])
}

/// Whoever owns a directory can put it into another volume's project, and can do nothing to that one's limit.
fn strangers(lab: &Lab) -> Step {
    lab.run(&["create", "victim", "--size", "12M"])?;
    lab.run(&["create", "thief", "--size", "16M"])?;
    sh("cd /srv/volumes && chattr -p $(lsattr -dp victim | awk '{print $1}') thief")?;
    ensure_eq!(lab.told("thief")?.1, "false");
    lab.daemon.fails(&["resize", "thief", "32M"])?;
    lab.run(&["delete", "thief"])?;
    lab.enforced("victim", 12)?;
    full("victim", 14)?;
    lab.run(&["delete", "victim"])?;
    // The project that the thief left has a limit and nothing in it: no volume gets it.
    wait_for_limits(&[5, 16])
}

fn sizes(lab: &Lab) -> Step {
    let said = lab.daemon.fails(&["resize", "v1", "8M"])?;
    ensure!(said.contains("holds") && said.contains("more than the 8388608"), "{said}");
    lab.enforced("v1", 16)?;
    lab.run(&["resize", "v1", "32M"])?;
    lab.enforced("v1", 32)?;
    fill("v1", "other", 16)?;
    full("v1", 10)?;
    sh("rm /srv/volumes/v1/other && sync")?;
    lab.run(&["resize", "v1", "12M"])?;
    lab.enforced("v1", 12)?;
    full("v1", 4)
}

/// Killed at any moment, the next start leaves every volume with its limit, and no limit without its volume.
fn kills(mut lab: Lab) -> Step<Lab> {
    for (round, wait) in ["0.02", "0.05", "0.1", "0.2", "0.35", "0.6"].iter().enumerate() {
        let (new, size) = (format!("new{round}"), format!("{}M", 12 + round));
        let words = [
            vec!["create", &new, "--size", "16M"],
            vec!["resize", "v1", &size],
            vec!["snapshot", "revert", "snap"],
        ];
        let mut under_way = Vec::new();
        for words in &words {
            let mut command = lab.daemon.command(words)?;
            under_way.push(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        }
        sh(&format!("sleep {wait}"))?;
        lab.daemon.kill()?;
        for mut child in under_way {
            child.wait()?;
        }
        lab = Lab::launch()?;
        let mut expected = vec![5];
        for volume in lab.names()? {
            let (size, enforced) = lab.told(&volume)?;
            ensure_eq!(enforced, "true");
            expected.push(size.parse::<u64>()? / MIB);
        }
        expected.sort_unstable();
        wait_for_limits(&expected)?;
    }
    Ok(lab)
}
