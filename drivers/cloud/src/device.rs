//! Block devices, as far as both providers need to look at them.

use convoy_driver_sdk::{DriverError, Result};
use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

pub fn is_block(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found: Metadata| found.file_type().is_block_device())
}

pub fn size(path: &Path) -> Result<u64> {
    let open = File::open(path).and_then(|mut device| device.seek(SeekFrom::End(0)));
    open.map_err(|error| DriverError::io(format_args!("find the size of {}", path.display()), &error))
}

pub fn numbers(path: &Path) -> Result<(u32, u32)> {
    let found = std::fs::metadata(path)
        .map_err(|error| DriverError::io(format_args!("look at {}", path.display()), &error))?;
    if !found.file_type().is_block_device() {
        return Err(DriverError::internal(format!(
            "expected a block device, found something else at {}",
            path.display()
        )));
    }
    Ok((nix::libc::major(found.rdev()), nix::libc::minor(found.rdev())))
}
