//! One volume as the service knows it.

use crate::driver::ManagedDriver;
use convoy_driver_sdk::protocol::{Capability, Volume};
use std::sync::Arc;

/// A volume and the driver that keeps it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The driver that keeps it.
    pub driver: Arc<ManagedDriver>,
    /// What the driver said of it last.
    pub volume: Arc<Volume>,
    /// The moment of the last change, counted in changes of the index.
    pub(crate) changed: u64,
}

/// Says whether the size of a volume is enforced, in what its driver tells of it: `true` or `false`.
pub const SIZE_ENFORCED: &str = "SizeEnforced";

/// Says why it is not, and what to do.
pub const SIZE_NOT_ENFORCED: &str = "SizeNotEnforced";

impl Entry {
    /// Whether Docker's engine has this volume itself: then it is not told of it.
    pub fn is_known_to_docker(&self) -> bool {
        self.driver.can(Capability::KnownToDocker)
    }

    /// Tells whoever asked for this size that nothing enforces it, if so.
    pub fn unenforced_size(&self, size: u64) -> Option<String> {
        let (volume, driver) = (&self.volume, self.driver.name());
        let why = match volume.info.get(SIZE_ENFORCED).map(String::as_str) {
            Some("false") => volume.info.get(SIZE_NOT_ENFORCED).cloned().unwrap_or_default(),
            None if volume.size < size => format!("driver {driver} gives volumes no size"),
            _ => return None,
        };
        Some(format!("the size of volume {} is not enforced: {why}", volume.name))
    }
}
