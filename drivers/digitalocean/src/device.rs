//! Where the kernel shows a volume: `/dev/disk/by-id/scsi-0DO_Volume_<name>`, a link to a SCSI disk.

use convoy_driver_cloud::device::is_block;
use convoy_driver_sdk::{DriverError, Result};
use std::path::{Path, PathBuf};

const PREFIX: &str = "scsi-0DO_Volume_";

/// The device of a volume; `None` while it does not show, or shows but does not run yet.
///
/// The link is made by udev from the disk's own answer, but stays when udev is late: what it leads to is
/// checked.
///
/// # Errors
/// `DataLoss` if it leads to something else.
pub fn find(dev: &Path, sys: &Path, name: &str) -> Result<Option<PathBuf>> {
    let link = dev.join("disk/by-id").join(format!("{PREFIX}{name}"));
    let Ok(found) = std::fs::canonicalize(&link) else { return Ok(None) };
    if !is_block(&found) {
        return Err(DriverError::data_loss(format!(
            "expected {} to lead to a block device, found {}",
            link.display(),
            found.display()
        )));
    }
    let Some(disk) = found.file_name() else { return Ok(None) };
    let state = sys.join("class/block").join(disk).join("device/state");
    let running = std::fs::read_to_string(state).is_ok_and(|state| state.trim() == "running");
    Ok(running.then_some(found))
}
