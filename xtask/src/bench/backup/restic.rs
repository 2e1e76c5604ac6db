//! restic, with a repository in a directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::{Error, Lab, Result, tree};

use super::time;
use crate::bench::settle;

pub(in crate::bench) struct Restic {
    repository: PathBuf,
    cache: PathBuf,
}

impl Restic {
    pub(in crate::bench) fn new(lab: &Lab, name: &str) -> Result<Self> {
        let repository = lab.path(&format!("{name}-repository"));
        let cache = lab.make("restic-cache")?;
        let restic = Self { repository, cache };
        restic.run(&["init"])?;
        Ok(restic)
    }

    /// A command on the repository.
    pub(in crate::bench) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.arg("--repo").arg(&self.repository).arg("--quiet").args(words);
        command.env("RESTIC_PASSWORD", "measured").env("RESTIC_CACHE_DIR", &self.cache);
        command
    }

    /// The ids of what was backed up, the oldest first.
    pub(in crate::bench) fn snapshots(&self) -> Result<Vec<String>> {
        let (_, text) = time(&mut self.command(&["snapshots", "--json"]))?;
        let told: serde_json::Value = serde_json::from_str(&text)
            .map_err(|error| Error::Unexpected(format!("restic: {error}: {text}")))?;
        let ids = told.as_array().into_iter().flatten().filter_map(|one| one["id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    fn run(&self, words: &[&str]) -> Result<f64> {
        Ok(time(&mut self.command(words))?.0)
    }

    fn timed(&self, words: &[&str]) -> Result<f64> {
        settle();
        self.run(words)
    }

    /// Backs a directory up. Gives the seconds.
    pub(in crate::bench) fn back_up(&self, directory: &Path) -> Result<f64> {
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
