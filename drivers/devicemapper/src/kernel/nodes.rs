//! Nodes in `/dev/mapper`: udev's business where it runs, ours where it does not or where its `/dev` is not
//! ours.

use crate::error::{Error, Result};
use devicemapper::Device;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The control device is `misc` with this minor number (`MAPPER_CTRL_MINOR`).
const CONTROL: Device = Device { major: 10, minor: 236 };

/// Makes the control node where nobody has: opening it loads the module. Failing is told by opening it.
pub(super) fn ensure_control() {
    let control = Path::new(super::DEV_MAPPER).join("control");
    if !control.exists() {
        let made = std::fs::create_dir_all(super::DEV_MAPPER).and_then(|()| {
            Ok(mknod(&control, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, CONTROL.into())?)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "cannot make /dev/mapper/control");
        }
    }
}

/// Makes sure that a node leads to this device.
pub(super) fn ensure(node: &Path, device: Device) -> Result<()> {
    if leads_to(node, device) {
        return Ok(());
    }
    // Whatever has that name leads to a device that is gone. That it cannot be removed shows in the next
    // step.
    let _ = std::fs::remove_file(node);
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
    match mknod(node, SFlag::S_IFBLK, mode, device.into()) {
        Ok(()) => Ok(()),
        // udev was quicker after all.
        Err(Errno::EEXIST) if leads_to(node, device) => Ok(()),
        Err(error) => Err(Error::io(format_args!("make the device node {}", node.display()))(error.into())),
    }
}

/// Removes what leads to a device that is gone. What udev removed already, or made anew for another device of
/// that name, is none of our business.
pub(super) fn forget(node: &Path) {
    let stale = match node.symlink_metadata() {
        Err(_) => false,
        Ok(found) if found.file_type().is_symlink() => !node.exists(),
        Ok(found) => found.file_type().is_block_device(),
    };
    if stale && let Err(error) = std::fs::remove_file(node) {
        tracing::debug!(node = %node.display(), %error, "cannot remove a stale device node");
    }
}

/// The names in `/dev/mapper` that begin in one of these ways.
pub(super) fn names(prefixes: &[String]) -> Vec<String> {
    let entries = std::fs::read_dir(super::DEV_MAPPER).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))).collect()
}

fn leads_to(node: &Path, device: Device) -> bool {
    node.metadata()
        .is_ok_and(|found| found.file_type().is_block_device() && Device::from(found.rdev()) == device)
}
