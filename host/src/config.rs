//! The daemon's settings: flags over environment variables over `convoy.toml` over what `convoy.cfg` kept of
//! an earlier start over defaults.
//!
//! `convoy.cfg` has the form of convoy 0.5, byte for byte. What is saved there holds where nobody says
//! anything. Where a flag says something else, the start is refused, since either could be the mistake.
//! `convoy.toml` is edited on purpose: what it says holds, and the difference is logged.
//!
//! Each setting is a row of [`convoy_cli::settings`]. Here are the layers:
//!
//! - [`file`]: `convoy.toml`, with its tables [`destinations`], `schedules`, `excludes` (each an
//!   `exclude_table`) and [`options`] of drivers; `backup_settings`: those that all backups share.
//! - `layers`: what a user asks for; `saved`: what is kept; `merge`: one over the other; `effective`: all of
//!   them together; `error`: what is wrong with them; [`live`]: what changes while the daemon runs.
//! - `check`: `convoy config check`; [`secret`]: what `convoy config show` does not show.

pub mod destinations;
pub mod file;
pub mod live;
pub mod options;
pub mod secret;

mod backup_settings;
mod check;
mod effective;
mod error;
mod exclude_table;
mod excludes;
mod layers;
mod merge;
mod saved;
mod schedules;
mod spelling;
#[cfg(test)]
mod tests;

pub use backup_settings::BackupSettings;
pub use check::check_file;
pub use effective::Config;
pub use error::ConfigError;
pub use excludes::Excludes;
pub use layers::{Layers, log, root};
pub use live::Live;
pub use merge::{backups_of, load};
pub use saved::{FILE, save};
