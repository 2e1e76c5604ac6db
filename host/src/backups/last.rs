//! The last backup of each volume at each destination: how old it is, and which snapshot the next one builds
//! on.
//!
//! A file per volume in `<root>/backups/`. It is a copy of what the stores say and may be lost: then the age
//! of backups is not known until the next one, and retention asks the store.

use convoy_driver_sdk::{Name, Timestamp, atomic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Last {
    /// When it was made.
    pub time: Timestamp,
    /// The snapshot it is of.
    pub snapshot: String,
    /// The URL of the backup.
    pub backup: String,
    /// Bytes that it stands for, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Its regular files; none are known of blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Bytes that it added to the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_added: Option<u64>,
}

impl Last {
    /// One that was made now, of which no sizes are known.
    pub(super) fn new(snapshot: &str, backup: &str) -> Self {
        Self {
            time: Timestamp::now(),
            snapshot: snapshot.to_owned(),
            backup: backup.to_owned(),
            bytes: None,
            files: None,
            bytes_added: None,
        }
    }
}

/// The last backup at each destination, by its URL.
type OfVolume = BTreeMap<String, Last>;

/// The last backup of each volume at each destination, in memory and on disk.
#[derive(Debug)]
pub(super) struct LastBackups {
    dir: PathBuf,
    known: Mutex<BTreeMap<Name, OfVolume>>,
}

impl LastBackups {
    /// Reads what there is; what cannot be read counts as not known.
    pub(super) fn open(root: &Path) -> Self {
        let dir = root.join("backups");
        let mut known = BTreeMap::new();
        if let Err(error) = atomic::create_dir(&dir, 0o700).and_then(|()| atomic::clean(&dir).map(drop)) {
            tracing::warn!(dir = %dir.display(), %error, "the last backups will not be remembered");
        }
        for path in std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let Some(volume) = name.and_then(|name| Name::parse(name).ok()) else { continue };
            let read = std::fs::read(&path).map_err(|error| error.to_string());
            match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
                Ok(of_volume) => drop(known.insert(volume, of_volume)),
                Err(error) => {
                    tracing::warn!(path = %path.display(), error, "cannot read when a volume was backed up")
                }
            }
        }
        Self { dir, known: Mutex::new(known) }
    }

    /// Notes a backup. It blocks.
    pub(super) fn note(&self, volume: &Name, destination: &str, last: Last) {
        // Held while it is written: of two backups that end at once neither is lost.
        let mut known = self.known.lock();
        let of_volume = known.entry(volume.clone()).or_default();
        of_volume.insert(destination.to_owned(), last);
        self.write(volume, of_volume);
    }

    /// Forgets a backup that was deleted.
    pub(super) fn forget(&self, backup: &str) {
        let mut known = self.known.lock();
        for (volume, of_volume) in known.iter_mut() {
            let before = of_volume.len();
            of_volume.retain(|_, last| last.backup != backup);
            if of_volume.len() != before {
                self.write(volume, of_volume);
            }
        }
    }

    fn write(&self, volume: &Name, of_volume: &OfVolume) {
        let path = self.dir.join(format!("{volume}.json"));
        let written = serde_json::to_vec(of_volume)
            .map_err(std::io::Error::other)
            .and_then(|bytes| atomic::write_atomic(&path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!(%volume, %error, "cannot write down when a volume was backed up");
        }
    }

    pub(super) fn all(&self) -> Vec<(Name, String, Last)> {
        let known = self.known.lock();
        let flat = |(volume, of_volume): (&Name, &OfVolume)| {
            let volume = volume.clone();
            of_volume
                .iter()
                .map(move |(destination, last)| (volume.clone(), destination.clone(), last.clone()))
                .collect::<Vec<_>>()
        };
        known.iter().flat_map(flat).collect()
    }

    pub(super) fn of(&self, volume: &str) -> Vec<Last> {
        self.known.lock().get(volume).map(|all| all.values().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_there_after_a_restart_and_damage_counts_for_nothing() {
        let root = tempfile::tempdir().unwrap();
        let volume = Name::from_static("vol1");
        let last = |backup: &str| Last {
            time: Timestamp::from_unix(1_800_000_000),
            files: Some(3),
            ..Last::new("snap1", backup)
        };
        let notes = LastBackups::open(root.path());
        notes.note(&volume, "vfs:///a", last("one"));
        notes.note(&volume, "vfs:///b", last("two"));
        notes.note(&volume, "vfs:///a", last("three"));
        let again = LastBackups::open(root.path());
        assert_eq!(again.of("vol1"), [last("three"), last("two")]);
        again.forget("two");
        // As development versions before wrote it.
        let old = r#"{"vfs:///a": {"time": "2026-11-30T06:16:06Z", "snapshot": "s", "backup": "b"}}"#;
        std::fs::write(root.path().join("backups/vol3.json"), old).unwrap();
        assert_eq!(LastBackups::open(root.path()).of("vol3")[0].bytes, None);
        std::fs::remove_file(root.path().join("backups/vol3.json")).unwrap();
        std::fs::write(root.path().join("backups/vol2.json"), "{").unwrap();
        assert_eq!(LastBackups::open(root.path()).all().len(), 1);
    }
}
