//! Growing an ext4 that is not mounted, over kills and power cuts.
//!
//! The kernel grows a mounted one by its journal, but lets only those who have `CAP_SYS_RESOURCE`.
//! `resize2fs` writes its tables in any order: what is cut off in between is a file system that `e2fsck -p`
//! finds damaged and leaves to a person. So `e2fsck` and `resize2fs` are not ended: they go on when the
//! driver dies or the call ends, and hold a lock on the device that the next life and the next call wait for.
//!
//! A power cut or the kernel may end them all the same. So `debugfs` first writes into the superblock what is
//! being done ([`Mark`]). It goes with the bytes of the device, into snapshots and copies too. Who grows or
//! mounts the file system next finds the mark and finishes the work. The kernel overwrites the mark when the
//! file system is used.

mod superblock;

use self::superblock::Superblock;
use super::{FsKind, wait_until_unused};
use crate::command::{Command, CommandError};
use crate::{Context, DriverError, ErrorKind, Result};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Writes also where the checksum is wrong (`-n`), and reads its commands from standard input.
const DEBUGFS: [&str; 5] = ["-w", "-n", "-f", "-", "--"];

/// What is being done to a file system. It stands where a superblock says where it was last mounted.
///
/// All tools of e2fsprogs write what they change of a superblock a few bytes at a time, from the first to the
/// last, and its checksum at the end. So the first two bytes of each text are one that no path and no other
/// mark begins with: they say which mark it is as soon as anything of it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// It is being checked. Nothing is wrong with it but the checksum of its superblock, which is from
    /// before.
    Checking,
    /// It was found well and is being grown: what is wrong with it comes from `resize2fs`, which touches no
    /// file.
    Growing,
    /// It was grown, or not; it is well. The checksum of its superblock may be from before.
    Done,
}

impl Mark {
    const ALL: [Self; 3] = [Self::Checking, Self::Growing, Self::Done];

    fn text(self) -> &'static str {
        match self {
            Self::Checking => "C: convoy checks it",
            Self::Growing => "G: convoy grows it",
            Self::Done => "D: convoy is done",
        }
    }

    /// The mark of a superblock, and whether the superblock is as somebody meant it to be.
    fn of(superblock: &Superblock) -> (Option<Self>, bool) {
        let (place, is_whole) = (superblock.last_mounted(), superblock.is_whole());
        let is_there = |mark: &Self| match mark.text().as_bytes() {
            text if is_whole => place == text,
            text => place.get(..2) == text.get(..2),
        };
        (Self::ALL.into_iter().find(is_there), is_whole)
    }

    /// Writes it, and a checksum that is right. Repeated after a kill at any moment it does the same.
    fn write(self, device: &Path, context: &Context) -> Result<()> {
        // With another time than now the mark would not be what is written first.
        let written = read(device)?.written();
        let debugfs = program("debugfs").args(DEBUGFS).arg(device).stdin(self.commands(written));
        succeeded(&debugfs.run(context)?.stderr, device, "write into the superblock of")
    }

    fn commands(self, written: u32) -> String {
        format!("set_current_time @{written}\nset_super_value last_mounted \"{}\"\n", self.text())
    }
}

/// Whether this is an ext4 that somebody began to grow, and that nobody has used since.
pub(super) fn is_unfinished(device: &Path) -> bool {
    Superblock::read(device).ok().flatten().is_some_and(|superblock| match Mark::of(&superblock) {
        (Some(Mark::Checking | Mark::Growing), _) => true,
        (mark, is_whole) => mark.is_some() && !is_whole,
    })
}

/// Grows it to the size of its device.
pub(super) fn grow_unmounted(device: &Path, context: &Context) -> Result<()> {
    let lock = lock(device, context)?;
    wait_until_unused(device, context)?;
    let made_lost_and_found = check(device, &lock, context)?;
    Mark::Growing.write(device, context)?;
    program("resize2fs").arg(device).outlives(&lock).run(context)?;
    if made_lost_and_found {
        // It stays if the check put files into it.
        if let Err(error) = remove_lost_and_found(device, context) {
            tracing::info!(device = %device.display(), %error, "the check made a lost+found, which stays");
        }
    }
    Mark::Done.write(device, context)
}

