//! Volumes and snapshots as JSON.

use crate::backups::Last;
use convoy_client::types::{Pairs, Snapshot, SnapshotEntry, Volume};
use convoy_driver_sdk::DriverError;
use convoy_driver_sdk::protocol::{Health, Snapshot as DriverSnapshot};
use convoy_volumes::{Entry, SIZE_ENFORCED, SIZE_NOT_ENFORCED, Volumes};

/// What drivers say of a snapshot that 0.5 did not: only those get it who ask for details.
const DETAILS: [&str; 2] = ["Bytes", "Files"];

/// A volume, as `list` and the answer to a create show it.
pub(super) fn volume(volumes: &Volumes, entry: &Entry) -> Volume {
    shown(entry, listed_info(volumes, entry))
}

/// A volume, as `inspect` shows it.
pub(super) fn inspected(volumes: &Volumes, entry: &Entry, stale: Option<&DriverError>) -> Volume {
    shown(entry, driver_info(volumes, entry, stale))
}

/// What the driver says of a volume, in a list: of a size that nothing enforces not a word, as in 0.5.
pub(super) fn listed_info(volumes: &Volumes, entry: &Entry) -> Pairs {
    let mut info = driver_info(volumes, entry, None);
    if info.remove(SIZE_NOT_ENFORCED).is_some() {
        info.remove(SIZE_ENFORCED);
    }
    info
}

/// Adds what 0.5 did not tell: how much is in use, the last backup, and the sizes of snapshots.
pub(super) fn add_details(shown: &mut Volume, entry: &Entry, last: Option<Last>, used: Option<u64>) {
    let info = shown.driver_info.get_or_insert_default();
    info.extend(used.map(|used| ("Used".to_owned(), used.to_string())));
    if let Some(last) = last {
        info.insert("LastBackup".to_owned(), last.time.to_legacy());
        info.insert("LastBackupURL".to_owned(), last.backup);
        let sizes = [("Bytes", last.bytes), ("Files", last.files), ("BytesAdded", last.bytes_added)];
        for (key, number) in sizes {
            info.extend(number.map(|number| (format!("LastBackup{key}"), number.to_string())));
        }
    }
    for snapshot in &entry.volume.snapshots {
        if let Some(shown) = shown.snapshots.as_mut().and_then(|shown| shown.get_mut(snapshot.name.as_str()))
        {
            add_sizes(&mut shown.driver_info, snapshot);
        }
    }
}

/// Adds the bytes and files in a snapshot, as far as its driver tells them.
pub(super) fn add_sizes(info: &mut Pairs, snapshot: &DriverSnapshot) {
    let said = DETAILS.iter().filter_map(|key| snapshot.info.get_key_value(*key));
    info.extend(said.map(|(key, value)| (key.clone(), value.clone())));
}

fn shown(entry: &Entry, info: Pairs) -> Volume {
    let known = &entry.volume;
    let driver = entry.driver.name().as_str();
    Volume {
        name: known.name.to_string(),
        driver: driver.to_owned(),
        mount_point: info.get("MountPoint").cloned().unwrap_or_default(),
        created_time: known.created.to_legacy(),
        driver_info: Some(info),
        snapshots: Some(
            known.snapshots.iter().map(|one| (one.name.to_string(), in_volume(driver, one))).collect(),
        ),
    }
}

/// What the driver says of a volume, and what the host adds.
pub(super) fn driver_info(volumes: &Volumes, entry: &Entry, stale: Option<&DriverError>) -> Pairs {
    let known = &entry.volume;
    let mut info = known.info.clone();
    let mountpoint = volumes.mountpoint(&known.name).map(|path| path.display().to_string());
    info.insert("Driver".to_owned(), entry.driver.name().to_string());
    info.insert("MountPoint".to_owned(), mountpoint.unwrap_or_default());
    info.insert("VolumeName".to_owned(), known.name.to_string());
    info.insert("VolumeCreatedAt".to_owned(), known.created.to_legacy());
    info.insert("Size".to_owned(), known.size.to_string());
    if let Some(policy) = volumes.policy(entry) {
        info.insert("DockerRemove".to_owned(), policy.to_string());
    }
    if let Some(half) = volumes.half_restored(entry) {
        let text = format!("from {}, begun {}: {}", half.what(), half.since, half.ways_out(entry));
        info.insert("UnfinishedRestore".to_owned(), text);
    }
    if let Some(problem) = problem(entry, stale) {
        info.insert("Error".to_owned(), problem);
    }
    info
}

/// Why a volume cannot be used, if it cannot.
pub(super) fn problem(entry: &Entry, stale: Option<&DriverError>) -> Option<String> {
    match (&entry.volume.health, stale) {
        (Health::Damaged(why), _) => Some(why.clone()),
        (Health::Good, stale) => stale.map(|error| format!("as last known: {error}")),
    }
}

/// A snapshot by itself.
pub(super) fn snapshot(entry: &Entry, snapshot: &DriverSnapshot, with_volume_time: bool) -> Snapshot {
    let SnapshotEntry { name, created_time, driver_info } = in_volume(entry.driver.name(), snapshot);
    Snapshot {
        name,
        volume_name: entry.volume.name.to_string(),
        volume_created_at: with_volume_time.then(|| entry.volume.created.to_legacy()),
        created_time,
        driver_info,
    }
}

fn in_volume(driver: &str, snapshot: &DriverSnapshot) -> SnapshotEntry {
    let created = snapshot.created.to_legacy();
    let mut info = snapshot.info.clone();
    info.retain(|key, _| !DETAILS.contains(&key.as_str()));
    info.insert("Driver".to_owned(), driver.to_owned());
    info.insert("SnapshotName".to_owned(), snapshot.name.to_string());
    info.insert("SnapshotCreatedAt".to_owned(), created.clone());
    SnapshotEntry { name: snapshot.name.to_string(), created_time: created, driver_info: info }
}
