//! Long work: jobs, their progress, and events.

use super::{Deserialize, Serialize};

/// Running work, as `GET /jobs` answers it, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Job {
    /// What to give to `jobs cancel`.
    #[serde(rename = "ID")]
    pub id: String,
    /// `backup create`, `restore`, `backup verify`, `backup prune`, `snapshot create`.
    pub kind: String,
    /// The volume it works on; empty where there is none.
    pub volume: String,
    /// The snapshot it works on; empty where there is none.
    pub snapshot: String,
    /// The destination or backup it works with; empty where there is none.
    #[serde(rename = "URL")]
    pub url: String,
    /// `running` or `cancelling`.
    pub state: String,
    /// When it began.
    pub started_at: String,
    /// For how many seconds it has made no progress.
    pub idle_seconds: u64,
    /// How far it is.
    pub progress: Progress,
    /// Calls of drivers that it waits for, in words, with their age.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
}

impl Job {
    /// For how many seconds nothing has moved, if that is worth a word.
    pub fn still(&self) -> Option<u64> {
        (self.idle_seconds >= 60).then_some(self.idle_seconds)
    }
}

/// How far a job is. A total that is not known, or a thing that is not counted, is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Progress {
    /// What is being done: `scanning`, `reading`, `uploading`, `writing`, `finishing`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// Bytes of the volume dealt with.
    pub bytes_done: u64,
    /// Bytes of the volume to deal with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
    /// Files dealt with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_done: Option<u64>,
    /// Files to deal with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files_total: Option<u64>,
    /// Bytes moved to, or from, the store: less than `bytes_done` for what it has already or compresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_transferred: Option<u64>,
    /// Bytes of the volume a second, lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Seconds until the end at that rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_seconds: Option<u64>,
    /// What a backup left out, or a restore could not keep, and why: at the end, at most a hundred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The body of `POST /jobs/cancel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CancelJob {
    /// The job's id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A line of the answer to a client that asked for progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamLine {
    /// The first line: the id of the job that does the work.
    Job(String),
    /// How far it is.
    Progress(Progress),
    /// The last line of a success: what a client that asked for no progress gets as its answer.
    Result(String),
    /// The last line of a failure.
    Error(StreamError),
}

/// A failure at the end of a stream, whose status line has long been sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StreamError {
    /// The HTTP status it would have been.
    pub status: u16,
    /// The kind of failure, as in the driver protocol: `not_found`, `cancelled`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What was expected and what was found, in the words of 0.5 where it had any.
    pub message: String,
    /// The same in words for people, where those of 0.5 are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Which events, in the query of `GET /events`. Several of a kind are separated by commas; empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventFilter {
    /// Also those since then, RFC 3339, that the daemon remembers: the last 4096 since it was started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
    /// Of these kinds, each a whole one or its beginning: `backup`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// About these volumes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// About these drivers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// `false`: end after those of the past.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub follow: String,
}

/// Something that happened, a line of `GET /events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// When, RFC 3339.
    pub time: String,
    /// What: `volume.create`, `volume.mount`, `backup.create`, `driver.restart`.
    pub kind: String,
    /// The driver; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The volume; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume: String,
    /// The snapshot; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot: String,
    /// The backup or destination; empty where there is none.
    #[serde(rename = "URL", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// The job; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// For a person.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}
