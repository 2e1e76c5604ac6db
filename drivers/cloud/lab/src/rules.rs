//! What no driver may do to anybody's data, and what it must do, whatever the cloud.

#![allow(clippy::unwrap_used)]

use crate::http::{Fault, Request};
use crate::world::{Action, Cloud, World, context, expect, hurried, name, options};
use convoy_driver_cloud::Provider;
use convoy_driver_sdk::protocol::{CloneVolume, CreateSnapshot, CreateVolume, MountVolume};
use convoy_driver_sdk::{Driver, ErrorKind};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Later than a call in a hurry has ended and cleaned up.
const LATE: Duration = Duration::from_millis(1500);

/// The tests of this module and of [`doctor`](crate::doctor) on a cloud.
#[macro_export]
macro_rules! rule_tests {
    ($cloud:ty) => {
        #[test]
        fn what_is_there_is_not_formatted() {
            $crate::rules::what_is_there_is_not_formatted::<$cloud>();
        }

        #[test]
        fn writers_are_held_still_when_asked() {
            $crate::rules::writers_are_held_still_when_asked::<$cloud>();
        }

        #[test]
        fn what_comes_into_sight_late_is_undone() {
            $crate::rules::what_comes_into_sight_late_is_undone::<$cloud>();
        }

        #[test]
        fn several_at_once() {
            $crate::rules::several_at_once::<$cloud>();
        }

        #[test]
        fn mounts_and_snapshots_do_not_undo_each_other() {
            $crate::rules::mounts_and_snapshots_do_not_undo_each_other::<$cloud>();
        }

        #[test]
        fn a_clone_needs_neither_snapshot_nor_source() {
            $crate::rules::a_clone_needs_neither_snapshot_nor_source::<$cloud>();
        }

        #[test]
        fn what_is_wrong_is_found_and_what_is_safe_is_repaired() {
            $crate::doctor::what_is_wrong_is_found_and_what_is_safe_is_repaired::<$cloud>();
        }
    };
}

/// Nothing is formatted that has something on it, be it a volume of our own making.
pub fn what_is_there_is_not_formatted<C: Cloud>() {
    let world = World::<C>::new();
    world.create("clean", &[]).unwrap();
    world.cloud.stain();
    expect(world.create("stained", &[]), ErrorKind::AlreadyExists, "found xfs on");
    assert_eq!(world.left(), (1, 0, 0));
}

/// While the provider fixes a snapshot, writers are held still if that was asked for, and only then.
pub fn writers_are_held_still_when_asked<C: Cloud>() {
    let world = World::<C>::new();
    world.create("data", &[]).unwrap();
    let at = world.mount("data").unwrap();
    for (snapshot, freeze) in [("frozen", true), ("synced", false)] {
        let written = Arc::new(Mutex::new(None));
        let (path, outcome) = (at.join(snapshot), Arc::clone(&written));
        // A write that is held still never ends, however long it is waited for.
        let patience = Duration::from_millis(if freeze { 300 } else { 10_000 });
        let write = move || *outcome.lock().unwrap() = Some(writes_within(&path, patience));
        world.cloud.line().fail(0, 1, Fault::Meanwhile(Arc::new(write)), is_snapshot::<C>);
        let request = CreateSnapshot::new(name("data"), name(snapshot)).freeze(freeze);
        world.driver().create_snapshot(request, &context()).unwrap();
        assert_eq!(*written.lock().unwrap(), Some(!freeze), "{snapshot}");
    }
    // It goes on afterwards.
    assert!(writes_within(&at.join("after"), Duration::from_secs(10)));
}

fn is_snapshot<C: Cloud>(request: &Request) -> bool {
    C::asks_for(Action::CreateSnapshot, request)
}

fn writes_within(path: &Path, patience: Duration) -> bool {
    let (sender, receiver) = channel();
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut file = File::create(path).unwrap();
        file.write_all(b"content").unwrap();
        file.sync_all().unwrap();
        // Whoever waited may have given up.
        let _ = sender.send(());
    });
    receiver.recv_timeout(patience).is_ok()
}

/// A mount may come while a snapshot is taken, and the other way round: neither undoes what the other has
/// written down.
pub fn mounts_and_snapshots_do_not_undo_each_other<C: Cloud + Sync>() {
    let world = World::<C>::new();
    let made = world.create("data", &[]).unwrap();
    let elsewhere = world.scratch.path().join("elsewhere");
    in_the_midst(
        &world,
        is_snapshot::<C>,
        || drop(world.snapshot("data", "one").unwrap()),
        || {
            let request = MountVolume::new(name("data")).mountpoint(Some(elsewhere.clone()));
            world.driver().mount_volume(request, &context()).unwrap();
        },
    );
    let now = world.get("data").unwrap();
    assert_eq!((now.mountpoint, now.snapshots.len()), (Some(elsewhere), 1));
    world.unmount("data").unwrap();
    let id = made.info.get(C::Provider::ID_INFO).unwrap();
    world.driver().provider().detach(id, &context()).unwrap();
    in_the_midst(
        &world,
        |request| C::asks_for(Action::AttachVolume, request),
        || drop(world.mount("data").unwrap()),
        || drop(world.snapshot("data", "two").unwrap()),
    );
    let now = world.get("data").unwrap();
    assert_eq!((now.mountpoint.is_some(), now.snapshots.len()), (true, 2));
}

