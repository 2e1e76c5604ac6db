//! From arguments to a running daemon, and to its end.
//!
//! - [`process`]: its environment and memory; [`root`]: the directory, one daemon at a time; [`socket`]: the
//!   sockets, likewise; [`activation`]: those that systemd hands over; [`monitor`]: one for those who watch.
//! - [`drivers`]: opens the drivers; [`serve`]: from there to the end; [`error`]: why there is none.

pub mod activation;
pub mod drivers;
pub mod error;
pub mod monitor;
pub mod process;
pub mod root;
pub mod serve;
pub mod socket;

use crate::config::file::File;
use crate::config::{Layers, Live};
use crate::logging;
use convoy_cli::args::DaemonArgs;
use convoy_cli::settings::values::Values;
use error::DaemonError;
use root::Root;
use std::path::PathBuf;
use std::process::ExitCode;

/// Runs the daemon until it is told to stop.
pub fn run(args: DaemonArgs) -> ExitCode {
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            // After the log, what every failed command prints.
            let told = std::collections::BTreeMap::from([("Error", error.to_string())]);
            if let Ok(text) = convoy_client::gojson::to_string(&told) {
                println!("{text}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start(args: &DaemonArgs) -> Result<(), DaemonError> {
    process::keep_memory_private();
    let file = match File::find(args.config.as_deref()) {
        Ok(file) => file,
        Err(error) => {
            log_as_flags_say(args)?;
            return Err(error.into());
        }
    };
    let layers = Layers { args, file: &file };
    let log_level = match crate::config::log(layers) {
        Ok((level, log, format)) => logging::init(log.as_deref(), &level, &format)?,
        Err(error) => {
            log_as_flags_say(args)?;
            return Err(error.into());
        }
    };
    file.warn();
    let root = Root::open(&crate::config::root(layers))?;
    let config = crate::config::load(root.path(), layers)?;
    process::warn_of_secrets(&config.settings.socket);
    let sockets = socket::open(&config.settings)?;
    let boot_id =
        root::boot_id().map_err(|source| DaemonError::System { what: "read the boot id", source })?;
    raise_open_files();
    let runtime = runtime()?;
    let served = runtime.block_on(serve::serve(serve::Start {
        root: root.path(),
        config: Live::new(config),
        args,
        log_level,
        sockets,
        boot_id: &boot_id,
    }));
    // Whatever could be waited for was: a driver that hangs in a call does not keep the daemon from ending.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // Whoever reads it may start the next daemon.
    drop(root);
    if served.is_ok() {
        tracing::info!("stopped");
    }
    served
}

/// Sets the log up where the file of settings cannot say how.
fn log_as_flags_say(args: &DaemonArgs) -> Result<logging::LogLevel, logging::LogError> {
    let values = Values::defaults().under(&args.values);
    let file = PathBuf::from(values.text("log"));
    let file = Some(file.as_path()).filter(|file| !file.as_os_str().is_empty());
    logging::init(file, "info", &values.text("log-format"))
}

/// A restore keeps a file open as long as parts of it are on their way, which may be thousands; the usual
/// limit of 1024 is there for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const ENOUGH: u64 = 65_536;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(ENOUGH, |most| most.min(ENOUGH));
    if limit.current.is_none_or(|now| now >= wanted) {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit }) {
        tracing::warn!(%error, "the number of open files stays limited");
    }
}

/// Few threads: the daemon's own work is small, and what blocks has threads that come and go.
fn runtime() -> Result<tokio::runtime::Runtime, DaemonError> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.clamp(2, 4))
        // Of each driver in this program that hangs, 64 calls keep a thread: see `convoy_drivers`.
        .max_blocking_threads(1024)
        .thread_name("convoy")
        .enable_all()
        .build()
        .map_err(|source| DaemonError::System { what: "start threads", source })
}
