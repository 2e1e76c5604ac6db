//! Why a driver could not be loaded.

use convoy_driver_sdk::{DriverError, ErrorKind, PROTOCOL_VERSION};
use std::path::PathBuf;

/// Why a driver could not be loaded: what was expected, what was found. [`LoadError::hint`] says what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum LoadError {
    #[error("invalid driver {text:?}: {reason}")]
    BadSpec { text: String, reason: String },
    #[error("there is no driver {spec}: looked for {} in {}", wanted.join(" and "), show(searched))]
    NotFound { spec: String, wanted: Vec<String>, searched: Vec<PathBuf> },
    #[error("there is no file {}", path.display())]
    NoFile { path: PathBuf },
    /// A path at which something else is: a project, instead of what was built of it.
    #[error("{} is no file of a driver: it is no regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("cannot start {}: it is not executable", path.display())]
    NotExecutable { path: PathBuf },
    #[error("cannot start {}: the program that runs it is not there", path.display())]
    NoInterpreter { path: PathBuf },
    /// Others could have put it there.
    #[error("refusing to load {}: {reason}", path.display())]
    Untrusted {
        path: PathBuf,
        /// What could have been changed: the driver, or a directory above it.
        culprit: PathBuf,
        reason: String,
    },
    #[error("cannot {action} {}: {reason}", path.display())]
    Start { action: &'static str, path: PathBuf, reason: String },
    #[error("{} is no convoy driver: expected it to export {symbol}", path.display())]
    NotADriver { path: PathBuf, symbol: String },
    #[error("{} does not fit this host: expected {expected}, found {found}", path.display())]
    Abi { path: PathBuf, expected: String, found: String, detail: Option<String> },
    /// A driver that speaks another major version of the protocol, or something else.
    #[error("the driver {} speaks another language: {reason}", path.display())]
    Protocol { path: PathBuf, reason: String },
    #[error("the driver {} did not start: {reason}{}", path.display(), said(output))]
    Hello { path: PathBuf, reason: String, output: Vec<String> },
    #[error("{} is the driver {found}, expected {expected}", path.display())]
    WrongName { path: PathBuf, expected: String, found: String },
    #[error("the driver {what} could not describe itself: {error}")]
    Describe { what: String, error: DriverError },
}

impl LoadError {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::BadSpec { .. } => {
                "write NAME, library:NAME, process:NAME, builtin:NAME or a path".to_owned()
            }
            Self::NotFound { .. } => {
                "install it into one of these directories, or name another with --driver-path".to_owned()
            }
            Self::NoFile { .. } | Self::NotAFile { .. } => {
                "give the file of a driver, convoy-driver-NAME or libconvoy_driver_NAME.so (of a Rust \
                 project, what cargo built in target/), or the NAME of one that is installed: see convoy \
                 driver list"
                    .to_owned()
            }
            Self::NotExecutable { path } => format!("chmod +x {}", path.display()),
            Self::NoInterpreter { .. } => {
                "install what its first line names after #!, or build it for this machine".to_owned()
            }
            Self::Untrusted { culprit, .. } => format!(
                "make it writable by root alone, and every directory above it: chown root {0}; chmod go-w \
                 {0}",
                culprit.display()
            ),
            Self::Start { .. } => {
                "check that the file is made for this machine and all it needs is installed".to_owned()
            }
            Self::NotADriver { .. } => {
                "the file must be named lib<crate>.so, as cargo names it, and its crate must use \
                 convoy_driver_sdk::export!"
                    .to_owned()
            }
            Self::Abi { .. } | Self::Protocol { .. } => format!(
                "rebuild the driver with convoy-driver-sdk {} (driver protocol {PROTOCOL_VERSION}), or \
                 install the release of it for this convoy",
                env!("CARGO_PKG_VERSION")
            ),
            Self::Hello { .. } => {
                "run the file by hand: it says what it is; its own log says more".to_owned()
            }
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
