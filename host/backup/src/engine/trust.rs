//! Which records are believed. Whoever can write to a store can put any record there; only who has the key
//! can make one whose code fits.
//!
//! Three kinds of records come: in the clear (and all in the format of 0.5), which nobody vouches for; with a
//! code; and encrypted ones of development versions before 0.6.0, which have no code. What those say is
//! believed as far as their sealed manifest says it too. The sealed manifest also says whether there was a
//! code, so that none can be taken away.

use super::ctx::Ctx;
use super::root::{LoadedRoot, load_root};
use crate::crypt::{Crypt, StoreKey};
use crate::error::{BackupError, BackupResult};
use crate::format::manifest::Root;
use crate::layout::VolumeDir;
use crate::record::BackupRecord;
use crate::types::{BackupInfo, Unencrypted};

/// The key to open the data of a record with, if the record is to be believed.
///
/// # Errors
/// [`BackupError::Unencrypted`], [`BackupError::NotAuthentic`], [`BackupError::KeyMissing`],
/// [`BackupError::KeysGone`], [`BackupError::KeyWrong`].
pub(crate) fn open(
    volume: &VolumeDir,
    record: &BackupRecord,
    key: Option<&StoreKey>,
    unencrypted: Unencrypted,
) -> BackupResult<Crypt> {
    if !record.is_encrypted() {
        if unencrypted.refused(key) {
            let found = match record.format_version {
                0 => "in the format of convoy 0.5, which knows no encryption",
                _ => "not encrypted",
            };
            return Err(BackupError::Unencrypted { backup: record.name.clone(), found });
        }
        if record.key_id.is_some() || record.code.is_some() {
            let why = "it is in the format of convoy 0.5, which knows no encryption, and names a key";
            return Err(BackupError::not_authentic(volume.backup(&record.name)?, why));
        }
        return Ok(Crypt::default());
    }
    let backup = || record.name.clone();
    match key {
        Some(key) if record.key_id.as_deref() == Some(key.id()) => {
            check_code(volume, record, key)?;
            Ok(Crypt::new(Some(key.clone())))
        }
        Some(_) => Err(BackupError::KeyWrong),
        // A key was named, and the store has none it could open.
        None if unencrypted == Unencrypted::Refused => {
            Err(BackupError::KeysGone { backup: backup(), volume: volume.name().to_owned() })
        }
        None => Err(BackupError::KeyMissing { backup: backup() }),
    }
}

/// Checks the code of a record that has one.
pub(crate) fn check_code(volume: &VolumeDir, record: &BackupRecord, key: &StoreKey) -> BackupResult<()> {
    match &record.code {
        Some(code) if !code.fits(key, volume.name(), &record.name) => Err(BackupError::not_authentic(
            volume.backup(&record.name)?,
            "its code does not fit: it was changed, or was made for another backup",
        )),
        _ => Ok(()),
    }
}

/// Makes sure that a record is of who has this key: by its code, or where it has none by its manifest. Reads
/// the manifest then.
pub(crate) async fn check_record(ctx: &Ctx, record: &BackupRecord) -> BackupResult<Option<LoadedRoot>> {
    let Some(key) = ctx.crypt.key() else { return Ok(None) };
    check_code(&ctx.volume, record, key)?;
    if record.code.is_some() {
        return Ok(None);
    }
    let (ctx, record) = (ctx.clone(), record.clone());
    let loaded = tokio::task::spawn_blocking(move || load_root(&ctx, &record)).await;
    loaded.unwrap_or(Err(BackupError::Cancelled)).map(Some)
}

/// Leaves of what a record without a code says only what its sealed manifest says too.
pub(crate) fn keep_what_is_sealed(info: &mut BackupInfo, root: &Root) {
    info.kind = root.kind;
    info.volume_size = root.size;
    info.driver.clear();
    info.options.clear();
}

