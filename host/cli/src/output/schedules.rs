//! What people see of schedules.

use super::table::{Width, fitted, heading, printable, row, table};
use super::values::{or_dash, shell, time};
use convoy_client::types::{RetainReport, RunReport, ScheduleStatus};
use serde::Serialize;
use std::collections::BTreeMap;

/// Shows what `convoy schedule list` answers.
pub fn schedules(schedules: &BTreeMap<String, ScheduleStatus>, width: Width) -> String {
    if schedules.is_empty() {
        return "No schedules are configured.\n".to_owned();
    }
    let mut text = String::new();
    for schedule in schedules.values() {
        let paused = if schedule.paused { ", paused" } else { "" };
        text += &heading(&format!(
            "{}: {} at \"{}\" ({}){paused}",
            schedule.name, schedule.kind, schedule.cron, schedule.time_zone
        ));
        if !schedule.destination.is_empty() {
            text += &format!("to {}\n", printable(&schedule.destination));
        }
        if !schedule.message.is_empty() {
            text += &format!("{}\n", printable(&schedule.message));
        }
        if schedule.volumes.is_empty() {
            text += "for no volume there is\n";
            continue;
        }
        let rows = schedule.volumes.iter().map(|(name, volume)| {
            row![
                name,
                moment(&volume.next),
                or_dash(&volume.state),
                moment(&volume.last),
                moment(&volume.last_success),
                or_dash(if volume.error.is_empty() { &volume.backup } else { &volume.error })
            ]
        });
        let header = ["VOLUME", "NEXT", "STATE", "LAST", "LAST SUCCESS", "BACKUP OR ERROR"];
        text += &fitted(&header, rows, &["VOLUME", "BACKUP OR ERROR"], width);
    }
    text.trim_start().to_owned()
}

/// A run to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Upcoming {
    time: String,
    schedule: String,
    volume: String,
    kind: String,
}

/// The runs to come, soonest first.
pub fn next(schedules: &BTreeMap<String, ScheduleStatus>, count: usize) -> Vec<Upcoming> {
    let mut next: Vec<Upcoming> = schedules
        .values()
        .flat_map(|schedule| {
            schedule.volumes.iter().filter(|(_, volume)| !volume.next.is_empty()).map(|(name, volume)| {
                Upcoming {
                    time: volume.next.clone(),
                    schedule: schedule.name.clone(),
                    volume: name.clone(),
                    kind: schedule.kind.clone(),
                }
            })
        })
        .collect();
    // All are of one form, which sorts by time.
    next.sort_by(|a, b| (&a.time, &a.schedule, &a.volume).cmp(&(&b.time, &b.schedule, &b.volume)));
    next.truncate(count);
    next
}

/// Shows what `convoy schedule next` answers.
pub fn upcoming(next: &[Upcoming]) -> String {
    if next.is_empty() {
        return "Nothing runs by itself.\n".to_owned();
    }
    let rows = next.iter().map(|run| row![time(&run.time), run.schedule, run.volume, run.kind]);
    table(&["TIME", "SCHEDULE", "VOLUME", "KIND"], rows)
}

/// Shows what `convoy schedule run` answers.
pub fn runs(report: &RunReport, width: Width) -> String {
    // That there are none is told as an error.
    if report.runs.is_empty() {
        return String::new();
    }
    let rows = report.runs.iter().map(|run| {
        let made = if run.backup.is_empty() { or_dash(&run.snapshot) } else { shell(&run.backup) };
        row![run.volume, if run.error.is_empty() { "success" } else { "failure" }, made, run.error]
    });
    // An error is to be read whole.
    fitted(&["VOLUME", "RESULT", "MADE", "ERROR"], rows, &["VOLUME", "MADE"], width)
}

/// Shows what `convoy schedule retain` answers.
pub fn retained(report: &RetainReport, width: Width) -> String {
    let delete = if report.dry_run { "would delete" } else { "deleted" };
    let removed = report.removed.iter().map(|item| row![delete, item.what, item.volume, "-", item.name, ""]);
    let kept = report.kept.iter().map(|item| {
        row!["keep", item.what, item.volume, time(&item.time), item.name, item.reasons.join(", ")]
    });
    let header = ["", "WHAT", "VOLUME", "OF", "NAME", "WHY"];
    fitted(&header, removed.chain(kept), &["VOLUME", "NAME"], width)
}

fn moment(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { time(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_client::types::ScheduledVolume;

    #[test]
    fn the_soonest_comes_first() {
        let volume = |next: &str| ScheduledVolume { next: next.to_owned(), ..ScheduledVolume::default() };
        let schedule = |name: &str, volumes: &[(&str, &str)]| {
            let volumes = volumes.iter().map(|(name, next)| ((*name).to_owned(), volume(next))).collect();
            (name.to_owned(), ScheduleStatus { name: name.to_owned(), volumes, ..ScheduleStatus::default() })
        };
        let all = BTreeMap::from([
            schedule("a", &[("v1", "2026-11-26T03:00:00Z"), ("v2", "")]),
            schedule("b", &[("v1", "2026-11-25T04:00:00Z"), ("v3", "2027-01-01T00:00:00Z")]),
        ]);
        let order: Vec<_> = next(&all, 2).into_iter().map(|run| run.schedule + "/" + &run.volume).collect();
        assert_eq!(order, ["b/v1", "a/v1"]);
    }
}
