//! What a destination has, as directories: volumes by name, and the backups of each by time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoy_backup::BackupKind;
use convoy_driver_sdk::Timestamp;

use super::{LATEST, is_name};

/// A backup that is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its volume.
    pub volume: String,
    /// Its name.
    pub backup: String,
    /// When it was made, where its record says so in a form that is known.
    pub created: Option<Timestamp>,
    /// What it holds.
    pub kind: BackupKind,
}

impl Listed {
    pub(super) fn made(&self) -> Option<SystemTime> {
        let seconds = u64::try_from(self.created?.unix()).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// Times of any age are told as `2026-11-30T06:16:06Z`; else the name is that of the backup.
    fn name(&self) -> String {
        self.created.map_or_else(|| self.backup.clone(), |created| created.to_string())
    }
}

/// See the [module](self). The numbers of backups are those of the list that [`Catalog::new`] gives.
#[derive(Debug)]
pub(super) struct Catalog {
    volumes: Vec<Volume>,
    /// The directory of each backup.
    names: Vec<String>,
}

#[derive(Debug)]
struct Volume {
    name: String,
    backups: Range<usize>,
    by_name: BTreeMap<String, usize>,
}

impl Catalog {
    /// Gives the backups in order, too: by volume, and by time.
    pub(super) fn new(mut listed: Vec<Listed>) -> (Self, Vec<Listed>) {
        listed.retain(|it| {
            let shown = is_name(&it.volume) && is_name(&it.name());
            if !shown {
                tracing::warn!(volume = ?it.volume, backup = ?it.backup, "not shown: no directory can have that name");
            }
            shown
        });
        let by_time = |it: &Listed| (it.volume.clone(), it.created.map(Timestamp::unix), it.backup.clone());
        listed.sort_by_cached_key(by_time);
        let mut catalog = Self { volumes: Vec::new(), names: Vec::new() };
        let mut first = 0;
        for chunk in listed.chunk_by(|one, other| one.volume == other.volume) {
            let mut taken = BTreeSet::from([LATEST.to_owned()]);
            let mut by_name = BTreeMap::new();
            for (number, backup) in (first..).zip(chunk) {
                let name = free(&taken, &backup.name());
                taken.insert(name.clone());
                by_name.insert(name.clone(), number);
                catalog.names.push(name);
            }
            let name = chunk.first().map(|it| it.volume.clone()).unwrap_or_default();
            let backups = first..first + chunk.len();
            first = backups.end;
            catalog.volumes.push(Volume { name, backups, by_name });
        }
        (catalog, listed)
    }

    /// The name of a volume; empty if there are not so many.
    pub(super) fn volume_name(&self, number: usize) -> &str {
        self.volumes.get(number).map_or("", |volume| &volume.name)
    }

    /// The volume with a name.
    pub(super) fn volume(&self, name: &str) -> Option<usize> {
        self.volumes.binary_search_by(|volume| volume.name.as_str().cmp(name)).ok()
    }

    /// The directory of a backup.
    pub(super) fn name(&self, backup: usize) -> &str {
        self.names.get(backup).map_or("", String::as_str)
    }

    /// The backup of a volume with this directory.
    pub(super) fn backup(&self, volume: usize, name: &str) -> Option<usize> {
        self.volumes.get(volume)?.by_name.get(name).copied()
    }

    /// A backup of a volume by its number among them, the oldest first.
    pub(super) fn nth(&self, volume: usize, number: usize) -> Option<usize> {
        self.volumes.get(volume)?.backups.clone().nth(number)
    }

    /// The newest backup of a volume, and its directory.
    pub(super) fn latest(&self, volume: usize) -> Option<(usize, &str)> {
        let last = self.volumes.get(volume)?.backups.clone().next_back()?;
        Some((last, self.name(last)))
    }
}

/// The name, or one that goes on with a number where it is taken.
fn free(taken: &BTreeSet<String>, name: &str) -> String {
    if !taken.contains(name) {
        return name.to_owned();
    }
    let mut numbered = (2_u64..).map(|number| format!("{name}-{number}"));
    numbered.find(|name| !taken.contains(name)).unwrap_or_default()
}
