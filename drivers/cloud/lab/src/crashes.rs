//! kill -9 before and after every request that an operation makes, and a new life afterwards.
//!
//! [`crash_tests!`](crate::crash_tests) makes the tests of a cloud.

#![allow(clippy::unwrap_used, clippy::panic)]

use crate::crash::{self, Part};
use crate::http::Fault;
use crate::world::{Cloud, World, context, name, options};
use convoy_driver_cloud::{CloudDriver, Config, Provider};
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, DeleteVolume, FinishRestore, Health, Open, OpenSnapshot, PrepareRestore,
    ResizeVolume, SourceKind, TargetLocation,
};
use std::path::PathBuf;
use std::sync::Arc;

const ROOT: &str = "CONVOY_LAB_ROOT";
const DEV: &str = "CONVOY_LAB_DEV";
const SYS: &str = "CONVOY_LAB_SYS";
const OPTIONS: &str = "CONVOY_LAB_OPTIONS";

/// The tests of a cloud. To be used in a module `crashes` at the root of the test program.
#[macro_export]
macro_rules! crash_tests {
    ($cloud:ty) => {
        /// The part that is killed.
        #[test]
        #[ignore = "a part of the other tests here"]
        fn one_life() {
            $crate::crashes::one_life::<$cloud>();
        }

        #[test]
        fn create_survives_a_kill_at_every_step() {
            $crate::crashes::create::<$cloud>();
        }

        #[test]
        fn restore_survives_a_kill_at_every_step() {
            $crate::crashes::restore::<$cloud>();
        }

        #[test]
        fn delete_survives_a_kill_at_every_step() {
            $crate::crashes::delete::<$cloud>();
        }

        #[test]
        fn snapshot_survives_a_kill_at_every_step() {
            $crate::crashes::snapshot::<$cloud>();
        }

        #[test]
        fn reading_survives_a_kill_at_every_step() {
            $crate::crashes::read::<$cloud>();
        }

        #[test]
        fn resizing_survives_a_kill_at_every_step() {
            $crate::crashes::resize::<$cloud>();
        }
    };
}

