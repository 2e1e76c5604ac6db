//! The program `convoy-cli` as scripts and people use it, against a daemon that answers what it is told to.
//!
//! What the answers of a real daemon are is tested where the daemon is; here it is what becomes of them:
//! every byte on both streams, the exit code, and the requests that were sent.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod browse;
mod completion;
mod daemon;
mod documents;
mod driver;
mod failures;
mod people;
mod plugin;
mod progress;
mod promises;
mod requests;
mod run;
mod transcripts;
mod troubleshooting;
mod types;
