//! When volumes are snapshotted and backed up, and what is kept of it: rules without side effects.
//!
//! - [`config`]: `[[schedule]]` as users write it; [`schedule`]: the same, checked.
//! - [`cron`]: cron expressions in a time zone; [`due`]: what has to run now, after a long sleep too.
//! - [`record`]: what is remembered of a schedule and a volume.
//! - [`keep`]: which backups and snapshots are kept; [`select`]: which volumes a schedule is for.
//! - [`naming`]: the names of snapshots that schedules make.

pub mod config;
pub mod cron;
pub mod due;
pub mod keep;
pub mod naming;
pub mod record;
pub mod schedule;
pub mod select;

pub use config::{ScheduleConfig, SchedulingConfig};
pub use schedule::{InvalidSchedule, Schedule};
