//! A mount namespace beside the test's own, as a container has one.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::error::{Context, Result};
use crate::lab::MARK;
use crate::leaks::PREFIX;

/// The words by which a shell runs a script in a mount namespace of its own; what follows them is its `$0`,
/// `$1` and so on.
///
/// First it lets go of the file systems on loop devices, and of the overlays above them, that are not its own
/// lab's: a namespace that lasts would keep the tests waiting that made them.
pub fn apart(script: &str) -> Vec<String> {
    let script = format!(
        "grep -e ' /dev/loop' -e '/{PREFIX}' /proc/self/mountinfo | cut -d ' ' -f 5 \
         | grep -v \"^${{{MARK}:-none}}/\" | xargs -r umount -l -- || true; {script}"
    );
    ["unshare", "--mount", "--propagation", "private", "--", "sh", "-ec", &script].map(str::to_owned).to_vec()
}

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
