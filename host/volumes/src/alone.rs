//! Whoever has a volume for itself.

use convoy_driver_sdk::Name;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What others may do with a volume that is being restored into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Mount it.
    Mount,
    /// Nothing.
    StayOut,
}

/// Keeps others out of a volume until it is dropped.
#[derive(Debug)]
pub struct Alone {
    volume: Name,
    all: Arc<Mutex<HashMap<Name, Others>>>,
}

impl Alone {
    /// Takes a volume; `None` if somebody has it.
    pub(crate) fn take(
        all: &Arc<Mutex<HashMap<Name, Others>>>,
        volume: &Name,
        others: Others,
    ) -> Option<Self> {
        let mut taken = all.lock();
        if taken.contains_key(volume) {
            return None;
        }
        taken.insert(volume.clone(), others);
        Some(Self { volume: volume.clone(), all: Arc::clone(all) })
    }

    pub(crate) fn volume(&self) -> &Name {
        &self.volume
    }

    pub(crate) fn is_of(&self, volume: &Name) -> bool {
        self.volume == *volume
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.all.lock().remove(&self.volume);
    }
}
