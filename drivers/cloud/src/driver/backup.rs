//! Backups that the provider keeps: its snapshots, by URL.

use super::{CloudDriver, create};
use crate::provider::{CloudSnapshot, Provider, SnapshotState};
use crate::record::{SnapshotRecord, VolumeRecord};
use convoy_driver_sdk::protocol::{
    BackupInfo, CreateBackup, CreatedBackup, DeleteBackup, InspectBackup, ListBackups, ListedBackups,
};
use convoy_driver_sdk::{Context, DriverError, Name, Result};

impl<P: Provider> CloudDriver<P> {
    /// See [`CreateBackup`]: waits until the provider has the snapshot safe, and marks it to outlive the
    /// volume.
    ///
    /// # Errors
    /// `NotFound`; `DataLoss` if the provider could not store it.
    pub(super) fn create_backup(&self, request: CreateBackup, context: &Context) -> Result<CreatedBackup> {
        if let Some(option) = request.options.keys().next() {
            return Err(DriverError::invalid(format!(
                "unknown option {option:?}: expected none for a backup by {}",
                P::DRIVER
            )));
        }
        let record = self.records.load(&request.volume)?;
        let id = self.recorded_snapshot(&record, &request.snapshot)?.id.clone();
        let snapshot =
            self.provider.snapshots(&[&id], context)?.remove(&id).ok_or_else(|| create::gone(&id))?;
        self.completed(snapshot, context)?;
        self.provider.mark_backup(&id, true, context)?;
        self.records.change(&request.volume, |record| {
            if let Some(entry) = record.snapshots.get_mut(&request.snapshot) {
                entry.backup = true;
            }
        })?;
        self.cache.clear();
        Ok(CreatedBackup::new(self.url(&id)))
    }

    /// See [`InspectBackup`].
    ///
    /// # Errors
    /// `NotFound`, `InvalidArgument` for a URL of another kind.
    pub(super) fn inspect_backup(&self, request: InspectBackup, context: &Context) -> Result<BackupInfo> {
        let (region, id) = Self::parse_url(&request.url)?;
        let snapshot = self.provider.backup(&region, &id, context)?.ok_or_else(|| missing(&request.url))?;
        let records = self.readable_records()?;
        Ok(self.backup_info(&region, snapshot, &records))
    }

    /// See [`ListBackups`].
    ///
    /// # Errors
    /// `InvalidArgument` for a destination of another kind; those of the provider.
    pub(super) fn list_backups(&self, request: ListBackups, context: &Context) -> Result<ListedBackups> {
        let region = match request.destination.as_deref() {
            None => self.provider.region().to_owned(),
            Some(url) => match split::<P>(url)? {
                ("", _) => self.provider.region().to_owned(),
                (region, "") => region.to_owned(),
                _ => return Err(malformed::<P>(url)),
            },
        };
        let records = self.readable_records()?;
        // Where the provider keeps no mark, the records know which snapshots are nothing but snapshots.
        let only_snapshot = |id: &str| {
            let mut entries = records.iter().flat_map(|record| record.snapshots.values());
            entries.any(|entry| entry.id == id && entry.owned())
        };
        let found = self.provider.backups(&region, context)?;
        let backups = found
            .into_iter()
            .filter(|snapshot| !only_snapshot(&snapshot.id))
            .map(|snapshot| self.backup_info(&region, snapshot, &records))
            .filter(|backup| request.volume.as_ref().is_none_or(|volume| backup.volume == volume.as_str()))
            .collect();
        Ok(ListedBackups::new(backups))
    }

