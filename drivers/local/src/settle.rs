//! What becomes of unfinished work after a crash.
//!
//! In the vaults, one rule: **what a record says should be there and is not, is put there; anything else in
//! the workspace is removed.** At the engines, a volume that was being made is whole if its directory is the
//! one with the data, and else removed; a delete is finished if Docker has the volume no more, and else
//! undone. Docker may not run yet when the driver is opened: that is done once it answers.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::{Context, Name};

use crate::catalog::Catalog;
use crate::error::{LocalResult, io_error};
use crate::record::VolumeRecord;
use crate::source::Found;
use crate::vault::{Note, Vault, place, snapshot_dir};

/// Settles the workspaces of the vaults. Gives in words what was done, and what could not be.
pub(crate) fn in_vaults(catalog: &Catalog) -> (Vec<String>, Vec<String>) {
    let (mut done, mut warnings, mut rubbish) = (Vec::new(), Vec::new(), Vec::new());
    let published = match catalog.records.load_all() {
        Ok(listing) => listing.records.into_values().flatten().filter_map(|record| record.publishing),
        Err(error) => return (done, vec![error.to_string()]),
    };
    let published: Vec<PathBuf> = published.map(|publishing| publishing.parcel).collect();
    for vault in catalog.vaults.iter() {
        let entries = match fs::read_dir(vault.work()).map_err(io_error("list", &vault.work())) {
            Ok(entries) => entries,
            Err(error) => {
                warnings.push(error.to_string());
                continue;
            }
        };
        for dir in entries.flatten().map(|entry| entry.path()).filter(|dir| !published.contains(dir)) {
            match put_back(catalog, vault, &dir) {
                Ok(Some(text)) => done.push(text),
                Ok(None) => rubbish.push(dir),
                // A record that cannot be read may speak of it.
                Err(error) => warnings.push(format!("{} is left as it is: {error}", dir.display())),
            }
        }
    }
    catalog.vaults.remove(rubbish);
    (done, warnings)
}

/// Puts a snapshot in its place that a record speaks of and that is not there.
fn put_back(catalog: &Catalog, vault: &Vault, dir: &Path) -> LocalResult<Option<String>> {
    let Some(note) = Note::read(dir) else { return Ok(None) };
    let record = catalog.records.load(&note.volume)?;
    let named = record.as_ref().and_then(|record| record.snapshots.get(&note.snapshot));
    let target = snapshot_dir(&vault.path, &note.volume, &note.snapshot);
    if named.is_none_or(|named| named.vault != vault.path) || fs::symlink_metadata(&target).is_ok() {
        return Ok(None);
    }
    place(dir, &target)?;
    Ok(Some(format!("put snapshot {} of volume {} in its place", note.snapshot, note.volume)))
}

/// Settles these volumes at the engines, and gives how many were.
pub(crate) fn at_engines(catalog: &Catalog, pending: &[Name], context: &Context) -> usize {
    let mut settled = 0;
    for name in pending {
        // Somebody is at it.
        let Some(_busy) = catalog.occupy(name) else { continue };
        // What was seen before may have changed until this volume was taken.
        match catalog.look(context).and_then(|found| settle(catalog, &found, name, context)) {
            Ok(()) => settled += 1,
            Err(error) => tracing::warn!(volume = %name, %error, "what was cut off is not settled yet"),
        }
    }
    settled
}

fn settle(catalog: &Catalog, found: &Found, name: &Name, context: &Context) -> LocalResult<()> {
    let Some(mut record) = catalog.records.load(name)? else { return Ok(()) };
    if let Some(publishing) = record.publishing.take() {
        let made = found.sources.get(name).filter(|source| source.id.as_ref() == Some(&publishing.id));
        if let Some(source) = made {
            if fs::metadata(&source.path).is_ok_and(|dir| dir.ino() == publishing.inode) {
                tracing::info!(volume = %name, "finished making a volume");
            } else {
                catalog.engine(source.engine)?.remove(name, context)?;
                tracing::info!(volume = %name, "removed a volume whose making was cut off");
            }
        }
        catalog.save(&record)?;
        let ours = catalog.vaults.iter().any(|vault| publishing.parcel.parent() == Some(&vault.work()));
        if ours {
            catalog.vaults.remove(vec![publishing.parcel]);
        }
    } else if record.deleting {
        if found.sources.contains_key(name) {
            record.deleting = false;
            catalog.save(&record)?;
        } else {
            drop_snapshots(catalog, &record)?;
            tracing::info!(volume = %name, "finished deleting a volume");
        }
    }
    Ok(())
}

/// Removes the snapshots and the record of a volume that Docker has no more.
pub(crate) fn drop_snapshots(catalog: &Catalog, record: &VolumeRecord) -> LocalResult<()> {
    let mut rubbish = Vec::new();
    for (snapshot, taken) in &record.snapshots {
        let dir = snapshot_dir(&taken.vault, &record.name, snapshot);
        let Some(vault) = catalog.vaults.iter().find(|vault| vault.path == taken.vault) else {
            // Its file system is not there: it may be back some day, and is told of then.
            tracing::warn!(path = %dir.display(), "a snapshot may be left in a place not used now");
            continue;
        };
        if fs::symlink_metadata(&dir).is_err() {
            continue;
        }
        // Onto the empty parcel: a crash before the record is gone puts it back.
        let parcel = vault.parcel()?;
        fs::rename(&dir, parcel.path()).map_err(io_error("move", &dir))?;
        rubbish.push(parcel.keep());
        remove_empty(&dir);
    }
    catalog.records.delete(&record.name)?;
    catalog.vaults.remove(rubbish);
    Ok(())
}

/// Removes the directory of a volume's snapshots after its last one.
pub(crate) fn remove_empty(snapshot: &Path) {
    if let Some(dir) = snapshot.parent() {
        // Only if that was the last one.
        let _ = fs::remove_dir(dir);
    }
}
