//! What is in a store: listing and inspecting.

use std::collections::HashMap;
use std::sync::Arc;

use convoy_objectstore::{Depth, ObjectStore, Pages, StoreError};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{Engine, trust};
use crate::crypt::{KeySource, StoreKey, create_key, list_keys, unlock};
use crate::error::{BackupError, BackupResult};
use crate::format::limits::{CONFIG_MAX, RECORD_MAX, SMALL_OBJECT};
use crate::format::manifest::BackupKind;
use crate::layout::{ROOT, VOLUMES, VolumeDir};
use crate::memory::{Charge, Memory};
use crate::record::{BackupRecord, VolumeConfig};
use crate::timestamp;
use crate::types::{BackupInfo, Listing};

/// Records read at the same time.
const AT_ONCE: usize = 16;

/// Takes a backup found by its listing: its name, and its record or why that cannot be read.
pub(crate) type RecordVisitor<'a> =
    &'a mut (dyn FnMut(String, BackupResult<BackupRecord>) -> BackupResult<()> + Send);

/// Calls `found` with the backups of a volume; one that cannot be read does not hide the others. What is kept
/// of them is the caller's to charge.
pub(crate) async fn records(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
    memory: &Arc<Memory>,
    found: RecordVisitor<'_>,
) -> BackupResult<()> {
    let load = |name: String| async move {
        let mut charge = memory.charge();
        // What lists blocks is loaded when it is its turn.
        let small = store.get(&volume.backup(&name)?, SMALL_OBJECT).await;
        let record = match small {
            Ok(bytes) => BackupRecord::of_backup(volume, &name, &bytes, &mut charge).map(Some),
            Err(StoreError::TooLarge { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        };
        Ok::<_, BackupError>((name, record))
    };
    let mut pages = Pages::new(store, &volume.backups(), Depth::One);
    while let Some(page) = pages.next().await? {
        let names = page.objects.into_iter().filter_map(|object| volume.backup_of(&object.key));
        let loads: Vec<BoxFuture<'_, _>> = names.map(|name| load(name).boxed()).collect();
        let mut loaded = futures::stream::iter(loads).buffered(AT_ONCE);
        while let Some((name, record)) = loaded.try_next().await? {
            let mut charge = memory.charge();
            let record = match record {
                Ok(Some(record)) => Ok(record),
                Ok(None) => BackupRecord::load(store, volume, &name, &mut charge).await,
                Err(error) => Err(error),
            };
            // Deleted since it was listed.
            if !record.as_ref().is_err_and(BackupError::not_found) {
                found(name, record)?;
            }
        }
    }
    Ok(())
}

/// Every volume of a store.
pub(crate) async fn volumes(store: &dyn ObjectStore, memory: &Arc<Memory>) -> BackupResult<Vec<VolumeDir>> {
    let mut charge = memory.charge();
    let mut dirs = vec![VOLUMES.to_owned()];
    for _ in 0..3 {
        let lists: Vec<BoxFuture<'_, _>> =
            dirs.iter().map(|dir| directories(store, dir, memory).boxed()).collect();
        let mut listed = futures::stream::iter(lists).buffered(AT_ONCE);
        let mut below = Vec::new();
        while let Some((dirs, taken)) = listed.try_next().await? {
            below.extend(dirs);
            charge.merge(taken);
        }
        drop(listed);
        dirs = below;
    }
    Ok(dirs.iter().filter_map(|dir| VolumeDir::from_dir(dir)).collect())
}

/// The directories in a directory, and the memory they take: here, in the next listing, and as what they are
/// the directories of.
async fn directories(
    store: &dyn ObjectStore,
    dir: &str,
    memory: &Arc<Memory>,
) -> BackupResult<(Vec<String>, Charge)> {
    let (mut dirs, mut charge) = (Vec::new(), memory.charge());
    let mut pages = Pages::new(store, dir, Depth::One);
    while let Some(page) = pages.next().await? {
        for found in page.dirs {
            charge.add(dir, 3 * found.len() + 256)?;
            dirs.push(found);
        }
    }
    Ok((dirs, charge))
}

/// Just the key of a record, whatever else is in it.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyOf {
    key_id: Option<serde::de::IgnoredAny>,
}

/// Any encrypted backup of a store: volume and backup. Reads every record until there is one.
pub(crate) async fn any_encrypted(
    store: &dyn ObjectStore,
    memory: &Arc<Memory>,
) -> BackupResult<Option<(String, String)>> {
    for volume in volumes(store, memory).await? {
        let load = |name: String| {
            let volume = &volume;
            async move {
                // Larger ones are of 0.5, which knew no encryption.
                let bytes = match store.get(&volume.backup(&name)?, RECORD_MAX as u64).await {
                    Ok(bytes) => bytes,
                    Err(StoreError::TooLarge { .. }) => return Ok(None),
                    Err(error) if error.not_found() => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                // One that is damaged says nothing.
                let key = serde_json::from_slice::<KeyOf>(&bytes).ok().and_then(|record| record.key_id);
                Ok::<_, BackupError>(key.map(|_| name))
            }
        };
        let dir = volume.backups();
        let mut pages = Pages::new(store, &dir, Depth::One);
        while let Some(page) = pages.next().await? {
            let names = page.objects.into_iter().filter_map(|object| volume.backup_of(&object.key));
            let loads: Vec<BoxFuture<'_, _>> = names.map(|name| load(name).boxed()).collect();
            let mut loads = futures::stream::iter(loads).buffered(AT_ONCE);
            while let Some(loaded) = loads.try_next().await? {
                if let Some(backup) = loaded {
                    return Ok(Some((volume.name().to_owned(), backup)));
                }
            }
        }
    }
    Ok(None)
}

/// What a volume was like at different times: `volume.cfg` and what it said before.
pub(crate) struct Lives {
    lives: Vec<VolumeConfig>,
    _charge: Charge,
}

impl Lives {
    /// Loads them. Fails as 0.5 does if there is no `volume.cfg`.
    pub(crate) async fn load(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        memory: &Arc<Memory>,
    ) -> BackupResult<Self> {
        let mut lives = vec![VolumeConfig::load(store, volume).await?];
        let mut charge = memory.charge();
        let mut pages = Pages::new(store, &volume.incarnations(), Depth::One);
        while let Some(page) = pages.next().await? {
            for object in page.objects {
                let bytes = store.get(&object.key, CONFIG_MAX).await?;
                charge.add(&object.key, bytes.len() + size_of::<VolumeConfig>())?;
                lives.extend(serde_json::from_slice::<VolumeConfig>(&bytes).ok());
            }
        }
        Ok(Self { lives, _charge: charge })
    }

    /// The life in which a snapshot was made: the youngest that is not younger than it; else the current one.
    fn at(&self, moment: &str) -> Option<&VolumeConfig> {
        let moment = timestamp::parse(moment);
        let began = |life: &&VolumeConfig| timestamp::parse(&life.created_time);
        let before = self
            .lives
            .iter()
            .filter(|life| moment.is_some() && began(life).is_some_and(|t| Some(t) <= moment));
        before.max_by_key(began).or(self.lives.first())
    }
}

/// What is known of a backup. What its own record does not say, the volume's does.
pub(crate) fn info(record: &BackupRecord, lives: Option<&Lives>) -> BackupInfo {
    // Only records of 0.5 leave anything to `volume.cfg`, which no key vouches for.
    let lives = lives.filter(|_| record.format_version == 0);
    let life = lives.and_then(|lives| lives.at(&record.snapshot_created_at));
    let kind = match record.kind.as_deref() {
        Some("tree") => BackupKind::Tree,
        Some(_) => BackupKind::Block,
        None if record.v0_file().is_some() => BackupKind::Tree,
        None => BackupKind::Block,
    };
    let created = || life.map_or_else(String::new, |l| l.created_time.clone());
    BackupInfo {
        kind,
        format: record.format_version,
        driver: record
            .driver_name
            .clone()
            .unwrap_or_else(|| life.map_or(&record.driver, |l| &l.driver).clone()),
        volume_size: record.volume_size.unwrap_or_else(|| life.map_or(0, |l| l.size)),
        volume_created: record.volume_created_at.clone().unwrap_or_else(created),
        backup: record.name.clone(),
        volume: record.volume_name.clone(),
        snapshot: record.snapshot_name.clone(),
        snapshot_created: record.snapshot_created_at.clone(),
        created: record.created_time.clone(),
        encrypted: record.is_encrypted(),
        authentic: false,
        sequence: record.sequence,
        options: record.options.clone(),
        stats: record.stats.clone(),
        bytes: record.bytes(),
        labels: record.labels.clone(),
        excluded: record.excluded.clone(),
    }
}

/// What is known of a backup, and whether this key vouches for it.
fn checked(
    volume: &VolumeDir,
    record: &BackupRecord,
    lives: Option<&Lives>,
    key: Option<&StoreKey>,
) -> BackupResult<BackupInfo> {
    let key = key.filter(|key| record.is_encrypted() && record.key_id.as_deref() == Some(key.id()));
    if let Some(key) = key {
        trust::check_code(volume, record, key)?;
    }
    let authentic = key.is_some() && record.code.is_some();
    Ok(BackupInfo { authentic, ..info(record, lives) })
}

impl Engine {
    /// The backups of a volume, or of all volumes.
    ///
    /// # Errors
    /// With a volume: [`convoy_objectstore::StoreError::NotFound`] of its `volume.cfg` if it has none, as 0.5
    /// said. What the store says.
    pub async fn list(&self, store: Arc<dyn ObjectStore>, volume: Option<&str>) -> BackupResult<Listing> {
        self.list_checked(store, volume, None).await
    }

    /// As [`Engine::list`], and says for which backups this key vouches. An encrypted one that was tampered
    /// with cannot be read.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub async fn list_checked(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: Option<&str>,
        key: Option<&StoreKey>,
    ) -> BackupResult<Listing> {
        let mut listing = Listing::default();
        let memory = self.options.memory_to_look();
        let all = match volume {
            Some(name) => vec![VolumeDir::new(name)?],
            None => volumes(&*store, &memory).await?,
        };
        let one = volume.is_some();
        let load = |volume: VolumeDir| {
            let (store, memory) = (store.clone(), &memory);
            async move {
                let lives = Lives::load(&*store, &volume, memory).await;
                // All of them, and those of the volumes listed before, are in memory at the end.
                let (mut charge, mut found) = (memory.charge(), Listing::default());
                let life = lives.as_ref().ok();
                let listed = records(&*store, &volume, memory, &mut |name, record| {
                    charge.add(volume.dir(), 512)?;
                    match record.and_then(|record| checked(&volume, &record, life, key)) {
                        Ok(info) => {
                            charge.add(volume.dir(), info.weight())?;
                            found.backups.push(info);
                        }
                        Err(error) => {
                            charge.add(volume.dir(), error.to_string().len())?;
                            found.unreadable.push((volume.name().to_owned(), name, error));
                        }
                    }
                    Ok(())
                })
                .await
                .map(|()| found);
                (volume, lives.map(drop), listed, charge)
            }
        };
        let loads: Vec<BoxFuture<'_, _>> = all.into_iter().map(|volume| load(volume).boxed()).collect();
        let mut loaded = futures::stream::iter(loads).buffered(AT_ONCE);
        let mut all = memory.charge();
        while let Some((volume, lives, found, charge)) = loaded.next().await {
            all.merge(charge);
            match lives {
                Ok(()) => {}
                Err(error) if one => return Err(error),
                Err(error) => listing.unreadable.push((volume.name().to_owned(), String::new(), error)),
            }
            let found = match found {
                Err(error) if error.foreign() && !one => {
                    listing.unreadable.push((volume.name().to_owned(), String::new(), error));
                    continue;
                }
                found => found?,
            };
            listing.backups.extend(found.backups);
            listing.unreadable.extend(found.unreadable);
        }
        Ok(listing)
    }

    /// Bytes that the archives of 0.5 among these backups take, by volume and backup. Each belongs to one
    /// backup alone. One that is not there is left out.
    ///
    /// # Errors
    /// What the store says.
    pub async fn archive_sizes(
        &self,
        store: &dyn ObjectStore,
        backups: &[BackupInfo],
    ) -> BackupResult<HashMap<(String, String), u64>> {
        let is_archive =
            |info: &&BackupInfo| info.format == 0 && info.kind == BackupKind::Tree && info.stats.is_none();
        let size = |info: &BackupInfo| {
            let names = (info.volume.clone(), info.backup.clone());
            async move {
                let volume = VolumeDir::new(&names.0)?;
                volume.backup(&names.1)?;
                match store.head(&volume.v0_file(&names.1)).await {
                    Ok(object) => Ok(Some((names, object.size))),
                    Err(StoreError::NotFound { .. } | StoreError::Foreign { .. }) => Ok(None),
                    Err(error) => Err(BackupError::from(error)),
                }
            }
        };
        let sizes: Vec<BoxFuture<'_, _>> =
            backups.iter().filter(is_archive).map(|info| size(info).boxed()).collect();
        let mut sizes = futures::stream::iter(sizes).buffered(AT_ONCE);
        let mut all = HashMap::new();
        while let Some(found) = sizes.try_next().await? {
            all.extend(found);
        }
        Ok(all)
    }

    /// What is known of one backup.
    ///
    /// # Errors
    /// [`convoy_objectstore::StoreError::NotFound`] with the text of 0.5; [`BackupError::Damaged`],
    /// [`BackupError::Version`].
    pub async fn inspect(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
    ) -> BackupResult<BackupInfo> {
        let volume = VolumeDir::new(volume)?;
        let memory = self.options.memory_to_look();
        let record = BackupRecord::load(&*store, &volume, backup, &mut memory.charge()).await?;
        let lives = Lives::load(&*store, &volume, &memory).await;
        Ok(info(&record, lives.ok().as_ref()))
    }

    /// Whether the record of a backup is there.
    ///
    /// # Errors
    /// What the store says.
    pub async fn has_backup(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
    ) -> BackupResult<bool> {
        match store.head(&VolumeDir::new(volume)?.backup(backup)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there is anything of convoy's in a store. What the first backup makes stays when the last one
    /// is deleted.
    ///
    /// # Errors
    /// What the store says.
    pub async fn is_known(&self, store: Arc<dyn ObjectStore>) -> BackupResult<bool> {
        let page = store.list(ROOT, Depth::One, None).await?;
        Ok(!page.objects.is_empty() || !page.dirs.is_empty())
    }

    /// Whether a store has a key, and so may have encrypted backups.
    ///
    /// # Errors
    /// What the store says.
    pub async fn has_keys(&self, store: Arc<dyn ObjectStore>) -> BackupResult<bool> {
        Ok(!list_keys(&*store).await?.is_empty())
    }

    /// Opens the key of a store for reading its encrypted backups.
    ///
    /// # Errors
    /// [`BackupError::KeyWrong`]; what the store says.
    pub async fn unlock(&self, store: Arc<dyn ObjectStore>, source: &KeySource) -> BackupResult<StoreKey> {
        unlock(&*store, source).await
    }

    /// Opens the key of a store for writing encrypted backups, and makes it if the store has none yet.
    ///
    /// # Errors
    /// [`BackupError::KeyWrong`] if the store has a key that this does not open; what the store says.
    pub async fn new_key(&self, store: Arc<dyn ObjectStore>, source: &KeySource) -> BackupResult<StoreKey> {
        create_key(store, source, self.options.lock_times(), &self.options.memory_to_look()).await
    }
}
