//! `kill -9` in the midst of calls about snapshots, and of what is made of them.

use super::{kill, kill_after, moments, timed};
use crate::cases::backups;
use crate::cases::contents::{filled, reverted_or_not, same_files};
use crate::cases::copies::{clone_of, equals, revert_to};
use crate::cases::data::{TwoDays, open_tree};
use crate::cases::restore::{fill, finish, kinds, prepare_usual, prepared};
use crate::cases::snapshots::{delete as delete_snapshot, names as snapshot_names};
use crate::check::{Outcome, done, ensure, io, not_found, same, skip};
use crate::image;
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{Capability, CloseSnapshot, CreateSnapshot, SourceKind, Volume};
use convoy_driver_sdk::{DriverError, Name};
use std::time::Duration;

/// A snapshot that is there has everything, as far as it can be read as files: as a tree, or by a clone.
fn is_whole(kit: &Subject, volume: &Name, snapshot: &Name, expected: &pattern::Tree, what: &str) -> Outcome {
    if kit.can(Capability::ReadTree) && !kit.can(Capability::ReadBlock) {
        let (handle, path) = open_tree(kit, volume, snapshot)?;
        same_files(rules::WHOLE, format_args!("read {what}"), &path, expected, what)?;
        done(rules::SNAPSHOT_OPEN, "snapshot.close", kit.call(CloseSnapshot::new(handle)))?;
    } else if kit.can(Capability::Clone) {
        let name = kit.name("whole");
        done(rules::WHOLE, "volume.clone of what is there", clone_of(kit, &name, volume, snapshot))?;
        equals(kit, &name, expected, rules::WHOLE, what)?;
        kit.unmount(&name)?;
        done(rules::DELETE, "volume.delete", kit.delete(&name))?;
    }
    Ok(())
}

pub(in crate::cases) fn snapshot(kit: &Subject) -> Outcome {
    let name = kit.create("crash")?;
    let path = kit.mount(&name)?;
    io(rules::MOUNT, "write files into the volume", pattern::write(&path, 4))?;
    let (_, whole) = timed(|| kit.snapshot(&name, "first"))?;
    let freeze = kit.can(Capability::Freeze);
    let mut expected = 1;
    for (number, delay) in moments(kit, whole).enumerate() {
        let snapshot = Name::parse(format!("crash-{number}")).unwrap_or_else(|_| Name::from_static("crash"));
        let request = || CreateSnapshot::new(name.clone(), snapshot.clone()).freeze(freeze);
        let files = io(rules::MOUNT, "read the volume", pattern::read(&path))?;
        let answered = kill_after(kit, delay, || kit.call(request()))?;
        let there = snapshot_names(kit, &name)?.contains(&snapshot);
        if there {
            is_whole(kit, &name, &snapshot, &files, "a snapshot whose making was killed")?;
        }
        // Writers must not be held up by a driver that is gone.
        let written = std::fs::write(path.join("beside"), "content").and_then(|()| pattern::sync(&path));
        io(rules::WHOLE, "write into the volume", written)?;
        ensure(rules::DURABLE, there || answered.is_none(), || {
            format!("the snapshot {snapshot} was acknowledged and is gone after a kill")
        })?;
        if !there {
            done(rules::WHOLE, "snapshot.create, repeated", kit.call(request()))?;
        }
        expected += 1;
        same(rules::WHOLE, "the number of snapshots", &expected, &snapshot_names(kit, &name)?.len())?;
    }
    kit.unmount(&name)
}

