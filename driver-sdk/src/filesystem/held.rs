//! What the kernel still holds after an unmount.
//!
//! Who starts while a file system is mounted has a copy of the mount in a mount namespace of its own: a
//! container for a moment, others for as long as they run. Until the last copy is gone the kernel goes on
//! with the file system, and writes what it remembers of it.

use crate::{Context, DriverError, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long is waited for it, and how often it is looked at.
const LET_GO: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(20);

/// Waits until nothing is held: until `held` gives no error that says what is.
///
/// # Errors
/// That error after five seconds, or half of the call's time: the rest is for what is to be done then.
pub fn wait_until_free(
    context: &Context,
    mut held: impl FnMut() -> Result<Option<DriverError>>,
) -> Result<()> {
    let limit = context.remaining().map_or(LET_GO, |left| LET_GO.min(left / 2));
    let begun = Instant::now();
    while let Some(error) = held()? {
        context.check()?;
        if begun.elapsed() >= limit {
            return Err(error);
        }
        std::thread::sleep(AGAIN);
    }
    Ok(())
}

/// Waits until a block device is used by nobody: mounted in no namespace, no part of another device, no swap.
///
/// # Errors
/// `InUse` if it is, as [`wait_until_free`]; when it cannot be opened. What is gone is used by nobody.
pub fn wait_until_unused(device: &Path, context: &Context) -> Result<()> {
    // Of a block device the kernel gives one exclusive user, and a mount is one: open(2), O_EXCL without
    // O_CREAT.
    let exclusive = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    wait_until_free(context, || match rustix::fs::open(device, exclusive, Mode::empty()) {
        Ok(_) => Ok(None),
        // It is gone, or what it was is.
        Err(Errno::NOENT | Errno::NXIO | Errno::NODEV | Errno::NOMEDIUM) => Ok(None),
        Err(Errno::BUSY) => Ok(Some(in_use(device))),
        Err(error) => Err(DriverError::io(format_args!("open {}", device.display()), &error.into())),
    })
}

fn in_use(device: &Path) -> DriverError {
    let text = format!(
        "{} is in use: mounted, be it in another mount namespace, or a part of another device",
        device.display()
    );
    let name = device.canonicalize().unwrap_or_else(|_| device.to_owned());
    DriverError::in_use(text).hint(format!(
        "end what uses it: `grep -l {0} /proc/[0-9]*/mountinfo` names the processes that have it mounted, \
         `lsblk {0}` what is made of it",
        name.display()
    ))
}
