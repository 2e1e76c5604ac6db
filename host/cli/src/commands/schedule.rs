//! Runs `convoy schedule`.

use super::{Session, name_or_empty};
use crate::args::{ScheduleArgs, ScheduleCommand};
use crate::error::Result;
use crate::output::schedules as views;
use convoy_client::client::Call;
use convoy_client::types::{RetainSchedule, RunReport, RunSchedule, ScheduleStatus};
use std::collections::BTreeMap;
use std::process::ExitCode;

impl Session<'_> {
    pub(super) async fn schedule(&mut self, args: ScheduleArgs) -> Result<ExitCode> {
        let width = self.output.width();
        match args.command.unwrap_or(ScheduleCommand::List) {
            ScheduleCommand::List => {
                self.show(Call::list_schedules(), |schedules| views::schedules(schedules, width)).await?;
            }
            ScheduleCommand::Next { count } => {
                let text = self.text(Call::list_schedules()).await?;
                let schedules: BTreeMap<String, ScheduleStatus> = serde_json::from_str(&text)?;
                let next = views::next(&schedules, count);
                if self.output.is_for_people() {
                    self.output.styled(&views::upcoming(&next))?;
                } else {
                    self.output.line(serde_json::to_string_pretty(&next)?)?;
                }
            }
            ScheduleCommand::Run { name, volume, progress } => {
                let request = RunSchedule { name: name.clone(), volume_name: name_or_empty(volume)? };
                let text = self.follow(Call::run_schedule(&request), &progress).await?;
                self.output.answer(&text, |report| views::runs(report, width))?;
                let report: RunReport = serde_json::from_str(&text)?;
                if report.runs.is_empty() {
                    // A script that waits for a backup must not take nothing for one.
                    self.output.finish()?;
                    self.output.aside("error", &nothing_ran(&name, &report.chosen_by));
                    return Ok(ExitCode::FAILURE);
                }
                if report.runs.iter().any(|run| !run.error.is_empty()) {
                    return Ok(ExitCode::FAILURE);
                }
            }
            ScheduleCommand::Retain { name, volume, dry_run } => {
                let request = RetainSchedule { name, volume_name: name_or_empty(volume)?, dry_run };
                self.show(Call::retain_schedule(&request), |report| views::retained(report, width)).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Which volumes were looked for, in vain.
fn nothing_ran(name: &str, chosen_by: &str) -> String {
    let chosen_by = if chosen_by.is_empty() { "none" } else { chosen_by };
    format!(
        "nothing was run: the schedule {name} is for {chosen_by}, and no such volume exists; `convoy list` shows \
         the volumes"
    )
}
