//! A process in the background.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::{patience, run};

/// How long a process may take to end when asked to.
const GRACE: Duration = Duration::from_secs(15);

/// A running process whose output goes to a file. Dropping it ends the process: politely, then by force.
#[derive(Debug)]
pub struct Child {
    process: Process,
    what: String,
    log: PathBuf,
}

impl Child {
    /// Starts a command; both its streams are appended to `log`.
    ///
    /// # Errors
    /// When the log cannot be opened or the command not be started.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let what = run::readable(command);
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .during(|| format!("cannot open {}", log.display()))
        };
        let process = command
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?)
            .spawn()
            .during(|| format!("cannot start {what}"))?;
        Ok(Self { process, what, log: log.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the kernel does not know the process.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let what = &self.what;
        self.process.try_wait().during(|| format!("cannot wait for {what}"))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id =
            i32::try_from(self.process.id()).map_err(|_| Error::Unexpected("a strange pid".to_owned()))?;
        kill(Pid::from_raw(id), signal).during(|| format!("cannot send {signal} to {}", self.what))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it does not come.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        patience::until(&format!("the end of {}", self.what), limit, || {
            status = self.ended()?;
            Ok(status.is_some())
        })?;
        status.ok_or_else(|| Error::Unexpected("a process without a status".to_owned()))
    }

    /// Asks the process to end and waits until it has.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        let status = self.wait(GRACE);
        if status.is_err() {
            self.kill()?;
        }
        status
    }

    /// Ends the process as a power cut would.
    ///
    /// # Errors
    /// When the kernel does not know the process.
    pub fn kill(&mut self) -> Result<()> {
        let what = &self.what;
        self.process.kill().during(|| format!("cannot kill {what}"))?;
        self.process.wait().during(|| format!("cannot wait for {what}"))?;
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.stop().is_err() {
            let _ = self.kill();
        }
    }
}
