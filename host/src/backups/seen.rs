//! The newest encrypted backup that this host has seen of each volume at each destination.
//!
//! Whoever can write to a destination can put it back to an older state, in which everything is authentic.
//! Encrypted backups of a volume are counted by their records, which nobody without the key can make. So this
//! host remembers the highest count that it saw. When a volume has only lower ones and that backup is gone,
//! it says so. That another host deleted the newest backup looks the same, so it is told and not refused; a
//! check (`backup verify`) tells it a last time and takes what is there as the state to compare with. What
//! this host deletes it forgets, and what it never saw it cannot miss.
//!
//! One small file, `<root>/backups-seen.json`, written when something changes.

use convoy_driver_sdk::{Timestamp, atomic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Volumes that are remembered, some 200 bytes each. Beyond that the one that was not seen for longest is
/// forgotten.
const MOST: usize = 1024;

/// The newest backup that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Newest {
    pub(super) backup: String,
    pub(super) sequence: u64,
    seen: Timestamp,
    /// What was missing when somebody looked, until a check has told it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    lost: String,
}

/// By destination and volume.
type NewestByVolume = BTreeMap<String, BTreeMap<String, Newest>>;

/// See the [module](self). Its methods block for a moment when they write.
#[derive(Debug)]
pub(super) struct SeenBackups {
    path: PathBuf,
    known: Mutex<NewestByVolume>,
}

