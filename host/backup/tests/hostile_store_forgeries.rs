//! What somebody who can write to a store, and has no key, makes of what is in it. Every forgery is refused
//! where a key is given: by a restore, which leaves nothing, by a check, and by the next backup, which is not
//! built on it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Store, describe, engine, meta, tree};
use convoy_backup::{
    BackupError, BackupOptions, BackupResult, Fault, FaultKind, KeySource, Progress, RestoreOptions,
    StoreKey, Target, Unencrypted, VerifyOptions, VerifySummary,
};
use convoy_objectstore::{Depth, ObjectStore, list_all};
use tokio_util::sync::CancellationToken;

const DIR: &str = "convoy-objectstore/volumes/vo/l1/vol1/";

fn record_of(volume: &str, backup: &str) -> String {
    DIR.replace("l1/vol1", &format!("{}/{volume}", &volume[2..4])) + &format!("backups/backup_{backup}.cfg")
}

/// A store with two encrypted backups of a volume.
struct Lab {
    store: Store,
    source: tempfile::TempDir,
    key: StoreKey,
}

fn secret() -> KeySource {
    KeySource::File(vec![7; 32].into())
}

impl Lab {
    async fn new() -> Self {
        let store = Store::quick().await;
        let source = tempfile::tempdir().unwrap();
        std::fs::write(source.path().join("file"), "what is in the volume ".repeat(2000)).unwrap();
        let key = engine().new_key(store.store.clone(), &secret()).await.unwrap();
        let lab = Self { store, source, key };
        lab.back_up("vol1", "b-1").await;
        lab.back_up("vol1", "b-2").await;
        lab
    }

    fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.store.store
    }

    async fn back_up(&self, volume: &str, backup: &str) -> convoy_backup::BackupSummary {
        let options = BackupOptions { key: Some(self.key.clone()), ..BackupOptions::default() };
        let mut meta = meta(volume, backup);
        meta.options = [("mode".to_owned(), "750".to_owned())].into();
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let source = tree(self.source.path());
        engine().backup(self.objects().clone(), meta, source, &options, &progress, &cancel).await.unwrap()
    }

    async fn text(&self, key: &str) -> String {
        String::from_utf8(self.objects().get(key, 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    async fn put(&self, key: &str, text: String) {
        self.objects().put(key, Bytes::from(text)).await.unwrap();
    }

    async fn restore(
        &self,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
    ) -> BackupResult<tempfile::TempDir> {
        // As the daemon does: first what it acts upon, then the data.
        engine().vouch(self.objects().clone(), volume, backup, options).await?;
        self.restore_data(volume, backup, options).await
    }

    async fn restore_data(
        &self,
        volume: &str,
        backup: &str,
        options: &RestoreOptions,
    ) -> BackupResult<tempfile::TempDir> {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::Tree { path: dir.path().into() };
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let store = self.objects().clone();
        let done = engine().restore(store, volume, backup, target, options, &progress, &cancel).await;
        if done.is_err() {
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "something was restored");
        }
        done.map(|_| dir)
    }

    fn with_key(&self, unencrypted: Unencrypted) -> RestoreOptions {
        RestoreOptions { key: Some(self.key.clone()), unencrypted, ..RestoreOptions::default() }
    }

    async fn verify(&self, key: bool, unencrypted: Unencrypted) -> VerifySummary {
        let options = VerifyOptions { read_data: 100, key: key.then(|| self.key.clone()), unencrypted };
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        engine().verify(self.objects().clone(), None, None, &options, &progress, &cancel).await.unwrap()
    }

    /// Nothing is done with the backup `b-1` of `vol1` as it now is.
    async fn is_refused(&self, what: &str) -> (BackupError, FaultKind) {
        let options = self.with_key(Unencrypted::default());
        let vouched = engine().vouch(self.objects().clone(), "vol1", "b-1", &options).await;
        let error = vouched.map(|_| ()).expect_err(what);
        self.restore_data("vol1", "b-1", &options).await.map(|_| ()).expect_err(what);
        let found = self.verify(true, Unencrypted::default()).await;
        let faults: Vec<&Fault> = found.faults.iter().filter(|fault| fault.backup == "b-1").collect();
        assert_eq!(faults.len(), 1, "{what}: {:?}", found.faults);
        let authentic = |volume: &str, backup: &str| volume == "vol1" && backup == "b-1";
        assert!(!found.authentic.iter().any(|(volume, backup, _)| authentic(volume, backup)), "{what}");
        assert_eq!(found.garbage, 0, "{what}: what could not be read may need anything");
        let listed =
            engine().list_checked(self.objects().clone(), Some("vol1"), Some(&self.key)).await.unwrap();
        let shown = listed.backups.iter().find(|info| info.backup == "b-1");
        assert!(shown.is_none_or(|info| !info.authentic), "{what}: {shown:?}");
        // Whatever the hint in volume.cfg says.
        let config = self.text(&format!("{DIR}volume.cfg")).await;
        self.put(&format!("{DIR}volume.cfg"), config.replace("\"b-2\"", "\"b-1\"")).await;
        let options = BackupOptions { key: Some(self.key.clone()), ..BackupOptions::default() };
        let next = engine().prepare(self.objects().clone(), "vol1", &options).await.unwrap();
        assert_ne!(next.parent().map(|parent| parent.backup).as_deref(), Some("b-1"), "{what}");
        (error, faults[0].kind)
    }
}

fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let start = text.find(from).unwrap();
    let length = text[start..].find(to).unwrap() + to.len();
    &text[start..start + length]
}

