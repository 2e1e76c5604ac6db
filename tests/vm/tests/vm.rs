//! Placeholder for the moment the launcher is built.
