//! A volume from a backup in a store.

use super::error::backup_error;
use super::progress::watched;
use super::secret::Secret;
use super::service::Backups;
use super::store::parsed;
use convoy_activity::jobs::Running;
use convoy_activity::metrics::{Bytes, METRICS};
use convoy_backup::{BackupInfo, BackupKind, Progress, RestoreOptions, Target};
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, FinishRestore, PrepareRestore, PreparedRestore, SourceKind, TargetLocation,
};
use convoy_drivers::RequestContext;
use convoy_objectstore::BackupUrl;
use convoy_volumes::{CHANGE, CreateSpec, Entry, Error, ManagedDriver, Result};
use std::sync::Arc;

impl Backups {
    /// Makes a volume and fills it. It is not seen as a volume before it is whole; when anything fails,
    /// nothing is left.
    pub(super) async fn restore_from_store(
        &self,
        name: &Name,
        spec: &CreateSpec,
        url: &str,
        job: &Running,
        request_id: &str,
    ) -> Result<Entry> {
        if let Some(rules) = &spec.docker {
            rules.check_destination(&parsed::<BackupUrl>(url)?.destination)?;
        }
        let reservation = self.volumes.reserve(name)?;
        let (store, backup) = self.destinations().open_backup(url, &spec.endpoint).await?;
        // First what is not there: that needs no key.
        let there = self.engine.inspect(Arc::clone(&store.objects), &backup.volume, &backup.backup).await;
        there.map_err(|error| store.missing(error, &backup.volume, Some(&backup.backup)))?;
        let secret = Secret::asked(&spec.encryption_key_file, &spec.passphrase_file)?;
        let (key, unencrypted) = store.key_to_read(&self.engine, secret, spec.allow_unencrypted).await?;
        let options = RestoreOptions { key, unencrypted, allow_losses: spec.allow_losses };
        let vouched = self
            .engine
            .vouch(Arc::clone(&store.objects), &backup.volume, &backup.backup, &options)
            .await
            .map_err(backup_error)?;
        let info = vouched.info;
        for warning in vouched.warnings {
            tracing::warn!(volume = %name, warning, "not everything of the backup is used");
        }
        if let Some(older) = self.notice(&store, options.key.as_ref(), &backup.volume).await {
            tracing::warn!(volume = %name, older, "there may have been newer backups");
        }
        let driver = self.driver_for(&info, &spec.driver)?;
        let request = prepare_request(name, spec, &info, driver)?;
        let call = job.call(request_id);
        let engine = self.memory.share(job).await?;

        let guard = self.volumes.lock(name, "restore").await?;
        let prepared = driver.change(request, &call.within(CHANGE), &guard).await?;
        drop(guard);
        let PreparedRestore { handle, location, .. } = prepared;
        let progress = Progress::new();
        let cancel = job.cancel();
        let filling = engine.restore(
            Arc::clone(&store.objects),
            &backup.volume,
            &backup.backup,
            target(location),
            &options,
            &progress,
            &cancel,
        );
        let summary = match watched(job, &engine, &progress, "writing", filling).await {
            Ok(summary) => summary,
            Err(error) => {
                self.abort(name, driver, handle, request_id).await;
                return Err(backup_error(error));
            }
        };
        METRICS.moved(Bytes::Restored, summary.bytes);
        for loss in &summary.losses.texts {
            tracing::warn!(volume = %name, loss, "refused by the file system");
        }
        for warning in &summary.warnings {
            tracing::warn!(volume = %name, warning, "not everything could be restored");
        }
        job.warn(
            summary.losses.texts.into_iter().map(|loss| format!("lost: {loss}")).chain(summary.warnings),
        );
        let guard = self.volumes.lock(name, "restore").await?;
        let finish = FinishRestore::new(handle.clone());
        match driver.change(finish, &RequestContext::new(request_id).within(CHANGE), &guard).await {
            Ok(volume) => self.volumes.created(driver, volume, reservation),
            Err(error) => {
                drop(guard);
                self.abort(name, driver, handle, request_id).await;
                // Where the answer was lost the volume may be there: then the next listing shows it.
                driver.suspect();
                Err(error.into())
            }
        }
    }

    async fn abort(&self, name: &Name, driver: &ManagedDriver, handle: String, request_id: &str) {
        // Not the job's call: a cancelled job undoes what it began.
        let call = RequestContext::new(request_id).within(CHANGE);
        let aborted = match self.volumes.lock(name, "restore").await {
            Ok(guard) => driver.change(AbortRestore::new(handle), &call, &guard).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        if let Err(error) = aborted {
            tracing::warn!(volume = %name, %error, "what a failed restore wrote stays until the driver is \
                                                    started again");
        }
    }

    /// The driver to restore with: the one that was named; else the one the backup was made with, the default
    /// one, or any other that takes this kind of data.
    fn driver_for(&self, info: &BackupInfo, named: &str) -> Result<&Arc<ManagedDriver>> {
        let (needed, what) = match info.kind {
            BackupKind::Tree => (Capability::RestoreTree, "restoring a directory tree"),
            BackupKind::Block => (Capability::RestoreBlock, "restoring a block device"),
        };
        let drivers = self.volumes.drivers();
        if !named.is_empty() {
            let driver = drivers.get(named)?;
            if driver.failure().is_none() && !driver.can(needed) {
                return Err(Error::Unsupported { driver: driver.name().clone(), what });
            }
            return Ok(driver);
        }
        let made_with = drivers.iter().find(|driver| driver.name().as_str() == info.driver);
        let mut candidates = made_with.into_iter().chain(drivers.iter());
        candidates
            .find(|driver| driver.can(needed))
            .ok_or_else(|| Error::Unsupported { driver: drivers.default_driver().name().clone(), what })
    }
}

fn prepare_request(
    name: &Name,
    spec: &CreateSpec,
    info: &BackupInfo,
    driver: &ManagedDriver,
) -> Result<PrepareRestore> {
    // What the backup says comes first; what the user says now has the last word.
    let known = |option: &String| {
        driver.description().is_some_and(|told| told.create_options.iter().any(|known| known.name == *option))
    };
    let mut options: std::collections::BTreeMap<String, String> = info
        .options
        .iter()
        .filter(|(option, _)| known(option))
        .map(|(option, value)| (option.clone(), value.clone()))
        .collect();
    options.extend(spec.options_for(driver, name)?);
    let (kind, needed) = match info.kind {
        BackupKind::Tree => (SourceKind::Tree, info.volume_size),
        BackupKind::Block => (SourceKind::Block, info.volume_size),
    };
    if let Some(size) = spec.size.filter(|size| kind == SourceKind::Block && *size < needed) {
        let text =
            format!("a volume of {size} bytes cannot hold the backup, which is of one of {needed} bytes");
        return Err(Error::InvalidRequest(text));
    }
    let size = spec.size.or((needed > 0).then_some(needed));
    Ok(PrepareRestore::new(name.clone(), kind).size(size).options(options))
}

fn target(location: TargetLocation) -> Target {
    match location {
        TargetLocation::Tree { path, .. } => Target::Tree { path },
        TargetLocation::Block { device, size, .. } => Target::Block { device, size, zeroed: true },
    }
}
