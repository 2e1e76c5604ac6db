//! The records of schedules on disk: `<root>/schedules/<schedule>/<volume>.json`, and since when a schedule
//! exists in `<root>/schedules/<schedule>.json`.

use convoy_driver_sdk::{Timestamp, atomic};
use convoy_schedule::record::{RunRecord, VERSION};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a record that cannot be read is called from then on.
const DAMAGED: &str = "damaged";

/// The records. Every call blocks.
#[derive(Debug, Clone)]
pub(super) struct Store {
    dir: PathBuf,
}

/// What a schedule left.
#[derive(Debug)]
pub(super) struct ScheduleState {
    /// Since when there is the schedule.
    pub(super) since: Timestamp,
    /// What is remembered of each volume, by its name.
    pub(super) records: HashMap<String, RunRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Since {
    since: Timestamp,
}

impl Store {
    pub(super) fn new(root: &Path) -> Self {
        Self { dir: root.join("schedules") }
    }

    /// Reads what a schedule left, and writes down since when there is one that left nothing.
    pub(super) fn load(&self, schedule: &str, now: Timestamp) -> io::Result<ScheduleState> {
        let dir = self.dir.join(schedule);
        atomic::create_dir(&dir, 0o700)?;
        atomic::clean(&dir)?;
        let file = self.dir.join(format!("{schedule}.json"));
        let since = match read::<Since>(&file)? {
            Some(read) => read.since,
            None => {
                write(&file, &Since { since: now })?;
                now
            }
        };
        let mut records = HashMap::new();
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            if let Some(record) = read_record(&path)? {
                records.insert(record.volume.clone(), record);
            }
        }
        Ok(ScheduleState { since, records })
    }

    /// Writes a record durably.
    pub(super) fn save(&self, record: &RunRecord) -> io::Result<()> {
        write(&self.file(&record.schedule, &record.volume), record)
    }

    /// Forgets a volume that is gone.
    pub(super) fn forget(&self, schedule: &str, volume: &str) -> io::Result<()> {
        atomic::remove(&self.file(schedule, volume))
    }

    fn file(&self, schedule: &str, volume: &str) -> PathBuf {
        self.dir.join(schedule).join(format!("{volume}.json"))
    }
}

/// A record of a newer convoy is an error; one that makes no sense is put aside, so that backups go on.
fn read_record(path: &Path) -> io::Result<Option<RunRecord>> {
    let Some(record) = read::<RunRecord>(path)? else { return Ok(None) };
    if record.version > VERSION {
        let text = format!(
            "{} is of a newer convoy (form {}, known are up to {VERSION}): install that one again",
            path.display(),
            record.version
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(Some(record))
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            let aside = path.with_extension(DAMAGED);
            tracing::error!(
                path = %path.display(), aside = %aside.display(), %error,
                "a schedule's record cannot be read: it was put aside, and the schedule begins anew"
            );
            std::fs::rename(path, &aside)?;
            Ok(None)
        }
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    atomic::write_atomic(path, &serde_json::to_vec(value)?, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_kept_and_damage_is_put_aside() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let now = Timestamp::from_unix(1_800_000_000);
        assert!(store.load("nightly", now).unwrap().records.is_empty());
        let mut record = RunRecord::new("nightly", "vol1", now);
        record.begin(now, false, now);
        store.save(&record).unwrap();
        let other = RunRecord::new("nightly", "vol2", now);
        store.save(&other).unwrap();
        let later = Timestamp::from_unix(1_900_000_000);
        let known = store.load("nightly", later).unwrap();
        assert_eq!((known.since, known.records.len()), (now, 2));
        assert_eq!(known.records["vol1"], record);

        let path = root.path().join("schedules/nightly/vol1.json");
        std::fs::write(&path, "{\"version\":").unwrap();
        assert_eq!(store.load("nightly", later).unwrap().records.len(), 1);
        assert!(!path.exists() && path.with_extension(DAMAGED).exists());
        store.forget("nightly", "vol2").unwrap();
        assert!(store.load("nightly", later).unwrap().records.is_empty());
    }

    #[test]
    fn a_record_of_a_newer_convoy_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path());
        let now = Timestamp::from_unix(1_800_000_000);
        store.load("nightly", now).unwrap();
        store.save(&RunRecord { version: VERSION + 1, ..RunRecord::new("nightly", "vol1", now) }).unwrap();
        let error = store.load("nightly", now).unwrap_err();
        assert!(error.to_string().contains("newer convoy"), "{error}");
    }
}
