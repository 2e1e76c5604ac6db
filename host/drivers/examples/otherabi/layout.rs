//! A library whose ABI has the right version and another layout.

mod module;

const VERSION: &str = "1.0.0";