#[tokio::test]
async fn no_byte_of_an_encrypted_backups_record_can_be_changed() {
    let lab = Lab::new().await;
    let (key, other) = (record_of("vol1", "b-1"), record_of("vol1", "b-2"));
    let right = lab.text(&key).await;
    let options = lab.with_key(Unencrypted::default());
    let restored = lab.restore("vol1", "b-1", &options).await.unwrap();
    assert_eq!(describe(restored.path()), describe(lab.source.path()));

    let code = between(&right, ",\"Mac\":\"", "\"").to_owned();
    let plain = between(&right, ",\"KeyId\":\"", "\"").to_owned();
    let swap = |from: &str, to: &str| {
        assert!(right.contains(from), "{from} in {right}");
        right.replace(from, to)
    };
    let forgeries = [
        ("the mode of the volume", swap("\"750\"", "\"6777\"")),
        ("a further option", swap("{\"mode\"", "{\"uid\":\"0\",\"mode\"")),
        ("the driver", swap("\"DriverName\":\"vfs\"", "\"DriverName\":\"loop\"")),
        ("the size", swap("\"VolumeSize\":0", "\"VolumeSize\":1")),
        ("the snapshot", swap("\"snap-of-b-1\"", "\"snap-of-b-2\"")),
        (
            "a time",
            swap(
                "\"SnapshotCreatedAt\":\"Mon Nov 23 08:38:08",
                "\"SnapshotCreatedAt\":\"Mon Nov 23 08:38:09",
            ),
        ),
        ("the kind", swap("\"Kind\":\"tree\"", "\"Kind\":\"block\"")),
        ("the figures", swap("\"Files\":1", "\"Files\":2")),
        ("the sequence", swap("\"Sequence\":1", "\"Sequence\":9")),
        ("a dropped field", swap(",\"VolumeSize\":0", "")),
        ("an unknown field", swap("{\"Name\"", "{\"New\":1,\"Name\"")),
        ("a field said twice", swap("{\"Name\"", "{\"Options\":{\"mode\":\"6777\"},\"Name\"")),
        ("spaces", swap("{\"Name\"", "{ \"Name\"")),
        ("the key", right.replace(&plain, ",\"KeyId\":\"0011223344556677\"")),
        ("no code", right.replace(&code, "")),
        ("no code and another mode", right.replace(&code, "").replace("\"750\"", "\"6777\"")),
        ("another code", right.replace(&code, &format!(",\"Mac\":\"{}\"", "00".repeat(32)))),
        ("the code elsewhere", right.replace(&code, "").replacen('{', &format!("{{{},", &code[1..]), 1)),
        ("no key", right.replace(&plain, "")),
        ("no key and no code", right.replace(&plain, "").replace(&code, "")),
        ("an older format", swap("\"FormatVersion\":1", "\"FormatVersion\":0")),
        ("an older format without a code", right.replace(&code, "").replace("\"FormatVersion\":1,", "")),
        ("the record of another backup", lab.text(&other).await.replace("b-2", "b-1")),
    ];
    for (what, forged) in forgeries {
        lab.put(&key, forged).await;
        let (_, kind) = lab.is_refused(what).await;
        assert_ne!(kind, FaultKind::NoKey, "{what}");
    }
    lab.put(&key, right).await;
    assert_eq!(lab.verify(true, Unencrypted::default()).await.faults, []);
}

