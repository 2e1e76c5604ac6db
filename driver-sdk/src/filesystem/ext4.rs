//! Growing an ext4 that is not mounted, over kills and power cuts.
//!
//! The kernel grows a mounted one by its journal, but lets only those who have `CAP_SYS_RESOURCE`. `resize2fs` writes its tables in
//! any order: what is cut off in between is a file system that `e2fsck -p` finds damaged and leaves to a person. So what is about to
//! be done is written into the superblock: as the place where it was last mounted, which the kernel overwrites when the file system is
//! used. First that it is being checked: what cuts off the check can leave a superblock with a checksum of before, and no other
//! damage. When it was found well, that it is being grown: all damage is that of `resize2fs`, which touches no file, and is repaired.
//! Both by the next call to grow it, or before it is mounted, since the kernel would make damage of it.

mod superblock;

use self::superblock::Superblock;
use super::{FsKind, wait_until_unused};
use crate::command::{Command, CommandError};
use crate::{Context, DriverError, ErrorKind, Result};
use std::path::Path;

/// Where a file system was last mounted that is being checked, to be grown, or is being grown.
const CHECKING: &str = "convoy: being checked";
const GROWING: &str = "convoy: being grown";

/// Whether this is an ext4 that somebody began to grow, and that nobody has used since.
pub(super) fn is_growing(device: &Path) -> bool {
    let superblock = Superblock::read(device).ok().flatten();
    superblock.is_some_and(|block| block.was_at(CHECKING) || block.was_at(GROWING))
}

/// Grows it to the size of its device.
pub(super) fn grow_unmounted(device: &Path, context: &Context) -> Result<()> {
    wait_until_unused(device, context)?;
    let made_lost_and_found = check(device, context)?;
    say(GROWING, device)?;
    program("resize2fs").arg(device).run(context)?;
    if made_lost_and_found {
        // It stays if the check put files into it.
        if let Err(error) = remove_lost_and_found(device, context) {
            tracing::info!(device = %device.display(), %error, "the check made a lost+found, which stays");
        }
    }
    say("", device)
}

/// Removes the directory that `mkfs.ext4` makes, and that `e2fsck` makes again when it looks for it. The file
/// system must not be mounted. What is cut off is for those who would have used it to do anew: it is done
/// before anybody does.
pub(super) fn remove_lost_and_found(device: &Path, context: &Context) -> Result<()> {
    let debugfs = program("debugfs").args(["-w", "-R", "rmdir lost+found", "--"]).arg(device).run(context)?;
    // It ends with 0 whatever happens, and says on standard error which version it is, and what it could not
    // do.
    let said = String::from_utf8_lossy(&debugfs.stderr);
    match said.lines().find(|line| !line.starts_with("debugfs ")) {
        None => Ok(()),
        Some(why) => {
            let text = format!("cannot remove lost+found from the ext4 on {}: {why}", device.display());
            Err(DriverError::new(ErrorKind::Internal, text))
        }
    }
}

fn program(name: &str) -> Command {
    Command::new(name).package(FsKind::Ext4.package())
}

/// `resize2fs` insists on a check. Whether that made a `lost+found`.
fn check(device: &Path, context: &Context) -> Result<bool> {
    let superblock = read(device)?;
    let cut_off = superblock.was_at(GROWING);
    if !superblock.is_whole() && !superblock.was_at(CHECKING) && !cut_off {
        return Err(damaged(device, "its superblock has a wrong checksum"));
    }
    // Of one that was cut off it makes the superblock whole again, too. Its counts may be those of before in part, and are repaired.
    write(superblock, if cut_off { GROWING } else { CHECKING }, device)?;
    // 1: errors were repaired. 4 and above: not all of them.
    let fsck = |how| program("e2fsck").accept(1).accept(4).args(["-f", how, "--"]).arg(device).run(context);
    let checked = fsck("-p");
    let well = checked.as_ref().is_ok_and(|found| found.code < 4);
    // One that hangs in the kernel may write to the superblock yet; of any other this makes it whole. What is not being grown can be mounted.
    let hangs = matches!(checked, Err(CommandError::Ended { stuck: true, .. } | CommandError::Lost { .. }));
    if !well && !hangs && !cut_off {
        say("", device)?;
    }
    let mut found = checked?;
    if found.code >= 4 && cut_off {
        tracing::warn!(device = %device.display(), "growing the file system was cut off: repairing it");
        found = fsck("-y")?;
    }
    if found.code < 4 {
        return Ok(found.text().contains("/lost+found not found"));
    }
    Err(damaged(device, found.text().trim()))
}

fn damaged(device: &Path, how: &str) -> DriverError {
    DriverError::new(ErrorKind::DataLoss, format!("the ext4 on {} is damaged: {how}", device.display()))
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

fn write(superblock: Superblock, place: &str, device: &Path) -> Result<()> {
    superblock.set_place(place, device).map_err(|error| {
        DriverError::io(format_args!("write the superblock of {}", device.display()), &error)
    })
}

/// Says where it was last mounted.
fn say(place: &str, device: &Path) -> Result<()> {
    write(read(device)?, place, device)
}

#[cfg(test)]
mod tests;
