//! What becomes of unfinished work after a crash.
//!
//! A parcel whose process is gone is settled by whoever opens the driver next, on any host, by one rule:
//! **what a record says should be there and is not, is put there; anything else is removed.** So an operation
//! that was cut off before its record was written is undone, and one that was cut off after it is finished. A
//! record speaks only of its own incarnation of a volume's name: a volume that was made anew under the name
//! of a deleted one gets nothing of what that had.
//!
//! Settling is quick, and one parcel cannot stop it: a parcel during which processes ended [`ATTEMPTS`] times
//! is set aside, and what is left when [`SETTLING`] is over stays for the next start.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::{Name, atomic};

use crate::catalog::Catalog;
use crate::error::{VfsResult, io_error};
use crate::files::{exists, place};
use crate::image::changed_size;
use crate::layout::SNAPSHOT_FILE;
use crate::parcel::{DATA, Kind, OLD, SNAPSHOTS};
use crate::quota::Quotas;
use crate::record::{Incarnation, SnapshotFile, SnapshotRecord, VolumeRecord};
use crate::trash::{self, ATTEMPTS, Trash, set_aside};
use crate::workspace::{LOCK, abandon, abandoned};

/// Which parcel is being settled, and for the how manieth time.
const SETTLING_NOW: &str = "settling";

/// How long a process of this host that may be on its way out is waited for.
const LEAVING: Duration = Duration::from_secs(2);

/// How long a process takes at most to give back all its locks when it ends.
const ENDING: Duration = Duration::from_millis(200);

/// How long settling may keep the driver from being open.
const SETTLING: Duration = Duration::from_secs(30);

/// How often processes ended while they settled a parcel of an abandoned workspace, written down there.
struct Deaths {
    file: PathBuf,
    /// The parcel that was being settled when the last one ended, and how often that happened.
    last: Option<(u32, String)>,
}

impl Deaths {
    fn of(dir: &Path) -> Self {
        let file = dir.join(SETTLING_NOW);
        let last = fs::read_to_string(&file).ok().and_then(|text| {
            let (deaths, parcel) = text.split_once(' ')?;
            Some((deaths.parse().ok()?, parcel.to_owned()))
        });
        Self { file, last }
    }

    fn before(&self, parcel: &OsStr) -> u32 {
        self.last.as_ref().filter(|(_, last)| OsStr::new(last) == parcel).map_or(0, |(deaths, _)| *deaths)
    }

    /// Counts the death that would follow now.
    fn begin(&self, parcel: &OsStr) -> VfsResult<()> {
        let text = format!("{} {}", self.before(parcel) + 1, parcel.to_string_lossy());
        atomic::write_atomic(&self.file, text.as_bytes(), 0o600).map_err(io_error("write", &self.file))
    }

    fn forget(&self) {
        // Not there, as a rule.
        let _ = fs::remove_file(&self.file);
    }
}

type RecordInStore<'a> = (VolumeRecord, &'a RecordStore<VolumeRecord>);

/// Finishes or undoes what processes left that are gone. Gives in words what was done and what could not be.
pub(crate) fn settle(catalog: &Catalog) -> (Vec<String>, Vec<String>) {
    let mut reconciler = Reconciler { catalog, done: Vec::new(), warnings: Vec::new() };
    reconciler.run();
    (reconciler.done, reconciler.warnings)
}

struct Reconciler<'a> {
    catalog: &'a Catalog,
    /// What was done, in words.
    done: Vec<String>,
    /// What could not be done.
    warnings: Vec<String>,
}

