//! The library carrier: a driver as a shared library with a stable ABI.
//!
//! The ABI is a root module of `abi_stable`, with layout and version checked at load, of five functions that
//! carry serialised bytes; [`abi`] is all of it. [`crate::export`] makes the module of a driver. A library is
//! never unloaded.

pub mod abi;
mod export;

pub use abi_stable::library::LibHeader;
pub use export::header;
