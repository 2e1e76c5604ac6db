//! The process of `backup mount` that reads the store and answers the kernel. It has given up root's rights.

use super::error::ShowError;
use super::signals::Signals;
use super::source::Source;
use convoy_cli::args::{Show, ShowCommand};
use convoy_mount::{Kept, give_up_rights, serve_view};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Says that standard input is the socket of who mounts.
pub(super) const VARIABLE: &str = "CONVOY_MOUNT_KEEPER";

/// How long programs that still use the mount are waited for in the end.
const PATIENCE: Duration = Duration::from_secs(1);

/// The socket of who mounts, if there is somebody.
pub(super) fn socket() -> Option<OwnedFd> {
    std::env::var_os(VARIABLE)?;
    std::io::stdin().as_fd().try_clone_to_owned().ok()
}

/// Shows the backups until they are unmounted or a signal comes.
pub(super) fn run(asked: &Show, socket: OwnedFd, everybody: bool) -> Result<ExitCode, ShowError> {
    // Nobody mounts or unmounts any more when that process is gone.
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| ShowError::system("follow who mounts")(error.into()))?;
    give_up_rights().map_err(ShowError::system("give up the rights of root"))?;
    crate::logging::init_for_command();
    let kept = Arc::new(Kept::new(socket));
    let source = Source::open(asked, Some(Arc::clone(&kept)))?;
    let ended = show(asked, &source, &kept, everybody);
    source.close();
    ended
}

fn show(asked: &Show, source: &Source, kept: &Kept, everybody: bool) -> Result<ExitCode, ShowError> {
    let served = {
        let fuse = kept.mount()?;
        serve_view(Arc::clone(&source.view), fuse, everybody).map_err(ShowError::system("serve the mount"))?
    };
    if let ShowCommand::Mount { directory, .. } = &asked.command {
        // Whoever started this and reads no more is no reason to end.
        let _ = convoy_cli::say_line(&format!("Mounted at {}", directory.display()));
    }
    let in_use = served.in_use();
    let (unmounted, mut waits) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || unmounted.send(served.wait()));
    source.runtime().block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            _ = &mut waits => {}
            () = signals.wait() => {
                source.stop();
                if tokio::time::timeout(PATIENCE, waits).await.is_err() {
                    in_use.close();
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}