/// Makes a call, and another while the first one's request is on its way.
fn in_the_midst<C: Cloud + Sync>(
    world: &World<C>,
    request: fn(&Request) -> bool,
    first: impl FnOnce() + Send,
    second: impl FnOnce(),
) {
    let ((reached, is_reached), (over, is_over)) = (channel(), channel::<()>());
    let (reached, is_over) = (Mutex::new(reached), Mutex::new(is_over));
    let wait = move || {
        reached.lock().unwrap().send(()).unwrap();
        is_over.lock().unwrap().recv().unwrap();
    };
    world.cloud.line().fail(0, 1, Fault::Meanwhile(Arc::new(wait)), request);
    std::thread::scope(|scope| {
        let call = scope.spawn(first);
        is_reached.recv_timeout(Duration::from_secs(30)).unwrap();
        second();
        over.send(()).unwrap();
        call.join().unwrap();
    });
}

/// A volume of a snapshot is a volume of its own.
pub fn a_clone_needs_neither_snapshot_nor_source<C: Cloud>() {
    let world = World::<C>::new();
    world.create("data", &[("fs", "xfs")]).unwrap();
    let at = world.mount("data").unwrap();
    std::fs::write(at.join("file"), "then").unwrap();
    world.snapshot("data", "one").unwrap();
    std::fs::write(at.join("file"), "now").unwrap();
    let clone = |volume: &str, snapshot: &str, size| {
        let request =
            CloneVolume::new(name(volume), name("data"), name(snapshot)).size(size).options(options(&[]));
        world.driver().clone_volume(request, &context())
    };
    assert_eq!(clone("copy", "one", Some(2 << 30)).unwrap().size, 2 << 30);
    expect(clone("copy", "one", None), ErrorKind::AlreadyExists, "exists already");
    expect(clone("other", "two", None), ErrorKind::NotFound, "no snapshot two");
    expect(clone("data", "one", None), ErrorKind::AlreadyExists, "exists already");
    // While the source is mounted: both have the same file system, with the same UUID.
    let copy = world.mount("copy").unwrap();
    assert_eq!(std::fs::read_to_string(copy.join("file")).unwrap(), "then");
    world.unmount("copy").unwrap();
    world.unmount("data").unwrap();
    world.delete("data", false).unwrap();
    let copy = world.mount("copy").unwrap();
    assert_eq!(std::fs::read_to_string(copy.join("file")).unwrap(), "then");
    assert_eq!(world.left(), (1, 0, 0));
}

/// What a call made that had no time left, and that came into sight only later, is not taken for a volume:
/// the next call for that name makes a whole one, and leaves no other.
pub fn what_comes_into_sight_late_is_undone<C: Cloud>() {
    let is_create = |request: &Request| C::asks_for(Action::CreateVolume, request);
    let world = World::<C>::new();
    world.cloud.line().fail(0, 1, Fault::Meanwhile(Arc::new(|| std::thread::sleep(LATE))), is_create);
    let request = CreateVolume::new(name("data")).options(options(&[]));
    world.driver().create_volume(request, &hurried(200)).unwrap_err();
    assert_eq!(world.left(), (0, 0, 1));
    let begin = Instant::now();
    while world.cloud.volumes().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(30), "a request that has arrived is carried out");
        std::thread::sleep(Duration::from_millis(10));
    }
    world.create("data", &[]).unwrap();
    let at = world.mount("data").unwrap();
    std::fs::write(at.join("file"), "content").unwrap();
    assert_eq!(world.left(), (1, 0, 0));
}

/// Several at once do not get in each other's way.
pub fn several_at_once<C: Cloud + Sync>() {
    let world = World::<C>::new();
    let volumes = ["one", "two", "three", "four"];
    std::thread::scope(|scope| {
        let world = &world;
        for call in volumes.map(|volume| scope.spawn(move || world.create(volume, &[]))) {
            call.join().unwrap().unwrap();
        }
    });
    let devices: BTreeSet<_> =
        world.list().iter().filter_map(|volume| volume.info.get("Device").cloned()).collect();
    assert_eq!(devices.len(), volumes.len(), "{devices:?}");
    std::thread::scope(|scope| {
        let world = &world;
        for call in volumes.map(|volume| scope.spawn(move || world.delete(volume, false))) {
            call.join().unwrap().unwrap();
        }
    });
    assert_eq!(world.left(), (0, 0, 0));
}