#[tokio::test]
async fn a_backup_of_another_volume_is_not_taken_for_one_of_this() {
    let lab = Lab::new().await;
    std::fs::write(lab.source.path().join("file"), "another volume's").unwrap();
    lab.back_up("vola", "b-1").await;
    // All of it: record, manifest and packs, with the names in the record changed or not.
    let from = DIR.replace("l1/vol1", "la/vola");
    for object in list_all(&**lab.objects(), &from, Depth::All).await.unwrap().objects {
        let bytes = lab.objects().get(&object.key, 1 << 30).await.unwrap();
        let to = object.key.replace(&from, DIR);
        if !to.contains("volume.cfg") {
            lab.objects().put(&to, bytes).await.unwrap();
        }
    }
    lab.is_refused("a record of another volume").await;
    let key = record_of("vol1", "b-1");
    let named = lab.text(&key).await.replace("vola", "vol1");
    lab.put(&key, named).await;
    let (error, kind) = lab.is_refused("a record of another volume, renamed").await;
    assert!(matches!(error, BackupError::NotAuthentic { .. }), "{error}");
    assert_eq!(kind, FaultKind::NotAuthentic);
}

#[tokio::test]
async fn a_backup_in_the_clear_is_refused_beside_a_key_and_told() {
    let lab = Lab::new().await;
    let elsewhere = Store::quick().await;
    let evil = tempfile::tempdir().unwrap();
    std::fs::write(evil.path().join("file"), "not what was in the volume").unwrap();
    let plain = BackupOptions::default();
    let v0 = BackupOptions { format: convoy_backup::Format::V0, ..BackupOptions::default() };
    for (backup, options) in [("b-1", &plain), ("b-7", &v0)] {
        common::backup(&elsewhere.store, backup, tree(evil.path()), options).await.unwrap();
    }
    for object in list_all(&*elsewhere.store, "", Depth::All).await.unwrap().objects {
        if !object.key.ends_with("volume.cfg") {
            let bytes = elsewhere.store.get(&object.key, 1 << 30).await.unwrap();
            lab.objects().put(&object.key, bytes).await.unwrap();
        }
    }
    let (error, kind) = lab.is_refused("a backup in the clear").await;
    assert!(matches!(error, BackupError::Unencrypted { .. }), "{error}");
    assert_eq!(kind, FaultKind::Unencrypted);
    let options = lab.with_key(Unencrypted::default());
    let error = lab.restore("vol1", "b-7", &options).await.unwrap_err();
    assert!(error.to_string().contains("convoy 0.5"), "{error}");
    let listed = engine().list(lab.objects().clone(), Some("vol1")).await.unwrap().backups;
    let encrypted: Vec<_> = listed.iter().map(|info| (info.backup.as_str(), info.encrypted)).collect();
    assert_eq!(encrypted, [("b-1", false), ("b-2", true), ("b-7", false)]);

    // That the keys are gone too changes nothing for who expects them.
    lab.objects().delete(&["convoy-objectstore/keys/first.json".to_owned()]).await.unwrap();
    let expected = RestoreOptions { unencrypted: Unencrypted::Refused, ..RestoreOptions::default() };
    let error = lab.restore("vol1", "b-1", &expected).await.unwrap_err();
    assert!(matches!(error, BackupError::Unencrypted { .. }), "{error}");
    let error = lab.restore("vol1", "b-2", &expected).await.unwrap_err();
    assert!(matches!(error, BackupError::KeysGone { .. }), "{error}");

    // Who knows better may have them.
    let allowed = lab.with_key(Unencrypted::Allowed);
    let restored = lab.restore("vol1", "b-1", &allowed).await.unwrap();
    assert_eq!(describe(restored.path()), describe(evil.path()));
    lab.restore("vol1", "b-7", &allowed).await.unwrap();
    assert_eq!(lab.verify(true, Unencrypted::Allowed).await.faults, []);
}

