//! Writes the log: to standard output or a file, as text, as JSON, or as journald files it.

mod journal;

use convoy_drivers::is_indiscreet;
use journal::Journal;
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing::Level;
use tracing_subscriber::filter::{FilterFn, filter_fn};
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// A log that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the log file {}: {source}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: std::io::Error,
}

/// Changes how much is logged while the daemon runs.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Logs what has this level from now on.
    pub fn set(&self, level: &str) {
        if let Err(error) = self.0.reload(filter(level)) {
            tracing::error!(%error, "cannot change the log's level");
        }
    }
}

/// What is logged at a level. `CONVOY_LOG_FILTER` refines it.
fn filter(level: &str) -> EnvFilter {
    // What the HTTP layers say of themselves is of use to nobody.
    let plain = format!("{level},hyper=info,hyper_util=info,axum=info,tower=info,h2=info,rustls=info");
    let chosen = std::env::var("CONVOY_LOG_FILTER").unwrap_or(plain);
    // Whatever is chosen: these would log whole messages to and from drivers, secrets included.
    EnvFilter::new(format!("{chosen},jsonrpsee-client=off,jsonrpsee_core=off"))
}

/// Sets the log up, to standard output or to the end of a file. With the form `auto` it is that of journald
/// where standard output is journald's.
pub fn init(file: Option<&Path>, level: &str, format: &str) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let output = match file {
        Some(path) => {
            let failed = |source| LogError { path: path.to_owned(), source };
            let file = File::options().create(true).append(true).open(path).map_err(failed)?;
            BoxMakeWriter::new(Mutex::new(file))
        }
        None => BoxMakeWriter::new(std::io::stdout),
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::NONE)
        .with_target(false)
        .with_ansi(file.is_none() && std::io::stdout().is_terminal())
        .with_writer(output);
    let under_journald = file.is_none() && journal::is_standard_output();
    let lines = match format {
        "json" => lines.json().flatten_event(true).boxed(),
        "journal" => lines.with_ansi(false).event_format(Journal).boxed(),
        "auto" if under_journald => lines.with_ansi(false).event_format(Journal).boxed(),
        _ => lines.boxed(),
    };
    let lines = lines.with_filter(discreet());
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(LogLevel(handle))
}

/// Sets the log up for a command that is no daemon: lines on standard error, from warnings on.
pub fn init_for_command() {
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(discreet());
    tracing_subscriber::registry().with(filter("warn")).with(lines).init();
}

/// What may be logged. No choice of targets or levels comes past this.
fn discreet() -> FilterFn {
    filter_fn(|event| *event.level() <= Level::WARN || !is_indiscreet(event.target()))
}
