//! The process of `backup mount` that a person starts. It mounts and unmounts, and reads nothing of the store.

use super::error::ShowError;
use super::mounted::VARIABLE;
use super::signals::Signals;
use convoy_mount::{Attached, Keeper, Mountpoint, pair};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long the other process may take to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Mounts, and stays until it is unmounted or a signal comes.
pub(super) fn run(directory: &Path, everybody: bool) -> Result<ExitCode, ShowError> {
    let mountpoint = Mountpoint::open(directory)?;
    let (ours, theirs) = pair().map_err(ShowError::system("make a pair of sockets"))?;
    let attached = Arc::new(Mutex::new(None));
    let keeper = Keeper::new(ours, mountpoint, everybody, Arc::clone(&attached));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ShowError::system("start"))?;
    let status = runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut child = {
            // The same program with the same arguments; its end of the socket closes with this command.
            let mut command = Command::new("/proc/self/exe");
            let mut words = std::env::args_os();
            if let Some(name) = words.next() {
                command.arg0(name);
            }
            command.args(words).env(VARIABLE, "stdin").stdin(theirs).kill_on_drop(true);
            command.spawn().map_err(ShowError::system("start the process that reads the backups"))?
        };
        // Waits for requests as long as that process is there, and ends with this one.
        std::thread::spawn(move || keeper.run());
        tokio::select! {
            status = child.wait() => {
                detach(&attached)?;
                status.map_err(ShowError::system("wait for the process that reads the backups"))
            }
            () = signals.wait() => {
                // Nobody gets in any more, whatever the other process waits for.
                let detached = detach(&attached);
                let status = stop(&mut child).await;
                detached.and(status)
            }
        }
    })?;
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    match (status.code(), signal) {
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(1))),
        // Ctrl-C is for both processes, and the other may not listen yet.
        (None, Some(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP)) => Ok(ExitCode::SUCCESS),
        (None, signal) => Err(ShowError::Killed(signal.map_or("a signal", Signal::as_str).to_owned())),
    }
}

fn detach(attached: &Mutex<Option<Attached>>) -> Result<(), ShowError> {
    match attached.lock().take() {
        Some(attached) => attached.detach().map_err(ShowError::system("unmount")),
        None => Ok(()),
    }
}

/// Tells the other process to end, and ends it if it does not.
async fn stop(child: &mut Child) -> Result<ExitStatus, ShowError> {
    if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
        // It may have ended already.
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    }
    let ended = match tokio::time::timeout(PATIENCE, child.wait()).await {
        Ok(ended) => ended,
        Err(_) => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    ended.map_err(ShowError::system("wait for the process that reads the backups"))
}
