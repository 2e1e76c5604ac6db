//! Backups that a storage system keeps itself: their URLs begin with its driver's scheme.

use super::last::Last;
use super::service::Backups;
use convoy_activity::events::about;
use convoy_client::types::{BackupInfo, Event, ListBackups};
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{self, Capability};
use convoy_drivers::RequestContext;
use convoy_volumes::{CHANGE, Entry, Error, ManagedDriver, QUICK, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Backups {
    /// The driver that keeps backups of this scheme.
    pub(super) fn provider(&self, scheme: &str) -> Option<&Arc<ManagedDriver>> {
        self.volumes.drivers().iter().find(|driver| keeps(driver, scheme))
    }

    pub(super) async fn back_up_at_provider(
        &self,
        entry: &Entry,
        snapshot: &Name,
        call: &RequestContext,
    ) -> Result<String> {
        let volume = &entry.volume.name;
        let _reading = self.volumes.reading(volume);
        let request = protocol::CreateBackup::new(volume.clone(), snapshot.clone());
        let created = entry.driver.call(request, call).await?;
        self.note(volume, own_destination(&entry.driver), Last::new(snapshot, &created.url)).await;
        let event = about("backup.create", entry.driver.name(), volume);
        self.events.send(Event { snapshot: snapshot.to_string(), message: created.url.clone(), ..event });
        Ok(created.url)
    }

    pub(super) async fn list_at_provider(
        &self,
        driver: &ManagedDriver,
        url: &str,
        asked: &ListBackups,
        call: &RequestContext,
    ) -> Result<BTreeMap<String, BackupInfo>> {
        let volume = match asked.volume_name.as_str() {
            "" => None,
            name => Some(Name::parse(name).map_err(|error| Error::InvalidName(error.0))?),
        };
        let request = protocol::ListBackups::new().destination(Some(url.to_owned())).volume(volume);
        let listed = driver.call(request, &call.within(CHANGE)).await?;
        let wanted = |backup: &protocol::BackupInfo| {
            asked.snapshot_name.is_empty() || asked.snapshot_name == backup.snapshot
        };
        Ok(listed
            .backups
            .into_iter()
            .filter(wanted)
            .map(|backup| (backup.url.clone(), shown(driver.name(), backup, asked.details)))
            .collect())
    }

    pub(super) async fn inspect_at_provider(
        &self,
        driver: &ManagedDriver,
        url: &str,
        details: bool,
        call: &RequestContext,
    ) -> Result<BackupInfo> {
        let request = protocol::InspectBackup::new(url.to_owned());
        Ok(shown(driver.name(), driver.call(request, &call.within(QUICK)).await?, details))
    }

    pub(super) async fn delete_at_provider(
        &self,
        driver: &ManagedDriver,
        url: &str,
        call: &RequestContext,
    ) -> Result<()> {
        let request = protocol::DeleteBackup::new(url.to_owned());
        driver.call(request, &call.within(CHANGE)).await?;
        self.forget(url).await;
        let event = about("backup.delete", driver.name(), "");
        self.events.send(Event { message: url.to_owned(), ..event });
        Ok(())
    }
}

/// Where a driver keeps backups itself.
pub(crate) fn own_destination(driver: &ManagedDriver) -> String {
    let scheme = driver.description().map(|description| description.backup_scheme().to_owned());
    format!("{}://", scheme.unwrap_or_else(|| driver.name().to_string()))
}

/// Whether a driver keeps backups of this scheme.
pub(super) fn keeps(driver: &ManagedDriver, scheme: &str) -> bool {
    driver.can(Capability::NativeBackup)
        && driver.description().is_some_and(|description| description.backup_scheme() == scheme)
}

fn shown(driver: &str, mut backup: protocol::BackupInfo, details: bool) -> BackupInfo {
    let created = backup.created.to_legacy();
    if !details {
        backup.info.remove("Bytes");
    }
    BackupInfo {
        // The last part of the URL is what the provider calls it.
        backup_name: backup.url.rsplit('/').next().unwrap_or_default().to_owned(),
        backup_url: backup.url,
        driver_name: driver.to_owned(),
        volume_name: backup.volume,
        volume_size: backup.size.to_string(),
        volume_created_at: backup.info.get("VolumeCreatedAt").cloned().unwrap_or_default(),
        snapshot_name: backup.snapshot,
        snapshot_created_at: backup.info.get("SnapshotCreatedAt").cloned().unwrap_or_else(|| created.clone()),
        created_time: created,
        extra: backup.info,
    }
}
