//! Cases of restores.

use super::contents::{keeps_file, put_file, same_files};
use super::data::{TwoDays, open_tree};
use crate::check::{Outcome, already_exists, done, ensure, fail, io, not_found, same, skip};
use crate::image::{Bytes as _, Device, Source, each_part, first_difference, is_zero};
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::filesystem::{self, FsKind};
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, FinishRestore, MountVolume, PrepareRestore, PreparedRestore, SourceKind,
    TargetLocation, Volume,
};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// The kinds of restore that the driver declares.
pub(super) fn kinds(kit: &Subject) -> Outcome<Vec<SourceKind>> {
    let all = [(Capability::RestoreTree, SourceKind::Tree), (Capability::RestoreBlock, SourceKind::Block)];
    let kinds: Vec<_> =
        all.into_iter().filter(|(capability, _)| kit.can(*capability)).map(|(_, kind)| kind).collect();
    if kinds.is_empty() { skip("the driver restores nothing") } else { Ok(kinds) }
}

pub(super) fn prepare(
    kit: &Subject,
    name: &Name,
    kind: SourceKind,
    size: Option<u64>,
    options: &BTreeMap<String, String>,
) -> Result<PreparedRestore, DriverError> {
    kit.owns(name);
    let mut all = kit.create_options(name);
    all.extend(options.clone());
    let prepared = kit.call(PrepareRestore::new(name.clone(), kind).size(size).options(all))?;
    kit.restoring(&prepared.handle);
    Ok(prepared)
}

/// As [`prepare`], with the size and options of the test; it must succeed.
pub(super) fn prepared(kit: &Subject, name: &Name, kind: SourceKind) -> Outcome<PreparedRestore> {
    done(rules::RESTORE, "restore.prepare", prepare_usual(kit, name, kind))
}

pub(super) fn prepare_usual(
    kit: &Subject,
    name: &Name,
    kind: SourceKind,
) -> Result<PreparedRestore, DriverError> {
    prepare(kit, name, kind, kit.options.size, &BTreeMap::new())
}

pub(super) fn finish(kit: &Subject, handle: &str) -> Result<Volume, DriverError> {
    kit.call(FinishRestore::new(handle.to_owned()))
}

pub(super) fn abort(kit: &Subject, handle: &str) -> Outcome {
    done(rules::ABORT, "restore.abort", kit.call(AbortRestore::new(handle.to_owned()))).map(drop)
}

fn tree_of(prepared: &PreparedRestore) -> Outcome<PathBuf> {
    match &prepared.location {
        TargetLocation::Tree { path, .. } => Ok(path.clone()),
        TargetLocation::Block { .. } => {
            fail(rules::RESTORE, "restore.prepare of a tree: expected a directory, found a device")
        }
    }
}

/// Puts something recognisable into a place that is prepared: files, or a file system.
pub(super) fn fill(prepared: &PreparedRestore) -> Outcome {
    match &prepared.location {
        TargetLocation::Tree { path, .. } => {
            io(rules::RESTORE, "write into the place to restore to", pattern::write(path, 5))
        }
        TargetLocation::Block { device, .. } => {
            // A driver may refuse what is no file system; that the place is empty, this checks too.
            let made = filesystem::mkfs(FsKind::Ext4, device, &Context::new("kit"));
            done(rules::RESTORE, "make a file system in the place to restore to", made)
        }
    }
}

/// Nothing of a restore is to be seen before it is finished.
fn invisible(kit: &Subject, name: &Name) -> Outcome {
    not_found(rules::RESTORE, "volume.get of what is being restored", kit.get(name))?;
    ensure(rules::RESTORE, !kit.names()?.contains(name), || {
        format!("volume.list: {name} is being restored and listed")
    })
}

fn mounted_equals(kit: &Subject, name: &Name, expected: &pattern::Tree, what: &str) -> Outcome {
    let request = MountVolume::new(name.clone());
    let path = done(rules::RESTORE, "volume.mount of the restored volume", kit.call(request))?.mountpoint;
    same_files(rules::RESTORE, "read the restored volume", &path, expected, what)?;
    kit.unmount(name)
}

pub(super) fn tree(kit: &Subject) -> Outcome {
    // What is restored comes from the driver itself, or is made here: a restore does not ask.
    let made = kit.work.join("restore from");
    let (source, expected) = if kit.can(Capability::Snapshots) && kit.can(Capability::ReadTree) {
        let days = TwoDays::make(kit)?;
        (open_tree(kit, &days.volume, &days.monday)?.1, days.was)
    } else {
        let _ = std::fs::remove_dir_all(&made);
        io(
            rules::RESTORE,
            "make files of the kit",
            std::fs::create_dir_all(&made).and_then(|()| pattern::write(&made, 3)),
        )?;
        let expected = io(rules::RESTORE, "read files of the kit", pattern::read(&made))?;
        (made, expected)
    };
    let name = kit.name("restored");
    let prepared = prepared(kit, &name, SourceKind::Tree)?;
    let target = tree_of(&prepared)?;
    let within = io(rules::RESTORE, "list the place to restore to", std::fs::read_dir(&target))?.count();
    same(rules::RESTORE, "files in the place to restore to", &0, &within)?;
    invisible(kit, &name)?;
    let copied = convoy_tree::copy_tree(&source, &target, &convoy_tree::CopyOptions::default());
    io(rules::RESTORE, "write into the place to restore to", copied)?;
    invisible(kit, &name)?;
    let volume = done(rules::RESTORE, "restore.finish", finish(kit, &prepared.handle))?;
    same(rules::RESTORE, "the name of the restored volume", &name, &volume.name)?;
    let again = done(rules::RESTORE, "restore.finish repeated", finish(kit, &prepared.handle))?;
    same(rules::RESTORE, "restore.finish repeated", &name, &again.name)?;
    // It is a volume now: an abort that comes late does not take it away.
    abort(kit, &prepared.handle)?;
    mounted_equals(kit, &name, &expected, "the restored volume")?;
    kit.restart()?;
    mounted_equals(kit, &name, &expected, "the restored volume after a restart")
}

