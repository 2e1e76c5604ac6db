//! Describing volumes: the record, what the provider says, and what the kernel has mounted.

use super::CloudDriver;
use crate::provider::{CloudSnapshot, CloudVolume, Handle, Provider, SnapshotState, VolumeState};
use crate::record::{SnapshotRecord, VolumeRecord};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{GetVolume, Health, ListVolumes, ListedVolumes, Snapshot, Volume};
use convoy_driver_sdk::{Context, Result, Timestamp};
use std::collections::BTreeMap;

/// As many as the largest page of either provider.
const PAGE: usize = 200;

/// What the provider said of some volumes and their snapshots, or why it could not be asked.
pub(super) struct CachedListing {
    pub(super) volumes: BTreeMap<String, CloudVolume>,
    pub(super) snapshots: BTreeMap<String, CloudSnapshot>,
    pub(super) silent: Option<String>,
}

impl<P: Provider> CloudDriver<P> {
    /// See [`ListVolumes`]: two calls to the provider for a page of up to 200 volumes. While it cannot be
    /// reached, volumes are listed as they were when last seen, with a warning.
    pub(super) fn list_volumes(&self, request: ListVolumes, context: &Context) -> Result<ListedVolumes> {
        let (mut records, misnamed) = self.records.all()?;
        if let Some(after) = &request.after {
            records.retain(|name, _| name > after);
        }
        let limit =
            request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).clamp(1, PAGE);
        let more = records.len() > limit;
        let page: Vec<_> = records.into_iter().take(limit).collect();
        let good: Vec<_> = page.iter().filter_map(|(_, record)| record.as_ref().ok()).collect();
        let seen = self.look(&good, context);
        let table = self.mount_table()?;
        let mut warnings: Vec<_> = seen.silent.iter().cloned().collect();
        warnings.extend(misnamed.iter().map(|path| format!("{} is no record of a volume", path.display())));
        let volumes = page
            .into_iter()
            .map(|(name, record)| match record {
                Ok(record) => self.view(&record, &seen, &table),
                Err(error) => Volume::damaged(name, error.message),
            })
            .collect();
        Ok(ListedVolumes::new(volumes).more(more).warnings(warnings))
    }

    /// See [`GetVolume`].
    ///
    /// # Errors
    /// `NotFound`, `DataLoss` for a damaged record.
    pub(super) fn get_volume(&self, request: GetVolume, context: &Context) -> Result<Volume> {
        self.cache.clear();
        self.describe_one(&self.records.load(&request.name)?, context)
    }

    pub(super) fn describe_one(&self, record: &VolumeRecord, context: &Context) -> Result<Volume> {
        let seen = self.look(&[record], context);
        Ok(self.view(record, &seen, &self.mount_table()?))
    }

    pub(super) fn look(&self, records: &[&VolumeRecord], context: &Context) -> CachedListing {
        let mut seen = CachedListing { volumes: BTreeMap::new(), snapshots: BTreeMap::new(), silent: None };
        let ids: Vec<_> = records.iter().map(|record| record.id.as_str()).collect();
        let snapshots: Vec<_> = records
            .iter()
            .flat_map(|record| record.snapshots.values())
            .map(|snapshot| snapshot.id.as_str())
            .collect();
        let result = self.look_up(&ids, &snapshots, &mut seen, context);
        if let Err(error) = result {
            tracing::warn!(%error, "cannot ask the provider about volumes");
            seen.silent =
                Some(format!("the state of some volumes is not known at the moment: {}", error.message));
        }
        seen
    }

    fn look_up(
        &self,
        ids: &[&str],
        snapshots: &[&str],
        seen: &mut CachedListing,
        context: &Context,
    ) -> Result<()> {
        let generation = self.cache.generation();
        if !ids.is_empty() {
            seen.volumes = match self.cache.volumes(ids) {
                Some(known) => known,
                None => {
                    let found = self.provider.volumes(ids, context)?;
                    self.cache.put_volumes(generation, ids, &found);
                    found
                }
            };
        }
        if !snapshots.is_empty() {
            seen.snapshots = match self.cache.snapshots(snapshots) {
                Some(known) => known,
                None => {
                    let found = self.provider.snapshots(snapshots, context)?;
                    self.cache.put_snapshots(generation, snapshots, &found);
                    found
                }
            };
        }
        Ok(())
    }

    pub(super) fn view(&self, record: &VolumeRecord, seen: &CachedListing, table: &MountTable) -> Volume {
        let volume = seen.volumes.get(&record.id);
        let mut info = volume.map(|volume| volume.info.clone()).unwrap_or_default();
        let asked_for =
            volume.and_then(|volume| volume.attachment.as_ref()).filter(|attachment| attachment.here);
        let handle = Handle {
            id: &record.id,
            cloud_name: record.cloud_name.as_deref(),
            device: asked_for.and_then(|attachment| attachment.device.as_deref()),
        };
        let device = match self.provider.device(handle) {
            Ok(Some(path)) => path.display().to_string(),
            Ok(None) => String::new(),
            Err(error) => {
                tracing::warn!(volume = %record.name, %error, "cannot find the device of a volume");
                String::new()
            }
        };
        info.insert("Device".to_owned(), device);
        info.insert(P::ID_INFO.to_owned(), record.id.clone());
        let snapshots = record.snapshots.values();
        Volume::new(
            record.name.clone(),
            volume.map_or(record.size, |volume| volume.size.bytes()),
            volume.map(|volume| volume.created).or(record.created_time).unwrap_or(Timestamp::from_unix(0)),
        )
        .mountpoint(self.mounted_at(record, table))
        .info(info)
        .snapshots(
            snapshots.map(|snapshot| view_snapshot(snapshot, seen.snapshots.get(&snapshot.id))).collect(),
        )
        .health(self.health(record, volume, seen.silent.is_some()))
    }

    fn health(&self, record: &VolumeRecord, volume: Option<&CloudVolume>, silent: bool) -> Health {
        match volume {
            _ if record.deleting => Health::Damaged("it is being deleted: delete it again".to_owned()),
            None if silent => Health::Good,
            None => Health::Damaged(format!(
                "{} no longer exists in {}: forget the volume with `convoy delete --reference {}`",
                record.id,
                self.provider.region(),
                record.name
            )),
            Some(CloudVolume { state: VolumeState::Failed(reason), .. }) => {
                Health::Damaged(format!("{} cannot be used: {reason}", record.id))
            }
            Some(CloudVolume { attachment: Some(attachment), .. }) if !attachment.here => {
                Health::Damaged(format!(
                    "{} is attached to {}: unmount and forget it there first",
                    record.id, attachment.instance
                ))
            }
            Some(_) => Health::Good,
        }
    }
}

pub(super) fn view_snapshot(record: &SnapshotRecord, snapshot: Option<&CloudSnapshot>) -> Snapshot {
    let mut info = snapshot.map(|snapshot| snapshot.info.clone()).unwrap_or_default();
    let state = match snapshot.map(|snapshot| &snapshot.state) {
        Some(SnapshotState::Completed) => "completed".to_owned(),
        Some(SnapshotState::Pending(_)) => "pending".to_owned(),
        Some(SnapshotState::Failed(reason)) => format!("error: {reason}"),
        None => "unknown".to_owned(),
    };
    info.entry("State".to_owned()).or_insert(state);
    let size = snapshot.map_or(record.size, |snapshot| snapshot.size.bytes());
    info.insert("Size".to_owned(), size.to_string());
    Snapshot::new(
        record.name.clone(),
        record.volume_name.clone(),
        record.created_time.or(snapshot.map(|snapshot| snapshot.created)).unwrap_or(Timestamp::from_unix(0)),
    )
    .info(info)
}
