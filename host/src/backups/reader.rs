//! The backups at a destination for a program that is no daemon: listed once, and opened when they are entered.

use super::error::backup_error;
use super::secret::Secret;
use super::store::Store;
use crate::config::BackupSettings;
use convoy_backup::{BackupInfo, BackupResult, Browse, Engine, EngineOptions, ReadAt, RestoreOptions};
use convoy_driver_sdk::Timestamp;
use convoy_mount::{Kept, Listed, MountError, OPEN_MOST, Shelf};
use convoy_objectstore::plain_url;
use convoy_volumes::Result;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// What a person says of a destination to read.
#[derive(Debug, Default)]
pub(crate) struct AskedReader {
    /// Of the destination, or of one backup.
    pub(crate) url: String,
    pub(crate) endpoint: String,
    pub(crate) encryption_key_file: String,
    pub(crate) passphrase_file: String,
    pub(crate) allow_unencrypted: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Reader {
    store: Store,
    engine: Engine,
    options: RestoreOptions,
    runtime: Handle,
    cancel: CancellationToken,
    /// Who mounts the files on a device, if there is somebody.
    kept: Option<Arc<Kept>>,
}

impl Reader {
    /// Opens the destination, and lists its backups; or the one that is asked for. Reads no manifest.
    ///
    /// # Errors
    /// Those of the store; for a key that does not fit; for a backup that is not there.
    pub(crate) async fn open(
        asked: AskedReader,
        settings: &BackupSettings,
        kept: Option<Arc<Kept>>,
        cancel: CancellationToken,
    ) -> Result<(Self, Vec<Listed>)> {
        let mut options = EngineOptions::default();
        if let Some(memory) = settings.memory {
            options.memory = memory;
        }
        let to_list = Engine::new(options);
        // All that are open at the same time share it.
        options.memory /= u64::try_from(OPEN_MOST).unwrap_or(1);
        let engine = Engine::new(options);
        let url = plain_url(&asked.url);
        let destinations = &settings.destinations;
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let (store, listed, key) = if url.contains('?') {
            let (store, backup) = destinations.open_backup(&url, &asked.endpoint).await?;
            let key = store.key_to_read(&to_list, secret, asked.allow_unencrypted).await?;
            let found = to_list.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup).await;
            let found = found.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
            (store, vec![listed(found)], key)
        } else {
            let store = destinations.open_known(&to_list, &url, &asked.endpoint).await?;
            let key = store.key_to_read(&to_list, secret, asked.allow_unencrypted).await?;
            let all = to_list.list_checked(Arc::clone(&store.objects), None, key.0.as_ref()).await;
            let all = all.map_err(backup_error)?;
            for (volume, backup, error) in &all.unreadable {
                tracing::warn!(volume, backup, %error, "not shown: its record cannot be read");
            }
            (store, all.backups.into_iter().map(listed).collect(), key)
        };
        let (key, unencrypted) = key;
        let options = RestoreOptions { key, unencrypted, allow_losses: true };
        Ok((Self { store, engine, options, runtime: Handle::current(), cancel, kept }, listed))
    }
}

fn listed(info: BackupInfo) -> Listed {
    let created = Timestamp::parse(&info.created).ok();
    Listed { volume: info.volume, backup: info.backup, created, kind: info.kind }
}

impl Shelf for Reader {
    fn open_tree(&self, of: &Listed) -> BackupResult<Arc<dyn Browse>> {
        let objects = Arc::clone(&self.store.objects);
        let opened = self.engine.browse(objects, &of.volume, &of.backup, &self.options, &self.cancel);
        self.runtime.block_on(opened)
    }

    fn open_image(&self, of: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        let objects = Arc::clone(&self.store.objects);
        let opened = self.engine.open_image(objects, &of.volume, &of.backup, &self.options, &self.cancel);
        self.runtime.block_on(opened)
    }

    fn has_files(&self) -> bool {
        self.kept.is_some()
    }

    fn open_files(&self, image: Arc<dyn ReadAt>) -> std::result::Result<Arc<dyn Browse>, MountError> {
        match &self.kept {
            Some(kept) => kept.browse_image(image),
            None => Err(MountError::Keeper("nobody is there who mounts what is on a device".to_owned())),
        }
    }
}
