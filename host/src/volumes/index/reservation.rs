//! A name taken for what is being made.

use super::Index;
use super::names::State;
use crate::volumes::locks::unpoisoned;
use convoy_driver_sdk::Name;
use std::sync::{Arc, RwLock};
use tokio::sync::Notify;

/// Holds a name until dropped; by then what was made stands in the index, or was not made.
#[derive(Debug)]
pub struct Reservation {
    state: Arc<RwLock<State>>,
    released: Arc<Notify>,
    name: Name,
}

impl Reservation {
    pub(super) fn new(index: &Index, name: &Name) -> Self {
        Self { state: Arc::clone(&index.state), released: Arc::clone(&index.released), name: name.clone() }
    }

    /// The name.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        unpoisoned(self.state.write()).release(&self.name);
        self.released.notify_waiters();
    }
}
