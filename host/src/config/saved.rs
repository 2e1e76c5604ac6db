//! The settings that are kept for the next start, in the form of convoy 0.5.

use super::error::ConfigError;
use convoy_client::types::General;
use convoy_driver_sdk::atomic;
use std::path::Path;

/// The name of the file of saved settings, in the daemon's root.
pub const FILE: &str = "convoy.cfg";

/// Saves settings, durably.
pub fn save(root: &Path, general: &General) -> Result<(), ConfigError> {
    let path = root.join(FILE);
    let mut text = serde_json::to_vec(general)
        .map_err(|error| ConfigError::Unreadable { path: path.clone(), error: error.to_string() })?;
    text.push(b'\n');
    if std::fs::read(&path).is_ok_and(|saved| saved == text) {
        return Ok(());
    }
    atomic::write_atomic(&path, &text, 0o644).map_err(|source| ConfigError::Unwritable { path, source })
}

/// Reads what is kept; `None` if nothing is.
pub(super) fn read(path: &Path) -> Result<Option<General>, ConfigError> {
    let unreadable = |error: String| ConfigError::Unreadable { path: path.to_owned(), error };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            // An object and nothing else: serde would take an array for one.
            .and_then(|fields: serde_json::Map<_, _>| serde_json::from_value(fields.into()))
            .map(Some)
            .map_err(|error| unreadable(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(error.to_string())),
    }
}
