//! The service against a driver that is slow, fails, dies and changes behind its back.

mod fake;
mod hung;
mod in_place;

use crate::docker_rules::DockerRules;
use crate::driver::{CHANGE, QUICK};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::service::Volumes;
use crate::spec::CreateSpec;
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;
use fake::service;
use std::sync::Arc;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn call() -> RequestContext {
    RequestContext::new("test")
}

async fn create(volumes: &Volumes, text: &str) -> Result<Entry> {
    volumes.create(&name(text), &CreateSpec::default(), &call()).await
}

#[tokio::test]
async fn a_long_snapshot_keeps_nobody_from_mounting() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    for volume in ["vol1", "vol2"] {
        create(&volumes, volume).await.unwrap();
    }
    control.hold("snapshot");
    let snapshot = tokio::spawn({
        let volumes = Arc::clone(&volumes);
        async move { volumes.create_snapshot("vol1", &name("snap1"), false, &call()).await.map(drop) }
    });
    control.wait_for("snapshot").await;
    for volume in ["vol1", "vol2"] {
        volumes.mount(volume, "container", None, &call()).await.unwrap();
        volumes.unmount(volume, "container", &call()).await.unwrap();
        volumes.find(volume, &call()).await.unwrap();
    }
    assert!(matches!(create(&volumes, "snap1").await, Err(Error::BeingCreated(_))), "its name is taken");
    assert!(!snapshot.is_finished());
    control.let_go();
    snapshot.await.unwrap().unwrap();
    assert!(volumes.index.snapshot("snap1", None).is_ok());
}

#[tokio::test]
async fn docker_s_create_waits_for_whoever_makes_that_volume() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    control.hold("create");
    let making = |idempotent: bool| {
        let volumes = Arc::clone(&volumes);
        tokio::spawn(async move {
            match idempotent {
                true => volumes.create_or_get(&name("vol1"), &CreateSpec::default(), &call()).await.map(drop),
                false => create(&volumes, "vol1").await.map(drop),
            }
        })
    };
    let first = making(true);
    control.wait_for("create").await;
    let second = making(true);
    assert!(matches!(making(false).await.unwrap(), Err(Error::BeingCreated(_))));
    control.let_go();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(control.arrived("create"), 1);
}

#[tokio::test]
async fn what_became_of_a_lost_answer_is_found_out() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    let driver = Arc::clone(volumes.drivers.default_driver());
    control.fail("create", ErrorKind::DeadlineExceeded, true);
    create(&volumes, "vol1").await.unwrap_err();
    assert!(driver.is_suspect() && volumes.count() == 0);
    volumes.refresh(&driver, &call()).await.unwrap();
    assert!(volumes.index.get("vol1").is_some() && !driver.is_suspect());
    control.fail("delete", ErrorKind::Unavailable, true);
    volumes.delete("vol1", false, &call()).await.unwrap_err();
    assert!(driver.is_suspect());
    // Repeating it succeeds: the driver says that it is gone.
    volumes.delete("vol1", false, &call()).await.unwrap();
    assert!(volumes.count() == 0);
    // A plain failure leaves no doubt.
    volumes.refresh(&driver, &call()).await.unwrap();
    control.fail("create", ErrorKind::Exhausted, false);
    create(&volumes, "vol1").await.unwrap_err();
    assert!(!driver.is_suspect());
    create(&volumes, "vol1").await.unwrap();
}

#[tokio::test]
async fn an_unmount_that_fails_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    control.fail("unmount", ErrorKind::Busy, false);
    volumes.unmount("vol1", "container", &call()).await.unwrap_err();
    assert!(volumes.ledger.mountpoint("vol1").is_some(), "it is still mounted, and says so");
    control.fail("unmount", ErrorKind::Busy, false);
    let refused = volumes.delete("vol1", false, &call()).await.unwrap_err();
    assert!(matches!(refused, Error::StillMounted(_)), "{refused}");
    volumes.delete("vol1", false, &call()).await.unwrap();
    assert!(volumes.ledger.volumes().is_empty());
}

