//! A file system of a test's own, on a loop device.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context, Result};
use crate::{Lab, patience, run};

/// How long the kernel is given to let go of a file system that nobody uses any more.
const SETTLE: Duration = Duration::from_secs(5);

/// A file system that is mounted in the lab until this is dropped.
#[derive(Debug)]
pub struct Storage {
    mountpoint: PathBuf,
}

impl Storage {
    /// Makes and mounts a file system of so many bytes. Its image is sparse.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn new(lab: &Lab, kind: &str, size: u64, options: &str) -> Result<Self> {
        let number = lab.number();
        let image = lab.path(&format!("{kind}-{number}.image"));
        File::create(&image)
            .and_then(|file| file.set_len(size))
            .during(|| format!("cannot make {}", image.display()))?;
        run::capture(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image))?.ok()?;
        let mountpoint = lab.make(&format!("{kind}-{number}"))?;
        let options = if options.is_empty() { "loop".to_owned() } else { format!("loop,{options}") };
        run::capture(Command::new("mount").args(["-o", &options]).arg(&image).arg(&mountpoint))?.ok()?;
        Ok(Self { mountpoint })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // What is mounted from files in it comes first; the kernel lets go of their loop devices a moment
        // after that. The lab says what is left in the end.
        let _ = patience::until("the end of a file system", SETTLE, || {
            Ok(run::capture(Command::new("umount").arg(&self.mountpoint))?.success())
        });
    }
}