pub(in crate::cases) fn snapshot_delete(kit: &Subject) -> Outcome {
    let (name, files) = filled(kit, "crash")?;
    let (stays, first) = (kit.snapshot(&name, "stays")?, kit.snapshot(&name, "first")?);
    let (_, whole) = timed(|| done(rules::SNAPSHOT, "snapshot.delete", delete_snapshot(kit, &name, &first)))?;
    for delay in moments(kit, whole) {
        let snapshot = kit.snapshot(&name, "goes")?;
        let answered = kill_after(kit, delay, || delete_snapshot(kit, &name, &snapshot))?;
        if snapshot_names(kit, &name)?.contains(&snapshot) {
            ensure(rules::DURABLE, answered.is_none(), || {
                "a snapshot was deleted and is there after a kill".to_owned()
            })?;
            is_whole(kit, &name, &snapshot, &files, "a snapshot whose deletion was killed")?;
            done(rules::WHOLE, "snapshot.delete, repeated", delete_snapshot(kit, &name, &snapshot))?;
        }
        same(rules::WHOLE, "the snapshots", &vec![stays.clone()], &snapshot_names(kit, &name)?)?;
    }
    Ok(())
}

pub(in crate::cases) fn reading(kit: &Subject) -> Outcome {
    if !kit.can(Capability::ReadTree) && !kit.can(Capability::ReadBlock) {
        return skip("the driver hands no snapshots over");
    }
    let name = kit.create("crash")?;
    let snapshot = kit.snapshot(&name, "read")?;
    let either = [SourceKind::Tree, SourceKind::Block].map(Some);
    let kinds = if kit.can(Capability::ReadEither) { &either[..] } else { &[None] };
    for kind in kinds.iter().copied() {
        let (opened, whole) = timed(|| image::open_as(kit, &name, &snapshot, None, kind))?;
        for delay in moments(kit, whole) {
            let request =
                convoy_driver_sdk::protocol::OpenSnapshot::new(name.clone(), snapshot.clone()).kind(kind);
            // Made to the next process, it is open there.
            if let Some(opened) = kill_after(kit, delay, || kit.call(request))? {
                let close = CloseSnapshot::new(opened.handle);
                done(rules::SNAPSHOT_OPEN, "snapshot.close", kit.call(close))?;
            }
        }
        // Nothing is open any more: a handle of an earlier life closes nothing, and the snapshot can go.
        let close = CloseSnapshot::new(opened.handle);
        done(rules::SNAPSHOT_OPEN, "snapshot.close of a handle of an earlier life", kit.call(close))?;
    }
    done(
        rules::WHOLE,
        "snapshot.delete after a kill while it was open",
        delete_snapshot(kit, &name, &snapshot),
    )
}

pub(in crate::cases) fn restore(kit: &Subject) -> Outcome {
    for kind in kinds(kit)? {
        let name = kit.name("crash");
        let prepared = |name: &Name| prepared(kit, name, kind);
        // While it is prepared, and while it is written.
        let (first, whole) = timed(|| prepared(&name))?;
        fill(&first)?;
        // As long as that one lives, its name is taken.
        kill(kit)?;
        for delay in moments(kit, whole) {
            let restore = || prepare_usual(kit, &name, kind);
            // Made to the next process, it lives there.
            if kill_after(kit, delay, restore)?.is_some() {
                kill(kit)?;
            }
            not_found(rules::WHOLE, "volume.get of a restore that was killed", kit.get(&name))?;
            not_found(rules::WHOLE, "restore.finish of an earlier life", finish(kit, &first.handle))?;
        }
        // While it is finished: whole, or not at all.
        let target = prepared(&name)?;
        fill(&target)?;
        let (_, whole) = timed(|| done(rules::RESTORE, "restore.finish", finish(kit, &target.handle)))?;
        for delay in moments(kit, whole) {
            let name = kit.name("crash");
            let target = prepared(&name)?;
            fill(&target)?;
            let answered = kill_after(kit, delay, || finish(kit, &target.handle))?;
            match kit.get(&name) {
                Ok(volume) => {
                    ensure(rules::WHOLE, volume.health == convoy_driver_sdk::protocol::Health::Good, || {
                        format!(
                            "a restore that was killed left {name} in a state in which it cannot be used: \
                             {:?}",
                            volume.health
                        )
                    })?
                }
                answer => {
                    ensure(rules::DURABLE, answered.is_none(), || {
                        format!("{name} was restored and is gone after a kill")
                    })?;
                    not_found(rules::WHOLE, "volume.get after a killed restore.finish", answer)?;
                    let target = prepared(&name)?;
                    fill(&target)?;
                    done(
                        rules::WHOLE,
                        "restore.finish, repeated from the beginning",
                        finish(kit, &target.handle),
                    )?;
                }
            }
        }
    }
    Ok(())
}

