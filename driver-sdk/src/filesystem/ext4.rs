//! Growing an ext4 that is not mounted, over kills and power cuts.
//!
//! The kernel grows a mounted one by its journal, but lets only those who have `CAP_SYS_RESOURCE`. `resize2fs` writes its tables in
//! any order: what is cut off in between is a file system that `e2fsck -p` finds damaged and leaves to a person. So what is about to
//! be done is written into the superblock, after a check has found it well: as the place where it was last mounted, which the kernel
//! overwrites when the file system is used. While it says so, damage is that of `resize2fs`, which touches no file, and is repaired:
//! by the next call to grow it, or before it is mounted, since the kernel would make damage of it.

use super::{FsKind, wait_until_unused};
use crate::command::Command;
use crate::{Context, DriverError, ErrorKind, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where a file system was last mounted that is being grown.
const GROWING: &str = "convoy: being grown";

/// Of the superblock, which begins at 1024: `s_magic` (at 0x38) and `s_last_mounted` (at 0x88, 64 bytes), as the kernel's documentation of
/// ext4 has them.
const MAGIC: (u64, [u8; 2]) = (1024 + 0x38, [0x53, 0xef]);
const LAST_MOUNTED: u64 = 1024 + 0x88;

/// Whether this is an ext4 that somebody began to grow, and that nobody has used since.
pub(super) fn is_growing(device: &Path) -> bool {
    let Ok(file) = File::open(device) else { return false };
    let (mut magic, mut place) = ([0; 2], [0; GROWING.len() + 1]);
    let read = |bytes: &mut [u8], at| file.read_exact_at(bytes, at).is_ok();
    read(&mut magic, MAGIC.0)
        && magic == MAGIC.1
        && read(&mut place, LAST_MOUNTED)
        && place.strip_suffix(&[0]) == Some(GROWING.as_bytes())
}

/// Grows it to the size of its device.
pub(super) fn grow_unmounted(device: &Path, context: &Context) -> Result<()> {
    wait_until_unused(device, context)?;
    check(device, context)?;
    last_mounted(GROWING, device, context)?;
    program("resize2fs").arg(device).run(context)?;
    last_mounted("", device, context)
}

fn program(name: &str) -> Command {
    Command::new(name).package(FsKind::Ext4.package())
}

/// `resize2fs` insists on a check.
fn check(device: &Path, context: &Context) -> Result<()> {
    let cut_off = is_growing(device);
    // 1: errors were repaired. 4 and above: not all of them.
    let fsck = |how| program("e2fsck").accept(1).accept(4).args(["-f", how, "--"]).arg(device).run(context);
    let mut found = fsck("-p")?;
    if found.code >= 4 && cut_off {
        tracing::warn!(device = %device.display(), "growing the file system was cut off: repairing it");
        found = fsck("-y")?;
    }
    if found.code < 4 {
        return Ok(());
    }
    Err(DriverError::new(
        ErrorKind::DataLoss,
        format!("the ext4 on {} is damaged: {}", device.display(), found.text().trim()),
    )
    .hint("run e2fsck by hand, after copying the device"))
}

fn last_mounted(place: &str, device: &Path, context: &Context) -> Result<()> {
    program("tune2fs").args(["-M", place, "--"]).arg(device).run(context)?;
    Ok(())
}

/// Says that it is being grown.
#[cfg(test)]
pub(super) fn mark(device: &Path) {
    last_mounted(GROWING, device, &Context::default()).unwrap();
}
