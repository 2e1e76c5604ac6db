//! What convoy 0.5 wrote is listed, restored, deleted and verified; and what is written as by 0.5 has its
//! form.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Store, describe, device, engine, fixtures, noise, restore_device, restore_tree, tree};
use convoy_backup::{BackupKind, BackupOptions, Format, Progress, Target, VerifyOptions};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

const V0: BackupOptions = BackupOptions {
    exclude: convoy_backup::ExcludeRules {
        patterns: Vec::new(),
        if_present: Vec::new(),
        caches: false,
        ignore_file: false,
    },
    format: Format::V0,
    incremental: true,
    recheck: false,
    level: None,
    key: None,
    kind: None,
    allow_plain: false,
    after: 0,
};

fn said(name: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

#[tokio::test]
async fn backups_of_0_5_are_listed_as_0_5_listed_them() {
    for (store, json) in
        [("vfs-store", "vfs-backups.json"), ("devicemapper-store", "devicemapper-backups.json")]
    {
        let store = Store::fixture(store).await;
        let listing = engine().list(store.store.clone(), None).await.unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        let url = |b: &convoy_backup::BackupInfo| {
            format!("vfs:///srv/backups?backup={}&volume={}", b.backup, b.volume)
        };
        let ours: BTreeMap<_, _> = listing.backups.iter().map(|b| (url(b), b.to_map(&url(b)))).collect();
        assert_eq!(ours, said(json));
        for info in &listing.backups {
            assert_eq!(
                &engine().inspect(store.store.clone(), &info.volume, &info.backup).await.unwrap(),
                info
            );
        }
    }
}

#[tokio::test]
async fn a_volume_or_backup_that_is_not_there_has_0_5s_text() {
    let store = Store::fixture("vfs-store").await;
    let error = engine().list(store.store.clone(), Some("nosuch")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find convoy-objectstore/volumes/no/su/nosuch/volume.cfg in objectstore"
    );
    let error = engine().inspect(store.store.clone(), "web", "backup-00").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find convoy-objectstore/volumes/we/b!/web!/backups/backup_backup-00.cfg in objectstore"
    );
    let error = engine().delete(store.store.clone(), "zzzz", "backup-00").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot find convoy-objectstore/volumes/zz/zz/zzzz/volume.cfg in objectstore"
    );
    let empty = Store::new().await;
    assert!(engine().list(empty.store.clone(), None).await.unwrap().backups.is_empty());
}

#[tokio::test]
async fn devices_of_0_5_are_restored_as_0_5_restored_them() {
    let store = Store::fixture("devicemapper-store").await;
    for (backup, file) in
        [("backup-67fa5ab2939d488a", "restored1.sha256"), ("backup-71d7e26aee0f4b1b", "restored2.sha256")]
    {
        let data = restore_device(&store.store, "pgdata", backup, 64 << 20).await;
        let expected = std::fs::read_to_string(fixtures().join(file)).unwrap();
        assert_eq!(hex::encode(Sha256::digest(&data)), expected.split(' ').next().unwrap());
    }
}

#[tokio::test]
async fn trees_of_0_5_are_restored() {
    let store = Store::fixture("vfs-store").await;
    let restored = restore_tree(&store.store, "web", "backup-ebb72b15a1b54af9").await;
    let root = restored.path();
    assert_eq!(std::fs::metadata(root.join("sparse")).unwrap().len(), 3_145_731);
    assert_eq!(std::fs::read_link(root.join("html/home")).unwrap().to_str(), Some("index.html"));
    let before = tempfile::tempdir().unwrap();
    tar::Archive::new(std::fs::File::open(fixtures().join("vfs-volumes.tar")).unwrap())
        .unpack(before.path())
        .unwrap();
    for file in ["html/copy.html", "html/index.html", "html/css/a.css", "sparse", "owned"] {
        assert_eq!(
            std::fs::read(root.join(file)).unwrap(),
            std::fs::read(before.path().join("web").join(file)).unwrap(),
            "{file}"
        );
    }
    use std::os::unix::fs::MetadataExt;
    let stat = |p: &str| std::fs::metadata(root.join(p)).unwrap();
    assert_eq!(stat("html/copy.html").ino(), stat("html/index.html").ino());
    assert_eq!((stat("owned").mode() & 0o777, stat("owned").gid()), (0o640, 1001));
    assert!(stat("sparse").blocks() * 512 < 1 << 20, "runs of zeros become holes");
    assert_eq!(
        restore_tree(&store.store, "ab", "backup-89ddf68544874b3c").await.path().read_dir().unwrap().count(),
        0
    );
}

