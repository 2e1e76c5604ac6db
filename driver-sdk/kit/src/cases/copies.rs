//! Volumes from snapshots, going back to one, and the check of the storage.

use super::contents::{keeps_file, put_file, reverted_or_not, same_files};
use super::data::TwoDays;
use crate::check::{Outcome, already_exists, done, ensure, io, not_found, refused, same, skip};
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{
    Capability, Check, CloneVolume, DeleteVolume, RevertVolume, Severity, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};

pub(super) fn clone_of(
    kit: &Subject,
    name: &Name,
    source: &Name,
    snapshot: &Name,
) -> Result<Volume, DriverError> {
    kit.owns(name);
    let options = kit.create_options(name);
    kit.call(CloneVolume::new(name.clone(), source.clone(), snapshot.clone()).options(options))
}

pub(super) fn revert_to(kit: &Subject, name: &Name, snapshot: &Name) -> Result<Volume, DriverError> {
    kit.call(RevertVolume::new(name.clone(), snapshot.clone()))
}

pub(super) fn equals(
    kit: &Subject,
    name: &Name,
    expected: &pattern::Tree,
    rule: rules::Rule,
    what: &str,
) -> Outcome {
    let path = kit.mount(name)?;
    same_files(rule, "read the volume", &path, expected, what)
}

pub(super) fn clone(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    let name = kit.name("clone");
    let made = done(rules::CLONE, "volume.clone", clone_of(kit, &name, &days.volume, &days.monday))?;
    same(rules::CLONE, "the name of the clone", &name, &made.name)?;
    ensure(rules::CLONE, made.snapshots.is_empty(), || "the clone has snapshots".to_owned())?;
    already_exists(
        rules::CLONE,
        "volume.clone of a name that exists",
        clone_of(kit, &name, &days.volume, &days.monday),
    )?;
    let none = Name::from_static("none");
    not_found(
        rules::CLONE,
        "volume.clone of no snapshot",
        clone_of(kit, &kit.name("none"), &days.volume, &none),
    )?;
    not_found(
        rules::CLONE,
        "volume.clone of no volume",
        clone_of(kit, &kit.name("none"), &kit.name("none"), &none),
    )?;
    // Both are mounted at once; what is written into one is not in the other.
    equals(kit, &name, &days.was, rules::CLONE, "the clone")?;
    let (source, copy) = (kit.mount(&days.volume)?, kit.mount(&name)?);
    io(rules::MOUNT, "write into the clone", std::fs::write(copy.join("of the clone"), "clone"))?;
    ensure(rules::CLONE, !source.join("of the clone").exists(), || {
        "a file written into the clone is in its source".to_owned()
    })?;
    kit.unmount(&days.volume)?;
    done(rules::DELETE, "volume.delete of the source", kit.delete(&days.volume))?;
    let content = std::fs::read_to_string(copy.join("of the clone")).unwrap_or_default();
    same(rules::CLONE, "a file of the clone after its source was deleted", &"clone".to_owned(), &content)?;
    kit.unmount(&name)?;
    kit.restart()?;
    kit.mount(&name)?;
    kit.unmount(&name)
}

/// The data of a volume that was only forgotten is not what a clone may go over.
pub(super) fn kept(kit: &Subject) -> Outcome {
    let (source, name) = (kit.create("source")?, kit.create("kept")?);
    let snapshot = kit.snapshot(&source, "kept")?;
    put_file(kit, &name)?;
    match kit.call(DeleteVolume::new(name.clone()).reference_only(true)) {
        Err(error) if error.kind == ErrorKind::Unsupported => return skip("it does not keep data"),
        answer => done(rules::KEEP, "volume.delete with reference_only", answer)?,
    };
    let answer = clone_of(kit, &name, &source, &snapshot);
    already_exists(rules::KEEP, "volume.clone over data that is kept", answer)?;
    // Taken back, or refused: never lost.
    match kit.call(kit.create_request(&name)) {
        Err(error) if error.kind == ErrorKind::AlreadyExists => Ok(()),
        answer => {
            done(rules::KEEP, "volume.create of what was kept", answer)?;
            keeps_file(kit, &name, rules::KEEP, "a file that was kept")
        }
    }
}

pub(super) fn revert(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    let path = kit.mount(&days.volume)?;
    if Subject::is_mounted(&path) {
        let answer = revert_to(kit, &days.volume, &days.monday);
        refused(rules::REVERT, "volume.revert of a mounted volume", &[ErrorKind::InUse], answer)?;
    }
    kit.unmount(&days.volume)?;
    not_found(
        rules::REVERT,
        "volume.revert to no snapshot",
        revert_to(kit, &days.volume, &Name::from_static("none")),
    )?;
    for what in ["volume.revert", "volume.revert repeated"] {
        let reverted = done(rules::REVERT, what, revert_to(kit, &days.volume, &days.monday))?;
        ensure(rules::REVERT, reverted.snapshots.len() == 2, || {
            format!("{what}: expected both snapshots to stay, found {:?}", reverted.snapshots)
        })?;
        equals(kit, &days.volume, &days.was, rules::REVERT, what)?;
        kit.unmount(&days.volume)?;
    }
    // To the newer one: it was not lost.
    done(rules::REVERT, "volume.revert to a newer snapshot", revert_to(kit, &days.volume, &days.tuesday))?;
    kit.restart()?;
    equals(kit, &days.volume, &days.is, rules::REVERT, "volume.revert to a newer snapshot")?;
    kit.unmount(&days.volume)
}

/// Ends the call early, by its deadline and by cancelling it in turn.
pub(super) fn revert_ended(kit: &Subject) -> Outcome {
    let days = TwoDays::make(kit)?;
    kit.unmount(&days.volume)?;
    for (number, time) in super::calls::times().enumerate() {
        let back = revert_to(kit, &days.volume, &days.tuesday);
        done(rules::REVERT, "volume.revert", back)?;
        let request = RevertVolume::new(days.volume.clone(), days.monday.clone());
        let (cancelled, rule) = [(false, rules::DEADLINE), (true, rules::CANCEL)][number % 2];
        let answered = kit.call_for(request, time, cancelled).is_ok();
        kit.settle(rule)?;
        let when = format!("after a volume.revert that was ended after {} ms", time.as_millis());
        let trees = (&days.volume, &days.was, &days.is);
        reverted_or_not(kit, (rule, rules::REVERT), trees, answered, when)?;
    }
    Ok(())
}

pub(super) fn check(kit: &Subject) -> Outcome {
    let volume = kit.create("check")?;
    if kit.can(Capability::Snapshots) {
        kit.snapshot(&volume, "check")?;
    }
    for repair in [false, true] {
        let found = done(rules::CHECK, "driver.check", kit.call(Check::new().repair(repair)))?.findings;
        if let Some(finding) = found.iter().find(|finding| finding.severity == Severity::Error) {
            return skip(format!("the storage is not well: {}: {}", finding.subject, finding.message));
        }
        ensure(
            rules::CHECK,
            found.iter().all(|finding| !finding.subject.is_empty() && !finding.message.is_empty()),
            || "driver.check: a finding without subject or message".to_owned(),
        )?;
        ensure(rules::CHECK, repair || found.iter().all(|finding| !finding.repaired), || {
            "driver.check without `repair`: something was repaired".to_owned()
        })?;
    }
    done(rules::CHECK, "volume.get after driver.check", kit.get(&volume)).map(drop)
}
