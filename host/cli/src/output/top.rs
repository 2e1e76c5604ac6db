//! What `top` shows.

use super::table::{heading, printable, row, table};
use super::values::{bytes, counted, or_dash, time};
use convoy_client::types::{DriverStatus, Job, ScheduleStatus, Volume};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The daemon at a moment.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DaemonState {
    /// Every volume, by name.
    #[serde(skip)]
    pub volumes: BTreeMap<String, Volume>,
    /// Every driver, by name.
    #[serde(skip)]
    pub drivers: BTreeMap<String, DriverStatus>,
    /// The jobs that run.
    pub jobs: BTreeMap<String, Job>,
    /// What is to run.
    pub schedules: BTreeMap<String, ScheduleStatus>,
}

/// A screen of it: drivers, jobs, schedules.
pub fn screen(seen: &DaemonState) -> String {
    let mounted = seen.volumes.values().filter(|volume| !volume.mount_point.is_empty()).count();
    let snapshots: usize =
        seen.volumes.values().map(|volume| volume.snapshots.as_ref().map_or(0, BTreeMap::len)).sum();
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = writeln!(
        text,
        "{}, {mounted} mounted, {}, {}",
        counted(seen.volumes.len(), "volume"),
        counted(snapshots, "snapshot"),
        counted(seen.jobs.len(), "job")
    );
    text += "\n";
    let drivers = seen.drivers.values().map(|driver| {
        let of = seen.volumes.values().filter(|volume| volume.driver == driver.name).count();
        let state = if driver.healthy { "ready" } else { "failed" };
        row![driver.name, state, of, driver.restarts, driver.message]
    });
    text += &table(&["DRIVER", "STATE", "VOLUMES", "RESTARTS", "MESSAGE"], drivers);
    if !seen.jobs.is_empty() {
        text += &heading("Jobs");
        text += &table(
            &["KIND", "VOLUME", "PHASE", "DONE", "OF", "RATE", "LEFT", "SINCE"],
            seen.jobs.values().map(job),
        );
    }
    if !seen.schedules.is_empty() {
        text += &heading("Schedules");
        let rows = seen.schedules.values().map(|schedule| {
            let count = |state: &str| {
                schedule.volumes.values().filter(|volume| volume.state == state).count().to_string()
            };
            row![
                schedule.name,
                if schedule.next.is_empty() { "-".to_owned() } else { time(&schedule.next) },
                schedule.volumes.len(),
                count("running"),
                count("waiting"),
                count("failure"),
                printable(&schedule.message)
            ]
        });
        text += &table(&["SCHEDULE", "NEXT", "VOLUMES", "RUNNING", "WAITING", "FAILED", "MESSAGE"], rows);
    }
    let failed: Vec<Vec<String>> = seen.schedules.values().flat_map(failures).collect();
    if !failed.is_empty() {
        text += &heading("Failed");
        text += &table(&["SCHEDULE", "VOLUME", "WHEN", "ERROR"], failed);
    }
    text
}

/// The volumes of a schedule whose last run failed.
fn failures(schedule: &ScheduleStatus) -> impl Iterator<Item = Vec<String>> {
    schedule
        .volumes
        .iter()
        .filter(|(_, volume)| volume.state == "failure")
        .map(|(name, volume)| row![schedule.name, name, time(&volume.last), printable(&volume.error)])
}

/// A screen cut to a terminal: a line that is wrapped, or one too many, would push what is above out of
/// sight.
pub fn fitted(text: &str, rows: usize, columns: usize) -> String {
    // The cursor needs a line of its own.
    let room = rows.saturating_sub(1).max(1);
    let lines: Vec<&str> = text.lines().collect();
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let mut cut = String::new();
    for line in &lines[..shown] {
        // Writing to a text cannot fail.
        let _ = writeln!(cut, "{}", console::truncate_str(line, columns, "…"));
    }
    if shown < lines.len() {
        let _ = writeln!(cut, "{}", console::truncate_str(&more(lines.len() - shown), columns, "…"));
    }
    cut
}

fn more(lines: usize) -> String {
    format!("... and {}", counted(lines, "more line"))
}

