//! A library whose ABI has another version.

mod module;

const VERSION: &str = "0.5.0";