#[tokio::test]
async fn backups_of_0_5_are_verified_and_their_damage_is_found() {
    let all = VerifyOptions { read_data: 100, ..VerifyOptions::default() };
    for name in ["vfs-store", "devicemapper-store"] {
        let store = Store::fixture(name).await;
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        let found = engine().verify(store.store.clone(), None, None, &all, &progress, &cancel).await.unwrap();
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        assert!(found.backups >= 2 && found.bytes_read > 0);
        // One bit anywhere in any data object is noticed.
        let keys = convoy_objectstore::list_all(&*store.store, "", convoy_objectstore::Depth::All)
            .await
            .unwrap()
            .objects;
        for object in keys.iter().filter(|o| o.key.ends_with(".bak") || o.key.ends_with(".blk")).take(4) {
            let good = store.store.get(&object.key, 1 << 30).await.unwrap();
            let mut bad = good.to_vec();
            let middle = bad.len() * 2 / 3;
            bad[middle] ^= 1;
            store.store.put(&object.key, bad.into()).await.unwrap();
            let found =
                engine().verify(store.store.clone(), None, None, &all, &progress, &cancel).await.unwrap();
            assert!(!found.faults.is_empty(), "{}", object.key);
            store.store.delete(std::slice::from_ref(&object.key)).await.unwrap();
            let structure = VerifyOptions::default();
            let found = engine()
                .verify(store.store.clone(), None, None, &structure, &progress, &cancel)
                .await
                .unwrap();
            assert!(!found.faults.is_empty(), "{} missing", object.key);
            store.store.put(&object.key, good).await.unwrap();
        }
    }
}

#[tokio::test]
async fn deleting_one_of_two_leaves_the_other_whole() {
    let store = Store::fixture("devicemapper-store").await;
    let summary = engine().delete(store.store.clone(), "pgdata", "backup-67fa5ab2939d488a").await.unwrap();
    assert!(summary.objects > 0 && summary.bytes > 0, "{summary:?}");
    let data = restore_device(&store.store, "pgdata", "backup-71d7e26aee0f4b1b", 64 << 20).await;
    let expected = std::fs::read_to_string(fixtures().join("restored2.sha256")).unwrap();
    assert!(expected.starts_with(&hex::encode(Sha256::digest(&data))));
    engine().delete(store.store.clone(), "pgdata", "backup-71d7e26aee0f4b1b").await.unwrap();
    let left = convoy_objectstore::list_all(&*store.store, "", convoy_objectstore::Depth::All)
        .await
        .unwrap()
        .objects;
    assert_eq!(left.iter().map(|o| o.key.rsplit('/').next().unwrap()).collect::<Vec<_>>(), ["volume.cfg"]);
}

type Archive = tar::Builder<flate2::write::GzEncoder<Vec<u8>>>;
type Build<'a> = Box<dyn Fn(&mut Archive) + 'a>;