#[tokio::test]
async fn a_start_unmounts_nothing_and_forgets_nothing_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    // Convoy 0.5 had this one mounted.
    control.put("old", Some("/mnt/old"));
    volumes.refresh(volumes.drivers.default_driver(), &call()).await.unwrap();
    volumes.reconcile_mounts(&call()).await;
    assert!(matches!(volumes.delete("old", false, &call()).await, Err(Error::StillMounted(_))));
    create(&volumes, "used").await.unwrap();
    create(&volumes, "lost").await.unwrap();
    volumes.mount("used", "container", None, &call()).await.unwrap();
    volumes.mount("lost", "container", None, &call()).await.unwrap();
    drop(volumes);

    // A mount that was cut off before its answer: the kernel has it. What a record of 0.5 says that the
    // kernel knows nothing of, a directory. And a volume that another host deleted.
    control.put("half", Some("/proc"));
    control.put("dir", Some("/mnt/dir"));
    control.remove("lost");
    let (volumes, control) = service(dir.path()).await;
    assert!(!volumes.ledger.is_first());
    volumes.refresh(volumes.drivers.default_driver(), &call()).await.unwrap();
    volumes.reconcile_mounts(&call()).await;
    assert_eq!(control.arrived("unmount"), 0);
    assert!(volumes.ledger.usage("used").is_used() && volumes.ledger.usage("old").is_used());
    assert!(volumes.ledger.mountpoint("lost").is_none());
    volumes.delete("half", false, &call()).await.unwrap();
    assert!(matches!(volumes.delete("dir", true, &call()).await, Err(Error::StillMounted(_))));
    volumes.unmount_by_hand("dir", false, &call()).await.unwrap();
    volumes.delete("dir", false, &call()).await.unwrap();
    // The container of 0.5 stops: Docker gives an id that was never heard of.
    volumes.unmount("old", "unknown", &call()).await.unwrap();
    assert_eq!(control.volume("old").unwrap().mountpoint, None);
}

#[tokio::test]
async fn a_driver_that_comes_back_brings_its_volumes() {
    let dir = tempfile::tempdir().unwrap();
    let records = dir.path().join("fake");
    std::fs::create_dir(&records).unwrap();
    std::fs::write(
        records.join("fake_volume_vol1.json"),
        "{\"CreatedTime\":\"Mon Nov 23 08:38:07 +0000 2026\"}",
    )
    .unwrap();
    {
        let (_, control) = service(dir.path()).await;
        control.put("vol1", None);
        control.refuse_to_open(true);
    }
    let (volumes, control) = service(dir.path()).await;
    let driver = Arc::clone(volumes.drivers.default_driver());
    assert_eq!(volumes.add_orphans(&driver, dir.path()).await.added, [name("vol1")]);
    let error = volumes.mount("vol1", "container", None, &call()).await.unwrap_err().to_string();
    assert_eq!(error, "driver fake did not start: the storage is away");
    assert!(matches!(create(&volumes, "vol1").await, Err(Error::VolumeExists(_))), "its name is not free");
    control.refuse_to_open(false);
    assert!(driver.may_open_yet());
    driver.open(QUICK).await.unwrap();
    volumes.refresh(&driver, &call()).await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
}

#[tokio::test]
async fn what_changes_with_the_storage_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    let driver = Arc::clone(volumes.drivers.default_driver());
    let (mut events, mut said) = (volumes.events.listen(None).1, None);
    let mut told = Vec::new();
    for trouble in [None, Some("81 % full"), Some("83 % full"), Some("failed"), None, None] {
        control.trouble(trouble);
        volumes.probe(&driver, &mut said, QUICK).await;
        while let Ok(event) = events.try_recv() {
            told.push(format!("{} {}", event.kind, event.message).trim().to_owned());
        }
    }
    assert_eq!(told, ["driver.warning 81 % full", "driver.warning failed", "driver.healthy"]);
}

#[tokio::test]
async fn listings_come_in_pages_and_in_no_circles() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    for volume in 0..7 {
        control.put(&format!("vol{volume}"), None);
    }
    control.pages_of(2);
    let driver = Arc::clone(volumes.drivers.default_driver());
    assert_eq!(volumes.refresh(&driver, &call()).await.unwrap().added.len(), 7);
    control.pages_of(0);
    let error = volumes.refresh(&driver, &call()).await.unwrap_err();
    assert!(error.message.contains("in circles"), "{error}");
    assert_eq!(volumes.index.len(), 7, "a listing that failed changes nothing");
}

#[tokio::test]
async fn what_another_host_makes_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    control.put("vol1", None);
    assert_eq!(*volumes.find("vol1", &call()).await.unwrap().volume.name, *"vol1");
    control.put("vol2", None);
    assert!(matches!(create(&volumes, "vol2").await, Err(Error::VolumeExists(_))));
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    for volume in ["vol1", "vol2"] {
        control.remove(volume);
    }
    let merged = volumes.refresh(volumes.drivers.default_driver(), &call()).await.unwrap();
    assert_eq!(merged.removed, [name("vol2")], "what is mounted here stays until it is unmounted");
    volumes.unmount("vol1", "container", &call()).await.unwrap();
    volumes.refresh(volumes.drivers.default_driver(), &call()).await.unwrap();
    assert!(volumes.count() == 0);
}

