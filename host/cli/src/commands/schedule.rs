//! `schedule`.

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
        match args.command.unwrap_or(ScheduleCommand::List) {
            ScheduleCommand::List => self.show(Call::list_schedules(), views::schedules).await?,
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
                let request = RunSchedule { name, volume_name: name_or_empty(volume)? };
                let text = self.follow(Call::run_schedule(&request), &progress).await?;
                self.output.answer(&text, views::runs)?;
                let report: RunReport = serde_json::from_str(&text)?;
                if report.runs.iter().any(|run| !run.error.is_empty()) {
                    return Ok(ExitCode::FAILURE);
                }
            }
            ScheduleCommand::Retain { name, volume, dry_run } => {
                let request = RetainSchedule { name, volume_name: name_or_empty(volume)?, dry_run };
                self.show(Call::retain_schedule(&request), views::retained).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
