//! The data of snapshots.

use super::contents::{fill_volume, same_files};
use crate::check::{Outcome, done, ensure, fail, io, refused, skip};
use crate::image::{self, Source, first_difference};
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{Capability, CloseSnapshot, OpenedSnapshot, SourceKind, SourceLocation};
use convoy_driver_sdk::{ErrorKind, Name};
use std::path::PathBuf;

/// A volume with files, a snapshot, other files, and another snapshot.
pub(super) struct TwoDays {
    pub(super) volume: Name,
    pub(super) monday: Name,
    pub(super) tuesday: Name,
    pub(super) was: pattern::Tree,
    pub(super) is: pattern::Tree,
}

impl TwoDays {
    pub(super) fn make(kit: &Subject) -> Outcome<Self> {
        let volume = kit.create("days")?;
        let path = kit.mount(&volume)?;
        let was = fill_volume(&path, 3)?;
        let monday = kit.snapshot(&volume, "monday")?;
        io(rules::MOUNT, "change files of the volume", pattern::change(&path, 3))?;
        let is = io(rules::MOUNT, "read the volume", pattern::read(&path))?;
        let tuesday = kit.snapshot(&volume, "tuesday")?;
        // What comes after a snapshot is in none.
        io(rules::MOUNT, "write a file into the volume", std::fs::write(path.join("later"), "later"))?;
        Ok(Self { volume, monday, tuesday, was, is })
    }
}

pub(super) fn open_tree(kit: &Subject, volume: &Name, snapshot: &Name) -> Outcome<(String, PathBuf)> {
    let opened = image::open(kit, volume, snapshot, None)?;
    match opened.location {
        SourceLocation::Tree { path, .. } => Ok((opened.handle, path)),
        SourceLocation::Block { .. } => fail(
            rules::CAPABILITIES,
            "snapshot.open: expected a tree, as `read_tree` says, found a block device",
        ),
    }
}

pub(super) fn tree(kit: &Subject) -> Outcome {
    if kit.can(Capability::ReadBlock) {
        return skip("it hands devices over");
    }
    let days = TwoDays::make(kit)?;
    let compare = |snapshot: &Name, expected: &pattern::Tree, when: &str| {
        let (handle, path) = open_tree(kit, &days.volume, snapshot)?;
        same_files(
            rules::SNAPSHOT_DATA,
            "read the snapshot",
            &path,
            expected,
            format_args!("the tree of {snapshot} {when}"),
        )?;
        done(rules::SNAPSHOT_OPEN, "snapshot.close", kit.call(CloseSnapshot::new(handle))).map(drop)
    };
    compare(&days.monday, &days.was, "after changes")?;
    compare(&days.tuesday, &days.is, "after changes")?;
    done(rules::SNAPSHOT, "snapshot.delete", super::snapshots::delete(kit, &days.volume, &days.monday))?;
    compare(&days.tuesday, &days.is, "after the other was deleted")
}

/// The driver's own choice is what it declares; asked for either it gives that, of the same snapshot, at the
/// same time.
pub(super) fn either(kit: &Subject) -> Outcome {
    let (tree, block) = (kit.can(Capability::ReadTree), kit.can(Capability::ReadBlock));
    ensure(rules::READ_EITHER, tree != block, || {
        "read_either: expected one of read_tree and read_block beside it, which says what is handed over \
         unasked"
            .to_owned()
    })?;
    let days = TwoDays::make(kit)?;
    let open = |kind| image::open_as(kit, &days.volume, &days.monday, None, kind);
    let is_tree = |opened: &OpenedSnapshot| matches!(opened.location, SourceLocation::Tree { .. });
    let found = (is_tree(&open(None)?), is_tree(&open(Some(SourceKind::Block))?));
    ensure(rules::READ_EITHER, found == (tree, false), || {
        format!("expected a tree: unasked {tree}, asked for a block device false; found {found:?}")
    })?;
    let opened = open(Some(SourceKind::Tree))?;
    let SourceLocation::Tree { path, .. } = &opened.location else {
        return fail(rules::READ_EITHER, "snapshot.open as a tree: found a block device");
    };
    let compare = |when: &str| {
        same_files(
            rules::SNAPSHOT_DATA,
            "read the snapshot",
            path,
            &days.was,
            format_args!("the tree {when}"),
        )
    };
    compare("of a mounted volume")?;
    let live = kit.mount(&days.volume)?;
    io(rules::MOUNT, "write a file into the volume", std::fs::write(live.join("beside"), "beside"))?;
    compare("after the volume was written to")?;
    refused(
        rules::SNAPSHOT_OPEN,
        "snapshot.delete while it is open as a tree",
        &[ErrorKind::InUse],
        super::snapshots::delete(kit, &days.volume, &days.monday),
    )?;
    kit.unmount(&days.volume)?;
    compare("after the volume was unmounted")?;
    let path = path.clone();
    let close = || kit.call(CloseSnapshot::new(opened.handle.clone()));
    done(rules::SNAPSHOT_OPEN, "snapshot.close", close())?;
    done(rules::SNAPSHOT_OPEN, "snapshot.close repeated", close())?;
    ensure(rules::LEAKS, std::fs::read_dir(&path).map_or(0, Iterator::count) == 0, || {
        format!("{} still has the files of a snapshot that was closed", path.display())
    })
}

