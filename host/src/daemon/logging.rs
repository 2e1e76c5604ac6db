//! Where the log goes.

use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// A log that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}: {source}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: std::io::Error,
}

/// Sets the log up, to standard output or to the end of a file. `CONVOY_LOG_FILTER` refines what is logged.
///
/// # Errors
/// [`LogError`].
pub fn init(file: Option<&Path>, debug: bool) -> Result<(), LogError> {
    let level = if debug { "debug" } else { "info" };
    // What the HTTP layers say of themselves is of use to nobody.
    let plain =
        format!("{level},hyper=info,hyper_util=info,axum=info,tower=info,h2=info,rustls=info,aws=info");
    let chosen = std::env::var("CONVOY_LOG_FILTER").unwrap_or(plain);
    // Whatever is chosen: these would log whole messages to and from drivers, secrets included.
    let filter = format!("{chosen},jsonrpsee-client=off,jsonrpsee_core=off");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_span_events(FmtSpan::NONE)
        .with_target(false);
    match file {
        Some(path) => {
            let failed = |source| LogError { path: path.to_owned(), source };
            let file = File::options().create(true).append(true).open(path).map_err(failed)?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None => builder.with_ansi(std::io::stdout().is_terminal()).with_writer(std::io::stdout).init(),
    }
    Ok(())
}