#[tokio::test]
async fn a_volume_that_is_read_is_not_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, _) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    let readings = [volumes.reading(&name("vol1")), volumes.reading(&name("vol1"))];
    assert!(matches!(volumes.delete("vol1", true, &call()).await, Err(Error::BeingRead(_))));
    drop(readings);
    volumes.delete("vol1", true, &call()).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_becomes_a_volume_of_its_own_driver_only_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.create_snapshot("vol1", &name("monday"), false, &call()).await.unwrap();
    let spec = |snapshot: &str, driver: &str| CreateSpec {
        snapshot: snapshot.to_owned(),
        driver: driver.to_owned(),
        size: Some(4096),
        ..CreateSpec::default()
    };
    let missing = volumes.clone_snapshot(&name("copy"), &spec("tuesday", ""), &call()).await.unwrap_err();
    assert!(matches!(missing, Error::SnapshotNotFound(_)), "{missing}");
    let elsewhere = volumes.clone_snapshot(&name("copy"), &spec("monday", "vfs"), &call()).await.unwrap_err();
    assert!(elsewhere.to_string().contains("restore the backup there"), "{elsewhere}");
    assert_eq!(control.arrived("clone"), 0);

    // While it is made, its name is taken and the snapshot stays.
    control.hold("clone");
    let running = {
        let (volumes, spec) = (Arc::clone(&volumes), spec("monday", "fake"));
        tokio::spawn(async move { volumes.clone_snapshot(&name("copy"), &spec, &call()).await })
    };
    control.wait_for("clone").await;
    assert!(matches!(create(&volumes, "copy").await, Err(Error::BeingCreated(_))));
    let deleting = {
        let volumes = Arc::clone(&volumes);
        tokio::spawn(async move { volumes.delete_snapshot("monday", None, &call()).await })
    };
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    assert!(!deleting.is_finished(), "the snapshot is being read");
    control.let_go();
    assert_eq!(running.await.unwrap().unwrap().volume.size, 4096);
    deleting.await.unwrap().unwrap();
    assert!(matches!(create(&volumes, "copy").await, Err(Error::VolumeExists(_))));
}

#[tokio::test]
async fn a_volume_in_use_does_not_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.create_snapshot("vol1", &name("monday"), false, &call()).await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    let used = volumes.revert("monday", None, &call()).await.unwrap_err();
    assert!(matches!(used, Error::StillUsed { .. }), "{used}");
    volumes.unmount("vol1", "container", &call()).await.unwrap();
    let reading = volumes.reading(&name("vol1"));
    assert!(matches!(volumes.revert("monday", None, &call()).await, Err(Error::BeingRead(_))));
    drop(reading);
    assert_eq!(control.arrived("revert"), 0);
    let entry = volumes.revert("monday", Some("vol1"), &call()).await.unwrap();
    assert_eq!(entry.volume.info["RevertedTo"], "monday");
    assert_eq!(volumes.index.get("vol1").unwrap().volume.info["RevertedTo"], "monday");
}

/// What the driver of a stranger says nothing of is for operators.
#[tokio::test]
async fn dockers_users_give_the_options_that_a_driver_says_are_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.create_snapshot("vol1", &name("monday"), false, &call()).await.unwrap();
    let rules = |allowed: &[&str]| {
        let allowed: Vec<_> = allowed.iter().map(|option| (*option).to_owned()).collect();
        Some(Arc::new(DockerRules::new(&allowed, Vec::new()).unwrap()))
    };
    let spec = |option: &str, docker| CreateSpec {
        options: [(option.to_owned(), "x".to_owned())].into(),
        docker,
        ..CreateSpec::default()
    };
    let before = control.arrived("create");
    for refused in [
        spec("unsaid", rules(&[])),
        spec("unsaid", rules(&["other.unsaid", "fake.plain"])),
        CreateSpec { backup: "fake://1".to_owned(), docker: rules(&[]), ..CreateSpec::default() },
    ] {
        let error = volumes.create_or_get(&name("aa"), &refused, &call()).await.unwrap_err();
        assert!(matches!(error, Error::NotForDocker { .. }), "{error}");
        let clone = CreateSpec { snapshot: "monday".to_owned(), backup: String::new(), ..refused };
        if !clone.options.is_empty() {
            let error = volumes.clone_snapshot(&name("aa"), &clone, &call()).await.unwrap_err();
            assert!(matches!(error, Error::NotForDocker { .. }), "{error}");
        }
    }
    assert_eq!((control.arrived("create"), control.arrived("clone")), (before, 0));
    assert!(volumes.index.get("aa").is_none());
    for (made, allowed) in [
        ("bb", spec("plain", rules(&[]))),
        ("cc", spec("unsaid", rules(&["fake.unsaid"]))),
        ("dd", spec("unsaid", None)),
        // One that no driver need know.
        ("ee", spec("type", rules(&[]))),
    ] {
        volumes.create(&name(made), &allowed, &call()).await.unwrap();
    }
}
