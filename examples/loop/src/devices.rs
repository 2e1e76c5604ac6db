//! Loop devices: an image as a block device, for as long as it is mounted.

use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::Opened;
use convoy_driver_sdk::{Context, DriverError, Result};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Where the kernel lists them.
const LISTED: &str = "/sys/block";

fn losetup() -> Command {
    Command::new("losetup").package("mount")
}

/// Attaches an image, or finds the device that has it already.
pub(crate) fn attach(image: &Path, context: &Context) -> Result<PathBuf> {
    let output = losetup().args(["--find", "--show", "--nooverlap", "--"]).arg(image).run(context)?;
    let device = PathBuf::from(output.text().trim());
    if device.is_absolute() {
        return Ok(device);
    }
    let text =
        format!("expected losetup to name the device of {}, found {:?}", image.display(), output.text());
    Err(DriverError::internal(text))
}

/// Lets a device go: at once, or as soon as what is mounted from it is unmounted. So nothing has to remember
/// it.
pub(crate) fn release(device: &Path, context: &Context) -> Result<()> {
    losetup().arg("--detach").arg(device).run(context)?;
    Ok(())
}

/// Waits until no device has an image that is not mounted here. Another mount namespace may hold a copy of
/// the mount: with it the kernel goes on with the file system, and overwrites what others do to the image
/// meanwhile.
///
/// # Errors
/// `InUse` if one still has it after a while.
pub(crate) fn wait_until_free(image: &Path, context: &Context) -> Result<()> {
    filesystem::wait_until_grown(image, context)?;
    filesystem::wait_until_free(context, || {
        let listed = losetup().args(["--noheadings", "--output", "NAME", "--associated"]).arg(image);
        let output = listed.run(context)?.text();
        let Some(device) = output.split_whitespace().next() else { return Ok(None) };
        let text = format!(
            "{} is not mounted here, but {device} has it: another mount namespace holds it",
            image.display()
        );
        Ok(Some(DriverError::in_use(text).hint(format!(
            "end what started while it was mounted: `grep -l {device} /proc/[0-9]*/mountinfo` names its \
             processes"
        ))))
    })
}

/// Tells a device that its image has become longer.
pub(crate) fn grow(device: &Path, context: &Context) -> Result<()> {
    losetup().arg("--set-capacity").arg(device).run(context)?;
    Ok(())
}

/// Releases the devices whose images lie in a directory and that nothing is mounted from: left by a crash
/// between attaching and mounting.
pub(crate) fn release_unused(dir: &Path, context: &Context, opened: &mut Opened) -> Result<()> {
    let mounts = MountTable::read()?;
    for (device, image) in attached(dir)? {
        if mounts.of_source(&device).next().is_none() {
            let what = format!("the loop device of {}", image.display());
            match release(&device, context) {
                Ok(()) => opened.recovered.push(format!("released {what}")),
                Err(error) => opened.warnings.push(format!("cannot release {what}: {error}")),
            }
        }
    }
    Ok(())
}

/// The devices whose images lie in a directory, and those images.
fn attached(dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let listed =
        std::fs::read_dir(LISTED).map_err(|error| DriverError::io("list the loop devices", &error))?;
    let mut found = Vec::new();
    for entry in listed.flatten() {
        // Only those that have an image have this file.
        let Ok(text) = std::fs::read(entry.path().join("loop/backing_file")) else { continue };
        let image = Path::new(std::ffi::OsStr::from_bytes(text.trim_ascii_end()));
        if image.starts_with(dir) {
            found.push((Path::new("/dev").join(entry.file_name()), image.to_owned()));
        }
    }
    Ok(found)
}
