//! A schedule, what is remembered of it, and the runs of it that are under way.

use convoy_backup::KeepUntil;
use convoy_driver_sdk::{Name, Timestamp};
use convoy_schedule::Schedule;
use convoy_schedule::config::PinConfig;
use convoy_schedule::record::RunRecord;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// A schedule and what is remembered of it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) schedule: Schedule,
    pub(super) memory: Arc<Memory>,
}

/// What is remembered of a schedule.
#[derive(Debug)]
pub(super) struct Memory {
    /// Since when there is the schedule.
    pub(super) since: Timestamp,
    /// Why it cannot run.
    pub(super) broken: Option<String>,
    pub(super) volumes: Mutex<RunTable>,
}

/// The runs of a schedule, by volume.
#[derive(Debug, Default)]
pub(super) struct RunTable {
    pub(super) records: HashMap<String, RunRecord>,
    /// Volumes that a run is under way for.
    pub(super) running: HashMap<String, UnderWay>,
}

/// How far a run is, and what it is for.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnderWay {
    pub(super) stage: Stage,
    /// The moment of the schedule it is for; `None` when somebody asked for it.
    pub(super) at: Option<Timestamp>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits for a slot that another run has.
    Waiting,
    /// It makes the snapshot or the backup.
    Running,
}

/// A run that is under way; dropped at its end.
#[derive(Debug)]
pub(super) struct RunGuard {
    memory: Arc<Memory>,
    pub(super) volume: Name,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        self.memory.volumes.lock().running.remove(self.volume.as_str());
    }
}

impl RunGuard {
    /// Notes that the run works, and no longer waits for others.
    pub(super) fn is_running(&self) {
        if let Some(run) = self.memory.volumes.lock().running.get_mut(self.volume.as_str()) {
            run.stage = Stage::Running;
        }
    }
}

impl Plan {
    /// The file with the key, as requests name it; empty: none.
    pub(super) fn key_file(&self) -> String {
        self.schedule.encryption_key_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// The file with the passphrase, as requests name it; empty: none.
    pub(super) fn passphrase_file(&self) -> String {
        self.schedule.passphrase_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }

    /// Until when a backup that is made now is pinned, as requests name it; empty: it is not, which also a
    /// date that is past says.
    pub(super) fn keep_until(&self, now: jiff::Timestamp) -> String {
        match &self.schedule.keep_until {
            None => String::new(),
            Some(PinConfig::Until(text)) => match KeepUntil::parse(text, now) {
                Ok(_) => text.clone(),
                Err(_) => String::new(),
            },
            Some(PinConfig::Days(days)) => {
                let days = jiff::SignedDuration::from_hours(i64::from(*days) * 24);
                // Beyond the last year that a calendar has is as good as for ever.
                now.checked_add(days).map_or_else(|_| "forever".to_owned(), |moment| moment.to_string())
            }
        }
    }

    /// How backups are encrypted, as requests name it; empty: as the destination is.
    pub(super) fn encryption(&self) -> String {
        if self.schedule.unencrypted { "none".to_owned() } else { String::new() }
    }
}

impl Memory {
    /// Begins a run, unless one is under way.
    pub(super) fn begin(self: &Arc<Self>, volume: &Name, at: Option<Timestamp>) -> Option<RunGuard> {
        let mut volumes = self.volumes.lock();
        if volumes.running.contains_key(volume.as_str()) {
            return None;
        }
        volumes.running.insert(volume.to_string(), UnderWay { stage: Stage::Waiting, at });
        Some(RunGuard { memory: Arc::clone(self), volume: volume.clone() })
    }
}

impl RunTable {
    /// What is remembered of a volume. Of one that nothing ran for, every moment counts since there has been
    /// both the schedule and the volume.
    pub(super) fn record(&self, plan: &Plan, volume: &Name, created: Option<Timestamp>) -> RunRecord {
        self.records.get(volume.as_str()).cloned().unwrap_or_else(|| {
            let since = plan.memory.since;
            let since = created.map_or(since, |created| created.max(since));
            RunRecord::new(&plan.schedule.name, volume, since)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_schedule::config::ScheduleConfig;

    fn plan(keep_until: &str) -> Plan {
        let config: ScheduleConfig = serde_json::from_value(serde_json::json!({
            "name": "nightly", "cron": "@daily", "volumes": ["*"], "kind": "backup", "keep-until": keep_until
        }))
        .unwrap();
        let volumes = Mutex::new(RunTable::default());
        let memory = Arc::new(Memory { since: Timestamp::from_unix(0), broken: None, volumes });
        Plan { schedule: Schedule::new(&config).unwrap(), memory }
    }

    #[test]
    fn a_pin_is_a_date_or_counts_from_the_backup_and_a_past_one_pins_nothing() {
        let now = "2026-11-30T12:00:00.5Z".parse().unwrap();
        for (text, pinned) in [
            ("forever", "forever"),
            ("2026-12-01", "2026-12-01"),
            ("2026-11-30T12:00:01Z", "2026-11-30T12:00:01Z"),
            ("2026-11-29", ""),
            ("+1d", "2026-12-01T12:00:00.5Z"),
            ("+1w", "2026-12-07T12:00:00.5Z"),
        ] {
            assert_eq!(plan(text).keep_until(now), pinned, "{text}");
        }
    }
}
