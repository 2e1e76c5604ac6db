//! Volumes that are restored in place: who is kept out, and what is known after a kill.

use super::fake::{opening, service};
use super::{call, create, name};
use crate::error::Error;
use crate::half_restored::HalfRestoredVolumes;
use crate::ledger::BY_HAND;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn whoever_has_a_volume_for_itself_keeps_everybody_out() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, _control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.create_snapshot("vol1", &name("snap1"), false, &call()).await.unwrap();
    let (entry, alone) = volumes.take_alone("vol1", &call()).await.unwrap();
    let refused = |error: Error| assert!(matches!(error, Error::BeingRestored(_)), "{error}");
    refused(volumes.mount("vol1", "container", None, &call()).await.unwrap_err());
    refused(volumes.take_alone("vol1", &call()).await.unwrap_err());
    refused(volumes.begin_restore("vol1", &call()).await.unwrap_err());
    refused(volumes.delete("vol1", false, &call()).await.unwrap_err());
    refused(volumes.revert("snap1", None, &call()).await.unwrap_err());
    volumes.revert_as(Some(&alone), "snap1", None, &call()).await.unwrap();
    drop((entry, alone));
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
}

#[tokio::test]
async fn a_volume_in_use_is_refused_and_a_free_one_is_joined_by_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, _control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    let (entry, alone) = volumes.take_alone("vol1", &call()).await.unwrap();
    let volume = name("vol1");
    let error = volumes.refuse_if_in_use(&volume).await.unwrap_err();
    assert!(matches!(&error, Error::UsedByContainers { users, .. } if users == &["container"]), "{error}");
    assert!(volumes.begin_in_place(&entry, &alone, &call()).await.is_err());
    drop(alone);
    volumes.unmount("vol1", "container", &call()).await.unwrap();
    volumes.mount("vol1", BY_HAND, None, &call()).await.unwrap();
    let error = volumes.refuse_if_in_use(&volume).await.unwrap_err();
    assert!(matches!(&error, Error::StillUsed { .. }), "{error}");
    volumes.unmount_by_hand("vol1", false, &call()).await.unwrap();
    volumes.refuse_if_in_use(&volume).await.unwrap();
    // Not even one that comes between is let in.
    assert!(volumes.ledger.claim(&volume, crate::ledger::IN_PLACE, dir.path()).await.is_ok());
    assert_eq!(volumes.ledger.join(&volume, "container").await.unwrap(), None);
}

#[tokio::test]
async fn a_half_restored_volume_is_not_mounted_until_it_is_whole_or_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, _control) = service(dir.path()).await;
    let volumes = Arc::try_unwrap(volumes).unwrap();
    let volumes = Arc::new(volumes.with_half_restored(HalfRestoredVolumes::open(dir.path()).unwrap()));
    let entry = create(&volumes, "vol1").await.unwrap();
    volumes.create_snapshot("vol1", &name("before"), false, &call()).await.unwrap();
    volumes.note_half_restored(&entry, "vfs:///x?backup=b&volume=v", "", "before").unwrap();
    let error = volumes.mount("vol1", "container", None, &call()).await.unwrap_err();
    let text = error.full_text();
    let error = volumes.create_snapshot("vol1", &name("half"), false, &call()).await.unwrap_err();
    assert!(matches!(error, Error::HalfRestored { .. }), "{error}");
    for way in [
        "convoy restore 'vfs:///x?backup=b&volume=v' --in-place vol1",
        "convoy snapshot revert before --volume vol1",
        "convoy restore --accept vol1",
    ] {
        assert!(text.contains(way), "{text}");
    }
    // A later daemon knows it, too; a record that cannot be read counts.
    let known = HalfRestoredVolumes::open(dir.path()).unwrap();
    assert_eq!(known.of(&entry), volumes.half_restored(&entry));
    std::fs::write(dir.path().join("half-restored/vol1.json"), "{").unwrap();
    assert!(HalfRestoredVolumes::open(dir.path()).unwrap().of(&entry).is_some());
    volumes.revert("before", None, &call()).await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    volumes.unmount("vol1", "container", &call()).await.unwrap();
    assert!(HalfRestoredVolumes::open(dir.path()).unwrap().of(&entry).is_none());
    let error = volumes.accept_half_restored("vol1", &call()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidRequest(_)), "{error}");
    volumes.note_half_restored(&entry, "monday", "other", "").unwrap();
    assert!(volumes.mount("vol1", "container", None, &call()).await.is_err());
    let half = volumes.accept_half_restored("vol1", &call()).await.unwrap();
    assert_eq!(half.what(), "snapshot monday of volume other");
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    volumes.unmount("vol1", "container", &call()).await.unwrap();
    // Another volume of that name is another.
    volumes.note_half_restored(&entry, "monday", "other", "").unwrap();
    volumes.delete("vol1", false, &call()).await.unwrap();
    create(&volumes, "vol1").await.unwrap();
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_restore_in_place_had_mounted_is_unmounted_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = opening(dir.path(), Duration::from_secs(20)).await;
    create(&volumes, "vol1").await.unwrap();
    volumes.ledger.claim(&name("vol1"), crate::ledger::IN_PLACE, dir.path()).await.unwrap();
    volumes.end_killed_restores(&call()).await;
    assert!(!volumes.is_used("vol1"));
    assert_eq!(control.arrived("unmount"), 1);
}
