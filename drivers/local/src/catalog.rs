//! Engines, records and vaults; all calls work on them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::flock::LockFile;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Health, Open, Snapshot, Volume};
use convoy_driver_sdk::records::RecordStore;
use convoy_driver_sdk::{Context, DriverError, Name, handle};
use parking_lot::Mutex;

use crate::engine::Engine;
use crate::error::{LocalError, LocalResult};
use crate::options::DriverOptions;
use crate::paths::Reserved;
use crate::record::{SnapshotRecord, VolumeKind, VolumeRecord};
use crate::source::{self, Answers, Found, Source};
use crate::vault::{TREE, Vaults, snapshot_dir};

#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) engines: Vec<Engine>,
    pub(crate) records: RecordStore<VolumeRecord>,
    pub(crate) vaults: Vaults,
    /// The data roots of the engines, as they told them last.
    roots: Mutex<BTreeMap<usize, PathBuf>>,
    /// Volumes that this process is making or deleting.
    busy: Mutex<BTreeSet<Name>>,
    listed: Mutex<Listed>,
    /// No other process has it.
    _lock: LockFile,
}

/// What was listed last, by which a change is known.
#[derive(Debug)]
struct Listed {
    /// Of this process alone.
    life: String,
    number: u64,
    volumes: Vec<Volume>,
    warnings: Vec<String>,
}

/// What is known of a volume: by Docker, and by this driver.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) source: Option<Source>,
    pub(crate) record: Option<VolumeRecord>,
}

/// Says that this process works on a volume.
#[derive(Debug)]
pub(crate) struct Busy<'a> {
    busy: &'a Mutex<BTreeSet<Name>>,
    name: Name,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.name);
    }
}

impl Catalog {
    /// Opens the records; gives what a person should know. No engine is asked: Docker may start later.
    pub(crate) fn open(request: &Open, context: &Context) -> LocalResult<(Self, Vec<String>)> {
        let options = DriverOptions::parse(request)?;
        let (vaults, warnings) = Vaults::open(&request.root, &options.snapshots)?;
        let lock = LockFile::acquire(request.root.join("lock"), context)?;
        let catalog = Self {
            engines: options.sockets.into_iter().map(Engine::at).collect(),
            records: RecordStore::volumes(request.root.join("records"), "local")?,
            vaults,
            roots: Mutex::default(),
            busy: Mutex::default(),
            listed: Mutex::new(Listed {
                life: handle::random()?,
                number: 0,
                volumes: Vec::new(),
                warnings: Vec::new(),
            }),
            _lock: lock,
        };
        Ok((catalog, warnings))
    }

    /// The data root of an engine, asked anew.
    pub(crate) fn data_root(&self, engine: usize, context: &Context) -> LocalResult<PathBuf> {
        let root = match self.engines.get(engine) {
            Some(engine) => engine.data_root(context)?,
            None => PathBuf::from("/"),
        };
        self.roots.lock().insert(engine, root.clone());
        Ok(root)
    }

    /// Asks all engines what they have.
    pub(crate) fn look(&self, context: &Context) -> LocalResult<Found> {
        let mut answers = Vec::new();
        let mut reserved = Reserved::default();
        for (number, engine) in self.engines.iter().enumerate() {
            let known = self.roots.lock().get(&number).cloned();
            reserved.engines.push(match known {
                Some(root) => root,
                None => self.data_root(number, context)?,
            });
            answers
                .push(Answers { volumes: engine.volumes(context)?, containers: engine.containers(context)? });
        }
        reserved.own = self.vaults.iter().map(|vault| vault.path.clone()).collect();
        Ok(Found::read(&answers, &reserved, &MountTable::read()?))
    }

    /// The record of a volume that has snapshots, without a question to Docker.
    pub(crate) fn load_record(&self, name: &Name) -> LocalResult<VolumeRecord> {
        let record = self.records.load(name)?.filter(|record| !record.forgotten);
        record.ok_or_else(|| LocalError::NoVolume(name.clone()))
    }

    /// Writes a record, or removes it where it says nothing.
    pub(crate) fn save(&self, record: &VolumeRecord) -> LocalResult<()> {
        if record.is_idle() {
            return Ok(self.records.delete(&record.name)?);
        }
        Ok(self.records.save(&record.name, record)?)
    }

