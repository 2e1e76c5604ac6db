//! What crosses the admin API, with the field names convoy has always used.
//!
//! The daemon serialises these types and the client reads them, or the other way round; neither has types of
//! its own. Every field of a request has a default, as it had in 0.5: `{}` is a request. Times are text in
//! the form `Mon Nov 23 08:38:07 +0000 2026`, sizes in requests are bytes.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod backup;
mod browse;
mod doctor;
mod driver;
mod info;
mod job;
mod label;
mod restore;
mod schedule;
mod snapshot;
mod volume;

pub use backup::{
    AddKey, BackupCost, BackupInfo, BackupRef, CountBackups, CreateBackup, CreatedBackup, ListBackups,
    ListKeys, Problem, PruneBackups, PruneReport, RemoveKey, StatsReport, VerifyBackups, VerifyReport,
    VolumeStats,
};
pub use browse::{
    BrowseLine, ChangedFile, CompareTrees, DumpTree, FileEntry, FindFiles, FoundFile, ListFiles, ReadFile,
    TreeRef, decode_path, encode_path,
};
pub use doctor::{Diagnosis, Examine, Symptom};
pub use driver::{DriverCall, DriverOption, DriverStatus};
pub use info::{ConfigValue, General, Health, Info, ReloadedConfig};
pub use job::{CancelJob, Event, EventFilter, Job, Progress, StreamError, StreamLine};
pub use label::LabelBackup;
pub use restore::{AcceptRestore, RestoreChange, RestoreParts, RestoreReport};
pub use schedule::{
    KeptItem, RemovedItem, RetainReport, RetainSchedule, RunOutcome, RunReport, RunSchedule, ScheduleStatus,
    ScheduledVolume,
};
pub use snapshot::{CreateSnapshot, RevertSnapshot, Snapshot, SnapshotEntry, SnapshotRef};
pub use volume::{
    CreateVolume, DeleteKept, DeleteVolume, KeptVolume, ListedKept, MountVolume, ResizeVolume, RetainVolume,
    UnmountVolume, Volume, VolumeRef, details_are_asked, driver_form_is_asked,
};

/// Keys and values as drivers give them, sorted by key.
pub type Pairs = BTreeMap<String, String>;

/// For `skip_serializing_if`, which hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// For `skip_serializing_if`, which hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !*value
}
