//! What people see of schedules.

use super::table::{Width, fitted, heading, printable, row, table};
use super::values::{or_dash, shell, time};
use convoy_client::types::{Pairs, RetainReport, RunReport, ScheduleStatus};
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
        text += &labels(schedule);
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

/// What its backups get, in a line; nothing if that is nothing.
fn labels(schedule: &ScheduleStatus) -> String {
    let mut said: Vec<String> = tags(&schedule.tags).into_iter().collect();
    if !schedule.keep_until.is_empty() {
        let past = if schedule.keep_until_is_past { ", which is past: new ones are not pinned" } else { "" };
        said.push(match schedule.keep_until.strip_prefix('+') {
            Some(days) => format!("each pinned for {days}"),
            None if schedule.keep_until == "forever" => "pinned".to_owned(),
            None => format!("pinned until {}{past}", schedule.keep_until),
        });
    }
    if !schedule.note.is_empty() {
        said.push(format!("note: {}", schedule.note));
    }
    if said.is_empty() { String::new() } else { format!("{}\n", printable(&said.join("; "))) }
}

fn tags(tags: &Pairs) -> Option<String> {
    let one = |(key, value): (&String, &String)| {
        if value.is_empty() { key.clone() } else { format!("{key}={value}") }
    };
    (!tags.is_empty()).then(|| tags.iter().map(one).collect::<Vec<_>>().join(" "))
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
    // Where nothing is said of any backup, the table is as narrow as can be.
    let labelled = report.kept.iter().any(|item| !item.tags.is_empty());
    let with = |mut row: Vec<String>, labels: Option<String>| {
        row.extend(labelled.then(|| or_dash(&labels.unwrap_or_default())));
        row
    };
    let removed = report
        .removed
        .iter()
        .map(|item| with(row![delete, item.what, item.volume, "-", item.name, ""], None));
    let kept = report.kept.iter().map(|item| {
        let why = item.reasons.iter().map(|reason| match (reason.as_str(), item.keep_until.as_str()) {
            ("pinned", until) if !until.is_empty() && until != "forever" => format!("pinned until {until}"),
            (reason, _) => reason.to_owned(),
        });
        let why = why.collect::<Vec<_>>().join(", ");
        with(row!["keep", item.what, item.volume, time(&item.time), item.name, why], tags(&item.tags))
    });
    let mut header = vec!["", "WHAT", "VOLUME", "OF", "NAME", "WHY"];
    header.extend(labelled.then_some("LABELS"));
    fitted(&header, removed.chain(kept), &["VOLUME", "NAME", "LABELS"], width)
}

fn moment(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { time(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_client::types::{KeptItem, ScheduledVolume};

    #[test]
    fn what_backups_of_a_schedule_get_is_told_in_a_line() {
        let tags: Pairs = [("env".to_owned(), "prod".to_owned()), ("x".to_owned(), String::new())].into();
        let schedule = |keep_until: &str, past| ScheduleStatus {
            tags: tags.clone(),
            note: "by night".to_owned(),
            keep_until: keep_until.to_owned(),
            keep_until_is_past: past,
            ..ScheduleStatus::default()
        };
        assert_eq!(labels(&schedule("+90d", false)), "env=prod x; each pinned for 90d; note: by night\n");
        assert_eq!(labels(&schedule("forever", false)), "env=prod x; pinned; note: by night\n");
        assert!(labels(&schedule("2001-01-01", true)).contains("until 2001-01-01, which is past"));
        assert_eq!(labels(&ScheduleStatus::default()), "");
    }

    #[test]
    fn what_is_kept_tells_its_labels() {
        let item = |name: &str, reasons: &[&str], tags: Pairs, keep_until: &str| KeptItem {
            what: "backup".to_owned(),
            name: name.to_owned(),
            reasons: reasons.iter().map(|reason| (*reason).to_owned()).collect(),
            tags,
            keep_until: keep_until.to_owned(),
            ..KeptItem::default()
        };
        let tags: Pairs = [("env".to_owned(), "prod".to_owned())].into();
        let one = item("b1", &["pinned"], tags, "2999-01-01T00:00:00Z");
        let other = item("b2", &["last", "daily"], Pairs::new(), "");
        let mut report = RetainReport { kept: vec![one, other.clone()], ..RetainReport::default() };
        let text = retained(&report, None);
        assert!(text.contains("pinned until 2999-01-01T00:00:00Z   env=prod\n"), "{text}");
        assert!(text.contains("last, daily"), "{text}");
        report.kept = vec![other];
        assert!(!retained(&report, None).contains("LABELS"));
    }

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