    /// See [`DeleteBackup`]. As long as a volume here has it as a snapshot, it goes on as that.
    ///
    /// # Errors
    /// `NotFound`; `PermissionDenied` for a snapshot that convoy did not make.
    pub(super) fn delete_backup(&self, request: DeleteBackup, context: &Context) -> Result<()> {
        let (region, id) = Self::parse_url(&request.url)?;
        let snapshot = self.provider.backup(&region, &id, context)?.ok_or_else(|| missing(&request.url))?;
        let Some((volume, entry)) = self.known_snapshot(&id)? else {
            if snapshot.label.is_none() {
                return Err(DriverError::permission_denied(format!(
                    "{id} was not made by convoy: not deleted"
                ))
                .hint("delete it with the provider's own tools if you mean it"));
            }
            return self.provider.delete_backup(&region, &id, context);
        };
        if entry.owned() {
            return Err(
                missing(&request.url).hint("it is a snapshot and no backup: `convoy snapshot delete`")
            );
        }
        self.cache.clear();
        // Without a time it is of convoy 0.5, whose snapshots were backups and nothing else.
        let stays = entry.created_time.is_some();
        if stays {
            self.provider.mark_backup(&id, false, context)?;
        } else {
            self.provider.delete_backup(&region, &id, context)?;
        }
        self.records.change(&volume, |record| match record.snapshots.get_mut(&entry.name) {
            Some(entry) if stays => entry.backup = false,
            _ => drop(record.snapshots.remove(&entry.name)),
        })?;
        Ok(())
    }

    fn readable_records(&self) -> Result<Vec<VolumeRecord>> {
        Ok(self.records.all()?.0.into_values().flatten().collect())
    }

    /// The snapshot of a record that has this id, and its volume.
    fn known_snapshot(&self, id: &str) -> Result<Option<(Name, SnapshotRecord)>> {
        let records = self.readable_records()?;
        let mut entries = records.into_iter().flat_map(|record| {
            let name = record.name;
            record.snapshots.into_values().map(move |entry| (name.clone(), entry))
        });
        Ok(entries.find(|(_, entry)| entry.id == id))
    }

    fn backup_info(&self, region: &str, snapshot: CloudSnapshot, records: &[VolumeRecord]) -> BackupInfo {
        let mut info = snapshot.info;
        let state = match snapshot.state {
            SnapshotState::Completed => "completed".to_owned(),
            SnapshotState::Pending(_) => "pending".to_owned(),
            SnapshotState::Failed(reason) => format!("error: {reason}"),
        };
        info.entry("State".to_owned()).or_insert(state);
        let known =
            records.iter().flat_map(|record| record.snapshots.values()).find(|entry| entry.id == snapshot.id);
        let (volume, name) = match (known, snapshot.label) {
            (Some(entry), _) => (entry.volume_name.to_string(), entry.name.to_string()),
            (None, Some(label)) => {
                (label.volume.to_string(), label.snapshot.map(|name| name.to_string()).unwrap_or_default())
            }
            (None, None) => (snapshot.volume_id.clone(), String::new()),
        };
        BackupInfo::new(format!("{}://{region}/{}", P::SCHEME, snapshot.id), volume, name, snapshot.created)
            .size(snapshot.size.bytes())
            .info(info)
    }

    fn url(&self, id: &str) -> String {
        format!("{}://{}/{id}", P::SCHEME, self.provider.region())
    }

    /// The region and id of a backup URL.
    pub(super) fn parse_url(url: &str) -> Result<(String, String)> {
        match split::<P>(url)? {
            (region, id) if is_word(region) && is_word(id) => Ok((region.to_owned(), id.to_owned())),
            _ => Err(malformed::<P>(url)),
        }
    }
}

fn split<P: Provider>(url: &str) -> Result<(&str, &str)> {
    let rest = url
        .strip_prefix(P::SCHEME)
        .and_then(|rest| rest.strip_prefix("://"))
        .ok_or_else(|| malformed::<P>(url))?;
    Ok(rest.split_once('/').unwrap_or((rest, "")))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn malformed<P: Provider>(url: &str) -> DriverError {
    DriverError::invalid(format!(
        "invalid backup URL {url:?}: expected {}://<region>/<snapshot id>",
        P::SCHEME
    ))
}

fn missing(url: &str) -> DriverError {
    DriverError::not_found(format!("there is no backup {url}"))
}
