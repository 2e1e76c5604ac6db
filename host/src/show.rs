//! Shows backups as directories, without a daemon: `backup mount` and `backup serve`.
//!
//! - `mount`: the process that a person starts, which keeps root's rights; `mounted`: the one it starts, which
//!   gives them up and reads the store. They talk as `convoy_mount` says ([`convoy_mount::Keeper`]).
//! - `serve`: WebDAV, in one process without rights.
//! - `source`: where the backups are, as the command line and the settings say; `error`: what can go wrong.

mod error;
mod mount;
mod mounted;
mod serve;
mod signals;
mod source;

use convoy_cli::args::{Show, ShowCommand};
use std::process::ExitCode;

/// Runs a command to its end. To be called before any thread is started.
pub fn run(asked: &Show) -> ExitCode {
    let ended = match &asked.command {
        ShowCommand::Mount { directory, allow_other, .. } => match mounted::socket() {
            Some(socket) => mounted::run(asked, socket, *allow_other),
            None => mount::run(directory, *allow_other),
        },
        ShowCommand::Serve { .. } => serve::run(asked),
    };
    ended.unwrap_or_else(|error| convoy_cli::fail(&error.to_string(), error.hint().as_deref()))
}
