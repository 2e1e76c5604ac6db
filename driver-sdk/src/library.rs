//! The library carrier: a driver as a shared library with a stable ABI.
//!
//! The ABI is a root module of `abi_stable`, with layout and version checked at load, of five functions that
//! carry serialised bytes; [`abi`] is all of it. [`crate::export`] makes the module of a driver, [`module`]
//! is how the host gets at it. A library is never unloaded. No other module names `abi_stable`.

pub mod abi;
mod export;
mod load;

pub use abi_stable::library::{AbiHeaderRef, LibHeader};
pub use export::header;
pub use load::{ModuleError, module};
