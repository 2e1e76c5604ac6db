//! What is remembered of a schedule and a volume: when it ran last, how that ended, and what it made.

use convoy_driver_sdk::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the file's form; a newer one is refused.
pub const VERSION: u32 = 1;

/// How often a run that was cut off by the end of the daemon is begun.
pub const ATTEMPTS: u32 = 3;

/// The record of one schedule and one volume. It is written before a run begins and after it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRecord {
    /// Version of the file's form: [`VERSION`].
    pub version: u32,
    /// Name of the schedule.
    pub schedule: String,
    /// Name of the volume.
    pub volume: String,
    /// Every moment of the schedule up to this one has been dealt with. At first, when the volume was first
    /// seen.
    pub last: Timestamp,
    /// What runs, or was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunEnd>,
    /// When a run last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded: Option<Timestamp>,
    /// The snapshots it made and has not deleted. A name stands here before the snapshot is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<ScheduledSnapshot>,
    /// The snapshot of the last backup: the next one needs it to find what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// A run that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Running {
    /// The moment it is for.
    pub at: Timestamp,
    /// When it began.
    pub began: Timestamp,
    /// How often it has been begun.
    pub attempt: u32,
    /// Whether somebody asked for it.
    #[serde(default)]
    pub by_hand: bool,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunEnd {
    /// The moment it was for.
    pub at: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How many seconds it took.
    pub seconds: u64,
    /// Why it failed; empty: it succeeded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The backup that was made; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub backup: String,
}

/// A snapshot that the schedule made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ScheduledSnapshot {
    /// Name of the snapshot.
    pub name: String,
    /// The moment it is for.
    pub at: Timestamp,
}

impl RunRecord {
    /// Of a volume that was not known before.
    pub fn new(schedule: &str, volume: &str, now: Timestamp) -> Self {
        Self {
            version: VERSION,
            schedule: schedule.to_owned(),
            volume: volume.to_owned(),
            last: now,
            running: None,
            ended: None,
            succeeded: None,
            snapshots: Vec::new(),
            base: None,
        }
    }

    /// Begins a run, or one that was cut off anew.
    pub fn begin(&mut self, at: Timestamp, by_hand: bool, now: Timestamp) {
        let attempt = match &self.running {
            Some(cut_off) if cut_off.at == at => cut_off.attempt.saturating_add(1),
            _ => 1,
        };
        if !by_hand {
            self.last = self.last.max(at);
        }
        self.running = Some(Running { at, began: now, attempt, by_hand });
    }

    /// Ends the run that was begun: with the backup's URL (empty for none), or why it failed.
    pub fn end(&mut self, result: Result<String, String>, now: Timestamp) {
        let Some(running) = self.running.take() else { return };
        let seconds = u64::try_from(now.unix() - running.began.unix()).unwrap_or_default();
        let (backup, error) = match result {
            Ok(backup) => (backup, String::new()),
            // Empty would say that it succeeded.
            Err(error) if error.is_empty() => (String::new(), "it failed".to_owned()),
            Err(error) => (String::new(), error),
        };
        if error.is_empty() {
            self.succeeded = Some(now);
        }
        self.ended = Some(RunEnd { at: running.at, ended: now, seconds, error, backup });
    }
}
