//! The image of a volume for a virtual machine, a file in its directory that what runs there can replace.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use convoy_driver_sdk::atomic;
use convoy_driver_sdk::tree::wait_for_lease;
use nix::libc;

use crate::error::{VfsResult, io_error};
use crate::layout::IMAGE;
use crate::record::VolumeRecord;

/// Opens an image for reading and writing. A link in its place is not followed.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = wait_for_lease(|| options.open(path))?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(ErrorKind::InvalidInput.into()) }
}

/// Makes an image of `size` bytes in a volume's directory, durably.
pub(crate) fn make(dir: &Path, size: u64) -> VfsResult<()> {
    let path = dir.join(IMAGE);
    let make = || {
        let file = File::create_new(&path)?;
        file.set_len(size)?;
        file.sync_all()?;
        atomic::sync_dir(dir)
    };
    make().map_err(io_error("make the image", &path)).inspect_err(|_| {
        // Half an image is none.
        let _ = fs::remove_file(&path);
    })
}

/// The bytes in a volume's image, where the record says another size.
pub(crate) fn changed_size(record: &VolumeRecord, data: &Path) -> Option<u64> {
    let image = fs::symlink_metadata(data.join(IMAGE)).ok().filter(|_| record.prepare_for_vm)?;
    (image.is_file() && image.len() != record.size).then_some(image.len())
}