    /// Takes a volume for a change that others have to leave alone; none if somebody has it.
    pub(crate) fn occupy(&self, name: &Name) -> Option<Busy<'_>> {
        let taken = self.busy.lock().insert(name.clone());
        taken.then(|| Busy { busy: &self.busy, name: name.clone() })
    }

    /// Refuses to delete snapshots in a directory that no option names now: they would be left there.
    pub(crate) fn refuse_strange_vaults(&self, record: &VolumeRecord) -> LocalResult<()> {
        let strange = record
            .snapshots
            .values()
            .map(|taken| &taken.vault)
            .find(|vault| vault.is_dir() && !self.vaults.iter().any(|known| known.path == **vault));
        match strange {
            None => Ok(()),
            Some(vault) => Err(LocalError::Unusable {
                volume: record.name.clone(),
                path: vault.clone(),
                why: "snapshots are in it, and local.snapshots does not name it now".to_owned(),
            }),
        }
    }

    pub(crate) fn engine(&self, number: usize) -> LocalResult<&Engine> {
        let none = || DriverError::internal(format!("there is no engine {number}"));
        self.engines.get(number).ok_or_else(|| LocalError::from(none()))
    }

    /// Tells of a volume; none if it is not to be listed.
    pub(crate) fn describe(&self, name: &Name, entry: &Entry) -> Option<Volume> {
        if !entry.is_listed() {
            return None;
        }
        let record = entry.record.as_ref();
        let (kind, path, created) = match (&entry.source, record) {
            (Some(source), _) => (source.kind, &source.path, source.created),
            (None, Some(record)) => (record.kind, &record.path, record.created),
            (None, None) => return None,
        };
        let mut info = BTreeMap::from([
            ("Kind".to_owned(), kind.as_str().to_owned()),
            ("Path".to_owned(), path.display().to_string()),
        ]);
        if let Some(source) = &entry.source {
            let engine = self.engines.get(source.engine).map(Engine::socket).unwrap_or(Path::new(""));
            info.insert("Engine".to_owned(), engine.display().to_string());
            if !source.containers.is_empty() {
                info.insert("Containers".to_owned(), source.containers.join(", "));
            }
            if kind == VolumeKind::Volume {
                let maker = if source.ours { "convoy" } else { "Docker" };
                info.insert("MadeBy".to_owned(), maker.to_owned());
            }
        }
        let snapshots = record.map(|record| snapshots_of(record).collect()).unwrap_or_default();
        let health = match (&entry.source, kind) {
            (None, VolumeKind::Volume) => Health::Damaged(format!(
                "Docker has no such volume any more, and {} of it are kept: make a volume of one (`convoy \
                 snapshot clone`), or delete them (`convoy delete {name}`)",
                record.map_or(0, |record| record.snapshots.len())
            )),
            _ if !path.is_dir() => Health::Damaged(format!(
                "the data is not at {}: is the file system that it is on mounted?",
                path.display()
            )),
            _ => Health::Good,
        };
        Some(Volume::new(name.clone(), 0, created).info(info).snapshots(snapshots).health(health))
    }

    /// Names a state of the volumes: another one has another name.
    pub(crate) fn generation(&self, volumes: &[Volume], warnings: Vec<String>) -> (String, Vec<String>) {
        let mut listed = self.listed.lock();
        if listed.volumes != volumes || listed.warnings != warnings || listed.number == 0 {
            listed.number += 1;
            listed.volumes = volumes.to_vec();
            listed.warnings = warnings;
        }
        (format!("{}-{}", listed.life, listed.number), listed.warnings.clone())
    }
}

impl Entry {
    /// Whether it is a volume for users.
    pub(crate) fn is_listed(&self) -> bool {
        match &self.record {
            Some(record) if record.forgotten || record.publishing.is_some() => false,
            Some(record) => self.source.is_some() || !record.snapshots.is_empty(),
            None => self.source.is_some(),
        }
    }

    /// Opens the directory of the volume.
    pub(crate) fn open(&self, name: &Name) -> LocalResult<OwnedFd> {
        match (&self.source, &self.record) {
            (Some(source), _) => source.open(),
            // No container has it at the moment.
            (None, Some(record)) if record.kind == VolumeKind::Bind => source::open(name, &record.path, true),
            _ => Err(LocalError::Gone(name.clone())),
        }
    }

    pub(crate) fn path(&self, name: &Name) -> LocalResult<PathBuf> {
        match (&self.source, &self.record) {
            (Some(source), _) => Ok(source.path.clone()),
            (None, Some(record)) if record.kind == VolumeKind::Bind => Ok(record.path.clone()),
            _ => Err(LocalError::Gone(name.clone())),
        }
    }

    /// The record of the volume, or a new one.
    pub(crate) fn to_record(&self, name: &Name) -> LocalResult<VolumeRecord> {
        match (&self.record, &self.source) {
            (Some(record), _) => Ok(record.clone()),
            (None, Some(source)) => {
                Ok(VolumeRecord::new(name.clone(), source.kind, source.path.clone(), source.created))
            }
            (None, None) => Err(LocalError::NoVolume(name.clone())),
        }
    }
}

/// For what has to be done whoever waits for it: the rest of something that was begun.
pub(crate) fn to_the_end(context: &Context) -> Context {
    Context::new(context.request_id())
}

/// The snapshots that a record speaks of.
fn snapshots_of(record: &VolumeRecord) -> impl Iterator<Item = Snapshot> {
    record.snapshots.iter().map(|(name, taken)| snapshot(record, name, taken))
}

pub(crate) fn snapshot(volume: &VolumeRecord, name: &Name, taken: &SnapshotRecord) -> Snapshot {
    let tree = snapshot_dir(&taken.vault, &volume.name, name).join(TREE);
    let info = BTreeMap::from([("FilePath".to_owned(), tree.display().to_string())]);
    Snapshot::new(name.clone(), volume.name.clone(), taken.created).info(info)
}

pub(crate) fn missing(record: &VolumeRecord, snapshot: &Name, path: PathBuf) -> LocalError {
    LocalError::SnapshotMissing { volume: record.name.clone(), snapshot: snapshot.clone(), path }
}

/// The tree of a snapshot, which must be there.
pub(crate) fn tree_of(record: &VolumeRecord, snapshot: &Name) -> LocalResult<PathBuf> {
    let taken = record.snapshot(snapshot)?;
    let tree = snapshot_dir(&taken.vault, &record.name, snapshot).join(TREE);
    if tree.is_dir() { Ok(tree) } else { Err(missing(record, snapshot, tree)) }
}
