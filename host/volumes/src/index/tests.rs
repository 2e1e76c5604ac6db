use super::*;
use convoy_driver_sdk::{DriverError, ErrorKind, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn driver(text: &str) -> Arc<ManagedDriver> {
    Arc::new(ManagedDriver::failed(name(text), DriverError::new(ErrorKind::Unavailable, "of a test")))
}

fn volume(text: &str, snapshots: &[&str]) -> Volume {
    let snapshot = |snapshot: &&str| Snapshot::new(name(snapshot), name(text), Timestamp::from_unix(0));
    Volume::new(name(text), 0, Timestamp::from_unix(0)).snapshots(snapshots.iter().map(snapshot).collect())
}

fn names(index: &Index) -> Vec<String> {
    index.all().iter().map(|entry| entry.volume.name.to_string()).collect()
}

#[test]
fn a_name_is_taken_once() {
    let index = Index::default();
    let first = index.reserve_volume(&name("vol1")).unwrap();
    assert!(matches!(index.reserve_volume(&name("vol1")), Err(Error::BeingCreated(_))));
    assert!(matches!(index.reserve_snapshot(&name("vol1")), Err(Error::SnapshotExists(_))));
    drop(first);
    index.put(&driver("aa"), volume("vol1", &["snap1"]));
    assert!(matches!(index.reserve_volume(&name("vol1")), Err(Error::VolumeExists(_))));
    assert!(matches!(index.reserve_volume(&name("snap1")), Err(Error::NameOfSnapshot(_))));
    for taken in ["vol1", "snap1"] {
        assert!(matches!(index.reserve_snapshot(&name(taken)), Err(Error::SnapshotExists(_))));
    }
    index.remove("vol1");
    index.reserve_snapshot(&name("snap1")).unwrap();
    index.reserve_volume(&name("vol1")).unwrap();
}

#[test]
fn a_snapshot_of_two_volumes_has_to_be_told_apart() {
    let index = Index::default();
    let driver = driver("aa");
    index.put(&driver, volume("vol1", &["snap1"]));
    index.put(&driver, volume("vol2", &["snap1", "snap2"]));
    let error = index.snapshot("snap1", None).unwrap_err();
    assert_eq!(error.to_string(), "several volumes have a snapshot snap1: vol1, vol2");
    assert_eq!(*index.snapshot("snap1", Some("vol2")).unwrap().0.volume.name, *"vol2");
    assert_eq!(*index.snapshot("snap2", None).unwrap().0.volume.name, *"vol2");
    index.update("vol2", |volume| volume.snapshots.clear());
    assert_eq!(*index.snapshot("snap1", None).unwrap().0.volume.name, *"vol1");
    assert!(matches!(index.snapshot("snap2", None), Err(Error::SnapshotNotFound(_))));
    let error = index.snapshot("snap1", Some("vol2")).unwrap_err();
    assert_eq!(error.to_string(), "volume vol2 has no snapshot snap1");
}

#[test]
fn a_listing_corrects_only_what_has_not_changed_since() {
    let index = Index::default();
    let (one, two) = (driver("aa"), driver("bb"));
    for known in ["gone", "kept", "deleted", "same"] {
        index.put(&one, volume(known, &[]));
    }
    index.put(&two, volume("other", &[]));
    let listing = index.begin_listing();
    index.put(&one, volume("made", &[]));
    index.remove("deleted");
    let _reserved = index.reserve_volume(&name("making")).unwrap();
    let listed = ["deleted", "same", "new", "making", "other"].map(|listed| volume(listed, &[]));
    let merged = index.merge(&listing, &one, listed.to_vec(), |name| **name == *"kept");
    assert_eq!(merged.added, [name("new")]);
    assert_eq!(merged.removed, [name("gone")]);
    assert_eq!(merged.hidden, [name("other")]);
    assert_eq!(names(&index), ["kept", "made", "new", "other", "same"]);
    drop(listing);
    // What was removed is forgotten with the listing: the next one sees what there is.
    let listing = index.begin_listing();
    index.add(&listing, &one, volume("deleted", &[]));
    assert!(index.get("deleted").is_some());
}

#[test]
fn one_volume_read_while_it_changes() {
    let index = Index::default();
    let driver = driver("aa");
    index.put(&driver, volume("vol1", &[]));
    let listing = index.begin_listing();
    index.update("vol1", |volume| volume.size = 5);
    index.refresh(&listing, &driver, volume("vol1", &["stale"]));
    index.forget(&listing, "vol1");
    assert_eq!(index.get("vol1").unwrap().volume.size, 5);
    let listing = index.begin_listing();
    index.refresh(&listing, &driver, volume("vol1", &["fresh"]));
    assert!(index.snapshot("fresh", None).is_ok());
    let listing = index.begin_listing();
    index.remove("vol1");
    index.add(&listing, &driver, volume("vol1", &[]));
    assert!(index.get("vol1").is_none(), "it was removed after it was read");
}

#[tokio::test]
async fn whoever_waits_for_a_name_is_told() {
    let index = Index::default();
    let reservation = index.reserve_volume(&name("vol1")).unwrap();
    let released = index.released();
    drop(reservation);
    tokio::time::timeout(std::time::Duration::from_secs(5), released).await.unwrap();
}

proptest! {
    /// Random puts, removals and snapshots against plain sets: what can be found by name is what there is.
    #[test]
    fn snapshots_are_found_exactly_while_they_exist(
        steps in prop::collection::vec((0u8..4, 0usize..3, 0usize..3), 0..60)
    ) {
        let index = Index::default();
        let driver = driver("aa");
        let volumes = ["v0", "v1", "v2"];
        let snapshots = ["s0", "s1", "s2"];
        let mut model: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (step, v, s) in steps {
            let (v, s) = (volumes[v], snapshots[s]);
            match step {
                0 => {
                    model.entry(v).or_insert_with(|| {
                        index.put(&driver, volume(v, &[]));
                        BTreeSet::new()
                    });
                }
                1 => {
                    index.remove(v);
                    model.remove(v);
                }
                2 => if let Some(known) = model.get_mut(v) && known.insert(s) {
                    let one = volume(v, &[s]).snapshots.remove(0);
                    index.update(v, |volume| volume.snapshots.push(one.clone()));
                },
                _ => if let Some(known) = model.get_mut(v) {
                    known.remove(s);
                    index.update(v, |volume| volume.snapshots.retain(|one| *one.name != *s));
                },
            }
            for s in snapshots {
                let owners: Vec<&str> =
                    model.iter().filter(|(_, known)| known.contains(s)).map(|(v, _)| *v).collect();
                match (owners.as_slice(), index.snapshot(s, None)) {
                    ([], Err(Error::SnapshotNotFound(_))) => {}
                    ([owner], Ok((entry, _))) => prop_assert_eq!(&*entry.volume.name, *owner),
                    ([_, _, ..], Err(Error::AmbiguousSnapshot { volumes, .. })) => prop_assert_eq!(volumes, owners),
                    (owners, found) => prop_assert!(false, "{owners:?} but {found:?}"),
                }
            }
            prop_assert_eq!(names(&index), model.keys().map(ToString::to_string).collect::<Vec<_>>());
        }
    }
}
