//! What is in a store: listing and inspecting.

use std::sync::Arc;

use convoy_objectstore::{Depth, ObjectStore, list_all};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};

use super::Engine;
use crate::api::{BackupInfo, Listing};
use crate::crypt::{KeySource, StoreKey, create_key, list_keys, unlock};
use crate::error::{BackupError, BackupResult};
use crate::format::manifest::BackupKind;
use crate::layout::{ROOT, VOLUMES, VolumeDir};
use crate::record::{BackupRecord, VolumeConfig};
use crate::timestamp;

/// Records read at the same time.
const AT_ONCE: usize = 16;

/// The backups of a volume with their records; one that cannot be read does not hide the others.
pub(crate) async fn records(
    store: &dyn ObjectStore,
    volume: &VolumeDir,
) -> BackupResult<Vec<(String, BackupResult<BackupRecord>)>> {
    let listed = list_all(store, &volume.backups(), Depth::One).await?.objects;
    let names: Vec<String> = listed.into_iter().filter_map(|object| volume.backup_of(&object.key)).collect();
    let load = |name: String| async move {
        let record = BackupRecord::load(store, volume, &name).await;
        (name, record)
    };
    let loads: Vec<BoxFuture<'_, _>> = names.into_iter().map(|name| load(name).boxed()).collect();
    let loaded: Vec<_> = futures::stream::iter(loads).buffered(AT_ONCE).collect().await;
    // Deleted since it was listed.
    Ok(loaded.into_iter().filter(|(_, record)| !record.as_ref().is_err_and(BackupError::not_found)).collect())
}

/// Every volume of a store.
pub(crate) async fn volumes(store: &dyn ObjectStore) -> BackupResult<Vec<VolumeDir>> {
    let mut dirs = vec![VOLUMES.to_owned()];
    for _ in 0..3 {
        let lists: Vec<BoxFuture<'_, _>> =
            dirs.iter().map(|dir| list_all(store, dir, Depth::One).boxed()).collect();
        let pages: Vec<_> = futures::stream::iter(lists).buffered(AT_ONCE).collect().await;
        dirs = pages
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flat_map(|page| page.dirs)
            .collect();
    }
    Ok(dirs.iter().filter_map(|dir| VolumeDir::from_dir(dir)).collect())
}

/// What a volume was like at different times: `volume.cfg` and what it said before.
pub(crate) struct Lives {
    lives: Vec<VolumeConfig>,
}

impl Lives {
    /// Loads them. Fails as 0.5 does if there is no `volume.cfg`.
    pub(crate) async fn load(store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<Self> {
        let mut lives = vec![VolumeConfig::load(store, volume).await?];
        for object in list_all(store, &volume.incarnations(), Depth::One).await?.objects {
            let bytes = store.get(&object.key, 1 << 20).await?;
            lives.extend(serde_json::from_slice::<VolumeConfig>(&bytes).ok());
        }
        Ok(Self { lives })
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
pub(crate) fn info(record: BackupRecord, lives: Option<&Lives>) -> BackupInfo {
    let life = lives.and_then(|lives| lives.at(&record.snapshot_created_at));
    let kind = match record.kind.as_deref() {
        Some("tree") => BackupKind::Tree,
        Some(_) => BackupKind::Block,
        None if record.v0_file().is_some() => BackupKind::Tree,
        None => BackupKind::Block,
    };
    BackupInfo {
        kind,
        format: record.format_version,
        driver: record.driver_name.unwrap_or_else(|| life.map_or(record.driver, |l| l.driver.clone())),
        volume_size: record.volume_size.unwrap_or_else(|| life.map_or(0, |l| l.size)),
        volume_created: record
            .volume_created_at
            .unwrap_or_else(|| life.map_or_else(String::new, |l| l.created_time.clone())),
        backup: record.name,
        volume: record.volume_name,
        snapshot: record.snapshot_name,
        snapshot_created: record.snapshot_created_at,
        created: record.created_time,
        encrypted: record.key_id.is_some(),
        options: record.options,
        stats: record.stats,
    }
}

impl Engine {
    /// The backups of a volume, or of all volumes.
    ///
    /// # Errors
    /// With a volume: [`convoy_objectstore::StoreError::NotFound`] of its `volume.cfg` if it has none, as 0.5 said. What the store says.
    pub async fn list(&self, store: Arc<dyn ObjectStore>, volume: Option<&str>) -> BackupResult<Listing> {
        let mut listing = Listing::default();
        let all = match volume {
            Some(name) => vec![VolumeDir::new(name)?],
            None => volumes(&*store).await?,
        };
        let one = volume.is_some();
        let load = |volume: VolumeDir| {
            let store = store.clone();
            async move {
                let (lives, records) = (Lives::load(&*store, &volume).await, records(&*store, &volume).await);
                (volume, lives, records)
            }
        };
        let loads: Vec<BoxFuture<'_, _>> = all.into_iter().map(|volume| load(volume).boxed()).collect();
        let mut loaded = futures::stream::iter(loads).buffered(AT_ONCE);
        while let Some((volume, lives, records)) = loaded.next().await {
            let lives = match lives {
                Ok(lives) => Some(lives),
                Err(error) if one => return Err(error),
                Err(error) => {
                    listing.unreadable.push((volume.name().to_owned(), String::new(), error));
                    None
                }
            };
            let records = match records {
                Err(error) if error.foreign() && !one => {
                    listing.unreadable.push((volume.name().to_owned(), String::new(), error));
                    continue;
                }
                records => records?,
            };
            for (name, record) in records {
                match record {
                    Ok(record) => listing.backups.push(info(record, lives.as_ref())),
                    Err(error) => listing.unreadable.push((volume.name().to_owned(), name, error)),
                }
            }
        }
        Ok(listing)
    }

    /// What is known of one backup.
    ///
    /// # Errors
    /// [`convoy_objectstore::StoreError::NotFound`] with the text of 0.5; [`BackupError::Damaged`], [`BackupError::Version`].
    pub async fn inspect(
        &self,
        store: Arc<dyn ObjectStore>,
        volume: &str,
        backup: &str,
    ) -> BackupResult<BackupInfo> {
        let volume = VolumeDir::new(volume)?;
        let record = BackupRecord::load(&*store, &volume, backup).await?;
        let lives = Lives::load(&*store, &volume).await;
        Ok(info(record, lives.ok().as_ref()))
    }

    /// Whether there is anything of convoy's in a store. What the first backup makes stays when the last one is deleted.
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
        create_key(store, source, self.options.lock_times()).await
    }
}
