//! The arguments of `convoy schedule` and the commands under it.

use super::ProgressArgs;
use crate::complete;
use clap::{Args, Subcommand};

/// The arguments of `convoy schedule`.
#[derive(Debug, Args)]
pub struct ScheduleArgs {
    /// What to do; `list` when nothing is said.
    #[command(subcommand)]
    pub command: Option<ScheduleCommand>,
}

/// The commands under `schedule`.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// List the schedules, their volumes and how their last runs ended
    List,
    /// Show what runs next, soonest first
    Next {
        /// How many runs to show
        #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 20)]
        count: usize,
    },
    /// Run a schedule now, and wait for the end
    Run {
        /// Name of the schedule
        #[arg(add = complete::schedules())]
        name: String,
        /// Only for this volume [default: for all it is for]
        #[arg(long, value_name = "NAME", add = complete::volumes())]
        volume: Option<String>,
        /// How progress is shown.
        #[command(flatten)]
        progress: ProgressArgs,
    },
    /// Delete what a schedule no longer keeps, as every run of it does
    Retain {
        /// Name of the schedule
        #[arg(add = complete::schedules())]
        name: String,
        /// Only for this volume [default: for all it is for]
        #[arg(long, value_name = "NAME", add = complete::volumes())]
        volume: Option<String>,
        /// Say what is kept, why, and what would be deleted, and delete nothing
        #[arg(long)]
        dry_run: bool,
    },
}