pub(super) fn block(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    let source = Source::open(kit, &days.volume, &days.monday, None)?;
    ensure(rules::CHANGED, !source.changed_only, || {
        "without a base: expected extents in use, found changed ones only".to_owned()
    })?;
    let extents = source.checked_extents(kit)?;
    ensure(rules::EXTENTS, extents.discarded.is_empty(), || {
        "without a base: found discarded extents".to_owned()
    })?;
    let first = source.copy(kit, "monday")?;
    // Written beside, and read again.
    let path = kit.mount(&days.volume)?;
    io(
        rules::MOUNT,
        "write a file into the volume",
        std::fs::write(path.join("more"), pattern::noise(3 << 20, 9)),
    )?;
    io(rules::MOUNT, "sync the volume", pattern::sync(&path))?;
    let again = source.copy(kit, "monday again")?;
    let difference = first_difference(&first, &again, &extents.extents)?;
    ensure(rules::SNAPSHOT_DATA, difference.is_none(), || {
        format!("the snapshot changed at byte {difference:?} while it was open")
    })?;
    kit.unmount(&days.volume)
}

pub(super) fn changed(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    let base = Source::open(kit, &days.volume, &days.monday, None)?.copy(kit, "base")?;
    let whole = Source::open(kit, &days.volume, &days.tuesday, None)?;
    let (in_use, expected) = (whole.extents(kit, u32::MAX)?.extents, whole.copy(kit, "whole")?);
    let changes = Source::open(kit, &days.volume, &days.tuesday, Some(&days.monday))?;
    ensure(rules::CHANGED, changes.changed_only, || {
        "with a base that is there: expected changed extents, found what is in use".to_owned()
    })?;
    io(rules::CHANGED, "lengthen the kit's copy", base.lengthen(changes.size))?;
    let found = changes.checked_extents(kit)?;
    changes.apply(&found, &base)?;
    let difference = first_difference(&base, &expected, &in_use)?;
    ensure(rules::CHANGED, difference.is_none(), || {
        format!(
            "the base with the changed extents over it differs from the snapshot, first at byte {}",
            difference.unwrap_or(0)
        )
    })?;
    // Some of what was in use did not change; a driver that names everything saves nobody anything.
    let bytes = |extents: &[convoy_driver_sdk::protocol::Extent]| {
        extents.iter().map(|extent| extent.length).sum::<u64>()
    };
    ensure(rules::CAPABILITIES, bytes(&found.extents) < bytes(&in_use), || {
        format!(
            "changed_extents: {} of {} bytes in use are named as changed: all of them",
            bytes(&found.extents),
            bytes(&in_use)
        )
    })?;
    let itself = Source::open(kit, &days.volume, &days.tuesday, Some(&days.tuesday))?;
    if itself.changed_only {
        let nothing = itself.checked_extents(kit)?;
        ensure(rules::CHANGED, nothing.extents.is_empty() && nothing.discarded.is_empty(), || {
            format!("a snapshot against itself: expected no changed extents, found {}", nothing.extents.len())
        })?;
    }
    let gone = Source::open(kit, &days.volume, &days.tuesday, Some(&Name::from_static("sunday")))?;
    ensure(rules::CHANGED, !gone.changed_only, || {
        "with a base that does not exist: expected what is in use, found changed extents".to_owned()
    })?;
    ensure(rules::CHANGED, bytes(&gone.extents(kit, u32::MAX)?.extents) >= bytes(&in_use), || {
        "with a base that does not exist: expected everything in use".to_owned()
    })?;
    kit.unmount(&days.volume)
}
