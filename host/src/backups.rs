//! Backups: of which driver or store an URL speaks, and what goes where.
//!
//! - [`provider`]: backups that a storage system keeps itself, by the driver whose name is the URL's scheme.
//!
//! - [`keys`]: who may open encrypted backups, with a [`secret`]. How a destination is reached, how fast and
//!   with which key, says [`crate::config::destinations`].
//!
//! - [`engine`]: backups in a store, made of what a driver hands over ([`source`]) by the backup engine;
//!   [`restore`]: the way back; [`store`]: from URLs to stores; [`nearest`]: what was meant by a wrong URL;
//!   [`progress`]: how far it is; [`memory`]: how much of it at once; [`last`]: the last one of each volume;
//!   [`seen`]: whether a store was put back to an older state.

mod engine;
mod keys;
mod last;
mod memory;
mod nearest;
mod progress;
mod provider;
mod restore;
mod secret;
mod seen;
mod source;
mod store;

use crate::call::RequestContext;
use crate::config::destinations::{BackupSettings, Destinations};
use crate::jobs::{About, Jobs, Running};
use crate::volumes::Volumes;
use crate::volumes::error::{Error, Result};
use crate::volumes::index::Entry;
use crate::volumes::locks::unpoisoned;
use crate::volumes::spec::CreateSpec;
use convoy_backup::{Engine, EngineOptions};
use convoy_client::types::{
    BackupInfo, BackupRef, CreateBackup, CreatedBackup, ListBackups, PruneBackups, PruneReport,
    VerifyBackups, VerifyReport,
};
use convoy_driver_sdk::{ErrorKind, Name, Timestamp};
use convoy_objectstore::{prefixes_with, split};
pub use last::Last;
use last::LastBackups;
use memory::Memory;
pub(crate) use provider::own_destination;
use secret::Secret;
use seen::SeenBackups;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, RwLock, RwLockReadGuard};

/// The backup service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backups {
    volumes: Arc<Volumes>,
    /// For what needs little memory; what moves data takes a share of `memory`.
    engine: Engine,
    memory: Memory,
    destinations: Arc<RwLock<Arc<Destinations>>>,
    last: Arc<LastBackups>,
    seen: Arc<SeenBackups>,
}

impl Backups {
    /// Creates the backup service for `volumes`; its state lives under `root`.
    pub fn new(volumes: Arc<Volumes>, settings: BackupSettings, root: &Path) -> Self {
        let mut options = EngineOptions::default();
        if let Some(memory) = settings.memory {
            options.memory = memory;
        }
        Self {
            volumes,
            engine: Engine::new(options),
            memory: Memory::new(options),
            destinations: Arc::new(RwLock::new(Arc::new(settings.destinations))),
            last: Arc::new(LastBackups::open(root)),
            seen: Arc::new(SeenBackups::open(root)),
        }
    }

    /// Takes these settings of destinations for every call that comes from now on.
    pub fn set_destinations(&self, destinations: Destinations) {
        *unpoisoned(self.destinations.write()) = Arc::new(destinations);
    }

    /// The settings of destinations as they are now.
    fn destinations(&self) -> Arc<Destinations> {
        let now: RwLockReadGuard<'_, Arc<Destinations>> = unpoisoned(self.destinations.read());
        Arc::clone(&now)
    }

    /// The last backup that was made of each volume at each destination, as far as this daemon knows.
    pub fn last_backups(&self) -> Vec<(Name, String, Last)> {
        self.last.all()
    }

    /// The last backup of a volume at any destination, as far as this daemon knows.
    pub fn last_of(&self, volume: &str) -> Option<Last> {
        self.last.of(volume).into_iter().max_by_key(|last| last.time)
    }

    /// The snapshots of a volume that its next backups build on.
    pub fn bases(&self, volume: &str) -> impl Iterator<Item = String> {
        self.last.of(volume).into_iter().map(|last| last.snapshot)
    }

