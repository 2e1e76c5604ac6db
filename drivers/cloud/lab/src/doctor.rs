//! What a check of the storage finds and repairs.

#![allow(clippy::unwrap_used)]

use crate::http::Fault;
use crate::world::{Cloud, World, context, name};
use convoy_driver_cloud::Provider;
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{Check, CloseSnapshot, Finding, OpenSnapshot, Severity};
use std::path::PathBuf;

fn check<C: Cloud>(world: &World<C>, repair: bool) -> Vec<Finding> {
    world.driver().check(Check::new().repair(repair), &context()).unwrap().findings
}

/// The one thing that is not well.
#[track_caller]
fn one<C: Cloud>(world: &World<C>, repair: bool) -> Finding {
    let mut found = check(world, repair);
    found.retain(|finding| finding.severity != Severity::Info);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

#[track_caller]
fn assert_well<C: Cloud>(world: &World<C>) {
    let found = check(world, false);
    assert!(found.iter().all(|finding| finding.severity == Severity::Info), "{found:#?}");
}

fn intents<C: Cloud>(world: &World<C>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.root().join("intents")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Damage, losses and leftovers are told, and what is nobody's is removed.
pub fn what_is_wrong_is_found_and_what_is_safe_is_repaired<C: Cloud>() {
    let mut world = World::<C>::new();
    world.create("data", &[]).unwrap();
    world.mount("data").unwrap();
    world.snapshot("data", "one").unwrap();
    assert_well(&world);
    assert!(
        check(&world, false).iter().any(|finding| finding.message.contains("may: ")),
        "what is allowed is said"
    );

    // Deleted behind the driver's back.
    let gone = world.create("gone", &[]).unwrap().info.get(C::Provider::ID_INFO).cloned().unwrap();
    world.driver().provider().detach(&gone, &context()).unwrap();
    world.driver().provider().delete_volume(&gone, &context()).unwrap();
    let found = one(&world, true);
    assert_eq!(
        (found.severity, found.subject.as_str(), found.repaired),
        (Severity::Error, "volume gone", false)
    );
    assert!(found.message.contains("no longer exists"), "{found:?}");
    world.delete("gone", false).unwrap();

    // Detached behind its back.
    world.create("loose", &[]).unwrap();
    let loose = world.get("loose").unwrap().info.get(C::Provider::ID_INFO).cloned().unwrap();
    world.driver().provider().detach(&loose, &context()).unwrap();
    assert_well(&world);
    world.mount("loose").unwrap();
    world.unmount("loose").unwrap();

    // Kept on purpose, perhaps: never deleted.
    world.delete("loose", true).unwrap();
    let found = one(&world, true);
    assert!(found.message.contains("`convoy create loose` takes it") && !found.repaired, "{found:?}");
    world.create("loose", &[]).unwrap();
    world.delete("loose", false).unwrap();

    // A damaged record.
    let record = world.root().join(format!("{}_volume_broken.json", C::Provider::DRIVER));
    std::fs::write(&record, "{").unwrap();
    assert_eq!(one(&world, true).subject, "volume broken");
    std::fs::remove_file(record).unwrap();

    // An operation that was cut off: its intent is there, and nobody works at it.
    let open = OpenSnapshot::new(name("data"), name("one"));
    let opened = world.driver().open_snapshot(open.clone(), &context()).unwrap();
    assert_well(&world);
    let intent = intents(&world).pop().unwrap();
    let content = std::fs::read(&intent).unwrap();
    world.driver().close_snapshot(CloseSnapshot::new(opened.handle), &context()).unwrap();
    std::fs::write(intent, content).unwrap();
    let found = one(&world, false);
    assert!(found.repairable && found.message.contains("was cut off"), "{found:?}");
    assert!(one(&world, true).repaired);
    assert_well(&world);

    // A copy to read a snapshot through, whose intent is lost.
    world.driver().open_snapshot(open, &context()).unwrap();
    std::fs::remove_file(intents(&world).pop().unwrap()).unwrap();
    world.reopen();
    let found = one(&world, false);
    assert!(found.repairable && found.message.contains("(reading) and forgotten"), "{found:?}");
    assert!(one(&world, true).repaired);
    assert_well(&world);
    assert_eq!(world.left(), (1, 1, 0));

    // Without permission.
    world.cloud.line().fail(0, usize::MAX, Fault::Answer(C::refusal()), |_| true);
    let found = check(&world, true);
    let refused = |finding: &&Finding| finding.subject.starts_with("access to ");
    assert!(found.iter().filter(refused).count() >= 2, "{found:#?}");
    world.cloud.line().heal();
    assert_well(&world);
}
