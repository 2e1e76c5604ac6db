//! What convoy 0.5 did with a volume of its vfs driver: the same programs with the same arguments, by hand.
//!
//! Its own work around them is left out, and so it is shown as a little faster than it was. It synced
//! nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::{Lab, Result};

use super::time;
use crate::bench::settle;

pub(super) struct Old {
    /// The archive that is a snapshot: 0.5 had these in its root.
    snapshot: PathBuf,
    backup: PathBuf,
}

impl Old {
    pub(super) fn new(lab: &Lab, name: &str) -> Result<Self> {
        let dir = lab.make(&format!("{name}-old"))?;
        Ok(Self { snapshot: dir.join("snapshot.tar"), backup: dir.join("backup.bak") })
    }

    /// Takes a snapshot of a directory and backs it up. Gives the seconds of both together.
    pub(super) fn back_up(&self, directory: &Path) -> Result<f64> {
        let archive = self.snapshot.with_extension("tar.gz");
        let _ = fs::remove_file(&archive);
        settle();
        let packed =
            time(Command::new("tar").arg("cf").arg(&self.snapshot).arg("-C").arg(directory).arg("."))?.0;
        let compressed = time(Command::new("gzip").arg(&self.snapshot))?.0;
        let copied = time(Command::new("cp").arg(archive).arg(&self.backup))?.0;
        Ok(packed + compressed + copied)
    }

    /// Restores the last backup. Gives the seconds.
    pub(super) fn restore(&self, target: &Path) -> Result<f64> {
        fs::create_dir(target).during(|| format!("make {}", target.display()))?;
        settle();
        Ok(time(Command::new("tar").arg("xf").arg(&self.backup).arg("-C").arg(target))?.0)
    }
}
