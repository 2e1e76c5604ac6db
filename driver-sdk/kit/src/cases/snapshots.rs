//! Snapshots as far as nobody reads their data.

use crate::check::{Outcome, already_exists, done, ensure, not_found, refused, same, skip};
use crate::image;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{
    Capability, CloseSnapshot, CreateSnapshot, DeleteSnapshot, GetSnapshot, ListSnapshots, OpenSnapshot,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};

pub(super) fn delete(kit: &Subject, volume: &Name, snapshot: &Name) -> Result<(), DriverError> {
    kit.call(DeleteSnapshot::new(volume.clone(), snapshot.clone())).map(drop)
}

/// The names of the snapshots, by the list and by the volume: they must agree.
pub(super) fn names(kit: &Subject, volume: &Name) -> Outcome<Vec<Name>> {
    let listed = done(rules::SNAPSHOT, "snapshot.list", kit.call(ListSnapshots::new(volume.clone())))?;
    let names: Vec<_> = listed.snapshots.iter().map(|snapshot| snapshot.name.clone()).collect();
    let got = done(rules::GET, "volume.get", kit.get(volume))?;
    let mut within: Vec<_> = got.snapshots.into_iter().map(|snapshot| snapshot.name).collect();
    within.sort();
    same(rules::SNAPSHOT, "snapshot.list and the snapshots of volume.get", &within, &names)?;
    Ok(names)
}

pub(super) fn life(kit: &Subject) -> Outcome {
    let volume = kit.create("snapshots")?;
    same(rules::SNAPSHOT, "the snapshots of a new volume", &Vec::new(), &names(kit, &volume)?)?;
    let (second, first) = (kit.snapshot(&volume, "second")?, kit.snapshot(&volume, "first")?);
    same(rules::SNAPSHOT, "snapshot.list", &vec![first.clone(), second.clone()], &names(kit, &volume)?)?;
    let again = CreateSnapshot::new(volume.clone(), first.clone());
    already_exists(rules::SNAPSHOT, "snapshot.create of what exists", kit.call(again))?;
    let got =
        done(rules::SNAPSHOT, "snapshot.get", kit.call(GetSnapshot::new(volume.clone(), first.clone())))?;
    same(rules::SNAPSHOT, "snapshot.get", &(first.clone(), volume.clone()), &(got.name, got.volume))?;
    // Another volume may have snapshots of the same names.
    let other = kit.create("snapshots")?;
    kit.snapshot(&other, "first")?;
    done(rules::SNAPSHOT, "snapshot.delete", delete(kit, &volume, &first))?;
    not_found(rules::SNAPSHOT, "snapshot.delete of what is deleted", delete(kit, &volume, &first))?;
    same(rules::SNAPSHOT, "snapshot.list after a delete", &vec![second], &names(kit, &volume)?)?;
    same(rules::SNAPSHOT, "snapshot.list of the other volume", &vec![first.clone()], &names(kit, &other)?)?;
    kit.snapshot(&volume, "first")?;
    kit.restart()?;
    ensure(rules::DURABLE, names(kit, &volume)?.len() == 2, || {
        "snapshots are missing after a restart".to_owned()
    })?;
    done(rules::DELETE, "volume.delete of a volume with snapshots", kit.delete(&volume))?;
    done(rules::CREATE, "volume.create", kit.call(kit.create_request(&volume)))?;
    same(rules::DELETE, "the snapshots of a volume made anew", &Vec::new(), &names(kit, &volume)?)
}

pub(super) fn unknown(kit: &Subject) -> Outcome {
    let (volume, none, snapshot) = (kit.create("snapshots")?, kit.name("none"), Name::from_static("none"));
    let expect = |what: &str, answer: Result<(), DriverError>| not_found(rules::UNKNOWN, what, answer);
    let create = CreateSnapshot::new(none.clone(), snapshot.clone());
    expect("snapshot.create of no volume", kit.call(create).map(drop))?;
    expect("snapshot.list of no volume", kit.call(ListSnapshots::new(none.clone())).map(drop))?;
    for (of, what) in [(&volume, "of no snapshot"), (&none, "of no volume")] {
        expect(&format!("snapshot.delete {what}"), delete(kit, of, &snapshot))?;
        let get = GetSnapshot::new(of.clone(), snapshot.clone());
        expect(&format!("snapshot.get {what}"), kit.call(get).map(drop))?;
        if kit.can(Capability::ReadTree) || kit.can(Capability::ReadBlock) {
            let open = OpenSnapshot::new(of.clone(), snapshot.clone());
            expect(&format!("snapshot.open {what}"), kit.call(open).map(drop))?;
        }
    }
    Ok(())
}

pub(super) fn open(kit: &Subject) -> Outcome {
    if !kit.can(Capability::ReadTree) && !kit.can(Capability::ReadBlock) {
        return skip("the driver hands no snapshots over");
    }
    let volume = kit.create("open")?;
    let snapshot = kit.snapshot(&volume, "read")?;
    let (one, two) =
        (image::open(kit, &volume, &snapshot, None)?, image::open(kit, &volume, &snapshot, None)?);
    ensure(rules::SNAPSHOT_OPEN, one.handle != two.handle, || "two openings have one handle".to_owned())?;
    let in_use = |when: &str| {
        refused(
            rules::SNAPSHOT_OPEN,
            &format!("snapshot.delete {when}"),
            &[ErrorKind::InUse],
            delete(kit, &volume, &snapshot),
        )
        .map(drop)
    };
    let close = |handle: &str| {
        done(rules::SNAPSHOT_OPEN, "snapshot.close", kit.call(CloseSnapshot::new(handle.to_owned())))
            .map(drop)
    };
    in_use("while it is open twice")?;
    close(&one.handle)?;
    close(&one.handle)?;
    in_use("while it is open once more")?;
    close("kit-no-such-handle")?;
    close(&two.handle)?;
    done(rules::SNAPSHOT, "snapshot.delete after the last snapshot.close", delete(kit, &volume, &snapshot))
}