#[tokio::test]
async fn a_hostile_archive_or_record_of_0_5_escapes_nowhere() {
    let store = Store::fixture("vfs-store").await;
    let outside = tempfile::tempdir().unwrap();
    let key = "convoy-objectstore/volumes/we/b!/web!/BackupFiles/backup-ebb72b15a1b54af9.bak";
    let pack = |build: &Build<'_>| {
        let mut archive =
            tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        build(&mut archive);
        archive.into_inner().unwrap().finish().unwrap()
    };
    let raw = |archive: &mut tar::Builder<_>,
               name: &[u8],
               kind: tar::EntryType,
               link: Option<&[u8]>,
               data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        if let Some(link) = link {
            header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link);
        }
        header.set_entry_type(kind);
        header.set_mode(0o777);
        header.set_size(data.len() as u64);
        header.set_cksum();
        archive.append(&header, data).unwrap();
    };
    let out = outside.path().to_str().unwrap().to_owned();
    let (abs, link) = (format!("{out}/absolute"), out.clone());
    let attacks: Vec<Build<'_>> = vec![
        Box::new(|a| raw(a, b"../escaped", tar::EntryType::Regular, None, b"x")),
        Box::new(|a| raw(a, abs.as_bytes(), tar::EntryType::Regular, None, b"x")),
        Box::new(|a| {
            raw(a, b"link", tar::EntryType::Symlink, Some(link.as_bytes()), b"");
            raw(a, b"link/through", tar::EntryType::Regular, None, b"x");
        }),
        Box::new(|a| raw(a, b"hard", tar::EntryType::Link, Some(b"/etc/passwd"), b"")),
        Box::new(|a| raw(a, b"hard", tar::EntryType::Link, Some(b"../../../../etc/passwd"), b"")),
    ];
    for (n, attack) in attacks.iter().enumerate() {
        store.store.put(key, pack(attack).into()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let result = common::restore(
            &store.store,
            "web",
            "backup-ebb72b15a1b54af9",
            Target::Tree { path: dir.path().into() },
        )
        .await;
        assert!(result.is_err(), "attack {n}");
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "attack {n} left something");
        assert_eq!(outside.path().read_dir().unwrap().count(), 0, "attack {n} escaped");
    }
    // A record that names somebody else's object.
    let record = "convoy-objectstore/volumes/we/b!/web!/backups/backup_backup-ebb72b15a1b54af9.cfg";
    let text = String::from_utf8(store.store.get(record, 1 << 20).await.unwrap().to_vec()).unwrap();
    for path in [
        "/etc/passwd",
        "convoy-objectstore/volumes/we/b!/web!/volume.cfg",
        "convoy-objectstore/volumes/we/b!/web!/BackupFiles/../volume.cfg",
    ] {
        store.store.put(record, text.replace(key, path).into()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        assert!(
            common::restore(
                &store.store,
                "web",
                "backup-ebb72b15a1b54af9",
                Target::Tree { path: dir.path().into() }
            )
            .await
            .is_err()
        );
    }
    engine().delete(store.store.clone(), "web", "backup-ebb72b15a1b54af9").await.unwrap();
    store.store.head("convoy-objectstore/volumes/we/b!/web!/volume.cfg").await.unwrap();
}

