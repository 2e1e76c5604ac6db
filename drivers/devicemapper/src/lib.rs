//! The devicemapper driver.

pub mod delta;
pub mod error;
pub mod journal;
pub mod kernel;
pub mod options;
pub mod pool;
pub mod state;
pub mod store;
pub mod superblock;
pub mod tools;
