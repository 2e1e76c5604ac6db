//! Schedules: snapshots and backups that are made by themselves, and what becomes of the old ones.
//!
//! - `service`: [`Schedules`], its state; `plan`: a schedule and what is remembered of it; `store`: the same
//!   on disk.
//! - `tick`: finds what is due; `run`: one run of one schedule for one volume; `retain`: deletes what is no
//!   longer kept.
//! - `hooks`: commands before and after; `notify`: tells whoever wants to know.
//! - `view`: what is shown. The rules themselves are in `convoy_schedule`.

mod hooks;
mod notify;
mod plan;
mod retain;
mod run;
mod service;
mod store;
mod tick;
mod view;

pub use run::Outcome;
pub use service::{Schedules, Services};
