//! Drivers through every carrier: built, loaded and called for real.

// Helpers outside of test functions fail tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calls;
mod confined;
mod document;
#[path = "../../examples/misbehaving/driver.rs"]
mod driver;
mod faults;
mod hostile;
mod loading;
mod peers;
mod python;
mod support;
mod tmpfs;