#[tokio::test]
async fn a_check_without_the_key_says_that_the_key_is_missing_and_no_more() {
    let lab = Lab::new().await;
    let found = lab.verify(false, Unencrypted::default()).await;
    assert_eq!(found.garbage, 0);
    assert_eq!(found.faults.iter().map(|fault| fault.kind).collect::<Vec<_>>(), [FaultKind::NoKey; 2]);
}

#[tokio::test]
async fn a_store_that_was_encrypted_takes_nothing_in_the_clear_unless_told() {
    let lab = Lab::new().await;
    let plain = BackupOptions::default();
    let refused = common::backup(lab.objects(), "b-3", tree(lab.source.path()), &plain).await;
    assert!(matches!(refused, Err(BackupError::WouldBePlain { .. })), "{refused:?}");
    let v0 = BackupOptions { format: convoy_backup::Format::V0, ..BackupOptions::default() };
    let refused = common::backup(lab.objects(), "b-3", tree(lab.source.path()), &v0).await;
    assert!(matches!(refused, Err(BackupError::WouldBePlain { .. })), "{refused:?}");
    // Also where somebody took the keys away: the volume's chain tells.
    lab.objects().delete(&["convoy-objectstore/keys/first.json".to_owned()]).await.unwrap();
    let refused = common::backup(lab.objects(), "b-3", tree(lab.source.path()), &plain).await;
    assert!(matches!(refused, Err(BackupError::WouldBePlain { .. })), "{refused:?}");
    let told = BackupOptions { allow_plain: true, ..BackupOptions::default() };
    let made = common::backup(lab.objects(), "b-3", tree(lab.source.path()), &told).await.unwrap();
    assert_eq!((made.parent, made.sequence), (None, 0));
}

#[tokio::test]
async fn a_store_whose_keys_are_gone_gets_no_new_key_while_it_has_encrypted_backups() {
    let lab = Lab::new().await;
    let first = "convoy-objectstore/keys/first.json".to_owned();
    let kept = lab.text(&first).await;
    lab.objects().delete(std::slice::from_ref(&first)).await.unwrap();
    let error = engine().new_key(lab.objects().clone(), &secret()).await.unwrap_err();
    assert!(matches!(&error, BackupError::KeysGone { volume, .. } if volume == "vol1"), "{error}");
    assert!(error.to_string().contains("put them back"), "{error}");
    lab.put(&first, kept).await;
    let key = engine().new_key(lab.objects().clone(), &secret()).await.unwrap();
    assert_eq!(key.id(), lab.key.id());
}

#[tokio::test]
async fn encrypted_backups_are_counted_by_what_nobody_else_can_write() {
    let lab = Lab::new().await;
    assert_eq!(lab.back_up("vol1", "b-3").await.sequence, 3);
    let found = lab.verify(true, Unencrypted::default()).await;
    let mut counted: Vec<_> = found.authentic.into_iter().map(|(_, backup, count)| (backup, count)).collect();
    counted.sort();
    assert_eq!(counted, [("b-1".to_owned(), 1), ("b-2".to_owned(), 2), ("b-3".to_owned(), 3)]);
    // A store that was put back does not make a host count again what it knows of.
    let options = BackupOptions { key: Some(lab.key.clone()), after: 41, ..BackupOptions::default() };
    let made = common::backup(lab.objects(), "b-4", tree(lab.source.path()), &options).await.unwrap();
    assert_eq!(made.sequence, 42);
}