#[tokio::test]
async fn a_device_written_as_by_0_5_has_its_form_and_comes_back() {
    let store = Store::new().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut data = vec![0u8; 16 << 20];
    data[..3 << 20].copy_from_slice(&noise(3 << 20, 1));
    data[10 << 20..11 << 20].fill(b'x');
    std::fs::write(file.path(), &data).unwrap();
    let summary = common::backup(&store.store, "b-one", device(file.path()), &V0).await.unwrap();
    assert_eq!((summary.kind, summary.parent), (BackupKind::Block, None));
    let record = store
        .store
        .get("convoy-objectstore/volumes/vo/l1/vol1/backups/backup_b-one.cfg", 1 << 20)
        .await
        .unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let offsets: Vec<_> =
        record["Blocks"].as_array().unwrap().iter().map(|b| b["Offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [0, 2 << 20, 10 << 20]);
    assert_eq!(record["FormatVersion"], serde_json::Value::Null);
    let config = store.store.get("convoy-objectstore/volumes/vo/l1/vol1/volume.cfg", 1 << 20).await.unwrap();
    assert!(std::str::from_utf8(&config).unwrap().contains(r#""LastBackupName":"b-one""#));
    assert_eq!(restore_device(&store.store, "vol1", "b-one", 16 << 20).await, data);

    data[10 << 20..11 << 20].fill(0);
    data[15 << 20] = 7;
    std::fs::write(file.path(), &data).unwrap();
    let second = common::backup(&store.store, "b-two", device(file.path()), &V0).await.unwrap();
    assert_eq!(second.parent.as_deref(), Some("b-one"));
    assert!(second.stats.bytes_added < 10_000, "{:?}", second.stats);
    assert_eq!(restore_device(&store.store, "vol1", "b-two", 16 << 20).await, data);
}

#[tokio::test]
async fn a_tree_written_as_by_0_5_is_an_archive_that_tar_reads() {
    let store = Store::new().await;
    let source = tempfile::tempdir().unwrap();
    let long = "n".repeat(120);
    std::fs::create_dir_all(source.path().join("d/e")).unwrap();
    std::fs::write(source.path().join("d/e").join(&long), noise(100_000, 3)).unwrap();
    std::fs::write(source.path().join("f"), "hello").unwrap();
    std::fs::hard_link(source.path().join("f"), source.path().join("g")).unwrap();
    std::os::unix::fs::symlink(&long, source.path().join("l")).unwrap();
    for file in ["f", "d/e", "d", ""] {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        std::fs::File::open(source.path().join(file)).unwrap().set_modified(time).unwrap();
    }
    std::fs::File::open(source.path().join("d/e").join(&long))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
    common::backup(&store.store, "b-tar", tree(source.path()), &V0).await.unwrap();
    let file = store.dir.path().join("convoy-objectstore/volumes/vo/l1/vol1/BackupFiles/b-tar.bak");
    let listed = std::process::Command::new("tar").arg("tzf").arg(&file).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
    let names = String::from_utf8(listed.stdout).unwrap();
    assert!(names.lines().any(|l| l.ends_with(&long)) && names.contains("d/e/"), "{names}");
    let back = restore_tree(&store.store, "vol1", "b-tar").await;
    let without_link_time =
        |lines: Vec<String>| lines.into_iter().filter(|l| !l.starts_with("l ")).collect::<Vec<_>>();
    assert_eq!(without_link_time(describe(back.path())), without_link_time(describe(source.path())));
}

/// A reader that shares no code with convoy.
fn independent(store: &Store, backup: &str, target: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reader_of_0_5.py");
    let mut python = std::process::Command::new("python3");
    let done = python.arg(script).arg(store.dir.path()).args(["vol1", backup]).arg(target).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn an_independent_reader_restores_what_is_written_as_by_0_5() {
    let store = Store::new().await;
    let device_file = tempfile::NamedTempFile::new().unwrap();
    let mut data = vec![0u8; 16 << 20];
    data[..3 << 20].copy_from_slice(&noise(3 << 20, 1));
    data[10 << 20..11 << 20].fill(b'x');
    let mut states = Vec::new();
    for (n, name) in ["b-one", "b-two"].into_iter().enumerate() {
        data[(6 << 20) + n] = 7;
        std::fs::write(device_file.path(), &data).unwrap();
        let size = data.len() as u64;
        let mut described = common::meta("vol1", name);
        described.volume_size = size;
        let source = convoy_backup::Source::Block {
            device: device_file.path().into(),
            size,
            extents: convoy_backup::Extents::All,
        };
        let (progress, cancel) = (Progress::new(), CancellationToken::new());
        engine().backup(store.store.clone(), described, source, &V0, &progress, &cancel).await.unwrap();
        states.push((name, data.clone()));
    }
    let target = tempfile::tempdir().unwrap();
    for (name, expected) in states {
        let file = target.path().join(name);
        independent(&store, name, &file);
        assert!(std::fs::read(file).unwrap() == expected, "{name}");
    }

    let tree = tempfile::tempdir().unwrap();
    let script = "mkdir -p d/e; echo text > d/f; ln d/f hard; ln -s d/f soft; mkfifo fifo; chmod 640 d/f; chown 12:34 d/f; \
                  head -c 700000 /dev/urandom > large; : > empty; n=$(printf 'n%.0s' $(seq 150)); echo long > d/$n; \
                  find . -exec touch -h -d @1600000000 {} +";
    let made =
        std::process::Command::new("sh").args(["-ec", script]).current_dir(tree.path()).status().unwrap();
    assert!(made.success());
    common::backup(&store.store, "b-tree", common::tree(tree.path()), &V0).await.unwrap();
    let restored = tempfile::tempdir().unwrap();
    independent(&store, "b-tree", restored.path());
    assert_eq!(common::describe(restored.path()), common::describe(tree.path()));
}
