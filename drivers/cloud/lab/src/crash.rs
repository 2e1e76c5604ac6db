//! A part of a test in a process of its own, to be killed in the midst of it.

use crate::Result;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long such a part may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Tells the part what to do; not set in an ordinary run.
pub const VARIABLE: &str = "CONVOY_LAB_PART";

/// What this process was started for, if it is such a part.
pub fn part() -> Option<String> {
    std::env::var(VARIABLE).ok()
}

/// The process that is to be killed.
#[derive(Debug, Clone)]
pub struct Part(Arc<Mutex<Option<Child>>>);

impl Part {
    /// None yet: something to hand to a server that is to kill it.
    pub fn prepare() -> Self {
        Self(Arc::default())
    }

    /// Starts this test program anew for the one test of that name, with `part` in the environment.
    pub fn start(&self, test: &str, part: &str, environment: &[(&str, String)]) -> Result<()> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"]);
        command.env(VARIABLE, part).envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Held until it is known: it may be at the point where it is to be killed before this thread goes on.
        let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *child = Some(command.spawn()?);
        Ok(())
    }

    /// Kills it with `kill -9`.
    pub fn kill(&self) {
        if let Some(child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits for its end, which is a success or by [`Part::kill`].
    pub fn wait(&self) -> Result<ExitStatus> {
        let begin = Instant::now();
        while begin.elapsed() < LIMIT {
            let mut child = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(status) = child.as_mut().ok_or("never started")?.try_wait()? {
                return Ok(status);
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        Err("a part of the test took too long".into())
    }
}
