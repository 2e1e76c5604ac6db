//! What the provider said a moment ago, for listings that come page by page.

use crate::provider::{CloudSnapshot, CloudVolume};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(2);

/// Answers by id; `None` for what does not exist. Emptied by every change made here.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    generation: u64,
    volumes: BTreeMap<String, (Instant, Option<CloudVolume>)>,
    snapshots: BTreeMap<String, (Instant, Option<CloudSnapshot>)>,
}

impl Cache {
    /// Something has changed.
    pub(super) fn clear(&self) {
        let mut entries = self.0.lock();
        entries.generation += 1;
        entries.volumes.clear();
        entries.snapshots.clear();
    }

    /// To be given to the `put` that follows: an answer that a change overtook is not kept.
    pub(super) fn generation(&self) -> u64 {
        self.0.lock().generation
    }

    pub(super) fn volumes(&self, ids: &[&str]) -> Option<BTreeMap<String, CloudVolume>> {
        fresh(&self.0.lock().volumes, ids)
    }

    pub(super) fn snapshots(&self, ids: &[&str]) -> Option<BTreeMap<String, CloudSnapshot>> {
        fresh(&self.0.lock().snapshots, ids)
    }

    pub(super) fn put_volumes(&self, generation: u64, ids: &[&str], found: &BTreeMap<String, CloudVolume>) {
        let mut entries = self.0.lock();
        if entries.generation == generation {
            put(&mut entries.volumes, ids, found);
        }
    }

    pub(super) fn put_snapshots(
        &self,
        generation: u64,
        ids: &[&str],
        found: &BTreeMap<String, CloudSnapshot>,
    ) {
        let mut entries = self.0.lock();
        if entries.generation == generation {
            put(&mut entries.snapshots, ids, found);
        }
    }
}

fn fresh<T: Clone>(
    kept: &BTreeMap<String, (Instant, Option<T>)>,
    ids: &[&str],
) -> Option<BTreeMap<String, T>> {
    let mut found = BTreeMap::new();
    for id in ids {
        match kept.get(*id) {
            Some((when, value)) if when.elapsed() < FRESH => {
                found.extend(value.clone().map(|value| ((*id).to_owned(), value)));
            }
            _ => return None,
        }
    }
    Some(found)
}

fn put<T: Clone>(
    kept: &mut BTreeMap<String, (Instant, Option<T>)>,
    ids: &[&str],
    found: &BTreeMap<String, T>,
) {
    let now = Instant::now();
    kept.retain(|_, (when, _)| when.elapsed() < FRESH);
    kept.extend(ids.iter().map(|id| ((*id).to_owned(), (now, found.get(*id).cloned()))));
}