    /// Writes down that a backup was made.
    async fn note(&self, volume: &Name, destination: String, snapshot: &str, backup: &str) {
        let (notes, volume) = (Arc::clone(&self.last), volume.clone());
        let last = Last { time: Timestamp::now(), snapshot: snapshot.to_owned(), backup: backup.to_owned() };
        // An error says that the daemon is going down.
        let _ = tokio::task::spawn_blocking(move || notes.note(&volume, &destination, last)).await;
    }

    /// Writes down that a backup is gone.
    async fn forget(&self, backup: &str) {
        let (notes, backup) = (Arc::clone(&self.last), backup.to_owned());
        let _ = tokio::task::spawn_blocking(move || notes.forget(&backup)).await;
    }

    /// Makes a volume: empty, from a backup, or from a snapshot.
    ///
    /// # Errors
    /// Those of [`Volumes::create`]; those of the backup.
    pub async fn create(
        &self,
        name: &Name,
        spec: &CreateSpec,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<Entry> {
        if spec.backup.is_empty() && !spec.endpoint.is_empty() {
            let text = "Endpoint option can only be used when creating a volume from a backup.";
            return Err(Error::InvalidRequest(text.to_owned()));
        }
        if !spec.snapshot.is_empty() {
            if !spec.backup.is_empty() {
                let text = "a volume begins with a backup or with a snapshot, not with both";
                return Err(Error::InvalidRequest(text.to_owned()));
            }
            return self.volumes.clone_snapshot(name, spec, &job.call(request_id)).await;
        }
        if spec.backup.is_empty() {
            return self.volumes.create(name, spec, &job.call(request_id)).await;
        }
        let url = plain_url(&spec.backup);
        let scheme = scheme(&url);
        if !spec.endpoint.is_empty()
            && !convoy_objectstore::scheme(scheme).is_some_and(|it| it.has_setting("endpoint"))
        {
            let those = prefixes_with("endpoint");
            let text = format!(
                "Unsupported backup protocol for custom endpoint: {scheme}. Only {those} is supported."
            );
            return Err(Error::InvalidRequest(text));
        }
        if let Some(driver) = self.provider(scheme) {
            let spec = CreateSpec { driver: driver.name().to_string(), backup: url, ..spec.clone() };
            return self.volumes.create(name, &spec, &job.call(request_id)).await;
        }
        let (name, spec, job, id) = (name.clone(), spec.clone(), Arc::clone(job), request_id.to_owned());
        self.in_store(move |this| async move { this.restore(&name, &spec, &url, &job, &id).await }).await
    }

    /// Runs work of the engine on a thread of its own: it moves and checks much, and would keep calls waiting
    /// that only ask for something.
    async fn in_store<T, F>(&self, work: impl FnOnce(Self) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>>,
    {
        let (this, runtime, span) =
            (self.clone(), tokio::runtime::Handle::current(), tracing::Span::current());
        let done = tokio::task::spawn_blocking(move || span.in_scope(|| runtime.block_on(work(this))));
        done.await.unwrap_or_else(|error| {
            Err(Error::Backup {
                kind: ErrorKind::Internal,
                message: format!("the daemon failed in this work: {error}"),
                hint: Some("see its log".to_owned()),
            })
        })
    }

    /// Makes a volume unless there is one of that name: Docker's Create.
    ///
    /// # Errors
    /// As [`Self::create`], but for a volume that exists.
    pub async fn create_or_get(
        &self,
        name: &Name,
        spec: &CreateSpec,
        jobs: &Jobs,
        call: &RequestContext,
    ) -> Result<Entry> {
        if spec.backup.is_empty() && spec.snapshot.is_empty() && spec.endpoint.is_empty() {
            return self.volumes.create_or_get(name, spec, call).await;
        }
        if let Ok(entry) = self.volumes.find(name, call).await {
            return Ok(entry);
        }
        let about = About::create(name, spec);
        let job = Arc::new(jobs.begin(about));
        match self.create(name, spec, &job, call.request_id()).await {
            Err(Error::VolumeExists(_)) => self.volumes.find(name, call).await,
            result => result,
        }
    }

    /// Backs a snapshot up and answers the backup's URL, and what it cost where that is known.
    ///
    /// # Errors
    /// [`Error::SnapshotNotFound`] and the like; the driver's; those of the store.
    pub async fn back_up(
        &self,
        asked: &CreateBackup,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<CreatedBackup> {
        let volume = (!asked.volume_name.is_empty()).then_some(asked.volume_name.as_str());
        let (entry, snapshot) = self.volumes.index.snapshot(&asked.snapshot_name, volume)?;
        let url = plain_url(&asked.url);
        let own = if url.is_empty() {
            entry.driver.can(convoy_driver_sdk::protocol::Capability::NativeBackup)
        } else {
            provider::keeps(&entry.driver, scheme(&url))
        };
        if own {
            if !asked.kind.is_empty() {
                let text = format!(
                    "driver {} keeps this backup itself, as it is: leave out {}, or name a destination",
                    entry.driver.name(),
                    asked.kind
                );
                return Err(Error::InvalidRequest(text));
            }
            let url = self.back_up_at_provider(&entry, &snapshot.name, &job.call(request_id)).await?;
            return Ok(CreatedBackup { url, cost: None });
        }
        let (asked, job, id) = (asked.clone(), Arc::clone(job), request_id.to_owned());
        self.in_store(move |this| async move {
            this.back_up_to_store(&entry, &snapshot, &asked, &url, &job, &id).await
        })
        .await
    }

    /// The backups at a destination, by URL.
    ///
    /// # Errors
    /// Those of the store or the driver.
    pub async fn list(
        &self,
        asked: &ListBackups,
        call: &RequestContext,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        let url = plain_url(&asked.url);
        match self.provider(scheme(&url)) {
            Some(driver) => self.list_at_provider(driver, &url, asked, call).await,
            None => {
                let asked = asked.clone();
                self.in_store(move |this| async move { this.list_in_store(&url, &asked).await }).await
            }
        }
    }

    /// The backups of a volume at a destination: none for a volume that was never backed up there.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_if_any(
        &self,
        asked: &ListBackups,
        call: &RequestContext,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        match self.list(asked, call).await {
            Err(Error::NoBackups { .. }) => Ok(BTreeMap::new()),
            result => result,
        }
    }

    /// The backups of a volume that may be acted upon without a person looking: to tell which to delete, and
    /// whether one was made. Where a key is named these are the ones it vouches for; others, which anybody
    /// who can write to the destination may have put there, are told in the log.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub async fn list_vouched(
        &self,
        asked: &ListBackups,
        call: &RequestContext,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        let mut backups = self.list_if_any(asked, call).await?;
        if !self.names_key(asked)? {
            return Ok(backups);
        }
        let all = backups.len();
        backups.retain(|_, backup| backup.extra.contains_key(AUTHENTIC));
        if backups.len() < all {
            tracing::warn!(
                volume = asked.volume_name,
                destination = asked.url,
                left_alone = all - backups.len(),
                "backups for which the key does not vouch are neither counted nor deleted"
            );
        }
        Ok(backups)
    }

    /// Whether a key is named for what a request is about, by it or by the settings.
    fn names_key(&self, asked: &ListBackups) -> Result<bool> {
        let url = plain_url(&asked.url);
        if self.provider(scheme(&url)).is_some() {
            return Ok(false);
        }
        let secret = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        Ok(secret.is_some() || self.destinations().names_key(&url)?)
    }

    /// What is older at a destination than this host saw it: a sentence for each volume.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn older(&self, url: &str, endpoint: &str) -> Result<Vec<String>> {
        let url = plain_url(url);
        if self.provider(scheme(&url)).is_some() {
            return Ok(Vec::new());
        }
        let endpoint = endpoint.to_owned();
        self.in_store(move |this| async move { this.older_in_store(&url, &endpoint).await }).await
    }

