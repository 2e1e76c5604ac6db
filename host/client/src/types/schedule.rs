//! Requests and answers about schedules.

use super::{BTreeMap, Deserialize, Pairs, Serialize, is_false};

/// A schedule, as `GET /schedules` answers it, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ScheduleStatus {
    /// The schedule's name.
    pub name: String,
    /// `snapshot` or `backup`.
    pub kind: String,
    /// When it is due: a cron expression or a word such as `@daily`.
    pub cron: String,
    /// By which clock.
    pub time_zone: String,
    /// Where backups go; empty for none, or for the driver's own place.
    pub destination: String,
    /// Tags that its backups get.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub tags: Pairs,
    /// The note that its backups get.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Until when its backups are pinned: `forever`, a date, a moment, or so many days after each backup
    /// (`+90d`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keep_until: String,
    /// Whether that is past, so that new backups are not pinned.
    #[serde(skip_serializing_if = "is_false")]
    pub keep_until_is_past: bool,
    /// Whether nothing runs by itself.
    pub paused: bool,
    /// When something runs next, RFC 3339; empty: never.
    pub next: String,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The volumes it is for.
    pub volumes: BTreeMap<String, ScheduledVolume>,
}

/// A schedule and a volume. Times are RFC 3339, empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ScheduledVolume {
    /// When it runs next.
    pub next: String,
    /// `waiting` or `running`; else how the last run ended, `success` or `failure`; empty before the first.
    pub state: String,
    /// When the last run ended.
    pub last: String,
    /// How many seconds it took.
    pub seconds: u64,
    /// Why it failed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// When one last succeeded.
    pub last_success: String,
    /// The backup it made.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub backup: String,
    /// How many of its snapshots there are.
    pub snapshots: u64,
}

/// The body of `POST /schedules/run`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunSchedule {
    /// The schedule's name.
    pub name: String,
    /// For this volume; empty: for all it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
}

/// How the runs ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunReport {
    /// One per volume.
    pub runs: Vec<RunOutcome>,
    /// What the schedule chooses volumes by, where it is for no volume there is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub chosen_by: String,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunOutcome {
    /// The volume's name.
    pub volume: String,
    /// The snapshot; empty if none was made.
    pub snapshot: String,
    /// The backup; empty if none was made.
    pub backup: String,
    /// Why it failed; empty if it did not.
    pub error: String,
}

/// The body of `POST /schedules/retain`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RetainSchedule {
    /// The schedule's name.
    pub name: String,
    /// For this volume; empty: for all it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// Only say what would be deleted.
    pub dry_run: bool,
}

/// What is kept and why, and what was deleted, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RetainReport {
    /// Whether nothing was deleted in fact.
    pub dry_run: bool,
    /// What is kept.
    pub kept: Vec<KeptItem>,
    /// What is not.
    pub removed: Vec<RemovedItem>,
}

/// A backup or a snapshot that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct KeptItem {
    /// `backup` or `snapshot`.
    pub what: String,
    /// Of which volume.
    pub volume: String,
    /// The backup's URL, or the snapshot's name.
    pub name: String,
    /// The moment it is of, RFC 3339.
    pub time: String,
    /// By which rules.
    pub reasons: Vec<String>,
    /// The tags of a backup.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub tags: Pairs,
    /// The note of a backup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Until when a backup is pinned.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keep_until: String,
}

/// A backup or a snapshot that is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RemovedItem {
    /// `backup` or `snapshot`.
    pub what: String,
    /// Of which volume.
    pub volume: String,
    /// The backup's URL, or the snapshot's name.
    pub name: String,
}
