//! One test's own directory, and the rule that a test leaves nothing behind.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::Flock;

use crate::error::{Context, Error, Result};
use crate::leaks;

/// Set in the environment of every process a lab starts, to the lab's directory: so its processes are found.
pub const MARK: &str = "CONVOY_LAB";

/// Keeps the directories of failed tests when set.
pub const KEEP: &str = "CONVOY_KEEP_LAB";

/// How many lines of each log are shown when a test fails.
const SHOWN: usize = 60;

/// How processes of a lab are started.
#[derive(Debug, Clone)]
pub struct Origin {
    directory: PathBuf,
    apart: bool,
}

impl Origin {
    /// The lab's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Marks a command as one of the lab, and makes the lab its home: convoy gives little of its environment
    /// to drivers that are processes, but that.
    pub fn mark(&self, command: &mut Command) {
        command.env(MARK, &self.directory).env("HOME", &self.directory);
        if self.apart {
            command.process_group(0);
        }
    }
}

/// Temporary files that are to outlive a reboot, says the Filesystem Hierarchy Standard: never a tmpfs.
pub(crate) const ON_DISK: &str = "/var/tmp";

/// A directory with everything of one test below it.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    apart: bool,
    next: Cell<u32>,
    finished: Cell<bool>,
    /// Held as long as the test runs: who sweeps up after tests that were killed sees that it does.
    _lock: Flock<fs::File>,
}

impl Lab {
    /// Runs a test in a lab of its own. The test fails also for a mount, a loop device or a process it
    /// leaves.
    ///
    /// # Errors
    /// What the test fails with; or what it left behind.
    pub fn run(test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        Self::new()?.run_in(test)
    }

    /// The same on a disk: the directory for temporary files may be in memory, which makes nothing durable.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_on_disk(test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        Self::new_in(Path::new(ON_DISK))?.run_in(test)
    }

    fn run_in(self, test: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let lab = self;
        let result = test(&lab);
        if result.is_err() {
            lab.show_logs();
        }
        let left = lab.finish();
        result.and(left)
    }

    /// Makes a lab under the directory for temporary files.
    ///
    /// # Errors
    /// When the directory cannot be made, or the caller is not root.
    pub fn new() -> Result<Self> {
        Self::new_in(&std::env::temp_dir())
    }

    fn new_in(base: &Path) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::Unexpected("mounts and containers need root: run it with sudo".to_owned()));
        }
        let name = format!("{}{}-", leaks::PREFIX, std::process::id());
        let directory = tempfile::Builder::new()
            .prefix(&name)
            // Where everybody gets in, vfs would shelter its directory with a mount that stays.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(base)
            .during(|| format!("cannot make a directory for the test in {}", base.display()))?
            .keep();
        let lock = leaks::lock(&directory)?;
        Ok(Self { directory, apart: false, next: Cell::new(1), finished: Cell::new(false), _lock: lock })
    }

    /// The lab's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A file in the lab that nobody but its owner can read, as keys and credentials have to be.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn secret(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        let private = || -> std::io::Result<()> {
            let mut file =
                fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
            file.write_all(content.as_ref())
        };
        private().during(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// A path in the lab.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Makes a directory in the lab.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).during(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A number that is new with each call.
    pub fn number(&self) -> u32 {
        self.next.replace(self.next.get() + 1)
    }

    /// Makes a lab whose background processes a Ctrl-C in the terminal does not reach: they are ended in
    /// order, by their guards. A test runner that kills a whole process group would miss them: not for tests.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn apart() -> Result<Self> {
        let mut lab = Self::new()?;
        lab.apart = true;
        Ok(lab)
    }

    /// How processes of this lab are started.
    pub fn origin(&self) -> Origin {
        Origin { directory: self.directory.clone(), apart: self.apart }
    }

    /// Ends the lab: clears what is left and says what it was.
    ///
    /// # Errors
    /// [`Error::Unexpected`] with the list of what was left.
    pub fn finish(&self) -> Result<()> {
        self.finished.set(true);
        let left = leaks::clear(&self.directory)?;
        if left.is_empty() {
            Ok(())
        } else {
            Err(Error::Unexpected(format!("left behind: {}", left.join("; "))))
        }
    }

    /// Shows the last lines of every log in the lab.
    pub fn show_logs(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            let start = lines.len().saturating_sub(SHOWN);
            eprintln!("--- {}, last {} of {} lines", path.display(), lines.len() - start, lines.len());
            for line in lines.iter().skip(start) {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.finished.get() {
            // A panic: the assertion has spoken, the rest is to clean up and to help whoever reads.
            self.show_logs();
            let _ = leaks::clear(&self.directory);
        }
    }
}
