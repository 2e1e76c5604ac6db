//! Why a driver could not be loaded.

use convoy_driver_sdk::{DriverError, ErrorKind, PROTOCOL_VERSION};
use std::path::PathBuf;

/// Why a driver could not be loaded: what was expected, what was found. [`LoadError::hint`] says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The text names no driver.
    #[error("invalid driver {text:?}: {reason}")]
    BadSpec {
        /// The text, as it was given.
        text: String,
        /// What was expected instead.
        reason: String,
    },
    /// No such driver is installed.
    #[error("there is no driver {spec}: looked for {} in {}", wanted.join(" and "), show(searched))]
    NotFound {
        /// The driver, as it was asked for.
        spec: String,
        /// The names of the files that would do.
        wanted: Vec<String>,
        /// The directories that were searched.
        searched: Vec<PathBuf>,
    },
    /// A path at which nothing is.
    #[error("there is no file {}", path.display())]
    NoFile {
        /// The path, as it was given.
        path: PathBuf,
    },
    /// A path at which something else is: a project, instead of what was built of it.
    #[error("{} is no file of a driver: it is no regular file", path.display())]
    NotAFile {
        /// The path, as it was given.
        path: PathBuf,
    },
    /// A program that may not be run.
    #[error("cannot start {}: it is not executable", path.display())]
    NotExecutable {
        /// The program of the driver.
        path: PathBuf,
    },
    /// A program that is there, but what runs it is not.
    #[error("cannot start {}: the program that runs it is not there", path.display())]
    NoInterpreter {
        /// The program of the driver.
        path: PathBuf,
    },
    /// Others could have put it there.
    #[error("refusing to load {}: {reason}", path.display())]
    Untrusted {
        /// The file of the driver.
        path: PathBuf,
        /// What could have been changed: the driver, or a directory above it.
        culprit: PathBuf,
        /// Who could have changed which file.
        reason: String,
    },
    /// The operating system could not load or start it.
    #[error("cannot {action} {}: {reason}", path.display())]
    Start {
        /// What was tried: `load` or `start`.
        action: &'static str,
        /// The file of the driver.
        path: PathBuf,
        /// What the system answered.
        reason: String,
    },
    /// A library of another kind.
    #[error("{} is no convoy driver: expected it to export {symbol}", path.display())]
    NotADriver {
        /// The library of the driver.
        path: PathBuf,
        /// What every driver exports.
        symbol: String,
    },
    /// A library whose ABI is not this host's.
    #[error("{} does not fit this host: expected {expected}, found {found}", path.display())]
    Abi {
        /// The library of the driver.
        path: PathBuf,
        /// What this host needs.
        expected: String,
        /// The ABI that the library was made for.
        found: String,
        /// The first of the differences, for the driver's author.
        detail: Option<String>,
    },
    /// A driver that speaks another major version of the protocol, or something else.
    #[error("the driver {} speaks another language: {reason}", path.display())]
    Protocol {
        /// The file of the driver.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A process that did not say hello.
    #[error("the driver {} did not start: {reason}{}", path.display(), said(output))]
    Hello {
        /// The program of the driver.
        path: PathBuf,
        /// It ended, was silent, or said something else.
        reason: String,
        /// The last lines it wrote.
        output: Vec<String>,
    },
    /// It is somebody else.
    #[error("{} is the driver {found}, expected {expected}", path.display())]
    WrongName {
        /// The file of the driver.
        path: PathBuf,
        /// By the name of its file, or by the spec.
        expected: String,
        /// What it calls itself.
        found: String,
    },
    /// It could not say what it is.
    #[error("the driver {what} could not describe itself: {error}")]
    Describe {
        /// The call that failed.
        what: String,
        /// The error that the driver answered.
        error: DriverError,
    },
}

impl LoadError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::BadSpec { .. } => "write NAME, library:NAME, process:NAME, builtin:NAME or a path".to_owned(),
            Self::NotFound { .. } => "install it into one of these directories, or name another with --driver-path".to_owned(),
            Self::NoFile { .. } | Self::NotAFile { .. } => {
                "give the file of a driver, convoy-driver-NAME or libconvoy_driver_NAME.so (of a Rust project, what cargo built in target/), or the NAME of one that is installed: see convoy driver list".to_owned()
            }
            Self::NotExecutable { path } => format!("chmod +x {}", path.display()),
            Self::NoInterpreter { .. } => {
                "install what its first line names after #!, or build it for this machine".to_owned()
            }
            Self::Untrusted { culprit, .. } => format!(
                "make it writable by root alone, and every directory above it: chown root {0}; chmod go-w {0}",
                culprit.display()
            ),
            Self::Start { .. } => "check that the file is made for this machine and all it needs is installed".to_owned(),
            Self::NotADriver { .. } => {
                "the file must be named lib<crate>.so, as cargo names it, and its crate must use convoy_driver_sdk::export!".to_owned()
            }
            Self::Abi { .. } | Self::Protocol { .. } => format!(
                "rebuild the driver with convoy-driver-sdk {} (driver protocol {PROTOCOL_VERSION}), or install the release of it for this convoy",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Hello { .. } => "run the file by hand: it says what it is; its own log says more".to_owned(),
            Self::WrongName { found, .. } => format!("name the file after the driver, or ask for {found}"),
            Self::Describe { .. } => "this is a defect of the driver: report it to its author".to_owned(),
        }
    }
}

impl From<LoadError> for DriverError {
    fn from(error: LoadError) -> Self {
        let kind = match error {
            LoadError::BadSpec { .. } => ErrorKind::InvalidArgument,
            LoadError::NotFound { .. } | LoadError::NoFile { .. } => ErrorKind::NotFound,
            LoadError::Untrusted { .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).retryable(false).hint(error.hint())
    }
}

fn show(dirs: &[PathBuf]) -> String {
    let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() { "no directory".to_owned() } else { dirs.join(", ") }
}

fn said(output: &[String]) -> String {
    if output.is_empty() { String::new() } else { format!("; it wrote: {}", output.join(" | ")) }
}