/// Waits until no `e2fsck` or `resize2fs` of an earlier call or an earlier life works on it. systemd, too,
/// leaves a device alone that is locked so.
pub(super) fn lock(device: &Path, context: &Context) -> Result<Arc<File>> {
    let file = File::open(device)
        .map_err(|error| DriverError::io(format_args!("open {}", device.display()), &error))?;
    crate::flock::lock_open(&file, context).map_err(|error| {
        let text = format!("{} is being checked or grown since before: {}", device.display(), error.message);
        DriverError { message: text, ..error }
            .hint("try again later: the program that holds its lock goes on, and must not be ended")
    })?;
    Ok(Arc::new(file))
}

/// Removes the directory that `mkfs.ext4` makes, and that `e2fsck` makes again when it looks for it. The file
/// system must not be mounted. What is cut off is for those who would have used it to do anew: it is done
/// before anybody does.
pub(super) fn remove_lost_and_found(device: &Path, context: &Context) -> Result<()> {
    let debugfs = program("debugfs").args(["-w", "-R", "rmdir lost+found", "--"]).arg(device).run(context)?;
    succeeded(&debugfs.stderr, device, "remove lost+found from")
}

/// Whether `debugfs` succeeded: it ends with 0 whatever happens, and says on standard error which version it
/// is, and what it could not do.
fn succeeded(stderr: &[u8], device: &Path, what: &str) -> Result<()> {
    match String::from_utf8_lossy(stderr).lines().find(|line| !line.starts_with("debugfs ")) {
        None => Ok(()),
        Some(why) => {
            let text = format!("cannot {what} the ext4 on {}: {why}", device.display());
            Err(DriverError::internal(text))
        }
    }
}

fn program(name: &str) -> Command {
    Command::new(name).package(FsKind::Ext4.package())
}

/// `resize2fs` insists on a check. Whether that made a `lost+found`.
fn check(device: &Path, lock: &Arc<File>, context: &Context) -> Result<bool> {
    let superblock = read(device)?;
    let (mark, is_whole) = Mark::of(&superblock);
    let cut_off = mark == Some(Mark::Growing);
    if !is_whole && mark.is_none() {
        return Err(damaged(device, "its superblock has a wrong checksum"));
    }
    // This makes the superblock of one that was cut off whole again, too. Its counts may be those of before
    // in part, and are repaired.
    let mark = if cut_off { Mark::Growing } else { Mark::Checking };
    let mut how = vec!["-p".to_owned()];
    match mark.write(device, context) {
        // It has another number of groups than its counts say. That of the second group is whole: it is
        // written first.
        Err(error) if cut_off && error.kind == ErrorKind::Internal => {
            tracing::warn!(device = %device.display(), %error, "taking another superblock of the file system");
            let (block, size) = superblock.second();
            how = ["-y", "-b", &block.to_string(), "-B", &size.to_string()].map(str::to_owned).into();
        }
        written => written?,
    }
    // 1: errors were repaired. 4 and above: not all of them.
    let e2fsck = |how: &[String]| {
        let command = program("e2fsck").accept(1).accept(4).arg("-f").args(how).arg("--").arg(device);
        command.outlives(lock).run(context)
    };
    let checked = e2fsck(&how);
    let well = checked.as_ref().is_ok_and(|found| found.code < 4);
    // What is not being grown can be mounted, unless the program may still write.
    let goes_on = matches!(checked, Err(CommandError::GoesOn { .. } | CommandError::Lost { .. }));
    if !well
        && !goes_on
        && !cut_off
        && let Err(error) = Mark::Done.write(device, context)
    {
        tracing::info!(device = %device.display(), %error, "it is checked again before it is mounted");
    }
    let mut found = checked?;
    if found.code >= 4 && cut_off {
        tracing::warn!(device = %device.display(), "growing the file system was cut off: repairing it");
        found = e2fsck(&["-y".to_owned()])?;
    }
    if found.code < 4 {
        return Ok(found.text().contains("/lost+found not found"));
    }
    Err(damaged(device, found.text().trim()))
}

fn damaged(device: &Path, how: &str) -> DriverError {
    DriverError::data_loss(format!("the ext4 on {} is damaged: {how}", device.display()))
        .hint("run e2fsck by hand, after copying the device")
}

fn read(device: &Path) -> Result<Superblock> {
    Superblock::read(device)
        .map_err(|error| {
            DriverError::io(format_args!("read the superblock of {}", device.display()), &error)
        })?
        .ok_or_else(|| {
            damaged(device, "expected the magic number of a superblock at byte 1080, found another")
        })
}

#[cfg(test)]
mod tests;