/// Makes a volume over a kill: it is there whole, or not at all and can be made. `call` is what makes it,
/// `what` what it is.
fn made_over_a_kill(
    kit: &Subject,
    delay: Duration,
    (call, what): (&str, &str),
    make: impl Fn(&Name) -> Result<Volume, DriverError> + Sync,
    expected: &pattern::Tree,
) -> Outcome {
    let name = kit.name("crash");
    let answered = kill_after(kit, delay, || make(&name))?;
    if let answer @ Err(_) = kit.get(&name) {
        ensure(rules::DURABLE, answered.is_none(), || {
            format!("{what}, {name}, was acknowledged and is gone after a kill")
        })?;
        let got = format!("volume.get after a killed {call}");
        not_found(rules::WHOLE, &got, answer)?;
        done(rules::WHOLE, &format!("{call}, repeated"), make(&name))?;
    }
    equals(kit, &name, expected, rules::WHOLE, &format!("{what} whose making was killed"))?;
    kit.unmount(&name)
}

pub(in crate::cases) fn clone(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    kit.unmount(&days.volume)?;
    let make = |name: &Name| clone_of(kit, name, &days.volume, &days.monday);
    let (_, whole) = timed(|| done(rules::CLONE, "volume.clone", make(&kit.name("crash"))))?;
    for delay in moments(kit, whole) {
        made_over_a_kill(kit, delay, ("volume.clone", "a clone"), make, &days.was)?;
    }
    Ok(())
}

pub(in crate::cases) fn revert(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    kit.unmount(&days.volume)?;
    let to = |snapshot: &Name| revert_to(kit, &days.volume, snapshot);
    let (_, whole) = timed(|| done(rules::REVERT, "volume.revert", to(&days.tuesday)))?;
    for delay in moments(kit, whole) {
        done(rules::REVERT, "volume.revert", to(&days.tuesday))?;
        let answered = kill_after(kit, delay, || to(&days.monday))?;
        let trees = (&days.volume, &days.was, &days.is);
        let when = "after a killed volume.revert";
        reverted_or_not(kit, (rules::WHOLE, rules::WHOLE), trees, answered.is_some(), when)?;
        same(
            rules::REVERT,
            "the number of snapshots after volume.revert",
            &2,
            &snapshot_names(kit, &days.volume)?.len(),
        )?;
    }
    Ok(())
}

pub(in crate::cases) fn backup(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    kit.unmount(&days.volume)?;
    let (url, whole) = timed(|| backups::make(kit, &days.volume, &days.monday))?;
    let restore = |name: &Name| backups::restore(kit, name, &url);
    let (_, whole_restore) =
        timed(|| done(rules::BACKUP_DATA, "volume.create of a backup", restore(&kit.name("crash"))))?;
    let path = kit.mount(&days.volume)?;
    let is = io(rules::MOUNT, "read the volume", pattern::read(&path))?;
    kit.unmount(&days.volume)?;
    for (number, delay) in moments(kit, whole).enumerate() {
        // A snapshot each: of one that has a backup already, a driver may answer just that.
        let snapshot = kit.snapshot(&days.volume, &format!("crash-{number}"))?;
        let answered = kill_after(kit, delay, || kit.call(backups::request(&days.volume, &snapshot)))?;
        answered.into_iter().for_each(|made| kit.backup(&made.url));
        let url = backups::make(kit, &days.volume, &snapshot)?;
        let name = kit.name("crash");
        done(rules::WHOLE, "volume.create of a backup", backups::restore(kit, &name, &url))?;
        equals(kit, &name, &is, rules::WHOLE, "a backup whose making was killed")?;
        kit.unmount(&name)?;
    }
    let made = ("volume.create of a backup", "a volume of a backup");
    for delay in moments(kit, whole_restore) {
        made_over_a_kill(kit, delay, made, restore, &days.was)?;
    }
    Ok(())
}