fn job(job: &Job) -> Vec<String> {
    let known = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), bytes);
    let (rate, left) = match job.still() {
        Some(seconds) => (format!("none for {seconds} s"), None),
        None => {
            let rate = job.progress.bytes_per_second.map(|rate| format!("{}/s", bytes(rate)));
            (rate.unwrap_or_else(|| "-".to_owned()), job.progress.eta_seconds)
        }
    };
    row![
        job.kind,
        or_dash(&job.volume),
        or_dash(&job.progress.phase),
        bytes(job.progress.bytes_done),
        known(job.progress.bytes_total),
        rate,
        left.map_or_else(|| "-".to_owned(), |left| format!("{left} s")),
        time(&job.started_at)
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_client::types::{Progress, ScheduledVolume};

    #[test]
    fn a_screen_has_everything() {
        let job = Job {
            kind: "backup create".to_owned(),
            volume: "db".to_owned(),
            progress: Progress {
                phase: "reading".to_owned(),
                bytes_done: 1 << 20,
                bytes_total: Some(1 << 30),
                bytes_per_second: Some(1 << 20),
                eta_seconds: Some(1023),
                ..Progress::default()
            },
            ..Job::default()
        };
        let driver = DriverStatus { name: "vfs".to_owned(), healthy: true, ..DriverStatus::default() };
        let seen = DaemonState {
            jobs: BTreeMap::from([("job-1".to_owned(), job)]),
            drivers: BTreeMap::from([("vfs".to_owned(), driver)]),
            ..DaemonState::default()
        };
        let text = anstream::adapter::strip_str(&screen(&seen)).to_string();
        for part in ["0 volumes, 0 mounted, 0 snapshots, 1 job\n", "vfs      ready", "1.00 MiB/s", "1023 s"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let idle = screen(&DaemonState { jobs: BTreeMap::new(), ..seen });
        assert!(idle.contains("0 jobs") && !idle.contains("PHASE"), "{idle}");
    }

    #[test]
    fn a_screen_says_why_the_last_runs_failed() {
        let ended = |state: &str, error: &str| ScheduledVolume {
            state: state.to_owned(),
            error: error.to_owned(),
            last: "2026-11-25T03:30:00Z".to_owned(),
            ..ScheduledVolume::default()
        };
        let volumes = BTreeMap::from([
            ("db".to_owned(), ended("failure", "before the snapshot: sh failed\n(exit status: 7)")),
            ("web".to_owned(), ended("success", "")),
        ]);
        let nightly = ScheduleStatus { name: "nightly".to_owned(), volumes, ..ScheduleStatus::default() };
        let seen = DaemonState {
            schedules: BTreeMap::from([("nightly".to_owned(), nightly)]),
            ..DaemonState::default()
        };
        let text = anstream::adapter::strip_str(&screen(&seen)).to_string();
        let (_, failed) = text.split_once("Failed\n").unwrap();
        assert!(failed.contains("nightly") && failed.contains("before the snapshot: sh failed"), "{text}");
        assert!(failed.lines().count() == 2 && !failed.contains("web"), "{text}");
    }

    #[test]
    fn a_screen_fits_the_terminal() {
        let driver = |name: &str| {
            let message = "it is not there: ".repeat(20);
            DriverStatus { name: name.to_owned(), message, ..DriverStatus::default() }
        };
        let drivers = (10..40).map(|number| (number.to_string(), driver(&format!("driver{number}"))));
        let text = screen(&DaemonState { drivers: drivers.collect(), ..DaemonState::default() });
        let plain = |text: &str| anstream::adapter::strip_str(text).to_string();
        for (rows, columns) in [(24, 80), (10, 20), (2, 1), (1, 1), (0, 0)] {
            let cut = plain(&fitted(&text, rows, columns));
            assert!(cut.lines().count() <= rows.max(2), "{rows}:\n{cut}");
            assert!(cut.lines().all(|line| line.chars().count() <= columns.max(1)), "{columns}:\n{cut}");
        }
        let cut = plain(&fitted(&text, 24, 80));
        assert!(cut.contains("0 volumes") && cut.ends_with("... and 11 more lines\n"), "{cut}");
        assert!(cut.lines().nth(4).unwrap().ends_with('…'), "{cut}");
        assert_eq!(fitted(&text, 100, 1000), text, "nothing is cut that fits");
    }
}
