//! The machine: kernel, clock, limits, and the file system of the daemon's directory.

use super::findings::{Findings, error, info, warning};
use convoy_driver_sdk::Timestamp;
use rustix::process::{Resource, getrlimit};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const AREA: &str = "machine";

/// The first kernel that has every system call that is used without another way.
const KERNEL: (u32, u32) = (5, 6);

/// 2026-01-01: whatever the clock says, it is later.
const EARLIEST: i64 = 1_767_225_600;

/// Free space under which records may soon not be written, in bytes; and of inodes.
const LITTLE_SPACE: u64 = 64 << 20;
const FEW_INODES: u64 = 1000;

/// File descriptors that a backup and a busy day may need together.
const DESCRIPTORS: u64 = 4096;

pub(super) fn examine(root: &Path, findings: &mut Findings) {
    kernel(findings);
    if Timestamp::now().unix() < EARLIEST {
        let text = format!("it says {}, before this program was made", Timestamp::now());
        let hint =
            "set it: S3 refuses requests and certificates seem invalid, and schedules do not run in time";
        findings.add(AREA, error("clock", text).hint(hint));
    }
    if let Some(soft) = getrlimit(Resource::Nofile).current.filter(|soft| *soft < DESCRIPTORS) {
        let text = format!("at most {soft} files may be open");
        findings.add(AREA, warning("limits", text).hint("start the daemon with LimitNOFILE=65536 or more"));
    }
    if !rustix::process::geteuid().is_root() {
        let text = "this is not root: most drivers can neither mount nor keep owners of files";
        findings.add(AREA, error("user", text).hint("run the daemon, and this command without one, as root"));
    }
    directory(root, findings);
}

fn kernel(findings: &mut Findings) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if version < KERNEL {
        let text = format!("Linux {release}; expected {}.{} or newer", KERNEL.0, KERNEL.1);
        findings.add(AREA, error("kernel", text).hint("install a newer kernel"));
    } else {
        findings.add(AREA, info("kernel", format!("Linux {release}")));
    }
}

/// The daemon's directory: whose it is, and how much room there is.
fn directory(root: &Path, findings: &mut Findings) {
    let subject = format!("directory {}", root.display());
    let found = match std::fs::metadata(root) {
        Ok(found) => found,
        Err(failed) => {
            let hint = "the first start of the daemon makes it; --root names another";
            return findings.add(AREA, warning(subject, format!("cannot be looked at: {failed}")).hint(hint));
        }
    };
    if found.mode() & 0o022 != 0 {
        let text = format!("others than its owner may write to it (mode {:o})", found.mode() & 0o7777);
        findings.add(AREA, error(subject.clone(), text).hint(format!("chmod go-w {}", root.display())));
    }
    match rustix::fs::statvfs(root) {
        Ok(fs) => {
            if fs.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
                let text = "its file system is mounted read-only: nothing can be recorded";
                let hint = "see the kernel's log for what is wrong with the disk, then mount it read-write";
                findings.add(AREA, error(subject.clone(), text).hint(hint));
            }
            let free = fs.f_bavail.saturating_mul(fs.f_frsize);
            if free < LITTLE_SPACE {
                let text = format!("{} MiB are free: records may soon not be written", free >> 20);
                findings
                    .add(AREA, error(subject.clone(), text).hint("make room, or enlarge the file system"));
            }
            if fs.f_files > 0 && fs.f_favail < FEW_INODES {
                let text = format!("{} inodes are free: records may soon not be written", fs.f_favail);
                findings.add(AREA, error(subject, text).hint("delete small files on this file system"));
            }
        }
        Err(failed) => {
            findings.add(AREA, error(subject, format!("its file system cannot be asked: {failed}")))
        }
    }
}