    /// One backup.
    ///
    /// # Errors
    /// Those of the store or the driver.
    pub async fn inspect(&self, asked: &BackupRef, call: &RequestContext) -> Result<BackupInfo> {
        let url = plain_url(&asked.url);
        match self.provider(scheme(&url)) {
            Some(driver) => self.inspect_at_provider(driver, &url, call).await,
            None => {
                let asked = asked.clone();
                self.in_store(move |this| async move { this.inspect_in_store(&url, &asked).await }).await
            }
        }
    }

    /// Deletes a backup.
    ///
    /// # Errors
    /// Those of the store or the driver.
    pub async fn delete(&self, asked: &BackupRef, call: &RequestContext) -> Result<()> {
        let url = plain_url(&asked.url);
        match self.provider(scheme(&url)) {
            Some(driver) => self.delete_at_provider(driver, &url, call).await,
            None => {
                let asked = asked.clone();
                self.in_store(move |this| async move { this.delete_in_store(&url, &asked).await }).await
            }
        }
    }

    /// Checks backups.
    ///
    /// # Errors
    /// Those of the store; damage is in the report.
    pub async fn verify(&self, asked: &VerifyBackups, job: &Arc<Running>) -> Result<VerifyReport> {
        let url = plain_url(&asked.url);
        self.refuse_provider(&url, "verifying backups")?;
        let (asked, job) = (asked.clone(), Arc::clone(job));
        self.in_store(move |this| async move { this.verify_in_store(&url, &asked, &job).await }).await
    }

