//! A mount namespace beside the test's own, as a container has one.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::error::{Context, Result};

/// What a shell does first in a mount namespace that lasts: it lets go of the file systems on loop devices, and of the overlays above
/// them, that are not its own lab's. It would keep the tests waiting that made them.
pub const LEAVE_OTHERS: &str = "grep -e ' /dev/loop' -e '/convoy-lab-' /proc/self/mountinfo | cut -d ' ' -f 5 \
     | grep -v \"^${CONVOY_LAB:-none}/\" | xargs -r umount -l -- || true";

/// A mount namespace with a copy of every mount there was when it was made, until it is dropped.
#[derive(Debug)]
pub struct Namespace(Child);

impl Namespace {
    /// Makes one. What is mounted and unmounted here from now on is not there, nor the reverse.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", "echo; exec sleep 60"]);
        let what = || "cannot make a mount namespace".to_owned();
        let namespace = Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().during(what)?);
        namespace.wait_for_a_word()
    }

    /// Said from within: it is there.
    fn wait_for_a_word(mut self) -> Result<Self> {
        let Some(mut stdout) = self.0.stdout.take() else { return Ok(self) };
        stdout.read_exact(&mut [0]).during(|| "cannot enter a mount namespace".to_owned())?;
        Ok(self)
    }

    /// Where the kernel has it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/mnt", self.0.id()))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
