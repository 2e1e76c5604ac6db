//! Where the kernel shows a volume.
//!
//! On Nitro instances it is an NVMe namespace whose controller carries the volume's id as its serial number:
//! that is what counts. The link that udev makes may be stale, or missing on a small system; the name that
//! EC2 was asked for may be a link of the same kind. On older instances the name is all there is.

use convoy_driver_cloud::device::is_block;
use convoy_driver_sdk::{DriverError, Result};
use std::path::{Path, PathBuf};

const MODEL: &str = "Amazon Elastic Block Store";
const LINK: &str = "nvme-Amazon_Elastic_Block_Store_";

/// The device of a volume, if it is there and certain.
///
/// # Errors
/// When the kernel's list of devices cannot be read.
pub fn find(dev: &Path, sys: &Path, volume: &str, asked_for: Option<&str>) -> Result<Option<PathBuf>> {
    let serial = volume.replacen('-', "", 1);
    let link = dev.join("disk/by-id").join(format!("{LINK}{serial}"));
    if let Some(found) = verified(&link, sys, &serial) {
        return Ok(Some(found));
    }
    if let Some(found) = scan(dev, sys, &serial)? {
        return Ok(Some(found));
    }
    Ok(asked_for.and_then(|name| by_name(dev, sys, name, &serial)))
}

/// What a link leads to, if that carries the serial number.
fn verified(link: &Path, sys: &Path, serial: &str) -> Option<PathBuf> {
    let found = std::fs::canonicalize(link).ok()?;
    let disk = found.file_name()?.to_str()?;
    (is_block(&found) && serial_of(sys, disk)? == serial).then_some(found)
}

fn serial_of(sys: &Path, disk: &str) -> Option<String> {
    attribute(sys, disk, "serial")
}

fn attribute(sys: &Path, disk: &str, name: &str) -> Option<String> {
    let path = sys.join("block").join(disk).join("device").join(name);
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Looks at every NVMe disk.
fn scan(dev: &Path, sys: &Path, serial: &str) -> Result<Option<PathBuf>> {
    let dir = sys.join("block");
    let entries = match std::fs::read_dir(&dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        entries => entries,
    };
    let failed = |error| DriverError::io(format_args!("list {}", dir.display()), &error);
    for entry in entries.map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(disk) = name.to_str().filter(|disk| disk.starts_with("nvme")) else { continue };
        let ours = attribute(sys, disk, "model").as_deref() == Some(MODEL)
            && serial_of(sys, disk).as_deref() == Some(serial);
        let path = dev.join(disk);
        if ours && is_block(&path) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// By the name that EC2 was asked for; the kernel may say `xvd` where EC2 says `sd`.
fn by_name(dev: &Path, sys: &Path, asked_for: &str, serial: &str) -> Option<PathBuf> {
    let name = asked_for.trim_start_matches("/dev/");
    let renamed = name.strip_prefix("sd").map(|rest| format!("xvd{rest}"));
    [Some(name.to_owned()), renamed].into_iter().flatten().find_map(|name| {
        let found = std::fs::canonicalize(dev.join(name)).ok().filter(|found| is_block(found))?;
        let disk = found.file_name()?.to_str()?;
        // An NVMe disk behind the name must be the right one; an older disk has no serial number to compare.
        let wrong = disk.starts_with("nvme") && serial_of(sys, disk).as_deref() != Some(serial);
        (!wrong).then_some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_cloud_lab::kernel::{Kernel, grow_disk};

    #[test]
    fn the_serial_number_decides() {
        let kernel = Kernel::new().unwrap();
        let (dev, sys) = (kernel.dev(), kernel.sys());
        let disks = tempfile::tempdir().unwrap();
        let disk = |name: &str| {
            let path = disks.path().join(name);
            grow_disk(&path, 1 << 20).unwrap();
            path
        };
        let link = "nvme-Amazon_Elastic_Block_Store_vol0aa";
        let look = |volume, name| find(&dev, &sys, volume, name).unwrap();
        assert_eq!(look("vol-0aa", None), None);
        // The instance store is an NVMe disk too.
        let _store =
            kernel.plug_nvme(&disk("s"), "AWS123", "Amazon EC2 NVMe Instance Storage", None).unwrap();
        let first = kernel.plug_nvme(&disk("a"), "vol0aa", MODEL, Some(link)).unwrap();
        assert_eq!(look("vol-0aa", None).as_deref(), Some(first.node()));
        // Without udev's link, and with a link that leads to another volume by now.
        let second = kernel.plug_nvme(&disk("b"), "vol0bb", MODEL, None).unwrap();
        assert_eq!(look("vol-0bb", None).as_deref(), Some(second.node()));
        std::fs::remove_file(dev.join("disk/by-id").join(link)).unwrap();
        std::os::unix::fs::symlink(second.node(), dev.join("disk/by-id").join(link)).unwrap();
        assert_eq!(look("vol-0aa", None).as_deref(), Some(first.node()));
        // A name that leads to another volume's NVMe disk is not believed; a plain one is all there is.
        std::os::unix::fs::symlink(second.node(), dev.join("xvdba")).unwrap();
        assert_eq!(look("vol-0cc", Some("/dev/xvdba")), None);
        assert_eq!(look("vol-0bb", Some("/dev/xvdba")).as_deref(), Some(second.node()));
        let plain = kernel.plug_named(&disk("c"), "xvdf").unwrap();
        assert_eq!(look("vol-0cc", Some("/dev/sdf")).as_deref(), Some(plain.node()));
        assert_eq!(look("vol-0cc", None), None);
    }
}
