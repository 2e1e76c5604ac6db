//! kill -9 before and after every request that an operation makes, and a new life afterwards.

use crate::world::{World, context, name, options};
use convoy_cloud_lab::crash::{self, Part};
use convoy_cloud_lab::http::Fault;
use convoy_driver_ebs::Ebs;
use convoy_driver_ebs::config::Config;
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

/// The part that is killed: one life of the driver, one operation.
#[test]
#[ignore = "a part of the other tests here"]
fn one_life() {
    let Some(part) = crash::part() else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    let request = Open {
        root: PathBuf::from(variable(ROOT)),
        options: serde_json::from_str(&variable(OPTIONS)).unwrap(),
        ..Open::default()
    };
    let mut config = Config::read(&request).unwrap();
    config.dev = PathBuf::from(variable(DEV));
    config.sys = PathBuf::from(variable(SYS));
    let (driver, _) = Ebs::open_with(config, request, &context()).unwrap();
    match part.as_str() {
        "create" => drop(
            driver
                .create_volume(
                    CreateVolume { name: name("victim"), size: None, options: options(&[]) },
                    &context(),
                )
                .unwrap(),
        ),
        "delete" => driver
            .delete_volume(DeleteVolume { name: name("victim"), reference_only: false }, &context())
            .unwrap(),
        "snapshot" => drop(
            driver
                .create_snapshot(
                    CreateSnapshot { volume: name("victim"), snapshot: name("snap"), freeze: true },
                    &context(),
                )
                .unwrap(),
        ),
        "read" => drop(
            driver
                .open_snapshot(
                    OpenSnapshot { volume: name("victim"), snapshot: name("snap"), base: None },
                    &context(),
                )
                .unwrap(),
        ),
        "resize" => drop(
            driver.resize_volume(ResizeVolume { name: name("victim"), size: 2 << 30 }, &context()).unwrap(),
        ),
        "restore" => {
            let request = PrepareRestore {
                name: name("victim"),
                kind: SourceKind::Tree,
                size: None,
                options: options(&[]),
            };
            let prepared = driver.prepare_restore(request, &context()).unwrap();
            let TargetLocation::Tree { path } = &prepared.location else { panic!() };
            std::fs::write(path.join("leaf"), "green").unwrap();
            driver.finish_restore(FinishRestore { handle: prepared.handle }, &context()).unwrap();
        }
        other => panic!("{other}"),
    }
}

/// Kills the operation at each of its requests, then has a new life and `check`; until it is over before the kill.
fn kill_everywhere(part: &str, prepare: impl Fn(&World), check: impl Fn(&World)) -> usize {
    let mut world = World::new();
    let given = world.options();
    let environment = [
        (ROOT, world.root().display().to_string()),
        (DEV, world.kernel.dev().display().to_string()),
        (SYS, world.kernel.sys().display().to_string()),
        (OPTIONS, serde_json::to_string(&given).unwrap()),
    ];
    let mut kills = 0;
    for request in 0.. {
        let mut over = false;
        for before in [true, false] {
            prepare(&world);
            world.driver = None;
            let victim = Part::prepare();
            let killer = victim.clone();
            let kill: Arc<dyn Fn() + Send + Sync> = Arc::new(move || killer.kill());
            let fault = if before { Fault::Before(kill) } else { Fault::After(kill) };
            world.aws.server.line.fail(request, 1, fault, |_| true);
            victim.start("crashes::one_life", part, &environment).unwrap();
            let status = victim.wait().unwrap();
            over |= status.success();
            kills += usize::from(!status.success());
            world.aws.server.line.heal();
            // Long after, when whatever comes into sight has come into sight.
            world.age_intents();
            world.reopen();
            assert_eq!(world.left().2, 0);
            check(&world);
            // Whatever is known can be deleted, and then nothing is left, in the cloud or mounted.
            for volume in world.list() {
                world.unmount(&volume.name).unwrap();
                world.delete(&volume.name, false).unwrap();
            }
            let state = world.aws.state();
            assert!(
                state.volumes.is_empty() && state.snapshots.is_empty(),
                "left at {request} (before: {before})"
            );
        }
        if over {
            return kills;
        }
    }
    kills
}

/// Nothing is paid for that is not known; what is known is whole.
fn nothing_unknown(world: &World) {
    let listed = world.list();
    assert!(listed.iter().all(|volume| volume.health == Health::Good), "{listed:?}");
    let known: Vec<_> = listed.iter().map(|volume| volume.info["EBSVolumeID"].clone()).collect();
    let snapshots: Vec<_> = listed
        .iter()
        .flat_map(|volume| &volume.snapshots)
        .map(|snapshot| snapshot.info["EBSSnapshotID"].clone())
        .collect();
    let state = world.aws.state();
    assert_eq!(state.volumes.keys().cloned().collect::<Vec<_>>(), known);
    assert_eq!(state.snapshots.iter().cloned().collect::<Vec<_>>(), snapshots);
    drop(state);
    for volume in listed {
        let at = world.mount(&volume.name).unwrap();
        std::fs::write(at.join("alive"), "yes").unwrap();
    }
}

fn victim(world: &World) {
    world.create("victim", &[]).unwrap();
    let at = world.mount("victim").unwrap();
    std::fs::write(at.join("file"), "kept").unwrap();
}

#[test]
fn create_survives_a_kill_at_every_step() {
    assert!(kill_everywhere("create", |_| {}, nothing_unknown) >= 14);
}

#[test]
fn restore_survives_a_kill_at_every_step() {
    assert!(kill_everywhere("restore", |_| {}, nothing_unknown) >= 14);
}

#[test]
fn delete_survives_a_kill_at_every_step() {
    let prepare = |world: &World| {
        victim(world);
        world.unmount("victim").unwrap();
        world.snapshot("victim", "snap").unwrap();
    };
    let kills = kill_everywhere("delete", prepare, |world| {
        nothing_unknown(world);
        for volume in world.list() {
            let at = volume.mountpoint.unwrap();
            assert_eq!(std::fs::read_to_string(at.join("file")).unwrap(), "kept");
        }
    });
    assert!(kills >= 8);
}

#[test]
fn snapshot_survives_a_kill_at_every_step() {
    let kills = kill_everywhere("snapshot", victim, |world| {
        // A file system that was left frozen would hang this.
        nothing_unknown(world);
    });
    assert!(kills >= 4);
}

#[test]
fn reading_and_resizing_survive_a_kill_at_every_step() {
    let prepare = |world: &World| {
        victim(world);
        world.snapshot("victim", "snap").unwrap();
    };
    assert!(kill_everywhere("read", prepare, nothing_unknown) >= 14);
    // Unmounted: not every machine that runs this may grow a mounted ext4.
    let unmounted = |world: &World| {
        victim(world);
        world.unmount("victim").unwrap();
    };
    let kills = kill_everywhere("resize", unmounted, |world| {
        nothing_unknown(world);
        world.unmount("victim").unwrap();
        let request = ResizeVolume { name: name("victim"), size: 2 << 30 };
        assert_eq!(world.driver().resize_volume(request, &context()).unwrap().size, 2 << 30);
    });
    assert!(kills >= 8);
}