impl Reconciler<'_> {
    fn run(&mut self) {
        let mut trash = Vec::new();
        let give_up = Instant::now() + SETTLING;
        for (dir, lock) in abandoned(&self.catalog.layout, LEAVING) {
            let deaths = Deaths::of(&dir);
            for parcel in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let file = parcel.file_name();
                if file == LOCK || file == SETTLING_NOW {
                    continue;
                }
                if Instant::now() >= give_up {
                    self.warnings.push(format!("there was no time to settle all of {}", dir.display()));
                    break;
                }
                match self.parcel(&parcel.path(), &file, &deaths) {
                    Ok(Some(found)) => trash.push(found.durable()),
                    Ok(None) => {}
                    Err(error) => {
                        self.warnings.push(format!("cannot settle {}: {error}", parcel.path().display()));
                    }
                }
            }
            deaths.forget();
            // Half-written counts. What cannot be cleaned keeps the directory, and nothing else.
            let _ = atomic::clean(&dir);
            abandon(dir, lock);
        }
        self.catalog.workspace.empty(trash);
    }

    /// Settles a parcel: what is left of it is trash.
    fn parcel(&mut self, path: &Path, file: &OsStr, deaths: &Deaths) -> VfsResult<Option<Trash>> {
        let attempts = trash::parse(file).map_or(0, |(attempts, _)| attempts);
        if attempts >= ATTEMPTS || deaths.before(file) >= ATTEMPTS {
            let why = format!("convoy ended {ATTEMPTS} times while it worked on this");
            set_aside(&self.catalog.layout.aside(), path, &why)?;
            self.warnings.push(format!("{} was set aside: {why}", path.display()));
            return Ok(None);
        }
        if let Some((attempts, volume)) = trash::parse(file) {
            return self.catalog.workspace.throw_away(path, attempts, volume).map(Some);
        }
        // Nothing of ours is left alone.
        let Some((kind, incarnation, name)) = Kind::parse(file) else { return Ok(None) };
        if kind != Kind::Scratch {
            deaths.begin(file)?;
            let done = self.locked(&name, |this| match kind {
                Kind::Volume => this.volume(&name, incarnation, path),
                Kind::Create => this.create(&name),
                Kind::Revert => this.revert(&name, incarnation, path),
                Kind::Snapshot => this.snapshot(&name, incarnation, path),
                Kind::Resize => this.resize(&name, incarnation),
                Kind::Scratch => Ok(None),
            })?;
            self.done.extend(done);
        }
        if !exists(path) {
            return Ok(None);
        }
        self.catalog.workspace.throw_away(path, 0, name.as_str()).map(Some)
    }

    /// The record of a volume, or of what is kept of one, and its store, if it is of that incarnation.
    fn record(&self, name: &Name, incarnation: Option<&str>) -> VfsResult<Option<RecordInStore<'_>>> {
        for store in [&self.catalog.records, &self.catalog.kept] {
            if let Some(record) = store.load(name)? {
                let same = record.incarnation.as_ref().map(Incarnation::as_str) == incarnation;
                return Ok(same.then_some((record, store)));
            }
        }
        Ok(None)
    }

    fn locked(
        &self,
        volume: &Name,
        settle: impl FnOnce(&Self) -> VfsResult<Option<String>>,
    ) -> VfsResult<Option<String>> {
        // A process that ends gives its locks back one by one. Whoever else has it may have it for long: then
        // this is left to the next start.
        let give_up = Instant::now() + ENDING;
        let _lock = loop {
            match self.catalog.locks.try_acquire(volume) {
                Err(_) if Instant::now() < give_up => std::thread::sleep(Duration::from_millis(10)),
                other => break other?,
            }
        };
        settle(self)
    }

    fn volume(&self, name: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        if self.record(name, incarnation)?.is_none() {
            return Ok(Some(format!("removed what an interrupted operation left of volume {name}")));
        }
        let mut restored = false;
        for (from, to) in [
            (parcel.join(DATA), self.catalog.layout.volume(name)),
            (parcel.join(SNAPSHOTS), self.catalog.layout.snapshots(name)),
        ] {
            if from.exists() && !exists(&to) {
                place(&from, &to)?;
                restored = true;
            }
        }
        Ok(restored
            .then(|| format!("put the data of volume {name} in its place after an interrupted operation")))
    }

    fn create(&self, name: &Name) -> VfsResult<Option<String>> {
        let dir = self.catalog.layout.volume(name);
        // Only if it is empty: whatever is in it, somebody put there.
        let undone = self.catalog.records.load(name)?.is_none() && fs::remove_dir(&dir).is_ok();
        Ok(undone.then(|| format!("removed the directory of volume {name}, whose creation was interrupted")))
    }

    fn revert(&self, name: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        let Some((mut record, store)) = self.record(name, incarnation)? else { return Ok(None) };
        let (new, data) = (parcel.join(DATA), self.catalog.layout.volume(name));
        // The old tree is taken away only when the new one is whole.
        let old = parcel.join(OLD);
        let finished = exists(&old) && !exists(&data);
        if finished {
            place(if exists(&new) { &new } else { &old }, &data)?;
        }
        if let Some(size) = changed_size(&record, &data) {
            record.size = size;
            store.save(name, &record)?;
        }
        Ok(finished.then(|| format!("finished putting volume {name} back to a snapshot")))
    }

    fn resize(&self, name: &Name, incarnation: Option<&str>) -> VfsResult<Option<String>> {
        let Some((record, _)) = self.record(name, incarnation)? else { return Ok(None) };
        // Where that cannot be, the doctor tells it.
        let limited = Quotas::of(&self.catalog.layout.path)
            .and_then(|quotas| quotas.limit(&self.catalog.layout.volume(name), record.size));
        Ok(limited.is_ok().then(|| format!("limited volume {name} to its size after an interrupted resize")))
    }

    fn snapshot(&self, volume: &Name, incarnation: Option<&str>, parcel: &Path) -> VfsResult<Option<String>> {
        let removed =
            || Ok(Some(format!("removed what an interrupted operation left of a snapshot of {volume}")));
        let Ok(bytes) = fs::read(parcel.join(SNAPSHOT_FILE)) else { return removed() };
        let Ok(file) = serde_json::from_slice::<SnapshotFile>(&bytes) else { return removed() };
        let listed = self
            .record(volume, incarnation)?
            .is_some_and(|(record, _)| record.snapshots.get(&file.name).is_some_and(SnapshotRecord::is_tree));
        let to = self.catalog.layout.snapshot(volume, &file.name);
        if file.volume != *volume || !listed || exists(&to) {
            return removed();
        }
        place(parcel, &to)?;
        Ok(Some(format!("put snapshot {} of volume {volume} in its place", file.name)))
    }
}
