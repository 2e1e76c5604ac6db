//! The daemon's drivers, in the order they were given.

use crate::driver::ManagedDriver;
use crate::error::{Error, Result};
use std::sync::Arc;

/// At least one driver; the first is the default.
#[derive(Debug)]
pub struct DriverSet {
    first: Arc<ManagedDriver>,
    others: Vec<Arc<ManagedDriver>>,
}

impl DriverSet {
    /// Creates a set of drivers of which the first is the default one.
    pub fn new(first: Arc<ManagedDriver>, others: Vec<Arc<ManagedDriver>>) -> Self {
        Self { first, others }
    }

    /// Iterates over all of them, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ManagedDriver>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Gives the driver for creates that name none.
    pub fn default_driver(&self) -> &Arc<ManagedDriver> {
        &self.first
    }

    /// Finds a driver by name; the default one by no name.
    ///
    /// # Errors
    /// [`Error::UnknownDriver`].
    pub fn get(&self, name: &str) -> Result<&Arc<ManagedDriver>> {
        if name.is_empty() {
            return Ok(&self.first);
        }
        self.iter()
            .find(|driver| **driver.name() == *name)
            .ok_or_else(|| Error::UnknownDriver(name.to_owned()))
    }
}
