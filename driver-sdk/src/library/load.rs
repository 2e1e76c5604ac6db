//! The host's side of the boundary: from what a library exports to the functions of its driver.

use super::abi::DriverModuleRef;
use abi_stable::library::{AbiHeader, AbiHeaderRef, LibHeader, LibraryError};

/// Why the functions of a library cannot be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModuleError {
    /// It was made for another ABI.
    Abi {
        /// Which one it was made for.
        found: String,
        /// The first lines of the comparison of the layouts, where it came to that.
        detail: Option<String>,
    },
    /// It could not give its functions, for this reason.
    Refused(String),
}

/// Checks what a library exports, and gives the functions of its driver.
pub fn module(exported: AbiHeaderRef) -> Result<DriverModuleRef, ModuleError> {
    let header = exported.upgrade().map_err(|error| explain(None, &error))?;
    header.init_root_module::<DriverModuleRef>().map_err(|error| explain(Some(header), &error))
}

/// From the texts of `abi_stable`, which are for authors of libraries, to what a user can act on.
fn explain(header: Option<&'static LibHeader>, error: &LibraryError) -> ModuleError {
    let version = header.map(|header| header.version_strings().version.as_str()).unwrap_or_default();
    let (found, detail) = match error {
        LibraryError::InvalidAbiHeader(AbiHeader { abi_major, abi_minor, .. }) => {
            (format!("a library made with abi_stable {abi_major}.{abi_minor}"), None)
        }
        LibraryError::IncompatibleVersionNumber { actual_version, .. } => {
            (format!("library ABI {actual_version}"), None)
        }
        LibraryError::AbiInstability(_) => {
            let detail = first_difference(&error.to_string());
            (format!("library ABI {version} with another layout"), Some(detail))
        }
        LibraryError::InvalidCAbi { .. } => ("a compiler with another C ABI".to_owned(), None),
        other => {
            let text = other.to_string();
            return ModuleError::Refused(text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    };
    ModuleError::Abi { found, detail }
}

/// The comparison runs to hundreds of lines; the lines of the first error are enough.
fn first_difference(text: &str) -> String {
    const LINES: usize = 12;
    let from = text.find("error").unwrap_or_default();
    let lines = text.get(from..).unwrap_or(text).lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take(LINES).collect::<Vec<_>>().join("; ")
}
