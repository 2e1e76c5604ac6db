//! From a request to the driver or store whose backups its URL names.

use super::engine::excludes;
use super::labels::{self, LabelFilter};
use super::provider::keeps;
use super::secret::Secret;
use super::service::Backups;
use super::shown::AUTHENTIC;
use convoy_activity::jobs::Running;
use convoy_client::types::{
    BackupInfo, BackupRef, CountBackups, CreateBackup, CreatedBackup, ListBackups, PruneBackups, PruneReport,
    StatsReport, VerifyBackups, VerifyReport,
};
use convoy_driver_sdk::protocol::Capability;
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;
use convoy_objectstore::{plain_url, prefixes_with, split};
use convoy_volumes::{CreateSpec, Entry, Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Backups {
    /// Makes a volume from the backup that `spec` names.
    ///
    /// # Errors
    /// Those of [`Volumes::create`](convoy_volumes::Volumes::create); those of the store.
    pub async fn restore(
        &self,
        name: &Name,
        spec: &CreateSpec,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<Entry> {
        let url = plain_url(&spec.backup);
        let scheme = split(&url).0;
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
        self.in_store(move |this| async move {
            Box::pin(this.restore_from_store(&name, &spec, &url, &job, &id)).await
        })
        .await
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
        let (entry, snapshot) = self.volumes.snapshot(&asked.snapshot_name, volume)?;
        let url = plain_url(&asked.url);
        let own = if url.is_empty() {
            entry.driver.can(Capability::NativeBackup)
        } else {
            keeps(&entry.driver, split(&url).0)
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
            if !labels::of_new(asked)?.is_empty() {
                let text = format!(
                    "driver {} keeps this backup itself, without tags, a note or a pin: leave them out, or name a \
                     destination",
                    entry.driver.name()
                );
                return Err(Error::InvalidRequest(text));
            }
            if !excludes(asked).is_empty() {
                let text = format!(
                    "driver {} keeps this backup itself, as it is, and leaves nothing out: leave out the rules, or \
                     name a destination",
                    entry.driver.name()
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
        match self.provider(split(&url).0) {
            Some(driver) if LabelFilter::of(asked)?.is_given() => {
                let what = "tags, notes and pins of backups";
                Err(Error::Unsupported { driver: driver.name().clone(), what })
            }
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
        if self.provider(split(&url).0).is_some() {
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
        if self.provider(split(&url).0).is_some() {
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
        match self.provider(split(&url).0) {
            Some(driver) => self.inspect_at_provider(driver, &url, asked.details, call).await,
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
        match self.provider(split(&url).0) {
            Some(driver) => self.delete_at_provider(driver, &url, call).await,
            None => {
                let asked = asked.clone();
                self.in_store(move |this| async move { this.delete_in_store(&url, &asked, false).await })
                    .await
            }
        }
    }

    /// Deletes a backup that [`Self::list_vouched`] or [`Self::list_if_any`] told of, without a person
    /// looking: where a key is named only one for which it vouches, unless `unencrypted` are meant. Answers
    /// whether it was deleted: one that was pinned meanwhile is not.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn delete_listed(
        &self,
        asked: &BackupRef,
        unencrypted: bool,
        call: &RequestContext,
    ) -> Result<bool> {
        let url = plain_url(&asked.url);
        let provider = self.provider(split(&url).0);
        let deleted = match provider {
            Some(driver) => self.delete_at_provider(driver, &url, call).await,
            None => {
                let (asked, vouched) = (asked.clone(), !unencrypted);
                self.in_store(move |this| async move { this.delete_in_store(&url, &asked, vouched).await })
                    .await
            }
        };
        match deleted {
            Ok(()) => Ok(true),
            // Somebody else was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            // In a store: it is pinned.
            Err(error) if error.kind() == ErrorKind::InUse && provider.is_none() => Ok(false),
            Err(error) => Err(error),
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

    /// Counts what the backups at a destination are, and what they take.
    ///
    /// # Errors
    /// Those of the store; damage is in the report.
    pub async fn stats(&self, asked: &CountBackups, job: &Arc<Running>) -> Result<StatsReport> {
        let url = plain_url(&asked.url);
        self.refuse_provider(&url, "counting what backups take")?;
        let (asked, job) = (asked.clone(), Arc::clone(job));
        self.in_store(move |this| async move { this.stats_in_store(&url, &asked, &job).await }).await
    }

    /// What a storage system keeps itself is its own affair.
    fn refuse_provider(&self, url: &str, what: &'static str) -> Result<()> {
        match self.provider(split(url).0) {
            Some(driver) => Err(Error::Unsupported { driver: driver.name().clone(), what }),
            None => Ok(()),
        }
    }
}