    /// Removes what no backup refers to.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn prune(&self, asked: &PruneBackups, job: &Arc<Running>) -> Result<PruneReport> {
        let url = plain_url(&asked.url);
        self.refuse_provider(&url, "pruning backups")?;
        let (asked, job) = (asked.clone(), Arc::clone(job));
        self.in_store(move |this| async move { this.prune_in_store(&url, &asked, &job).await }).await
    }

    /// What a storage system keeps itself is its own affair.
    fn refuse_provider(&self, url: &str, what: &'static str) -> Result<()> {
        match self.provider(scheme(url)) {
            Some(driver) => Err(Error::Unsupported { driver: driver.name().clone(), what }),
            None => Ok(()),
        }
    }
}

/// The key of a listed backup for which a key vouches.
const AUTHENTIC: &str = "Authentic";

/// What stands before `://`.
fn scheme(url: &str) -> &str {
    split(url).0
}

/// An URL as it was before it was printed as JSON: in what separates its parameters, `\u0026` and `u0026` (a
/// shell took the backslash) are `&`. A volume or a directory may have `u0026` in its name: nothing else is
/// touched.
fn plain_url(url: &str) -> String {
    let url = url.replace("\\u0026", "&");
    let Some((destination, query)) = url.split_once('?') else { return url };
    if query.contains('&') {
        return url;
    }
    let query = ["volume=", "backup="]
        .iter()
        .find_map(|key| {
            let (before, after) = query.split_once(&format!("u0026{key}"))?;
            Some(format!("{before}&{key}{after}"))
        })
        .unwrap_or_else(|| query.to_owned());
    format!("{destination}?{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms_of_an_ampersand() {
        let plain = "vfs:///b?backup=backup-1&volume=vol1";
        for form in
            [plain, "vfs:///b?backup=backup-1\\u0026volume=vol1", "vfs:///b?backup=backup-1u0026volume=vol1"]
        {
            assert_eq!(plain_url(form), plain);
        }
        for untouched in ["vfs:///bku0026x/", "vfs:///b?backup=backup-1&volume=au0026b", "vfs:///b", ""] {
            assert_eq!(plain_url(untouched), untouched);
        }
        assert_eq!(
            plain_url("vfs:///bu0026x?backup=backup-1u0026volume=au0026b"),
            "vfs:///bu0026x?backup=backup-1&volume=au0026b"
        );
    }
}
