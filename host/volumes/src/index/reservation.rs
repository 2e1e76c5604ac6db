//! A name taken for what is being made.

use super::names::State;
use convoy_driver_sdk::Name;
use parking_lot::RwLock;
use std::sync::Arc;
use tokio::sync::Notify;

/// Holds a name until dropped; by then what was made stands in the index, or was not made.
#[derive(Debug)]
pub struct Reservation {
    state: Arc<RwLock<State>>,
    released: Arc<Notify>,
    name: Name,
}

impl Reservation {
    pub(super) fn new(state: Arc<RwLock<State>>, released: Arc<Notify>, name: &Name) -> Self {
        Self { state, released, name: name.clone() }
    }

    /// Gives the name that is held.
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.state.write().release(&self.name);
        self.released.notify_waiters();
    }
}
