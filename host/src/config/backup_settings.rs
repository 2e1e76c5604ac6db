//! The settings of backups, together.

use super::destinations::Destinations;
use super::excludes::Excludes;

/// What holds for all backups.
#[derive(Debug, Clone, Default)]
pub struct BackupSettings {
    /// Bytes of memory that all backups and restores together may use; `None`: the engine's own bound.
    pub memory: Option<u64>,
    /// Settings of destinations.
    pub destinations: Destinations,
    /// What is left out, by volume.
    pub excludes: Excludes,
}