/// One life of the driver, with one operation: the part that is killed.
pub fn one_life<C: Cloud>() {
    let Some(part) = crash::part() else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let request =
        Open::new(PathBuf::from(variable(ROOT))).options(serde_json::from_str(&variable(OPTIONS)).unwrap());
    let mut config = Config::read::<C::Provider>(&request).unwrap();
    config.places.dev = PathBuf::from(variable(DEV));
    config.places.sys = PathBuf::from(variable(SYS));
    let (driver, _) = CloudDriver::<C::Provider>::open_with(config, request, &context()).unwrap();
    let (volume, snapshot, context) = (name("victim"), name("snap"), context());
    match part.as_str() {
        "create" => {
            let request = CreateVolume::new(volume).options(options(&[]));
            driver.create_volume(request, &context).unwrap();
        }
        "delete" => {
            driver.delete_volume(DeleteVolume::new(volume), &context).unwrap();
        }
        "snapshot" => {
            driver.create_snapshot(CreateSnapshot::new(volume, snapshot).freeze(true), &context).unwrap();
        }
        "read" => {
            driver.open_snapshot(OpenSnapshot::new(volume, snapshot), &context).unwrap();
        }
        "resize" => {
            driver.resize_volume(ResizeVolume::new(volume, 2 << 30), &context).unwrap();
        }
        "restore" => {
            let (kind, size) = (SourceKind::Tree, None);
            let request = PrepareRestore::new(volume, kind).size(size).options(options(&[]));
            let prepared = driver.prepare_restore(request, &context).unwrap();
            let TargetLocation::Tree { path, .. } = &prepared.location else { panic!("{prepared:?}") };
            std::fs::write(path.join("leaf"), "green").unwrap();
            driver.finish_restore(FinishRestore::new(prepared.handle), &context).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// Kills the operation at each of its requests, then has a new life and `check`; until it is over before the
/// kill. As many kills there must have been.
fn kill_everywhere<C: Cloud>(
    part: &str,
    at_least: usize,
    prepare: impl Fn(&World<C>),
    check: impl Fn(&World<C>),
) {
    let mut world = World::<C>::new();
    world.cloud.calm();
    let environment = [
        (ROOT, world.root().display().to_string()),
        (DEV, world.kernel.dev().display().to_string()),
        (SYS, world.kernel.sys().display().to_string()),
        (OPTIONS, serde_json::to_string(&world.options()).unwrap()),
    ];
    let mut kills = 0;
    let mut over = false;
    for request in 0.. {
        if over {
            break;
        }
        for before in [true, false] {
            prepare(&world);
            world.driver = None;
            let victim = Part::prepare();
            let killer = victim.clone();
            let kill: Arc<dyn Fn() + Send + Sync> = Arc::new(move || killer.kill());
            let fault = if before { Fault::Before(kill) } else { Fault::After(kill) };
            world.cloud.line().fail(request, 1, fault, |_| true);
            victim.start("crashes::one_life", part, &environment).unwrap();
            let status = victim.wait().unwrap();
            over |= status.success();
            kills += usize::from(!status.success());
            world.cloud.line().heal();
            world.cloud.calm();
            // Long after, when whatever comes into sight has come into sight.
            world.age_intents();
            world.reopen();
            assert_eq!(world.intents(), 0);
            check(&world);
            // Whatever is known can be deleted, and then nothing is left, in the cloud or mounted.
            for volume in world.list() {
                world.unmount(&volume.name).unwrap();
                world.delete(&volume.name, false).unwrap();
            }
            assert_eq!(world.left(), (0, 0, 0), "left at {request} (before: {before})");
        }
    }
    assert!(kills >= at_least, "{part} was killed {kills} times only");
}

/// Nothing is paid for that is not known; what is known is whole.
fn nothing_unknown<C: Cloud>(world: &World<C>) {
    let listed = world.list();
    assert!(listed.iter().all(|volume| volume.health == Health::Good), "{listed:?}");
    let id = |info: &std::collections::BTreeMap<String, String>, key: &str| info.get(key).cloned().unwrap();
    let volumes = listed.iter().map(|volume| id(&volume.info, C::Provider::ID_INFO)).collect();
    let snapshots = listed.iter().flat_map(|volume| &volume.snapshots);
    let snapshots = snapshots.map(|snapshot| id(&snapshot.info, C::SNAPSHOT_ID)).collect();
    assert_eq!((world.cloud.volumes(), world.cloud.snapshots()), (volumes, snapshots));
    for volume in listed {
        let at = world.mount(&volume.name).unwrap();
        std::fs::write(at.join("alive"), "yes").unwrap();
    }
}

fn victim<C: Cloud>(world: &World<C>) {
    world.create("victim", &[]).unwrap();
    let at = world.mount("victim").unwrap();
    std::fs::write(at.join("file"), "kept").unwrap();
}

pub fn create<C: Cloud>() {
    kill_everywhere::<C>("create", 14, |_| {}, nothing_unknown);
}

pub fn restore<C: Cloud>() {
    kill_everywhere::<C>("restore", 14, |_| {}, nothing_unknown);
}

pub fn delete<C: Cloud>() {
    let prepare = |world: &World<C>| {
        victim(world);
        world.unmount("victim").unwrap();
        world.snapshot("victim", "snap").unwrap();
    };
    kill_everywhere::<C>("delete", 8, prepare, |world| {
        nothing_unknown(world);
        for volume in world.list() {
            let at = volume.mountpoint.unwrap();
            assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "kept");
        }
    });
}

pub fn snapshot<C: Cloud>() {
    // A file system that was left frozen would hang the check.
    kill_everywhere::<C>("snapshot", 4, victim, nothing_unknown);
}

pub fn read<C: Cloud>() {
    let prepare = |world: &World<C>| {
        victim(world);
        world.snapshot("victim", "snap").unwrap();
    };
    kill_everywhere::<C>("read", 14, prepare, nothing_unknown);
}

pub fn resize<C: Cloud>() {
    // Unmounted: not every machine that runs this may grow a mounted ext4.
    let prepare = |world: &World<C>| {
        victim(world);
        world.unmount("victim").unwrap();
    };
    kill_everywhere::<C>("resize", 8, prepare, |world| {
        nothing_unknown(world);
        world.unmount("victim").unwrap();
        let request = ResizeVolume::new(name("victim"), 2 << 30);
        assert_eq!(world.driver().resize_volume(request, &context()).unwrap().size, 2 << 30);
    });
}