pub(super) fn block(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    let source = Source::open(kit, &days.volume, &days.monday, None)?;
    let (image, in_use) = (source.copy(kit, "image")?, source.extents(kit, u32::MAX)?.extents);
    let name = kit.name("restored");
    let prepared = prepare(kit, &name, SourceKind::Block, Some(source.size), &source.restore_options);
    let prepared = done(rules::RESTORE, "restore.prepare", prepared)?;
    let TargetLocation::Block { device, size, .. } = &prepared.location else {
        return fail(rules::RESTORE, "restore.prepare of a device: expected one, found a directory");
    };
    ensure(rules::RESTORE, *size >= source.size, || {
        format!("expected a device of {} bytes, found {size}", source.size)
    })?;
    invisible(kit, &name)?;
    let file = io(
        rules::RESTORE,
        format_args!("open {}", device.display()),
        File::options().write(true).open(device),
    )?;
    // As the host does it: what is zero is not written.
    each_part(&in_use, |at, part| {
        let copied = image
            .read(part, at)
            .and_then(|()| if is_zero(part) { Ok(()) } else { file.write_all_at(part, at) });
        io(rules::RESTORE, "copy to the device", copied)
    })?;
    io(rules::RESTORE, "sync the device", file.sync_all())?;
    // Zeros where nothing was written, as the host relies on.
    let whole = [convoy_driver_sdk::protocol::Extent { offset: 0, length: source.size }];
    let difference = first_difference(&Device::open(device)?, &image, &whole)?;
    ensure(rules::RESTORE, difference.is_none(), || {
        format!(
            "the device differs from what was written, or is not zero elsewhere, first at byte {}",
            difference.unwrap_or(0)
        )
    })?;
    drop(file);
    invisible(kit, &name)?;
    done(rules::RESTORE, "restore.finish", finish(kit, &prepared.handle))?;
    let again = done(rules::RESTORE, "restore.finish repeated", finish(kit, &prepared.handle))?;
    same(rules::RESTORE, "restore.finish repeated", &name, &again.name)?;
    abort(kit, &prepared.handle)?;
    mounted_equals(kit, &name, &days.was, "the restored volume")?;
    kit.restart()?;
    mounted_equals(kit, &name, &days.was, "the restored volume after a restart")
}

pub(super) fn options(kit: &Subject) -> Outcome {
    let kinds = kinds(kit)?;
    let volume = kit.create("options")?;
    let snapshot = kit.snapshot(&volume, "options")?;
    let opened = crate::image::open(kit, &volume, &snapshot, None)?;
    let kind = opened.location.kind();
    if !kinds.contains(&kind) {
        return skip(format!("it hands over a {kind}, and restores none"));
    }
    let size = match &opened.location {
        convoy_driver_sdk::protocol::SourceLocation::Block { size, .. } => Some(*size),
        _ => kit.options.size,
    };
    let name = kit.name("options");
    let answer = prepare(kit, &name, kind, size, &opened.restore_options);
    let what = format!("restore.prepare with the restore_options {:?}", opened.restore_options);
    let prepared = done(rules::RESTORE_OPTIONS, &what, answer)?;
    abort(kit, &prepared.handle)
}

pub(super) fn abort_case(kit: &Subject) -> Outcome {
    for kind in kinds(kit)? {
        let name = kit.name("aborted");
        for _ in 0..2 {
            let prepared = prepared(kit, &name, kind)?;
            fill(&prepared)?;
            abort(kit, &prepared.handle)?;
            abort(kit, &prepared.handle)?;
            not_found(rules::ABORT, "restore.finish of what was aborted", finish(kit, &prepared.handle))?;
            invisible(kit, &name)?;
        }
        abort(kit, "kit-no-such-restore")?;
        // The name is free.
        done(rules::ABORT, "volume.create after restore.abort", kit.call(kit.create_request(&name)))?;
    }
    Ok(())
}

pub(super) fn taken(kit: &Subject) -> Outcome {
    for kind in kinds(kit)? {
        let name = kit.create("taken")?;
        let answer = prepare_usual(kit, &name, kind);
        already_exists(rules::RESTORE_TAKEN, "restore.prepare of a name that is taken", answer)?;
        // Taken between the two.
        let late = kit.name("late");
        let prepared = prepared(kit, &late, kind)?;
        match kit.call(kit.create_request(&late)) {
            Ok(_) => {
                put_file(kit, &late)?;
                already_exists(
                    rules::RESTORE_TAKEN,
                    "restore.finish of a name that was taken meanwhile",
                    finish(kit, &prepared.handle),
                )?;
                keeps_file(kit, &late, rules::RESTORE_TAKEN, "a file of the volume that took the name")?;
            }
            // A driver may keep the name for the restore.
            Err(error) => ensure(
                rules::RESTORE_TAKEN,
                matches!(error.kind, ErrorKind::AlreadyExists | ErrorKind::Busy | ErrorKind::InUse),
                || {
                    format!(
                        "volume.create of a name that is being restored: {}",
                        crate::check::in_words(&error)
                    )
                },
            )?,
        }
        abort(kit, &prepared.handle)?;
    }
    Ok(())
}
