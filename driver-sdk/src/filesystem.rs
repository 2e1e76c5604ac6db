//! File systems on block devices: find, make, mount, unmount, grow.

use crate::command::{Command, CommandError};
use crate::{Context, DriverError, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::str::FromStr;

mod ext4;
mod held;
mod mount;

pub use held::{wait_until_free, wait_until_unused};
pub use mount::{Mount, mount, unmount};

/// The file systems that convoy makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// ext4, the default.
    #[default]
    Ext4,
    /// XFS. Two snapshots of one volume are mounted together only with `nouuid`.
    Xfs,
    /// btrfs. Two snapshots of one volume are never mounted together.
    Btrfs,
}

impl FsKind {
    /// As `mount -t` and `blkid` spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Mount options, and before them what a copy of a file system needs to be mounted beside its origin.
    pub fn mount_options(self, options: &str) -> String {
        match (self, options) {
            // It has the UUID of what it was copied from.
            (Self::Xfs, "") => "nouuid".to_owned(),
            (Self::Xfs, options) => format!("nouuid,{options}"),
            (_, options) => options.to_owned(),
        }
    }

    /// The Debian package with its programs.
    fn package(self) -> &'static str {
        match self {
            Self::Ext4 => "e2fsprogs",
            Self::Xfs => "xfsprogs",
            Self::Btrfs => "btrfs-progs",
        }
    }
}

impl std::fmt::Display for FsKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FsKind {
    type Err = DriverError;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "ext4" => Ok(Self::Ext4),
            "xfs" => Ok(Self::Xfs),
            "btrfs" => Ok(Self::Btrfs),
            _ => Err(DriverError::invalid(format!(
                "unknown file system {text:?}: expected ext4, xfs or btrfs"
            ))),
        }
    }
}

/// What is on a device, as `blkid` names it: `ext4`, `xfs`, `LVM2_member`, `gpt`; `None` when nothing is
/// known to be there. Reads the device itself, never a cache.
pub fn signature(device: &Path, context: &Context) -> Result<Option<String>> {
    // 2: nothing found. 8: more than one thing found, which `blkid` does not want to choose from.
    let blkid = Command::new("blkid").package("util-linux").accept(2).accept(8);
    let output = blkid.args(["-p", "-o", "export", "--"]).arg(device).run(context)?;
    match output.code {
        2 => {
            // It says the same of a device that cannot be opened.
            std::fs::File::open(device)
                .map_err(|error| DriverError::io(format_args!("open {}", device.display()), &error))?;
            Ok(None)
        }
        8 => Ok(Some("several signatures".to_owned())),
        _ => {
            let text = output.text();
            let value = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
            // Of an empty partition it says which entry of the table it is, and nothing else.
            let said = |line: &str| !line.starts_with("DEVNAME=") && !line.starts_with("PART_ENTRY_");
            let unknown = text.lines().any(said).then(|| "an unknown signature".to_owned());
            Ok(value("TYPE=").or_else(|| value("PTTYPE=")).or(unknown))
        }
    }
}

/// Makes a file system on an empty device. Nothing is in it, not even the `lost+found` of ext4: Docker copies
/// the files of an image only into an empty volume, and databases set themselves up only in an empty
/// directory.
///
/// Fast: nothing is discarded (a thin device reads as zeros already) and tables are initialised when they are
/// first used.
///
/// # Errors
/// `AlreadyExists` if anything is on the device; `Exhausted` if it is too small; those of [`Command`].
pub fn mkfs(kind: FsKind, device: &Path, context: &Context) -> Result<()> {
    if let Some(found) = signature(device, context)? {
        return Err(DriverError::already_exists(format!(
            "expected an empty device, found {found} on {}",
            device.display()
        ))
        .hint("if what is on it may be lost, remove it with `wipefs -a`"));
    }
    mkfs_anew(kind, device, context)
}

/// Makes a file system on a device whatever is on it: for a device of one's own whose making was cut off.
///
/// # Errors
/// As [`mkfs`], but for `AlreadyExists`.
pub fn mkfs_anew(kind: FsKind, device: &Path, context: &Context) -> Result<()> {
    let flags: &[&str] = match kind {
        // -F: also on what is no block device.
        FsKind::Ext4 => &["-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"],
        FsKind::Xfs => &["-q", "-f", "-K"],
        FsKind::Btrfs => &["-q", "-f", "-K"],
    };
    let command = Command::new(format!("mkfs.{kind}")).package(kind.package());
    command.args(flags).arg("--").arg(device).run(context)?;
    match kind {
        FsKind::Ext4 => ext4::remove_lost_and_found(device, context),
        FsKind::Xfs | FsKind::Btrfs => Ok(()),
    }
}

/// Grows a file system to the size of its device.
///
/// `mountpoint` is where it is mounted now. An unmounted ext4 is checked and grown; XFS and btrfs grow only
/// while mounted. An unmounted ext4 goes on growing when the call ends or this process is killed; who repeats
/// the call waits for it. What is cut off all the same, by a power cut, is finished when it is repeated, and
/// when the file system is mounted with [`mount`]; by nobody else.
///
/// # Errors
/// `InvalidArgument` for an unmounted XFS or btrfs; `PermissionDenied` for a mounted ext4 without
/// `CAP_SYS_RESOURCE`; `InUse` if an ext4 that is to be grown unmounted is mounted after all, be it in
/// another namespace; `DeadlineExceeded` while it is being grown; `DataLoss` if the check finds damage it
/// cannot repair.
pub fn grow(kind: FsKind, device: &Path, mountpoint: Option<&Path>, context: &Context) -> Result<()> {
    let (program, package) = (Command::new, kind.package());
    let command = match (kind, mountpoint) {
        (FsKind::Ext4, None) => return ext4::grow_unmounted(device, context),
        (FsKind::Ext4, Some(_)) => program("resize2fs").arg(device),
        (FsKind::Xfs, Some(mountpoint)) => program("xfs_growfs").arg("-d").arg(mountpoint),
        (FsKind::Btrfs, Some(mountpoint)) => {
            program("btrfs").args(["filesystem", "resize", "max"]).arg(mountpoint)
        }
        (FsKind::Xfs | FsKind::Btrfs, None) => {
            return Err(DriverError::invalid(format!(
                "{kind} on {} can only grow while it is mounted",
                device.display()
            )));
        }
    };
    command.package(package).run(context).map_err(|error| match &error {
        CommandError::Failed { stderr, .. } if stderr.contains("Permission denied") => DriverError::permission_denied(error.to_string(),
        )
        .hint(
            "a mounted ext4 grows only with CAP_SYS_RESOURCE: give it to the daemon, or unmount the volume",
        ),
        _ => error.into(),
    })?;
    Ok(())
}

/// Waits until nobody checks or grows an unmounted ext4 any more: what does so goes on when the call that
/// began it ends, or the driver that did. For those who copy an image, of which the kernel does not say that
/// somebody writes to it.
///
/// # Errors
/// `DeadlineExceeded` or `Cancelled` when the call ends first; when the device cannot be opened.
pub fn wait_until_grown(device: &Path, context: &Context) -> Result<()> {
    ext4::lock(device, context).map(drop)
}

#[cfg(test)]
mod tests;
