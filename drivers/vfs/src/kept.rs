//! What deletes by reference kept: to be told, and to be removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use convoy_driver_sdk::protocol::{DeleteKept, Kept, ListKept, ListedKept};
use convoy_driver_sdk::{Context, Name, Timestamp};

use crate::catalog::Catalog;
use crate::delete::take_down;
use crate::describe::names;
use crate::error::{VfsError, VfsResult};
use crate::files::exists;
use crate::layout::KEPT;
use crate::measure::Budget;
use crate::record::VolumeRecord;

/// How long sizes are added up for one listing, and of how many files.
const COUNTING: Duration = Duration::from_secs(5);
const COUNTED: usize = 1_000_000;

/// Lists a page of what is kept, with sizes if they are wanted.
pub(crate) fn list(catalog: &Catalog, request: &ListKept, context: &Context) -> VfsResult<ListedKept> {
    let mut names = names(&catalog.layout, KEPT, &mut Vec::new())?;
    // A volume, whose record as a kept one a create had no time to remove. What cannot be told is listed.
    names.retain(|name| !catalog.records.exists(name).unwrap_or(false));
    let (names, more) = request.page(names);
    let time = context.remaining().map_or(COUNTING, |left| (left / 2).min(COUNTING));
    let mut budget = request.sizes.then(|| Budget::new(time, COUNTED));
    let mut listed = ListedKept::new(Vec::new()).more(more);
    for name in names {
        context.check()?;
        listed.kept.extend(kept_of(catalog, &name, budget.as_mut()));
    }
    Ok(listed)
}

/// What is kept under a name, if it still is.
fn kept_of(catalog: &Catalog, name: &Name, budget: Option<&mut Budget>) -> Option<Kept> {
    let mut kept = Kept::new(name.clone());
    let record = match catalog.kept_record(name) {
        Ok(Some(record)) => record,
        Ok(None) => return None,
        Err(damaged) => {
            kept.note = Some(damaged.to_string());
            return Some(kept);
        }
    };
    // The rename that forgot the volume changed it.
    let changed = fs::metadata(catalog.kept.path(name)).map(|meta| meta.ctime());
    kept.since = changed.ok().map(Timestamp::from_unix);
    kept.snapshots = u32::try_from(record.snapshots.len()).unwrap_or(u32::MAX);
    kept.path = Some(catalog.data(&record));
    kept.note = not_ours(catalog, &record).map(|why| why.to_string()).or_else(|| {
        let target = fs::read_link(catalog.layout.volume(name)).ok()?;
        Some(format!("a link to {}, where nothing is touched", target.display()))
    });
    if let Some(budget) = budget {
        let (bytes, all) = size_of(catalog, &record, budget);
        (kept.size, kept.at_least) = (Some(bytes), !all);
    }
    Some(kept)
}

/// Bytes on the disk. Of a file with several names each counts for its part, so that snapshots which
/// share files count them once. What a link leads to is not the volume's.
fn size_of(catalog: &Catalog, record: &VolumeRecord, budget: &mut Budget) -> (u64, bool) {
    let places = [catalog.data(record), catalog.layout.snapshots(&record.name)];
    let real = |path: &&std::path::PathBuf| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    places.iter().filter(real).fold((0, true), |(bytes, all), place| {
        let (more, whole) = budget.add_up(place, |found| {
            let names = if found.entry.is_dir() { 1 } else { found.entry.nlink.max(1) };
            found.allocated / u64::from(names)
        });
        (bytes.saturating_add(more), all && whole)
    })
}

pub(crate) fn delete(catalog: &Catalog, request: &DeleteKept, context: &Context) -> VfsResult<()> {
    let name = &request.name;
    let parcel = catalog.locked(name, context, || {
        let nothing = || VfsError::NothingKept(name.clone());
        if catalog.records.exists(name)? {
            return Err(nothing());
        }
        let record = catalog.kept_record(name)?.ok_or_else(nothing)?;
        if let Some(why) = not_ours(catalog, &record) {
            return Err(why);
        }
        let _unused = catalog.locks.unused(name)?;
        take_down(catalog, &record)
    })?;
    catalog.workspace.discard(parcel);
    Ok(())
}

/// Why the data is not the driver's to remove: it was there before it became a volume, or is not in
/// `vfs.path`. Of a link in `vfs.path` the link alone is removed.
fn not_ours(catalog: &Catalog, record: &VolumeRecord) -> Option<VfsError> {
    let path = catalog.data(record);
    let here = path == catalog.layout.volume(&record.name);
    let link = here && path.is_symlink();
    let others = !link && exists(&path) && (record.adopted || !here);
    others.then(|| VfsError::NotOurs { volume: record.name.clone(), path })
}
