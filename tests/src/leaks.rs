//! What a lab may leave behind, and how to get rid of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Result};
use crate::{lab, patience, run};

/// How the directories of labs are named: this, the process id of the test, a dash and something random.
pub const PREFIX: &str = "convoy-lab-";

/// Where Docker looks for plugins that are not containers.
pub const PLUGINS: &str = "/etc/docker/plugins";

/// How long processes and devices that are ending anyway are given.
const SETTLE: Duration = Duration::from_secs(3);

/// How long a file system that is unmounted already may take to write what it holds: its loop device waits
/// for that.
const FLUSH: Duration = Duration::from_secs(15);

/// Ends processes, mounts and loop devices of a lab, removes its directory and says what there was.
///
/// # Errors
/// When the kernel's lists cannot be read or the directory not be removed.
pub fn clear(directory: &Path) -> Result<Vec<String>> {
    let mut left = Vec::new();
    // What has lost its parent a moment ago (a driver whose daemon was killed) may still be on its way out.
    if patience::until("the end of processes", SETTLE, || Ok(processes(directory).is_empty())).is_err() {
        for (pid, command) in processes(directory) {
            left.push(format!("process {pid} ({command})"));
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = patience::until("the end of processes", SETTLE, || Ok(processes(directory).is_empty()));
    }
    for mount in mounts(directory)?.into_iter().rev() {
        left.push(format!("mount {}", mount.display()));
        let _ = umount2(&mount, MntFlags::MNT_DETACH);
    }
    // A mount namespace that somebody has just copied holds what was mounted, until it lets go of what is not
    // its own.
    let _ = patience::until("the end of loop devices", FLUSH, || {
        Ok(loops(directory).iter().all(|attached| !attached.ending))
    });
    for Loop { device, file, .. } in loops(directory) {
        left.push(format!("loop device {device} ({file})"));
        let _ = run::capture(Command::new("losetup").arg("--detach").arg(device));
    }
    remove_specs(directory);
    if std::env::var_os(lab::KEEP).is_some() {
        eprintln!("kept: {}", directory.display());
    } else if directory.exists() {
        fs::remove_dir_all(directory).during(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(left)
}

/// Clears the labs of tests that no longer run (killed before they could clean up); says what there was.
///
/// # Errors
/// When the directory for temporary files cannot be read.
pub fn sweep() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for base in [std::env::temp_dir(), PathBuf::from(lab::ON_DISK)] {
        sweep_in(&base, &mut found)?;
    }
    Ok(found)
}

fn sweep_in(base: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(base).during(|| format!("cannot read {}", base.display()))?.flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        // An owner in another container has a number that means nothing here; its lock says that it is there.
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if !is_directory || Path::new("/proc").join(owner).exists() {
            continue;
        }
        let Ok(_lock) = lock(&entry.path()) else { continue };
        found.push(format!("{}: {}", entry.path().display(), clear(&entry.path())?.join("; ")));
    }
    Ok(())
}

/// Locks the directory of a lab, unless the test whose lab it is still runs.
///
/// # Errors
/// When somebody has the lock, or there is no such directory.
pub(crate) fn lock(directory: &Path) -> Result<Flock<fs::File>> {
    let what = || format!("cannot lock {}", directory.display());
    let file = fs::File::open(directory).during(what)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error).during(what)
}

/// The mounts at or below a directory, in the order they were made.
///
/// # Errors
/// When the kernel's list cannot be read.
pub fn mounts(directory: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").during(|| "cannot read mountinfo".to_owned())?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.filter(|point| point.starts_with(directory)).collect())
}

/// Undoes the kernel's octal escapes of space, tab, line end and backslash.
fn unescape(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escape, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escape, plain);
    }
    PathBuf::from(text)
}

/// The living processes of a lab: those with its mark in their environment, or at home in it.
pub fn processes(directory: &Path) -> Vec<(i32, String)> {
    let marks = [lab::MARK, "HOME"].map(|name| format!("{name}={}", directory.display()).into_bytes());
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            // A zombie's environment reads as empty: it is not counted.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| marks.iter().any(|mark| mark == variable))
        })
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned())
        })
        .collect()
}

/// A loop device with its file.
struct Loop {
    device: String,
    file: String,
    /// The kernel detaches it when nobody has it open or mounted any more.
    ending: bool,
}

/// The loop devices whose file lies below a directory.
fn loops(directory: &Path) -> Vec<Loop> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let said = |attribute: &str| fs::read_to_string(format!("/sys/block/{name}/loop/{attribute}"));
            let file = said("backing_file").ok()?.trim_end().to_owned();
            let ending = said("autoclear").is_ok_and(|text| text.trim_end() == "1");
            Path::new(&file).starts_with(directory).then_some(Loop {
                device: format!("/dev/{name}"),
                file,
                ending,
            })
        })
        .collect()
}

/// Removes the plugin specs that point into a lab.
fn remove_specs(directory: &Path) {
    let Ok(entries) = fs::read_dir(PLUGINS) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.strip_prefix("unix://").is_some_and(|socket| Path::new(socket.trim()).starts_with(directory))
        {
            let _ = fs::remove_file(&path);
        }
    }
}