/// Forgeries that take the format's own insides to make. Those made of bytes alone are in
/// `tests/hostile_store_forgeries.rs`.
#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use convoy_objectstore::{Depth, DirectoryStore, ObjectStore, list_all};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::crypt::KeySource;
    use crate::engine::Engine;
    use crate::format::manifest::forged;
    use crate::progress::Progress;
    use crate::types::{BackupMeta, BackupOptions, PruneOptions, RestoreOptions, SameFile, Source, Target};

    struct Lab {
        dir: tempfile::TempDir,
        store: Arc<dyn ObjectStore>,
        key: StoreKey,
        volume: VolumeDir,
    }

    impl Lab {
        async fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("store")).unwrap();
            std::fs::create_dir(dir.path().join("data")).unwrap();
            std::fs::write(dir.path().join("data/file"), b"data".repeat(5000)).unwrap();
            let store: Arc<dyn ObjectStore> =
                Arc::new(DirectoryStore::open(dir.path().join("store")).await.unwrap());
            let source = KeySource::File(vec![7; 32].into());
            let key = Engine::default().new_key(store.clone(), &source).await.unwrap();
            Self { dir, store, key, volume: VolumeDir::new("vol1").unwrap() }
        }

        async fn prepare(&self) -> crate::Preparation {
            let options = BackupOptions { key: Some(self.key.clone()), ..BackupOptions::default() };
            Engine::default().prepare(self.store.clone(), "vol1", &options).await.unwrap()
        }

        async fn back_up(&self, backup: &str) {
            let meta = BackupMeta {
                backup: backup.into(),
                volume: "vol1".into(),
                driver: "vfs".into(),
                volume_size: 77,
                snapshot: format!("snap-of-{backup}"),
                options: [("mode".to_owned(), "750".to_owned())].into(),
                ..BackupMeta::default()
            };
            let source = Source::Tree { path: self.dir.path().join("data"), same: SameFile::BirthTime };
            let (progress, cancel) = (Progress::new(), CancellationToken::new());
            self.prepare().await.run(meta, source, &progress, &cancel).await.unwrap();
        }

        async fn record(&self, backup: &str) -> BackupRecord {
            let mut charge = crate::memory::Memory::new(1 << 20).charge();
            BackupRecord::load(&*self.store, &self.volume, backup, &mut charge).await.unwrap()
        }

        /// Puts another manifest in the place of a backup's, and a record without a code that names it.
        async fn replace(&self, backup: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
            let mut record = self.record(backup).await;
            let manifest = record.manifest.as_mut().unwrap();
            let key = self.volume.manifest(u64::from_str_radix(&manifest.run, 16).unwrap());
            let bytes = change(&self.store.get(&key, 1 << 20).await.unwrap());
            manifest.blake3 = blake3::hash(&bytes).to_hex().to_string();
            manifest.size = bytes.len() as u64;
            self.store.put(&key, bytes.into()).await.unwrap();
            let key = self.volume.backup(backup).unwrap();
            self.store.put(&key, record.to_bytes().unwrap()).await.unwrap();
        }

        async fn vouch(&self, unencrypted: Unencrypted) -> BackupResult<crate::TrustedInfo> {
            let options =
                RestoreOptions { key: Some(self.key.clone()), unencrypted, ..RestoreOptions::default() };
            Engine::default().vouch(self.store.clone(), "vol1", "b-1", &options).await
        }

        async fn restore(&self, into: &Path) -> BackupResult<()> {
            let options = RestoreOptions { key: Some(self.key.clone()), ..RestoreOptions::default() };
            let target = Target::Tree { path: into.to_owned() };
            let (progress, cancel) = (Progress::new(), CancellationToken::new());
            let engine = Engine::default();
            engine
                .restore(self.store.clone(), "vol1", "b-1", target, &options, &progress, &cancel)
                .await
                .map(drop)
        }

        async fn packs(&self) -> usize {
            list_all(&*self.store, &self.volume.packs(), Depth::All).await.unwrap().objects.len()
        }
    }

    #[tokio::test]
    async fn a_record_from_before_there_were_codes_is_restored_without_what_nobody_vouches_for() {
        let lab = Lab::new().await;
        lab.back_up("b-1").await;
        let crypt = Crypt::new(Some(lab.key.clone()));
        lab.replace("b-1", |bytes| forged::without_code(bytes, "vol1", "b-1", &crypt)).await;
        let vouched = lab.vouch(Unencrypted::default()).await.unwrap();
        assert!(vouched.info.options.is_empty() && vouched.info.driver.is_empty(), "{vouched:?}");
        assert_eq!(vouched.info.volume_size, 0);
        assert!(vouched.warnings[0].contains("(mode)"), "{vouched:?}");
        let trusted = lab.vouch(Unencrypted::Allowed).await.unwrap();
        assert_eq!(trusted.info.options.get("mode").map(String::as_str), Some("750"));
        let target = tempfile::tempdir().unwrap();
        lab.restore(target.path()).await.unwrap();
        assert_eq!(std::fs::read(target.path().join("file")).unwrap(), b"data".repeat(5000));
        // It is built on, but its snapshot, which anybody could have named, is the base of nothing.
        let next = lab.prepare().await;
        assert_eq!(next.parent(), None);
        drop(next);
        lab.back_up("b-2").await;
        assert_eq!(lab.prepare().await.parent().map(|parent| parent.backup).as_deref(), Some("b-2"));
    }

    #[tokio::test]
    async fn prune_with_the_key_removes_nothing_for_a_forged_table_of_packs() {
        for number in 0..2 {
            let lab = Lab::new().await;
            lab.back_up("b-1").await;
            let before = lab.packs().await;
            assert_eq!(before, 2, "one of data and one of the manifest");
            lab.replace("b-1", |bytes| forged::with_one_pack(bytes, number)).await;
            let options = PruneOptions { key: Some(lab.key.clone()), ..PruneOptions::default() };
            let (progress, cancel) = (Progress::new(), CancellationToken::new());
            let pruned = Engine::default().prune(lab.store.clone(), None, &options, &progress, &cancel).await;
            assert!(matches!(pruned, Err(BackupError::NotAuthentic { .. })), "{pruned:?}");
            assert_eq!(lab.packs().await, before);
        }
    }
}
