//! Taking and deleting snapshots: frozen trees, which share unchanged files.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use convoy_driver_sdk::copies;
use convoy_driver_sdk::detached;
use convoy_driver_sdk::protocol::{CreateSnapshot, DeleteSnapshot, Snapshot};
use convoy_driver_sdk::tree::{CopyOptions, Previous, StableStorage};
use convoy_driver_sdk::{Context, Name, Timestamp};

use crate::catalog::{Catalog, missing, snapshot};
use crate::error::{LocalError, LocalResult, io_error};
use crate::open_snapshots::{OpenSnapshots, no_snapshot};
use crate::record::{SnapshotRecord, VolumeRecord};
use crate::settle::remove_empty;
use crate::vault::{INDEX, Note, Parcel, TREE, Vault, place, snapshot_dir};

/// Since which Linux blocks are shared by files on two mounts of one file system.
const SHARED_ACROSS_MOUNTS: (u32, u32) = (5, 18);

/// Takes a snapshot. What did not change since the newest one in the same vault is linked to it.
pub(crate) fn take(catalog: &Catalog, request: &CreateSnapshot, context: &Context) -> LocalResult<Snapshot> {
    let CreateSnapshot { volume, snapshot: name, .. } = request;
    let entry = catalog.load(volume, context)?;
    let mut record = entry.to_record(volume)?;
    if record.snapshots.contains_key(name) {
        return Err(LocalError::SnapshotExists { volume: volume.clone(), snapshot: name.clone() });
    }
    let data = entry.open(volume)?;
    let path = entry.path(volume)?;
    let vault = catalog
        .vaults
        .for_data(&data)?
        .ok_or_else(|| LocalError::NoVault { volume: volume.clone(), path: path.clone() })?;
    let parcel = vault.parcel()?;
    if let Err(error) = freeze(&record, name, data, vault, &parcel, context) {
        catalog.vaults.discard(parcel);
        return Err(error);
    }
    // The last moment: nobody waits for it any more.
    context.check()?;
    let target = snapshot_dir(&vault.path, volume, name);
    if fs::symlink_metadata(&target).is_ok() {
        return Err(LocalError::Unusable {
            volume: volume.clone(),
            path: target,
            why: "it is in the way of the snapshot, and no record speaks of it: move it away".to_owned(),
        });
    }
    let taken = SnapshotRecord {
        created: Timestamp::now(),
        sequence: record.next_sequence(),
        vault: vault.path.clone(),
    };
    record.path = path;
    record.snapshots.insert(name.clone(), taken.clone());
    catalog.save(&record)?;
    if let Err(error) = place(parcel.path(), &target) {
        record.snapshots.remove(name);
        catalog.save(&record)?;
        return Err(error);
    }
    parcel.keep();
    Ok(snapshot(&record, name, &taken))
}

/// Makes the snapshot in a parcel, and puts it on stable storage.
fn freeze(
    record: &VolumeRecord,
    name: &Name,
    data: OwnedFd,
    vault: &Vault,
    parcel: &Parcel,
    context: &Context,
) -> LocalResult<()> {
    let storage = StableStorage::of(parcel.path())?;
    let tree = parcel.join(TREE);
    fs::create_dir(&tree).map_err(io_error("make the directory", &tree))?;
    let previous = match record.newest_in(&vault.path) {
        Some(newest) => {
            let dir = snapshot_dir(&vault.path, &record.name, newest);
            if !dir.is_dir() {
                // A file system that is not mounted would get a copy of everything.
                return Err(missing(record, newest, dir));
            }
            Some(Previous { tree: dir.join(TREE), index: dir.join(INDEX) })
        }
        None => None,
    };
    let options = CopyOptions {
        previous,
        index: Some(parcel.join(INDEX)),
        // Kept in an attribute, with nothing of its own: what is set could not be linked to or removed.
        aside: Some(0),
        ..CopyOptions::default()
    };
    let data = unchanged_by_reading(data);
    let from = PathBuf::from(format!("/proc/self/fd/{}", data.as_raw_fd()));
    let report = copies::copy(&from, &tree, options, context)?;
    Note { volume: record.name.clone(), snapshot: name.clone() }.write(parcel.path())?;
    storage.sync()?;
    tracing::info!(
        volume = %record.name, snapshot = %name, entries = report.entries, unchanged = report.unchanged,
        reflinked = report.reflinked, copied = report.copied, bytes = report.bytes, "took a snapshot"
    );
    Ok(())
}

/// A directory of which reading changes nothing, not even the time of access of a link, where the kernel has
/// that. Files are opened so that theirs does not change in any case.
fn unchanged_by_reading(data: OwnedFd) -> OwnedFd {
    if kernel().is_none_or(|version| version < SHARED_ACROSS_MOUNTS) {
        return data;
    }
    match detached::untouched(&PathBuf::from(format!("/proc/self/fd/{}", data.as_raw_fd()))) {
        Ok(mount) => mount,
        Err(error) => {
            tracing::debug!(%error, "cannot mount a volume once more: links in it are read as they are");
            data
        }
    }
}

/// The kernel's version, as far as it matters.
fn kernel() -> Option<(u32, u32)> {
    let name = rustix::system::uname();
    let release = name.release().to_str().ok()?;
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Deletes a snapshot, whether or not Docker still has its volume.
pub(crate) fn delete(catalog: &Catalog, open: &OpenSnapshots, request: &DeleteSnapshot) -> LocalResult<()> {
    let DeleteSnapshot { volume, snapshot, .. } = request;
    let mut record = catalog.load_record(volume).map_err(|error| no_snapshot(error, volume, snapshot))?;
    let taken = record.snapshot(snapshot)?.clone();
    open.refuse(volume, snapshot)?;
    catalog.refuse_strange_vaults(&record)?;
    let dir = snapshot_dir(&taken.vault, volume, snapshot);
    let parcel = match catalog.vaults.iter().find(|vault| vault.path == taken.vault) {
        Some(vault) if fs::symlink_metadata(&dir).is_ok() => {
            let parcel = vault.parcel()?;
            // Onto the empty parcel: a crash before the record is written puts it back.
            fs::rename(&dir, parcel.path()).map_err(io_error("move", &dir))?;
            Some(parcel)
        }
        _ => None,
    };
    record.snapshots.remove(snapshot);
    if let Err(error) = catalog.save(&record) {
        if let Some(parcel) = parcel {
            place(parcel.path(), &dir)?;
            parcel.keep();
        }
        return Err(error);
    }
    remove_empty(&dir);
    if let Some(parcel) = parcel {
        catalog.vaults.discard(parcel);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_its_version() {
        assert!(super::kernel().is_some_and(|version| version > (4, 0)));
    }
}
