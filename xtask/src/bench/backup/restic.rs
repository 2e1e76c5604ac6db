//! restic, with a repository in a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::{Lab, Result, tree};

use super::time;
use crate::bench::settle;

pub(super) struct Restic {
    repository: PathBuf,
    cache: PathBuf,
}

impl Restic {
    pub(super) fn new(lab: &Lab, name: &str) -> Result<Self> {
        let repository = lab.path(&format!("{name}-repository"));
        let cache = lab.make("restic-cache")?;
        let restic = Self { repository, cache };
        restic.run(&["init"])?;
        Ok(restic)
    }

    fn run(&self, words: &[&str]) -> Result<f64> {
        let mut command = Command::new("restic");
        command.arg("--repo").arg(&self.repository).arg("--quiet").args(words);
        command.env("RESTIC_PASSWORD", "measured").env("RESTIC_CACHE_DIR", &self.cache);
        Ok(time(&mut command)?.0)
    }

    fn timed(&self, words: &[&str]) -> Result<f64> {
        settle();
        self.run(words)
    }

    /// Backs a directory up. Gives the seconds.
    pub(super) fn back_up(&self, directory: &Path) -> Result<f64> {
        self.timed(&["backup", &directory.display().to_string()])
    }

    /// Restores the last backup. Gives the seconds.
    pub(super) fn restore(&self, target: &Path) -> Result<f64> {
        self.timed(&["restore", "latest", "--target", &target.display().to_string()])
    }

    pub(super) fn size(&self) -> Result<u64> {
        tree::allocated(&self.repository)
    }
}
