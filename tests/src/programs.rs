//! Where the programs under test are.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::error::{Context, Error, Result};

/// The directory with the programs to test; without it they are looked for where cargo puts them.
pub const DIRECTORY: &str = "CONVOY_BIN_DIR";

static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Uses the programs in a directory from now on. The first call counts.
pub fn choose(directory: PathBuf) {
    let _ = CHOSEN.set(directory);
}

/// The directory that holds `convoy` and its drivers.
///
/// # Errors
/// When they have not been built.
pub fn directory() -> Result<PathBuf> {
    let given = CHOSEN.get().cloned().or_else(|| std::env::var_os(DIRECTORY).map(PathBuf::from));
    let found = match given {
        Some(directory) => directory,
        None => beside_this_program()?,
    };
    if found.join("convoy").is_file() {
        return Ok(found);
    }
    Err(Error::Unexpected(format!(
        "no program {}: build it (`cargo xtask test` does), or say in {DIRECTORY} where it is",
        found.join("convoy").display()
    )))
}

/// The `convoy` program.
///
/// # Errors
/// When it has not been built.
pub fn convoy() -> Result<PathBuf> {
    Ok(directory()?.join("convoy"))
}

/// The directory cargo puts programs into: that of this one, or the one above `deps`.
fn beside_this_program() -> Result<PathBuf> {
    let mut directory = std::env::current_exe().during(|| "cannot find this program".to_owned())?;
    directory.pop();
    if directory.ends_with("deps") {
        directory.pop();
    }
    Ok(directory)
}
