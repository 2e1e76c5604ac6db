use super::*;
use convoy_driver_sdk::ErrorKind;
use serde_json::Value;

fn fixture(dir: &Path) -> Store {
    for (file, text) in [
        (
            "devicemapper_volume_pgdata.json",
            include_str!("../../tests/fixtures/v0.5.2/root/devicemapper_volume_pgdata.json"),
        ),
        (
            "devicemapper_volume_r1.json",
            include_str!("../../tests/fixtures/v0.5.2/root/devicemapper_volume_r1.json"),
        ),
        (
            "devicemapper_volume_r2.json",
            include_str!("../../tests/fixtures/v0.5.2/root/devicemapper_volume_r2.json"),
        ),
    ] {
        std::fs::write(dir.join(file), text).unwrap();
    }
    let (store, warnings) = Store::open(dir).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    store
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// What the host adds to a driver's keys.
fn driver_info(volume: &Volume) -> Value {
    let mut info = volume.info.clone();
    info.insert("Driver".to_owned(), DRIVER.to_owned());
    info.insert("MountPoint".to_owned(), String::new());
    info.insert("Size".to_owned(), volume.size.to_string());
    info.insert("VolumeCreatedAt".to_owned(), volume.created.to_legacy());
    info.insert("VolumeName".to_owned(), volume.name.to_string());
    serde_json::to_value(info).unwrap()
}

fn snapshot_info(snapshot: &Snapshot) -> Value {
    let mut info = snapshot.info.clone();
    info.insert("Driver".to_owned(), DRIVER.to_owned());
    info.insert("SnapshotCreatedAt".to_owned(), snapshot.created.to_legacy());
    info.insert("SnapshotName".to_owned(), snapshot.name.to_string());
    serde_json::to_value(info).unwrap()
}

/// What 0.5.2 answered for these very records.
#[test]
fn list_and_snapshot_inspect_have_the_keys_of_0_5() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    let list: Value = serde_json::from_str(include_str!("../../tests/fixtures/v0.5.2/list.json")).unwrap();
    let page = store.page(None, 10);
    assert!(!page.more && page.unreadable.is_empty());
    assert_eq!(page.records.len(), list.as_object().unwrap().len());
    for (record, damage) in page.records {
        let volume = volume(&record, None, damage);
        let expected = &list[record.name.as_str()];
        assert_eq!(driver_info(&volume), expected["DriverInfo"]);
        assert_eq!(volume.snapshots.len(), expected["Snapshots"].as_object().unwrap().len());
        for snapshot in &volume.snapshots {
            assert_eq!(snapshot_info(snapshot), expected["Snapshots"][snapshot.name.as_str()]["DriverInfo"]);
        }
    }
    let one: Value = serde_json::from_str(include_str!("../../tests/fixtures/v0.5.2/inspect.json")).unwrap();
    assert_eq!(one, list["pgdata"]);
    let (record, found) = store.snapshot(&name("pgdata"), &name("tuesday")).unwrap();
    let said: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/v0.5.2/snapshot.json")).unwrap();
    assert_eq!(snapshot_info(&snapshot(&record, &found)), said["DriverInfo"]);
    assert_eq!(store.ids(), (1..=5).collect());
}

#[test]
fn pages_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    let page = store.page(None, 2);
    let names: Vec<_> = page.records.iter().map(|(record, _)| record.name.as_str()).collect();
    assert_eq!((names, page.more), (vec!["pgdata", "r1"], true));
    let page = store.page(Some(&name("r1")), 2);
    assert_eq!((page.records.len(), page.more), (1, false));
}

#[test]
fn kept_data_comes_back_and_its_name_is_taken_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    let (record, _) = store.get(&name("r1")).unwrap();
    store.keep(record.clone()).unwrap();
    assert!(store.get(&name("r1")).is_err());
    let refused = DriverError::from(store.check_free(&name("r1")).unwrap_err());
    assert_eq!(refused.kind, ErrorKind::AlreadyExists);
    assert!(store.ids().contains(&4));

    let (again, _) = Store::open(dir.path()).unwrap();
    assert_eq!(again.kept(&name("r1")), Some(record.clone()));
    again.adopt(record.clone()).unwrap();
    assert_eq!(again.get(&name("r1")).unwrap(), (record, None));
    let (again, _) = Store::open(dir.path()).unwrap();
    assert_eq!((again.kept_count(), again.all().len()), (0, 3));
}

#[test]
fn what_is_kept_is_told_forgotten_and_never_written_over() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    for volume in ["r1", "r2"] {
        let (record, _) = store.get(&name(volume)).unwrap();
        store.keep(record).unwrap();
    }
    assert!(store.kept_since(&name("r1")).is_some());
    store.forget_kept(&name("r1")).unwrap();
    assert_eq!(store.all_kept().into_keys().collect::<Vec<_>>(), [name("r2")]);
    assert!(!store.ids().contains(&4));
    let path = dir.path().join("devicemapper_kept_r2.json");
    std::fs::write(&path, "{\"Name\":").unwrap();

    let (again, warnings) = Store::open(dir.path()).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(again.all_kept()[&name("r2")].is_err());
    // Which devices it names is not known: none is taken for free, and no volume for a new one.
    assert!(again.has_unreadable());
    let refused = DriverError::from(again.check_free(&name("r2")).unwrap_err());
    assert_eq!(refused.kind, ErrorKind::DataLoss);
}

#[test]
fn a_damaged_record_hides_nothing_and_can_be_mended() {
    let dir = tempfile::tempdir().unwrap();
    drop(fixture(dir.path()));
    let path = dir.path().join("devicemapper_volume_r2.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for bad in ["", "{\"Name\":", &good.replace("\"r2\"", "\"r1\"")] {
        std::fs::write(&path, bad).unwrap();
        let (store, warnings) = Store::open(dir.path()).unwrap();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(store.has_unreadable() && !store.is_empty());
        assert_eq!(store.page(None, 10).records.len(), 2);
        assert_eq!(store.page(None, 10).unreadable.len(), 1);
        assert_eq!(DriverError::from(store.get(&name("r2")).unwrap_err()).kind, ErrorKind::DataLoss);
        std::fs::write(&path, &good).unwrap();
        assert_eq!(store.get(&name("r2")).unwrap().0.dev_id, 5);
        assert!(!store.has_unreadable());
    }
}

#[test]
fn a_damaged_volume_is_not_usable_until_its_record_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    store.mark(&name("r1"), "the pool has no device 4".to_owned());
    let error = DriverError::from(store.usable(&name("r1")).unwrap_err());
    assert_eq!(error.kind, ErrorKind::DataLoss);
    assert!(store.get(&name("r1")).unwrap().1.is_some());
    assert!(store.usable(&name("r2")).is_ok());
}

/// A mount and a snapshot of one volume run at once.
#[test]
fn changes_of_one_record_at_once_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = fixture(dir.path());
    let volume = name("r1");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..20u32 {
                store.change(&volume, |record| record.mount_point = format!("/mnt/{number}")).unwrap();
            }
        });
        for number in 0..20u32 {
            let taken = name(&format!("s{number}"));
            let record = SnapshotRecord {
                name: taken.clone(),
                created_time: Timestamp::from_unix(0),
                dev_id: 100 + number,
                activated: false,
                size: None,
            };
            store.change(&volume, |volume| drop(volume.snapshots.insert(taken, record))).unwrap();
        }
    });
    let (again, _) = Store::open(dir.path()).unwrap();
    let (record, _) = again.get(&volume).unwrap();
    assert_eq!((record.mount_point.as_str(), record.snapshots.len()), ("/mnt/19", 20));
}
