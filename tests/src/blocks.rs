//! A daemon with block volumes and, as its second driver, directories; and a destination for the backups of
//! both.

use std::path::{Path, PathBuf};

use crate::{Carrier, Convoy, Lab, Result, Setup, Storage, tree};

/// The daemon, the destination, and what is asked of them again and again.
#[derive(Debug)]
pub struct Blocks {
    /// The daemon. Its default driver is `loop`, as a process; the other one is `vfs`.
    pub convoy: Convoy,
    /// The URL of the destination.
    pub destination: String,
    store: PathBuf,
}

impl Blocks {
    /// Starts the daemon, with the images of its volumes on a storage that can share blocks.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(lab: &Lab, storage: &Storage) -> Result<Self> {
        let store = lab.make("store")?;
        let destination = format!("vfs://{}/", store.display());
        let mut setup = Setup::vfs(lab, Carrier::Builtin);
        let images = format!("loop.path={}", storage.path().display());
        setup.flags.splice(0..0, ["--drivers", "process:loop", "--driver-opts", &images].map(str::to_owned));
        Ok(Self { convoy: setup.start()?, destination, store })
    }

    /// Mounts a volume; where.
    ///
    /// # Errors
    /// When convoy refuses.
    pub fn mount(&self, volume: &str) -> Result<PathBuf> {
        Ok(self.convoy.ok(&["mount", volume])?.into())
    }

    /// What is in a volume, as `describe` tells it.
    ///
    /// # Errors
    /// When convoy refuses, and those of `describe`.
    pub fn describe(&self, volume: &str, describe: fn(&Path) -> Result<String>) -> Result<String> {
        let text = describe(&self.mount(volume)?)?;
        self.convoy.ok(&["umount", volume])?;
        Ok(text)
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// When convoy refuses.
    pub fn snapshot(&self, volume: &str, snapshot: &str) -> Result<()> {
        self.convoy.ok(&["snapshot", "create", volume, "--name", snapshot]).map(drop)
    }

    /// The words that back a snapshot up.
    pub fn backing_up<'a>(&'a self, snapshot: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&["backup", "create", snapshot, "--dest", &self.destination], more].concat()
    }

    /// Backs a snapshot up; the URL of the backup.
    ///
    /// # Errors
    /// When convoy refuses.
    pub fn back_up(&self, snapshot: &str, more: &[&str]) -> Result<String> {
        Ok(self.convoy.ok(&self.backing_up(snapshot, more))?.replace("\\u0026", "&"))
    }

    /// How many bytes the destination takes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn stored(&self) -> Result<u64> {
        tree::allocated(&self.store)
    }
}