impl SeenBackups {
    /// Reads what there is; what cannot be read counts as never seen.
    pub(super) fn open(root: &Path) -> Self {
        let path = root.join("backups-seen.json");
        let known = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "what backups were seen is not known any more");
                NewestByVolume::default()
            }),
            Err(_) => NewestByVolume::default(),
        };
        Self { path, known: Mutex::new(known) }
    }

    /// The volumes that were seen at a destination.
    pub(super) fn volumes(&self, destination: &str) -> Vec<String> {
        let known = self.known.lock();
        known.get(destination).map(|volumes| volumes.keys().cloned().collect()).unwrap_or_default()
    }

    /// The newest backup that was seen of a volume.
    pub(super) fn newest(&self, destination: &str, volume: &str) -> Option<Newest> {
        self.known.lock().get(destination)?.get(volume).cloned()
    }

    /// Compares what is there of a volume, all its authentic backups with their sequences, and learns from
    /// it. Answers what to tell, if the state is older than one that was seen.
    pub(super) fn compare(&self, destination: &str, volume: &str, there: &[(String, u64)]) -> Option<String> {
        let newest = there.iter().max_by_key(|(_, sequence)| *sequence);
        let newest_sequence = newest.map_or(0, |(_, sequence)| *sequence);
        let mut known = self.known.lock();
        let mut entry = known.get(destination).and_then(|volumes| volumes.get(volume)).cloned();
        if let Some(seen) = &mut entry
            && seen.sequence > newest_sequence
            && seen.lost.is_empty()
        {
            seen.lost = format!(
                "this host saw backup {} of volume {volume} here, number {}, and the newest that is there \
                 now is number {newest_sequence}: another host deleted it, or somebody put the destination \
                 back to an older state",
                seen.backup, seen.sequence
            );
        }
        if let Some((backup, sequence)) = newest
            && entry.as_ref().is_none_or(|seen| *sequence > seen.sequence)
        {
            let lost = entry.map(|seen| seen.lost).unwrap_or_default();
            entry =
                Some(Newest { backup: backup.clone(), sequence: *sequence, seen: Timestamp::now(), lost });
        }
        let entry = entry?;
        let lost = entry.lost.clone();
        let before =
            known.entry(destination.to_owned()).or_default().insert(volume.to_owned(), entry.clone());
        if before.as_ref() != Some(&entry) {
            self.write(&mut known);
        }
        (!lost.is_empty()).then_some(lost)
    }

    /// As [`Self::compare`], and takes what is there for the state to compare with from now on.
    pub(super) fn settle(&self, destination: &str, volume: &str, there: &[(String, u64)]) -> Option<String> {
        let lost = self.compare(destination, volume, there)?;
        self.forget(destination, volume, None);
        self.compare(destination, volume, there);
        Some(lost)
    }

    /// Forgets a volume, or with a backup only if that is the newest that was seen.
    pub(super) fn forget(&self, destination: &str, volume: &str, backup: Option<&str>) {
        let mut known = self.known.lock();
        let Some(volumes) = known.get_mut(destination) else { return };
        let fits = |seen: &Newest| backup.is_none_or(|backup| seen.backup == backup);
        if volumes.get(volume).is_some_and(fits) {
            volumes.remove(volume);
            self.write(&mut known);
        }
    }

    fn write(&self, known: &mut NewestByVolume) {
        known.retain(|_, volumes| !volumes.is_empty());
        while known.values().map(BTreeMap::len).sum::<usize>() > MOST {
            let oldest = known
                .iter()
                .flat_map(|(place, volumes)| volumes.iter().map(move |(name, seen)| (seen.seen, place, name)))
                .min()
                .map(|(_, place, name)| (place.clone(), name.clone()));
            let Some((place, name)) = oldest else { break };
            if let Some(volumes) = known.get_mut(&place) {
                volumes.remove(&name);
            }
        }
        let written = serde_json::to_vec(known)
            .map_err(std::io::Error::other)
            .and_then(|bytes| atomic::write_atomic(&self.path, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot write down what backups were seen");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(sequences: &[u64]) -> Vec<(String, u64)> {
        sequences.iter().map(|sequence| (format!("backup-{sequence}"), *sequence)).collect()
    }

    #[test]
    fn an_older_state_is_told_until_a_check_has_told_it() {
        let root = tempfile::tempdir().unwrap();
        let seen = SeenBackups::open(root.path());
        assert_eq!(seen.compare("d", "v", &there(&[1, 2, 3])), None);
        assert_eq!(seen.compare("other", "v", &there(&[1])), None, "another destination");
        // Over a restart; also when the next backup of this host covers what is missing.
        let seen = SeenBackups::open(root.path());
        let told = seen.compare("d", "v", &there(&[1, 2])).unwrap();
        assert!(told.contains("backup-3") && told.contains("number 2"), "{told}");
        assert_eq!(seen.compare("d", "v", &there(&[1, 2, 4])), Some(told.clone()));
        assert_eq!(seen.settle("d", "v", &there(&[1, 2, 4])), Some(told));
        assert_eq!(seen.settle("d", "v", &there(&[1, 2, 4])), None);
        assert_eq!(seen.newest("d", "v").unwrap().sequence, 4);
        // All of it gone.
        assert!(seen.compare("d", "v", &[]).is_some());
    }

    #[test]
    fn what_this_host_deletes_and_what_others_go_on_from_is_no_older_state() {
        let root = tempfile::tempdir().unwrap();
        let seen = SeenBackups::open(root.path());
        seen.compare("d", "v", &there(&[1, 2, 3]));
        seen.forget("d", "v", Some("backup-2"));
        assert_eq!(seen.newest("d", "v").unwrap().backup, "backup-3", "the newest is still there");
        seen.forget("d", "v", Some("backup-3"));
        assert_eq!(seen.compare("d", "v", &there(&[1, 2])), None);
        // Another host deleted the newest and made one of its own.
        assert_eq!(seen.compare("d", "v", &[("another".to_owned(), 2)]), None);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let root = tempfile::tempdir().unwrap();
        let seen = SeenBackups::open(root.path());
        for number in 0..MOST + 10 {
            seen.known.lock().entry("d".to_owned()).or_default().insert(
                format!("v{number}"),
                Newest {
                    backup: "b".to_owned(),
                    sequence: 1,
                    seen: Timestamp::from_unix(1),
                    lost: String::new(),
                },
            );
        }
        seen.compare("d", "new", &there(&[1]));
        assert_eq!(seen.volumes("d").len(), MOST);
        assert!(seen.newest("d", "new").is_some());
    }
}
