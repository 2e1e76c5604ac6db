//! `examples/python/convoy-driver-folder`: a driver of another language is a driver like any other.

use crate::support::logged;
use convoy_driver_sdk::protocol::{
    CloseSnapshot, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, FinishRestore, GetVolume,
    Health, ListVolumes, MountVolume, Open, OpenSnapshot, PrepareRestore, SourceKind, SourceLocation,
    TargetLocation,
};
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::{DriverHandle, Drivers, RequestContext, SearchPath};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = include_str!("../../../../examples/python/convoy-driver-folder");

/// An installed copy of the example, whatever the permissions of the checkout are.
struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("convoy-driver-folder");
        std::fs::write(&file, SOURCE).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir }
    }

    async fn open(&self) -> DriverHandle {
        crate::support::drivers();
        let drivers = Drivers::new(SearchPath::only(&[self.dir.path().to_owned()]));
        let driver = drivers.load(&"folder".parse().unwrap()).await.unwrap();
        let open = Open::new(self.dir.path().join("root"));
        driver.open(open, options()).await.unwrap();
        driver
    }
}

fn options() -> RequestContext {
    RequestContext::new("test").within(Duration::from_secs(30))
}

fn name(text: &'static str) -> Name {
    Name::from_static(text)
}

async fn create(driver: &DriverHandle, volume: &'static str) -> PathBuf {
    let request = CreateVolume::new(name(volume));
    driver.call(request, options()).await.unwrap();
    mountpoint(driver, volume).await
}

async fn mountpoint(driver: &DriverHandle, volume: &'static str) -> PathBuf {
    driver.call(MountVolume::new(name(volume)), options()).await.unwrap().mountpoint
}

async fn snapshot(driver: &DriverHandle, options: RequestContext) -> convoy_driver_sdk::Result<()> {
    let request = CreateSnapshot::new(name("vol1"), name("monday"));
    driver.call(request, options).await.map(drop)
}

/// Where the snapshot is, and the handle it was opened under.
async fn open_snapshot(driver: &DriverHandle) -> (PathBuf, String) {
    let request = OpenSnapshot::new(name("vol1"), name("monday"));
    let opened = driver.call(request, options()).await.unwrap();
    let SourceLocation::Tree { path, .. } = opened.location else { panic!("{:?}", opened.location) };
    (path, opened.handle)
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_whole_and_frozen() {
    let folder = Folder::new();
    let driver = folder.open().await;
    let volume = create(&driver, "vol1").await;
    std::fs::write(volume.join("file"), "monday").unwrap();
    std::fs::set_permissions(volume.join("file"), PermissionsExt::from_mode(0o4640)).unwrap();
    std::fs::hard_link(volume.join("file"), volume.join("again")).unwrap();
    symlink("nowhere", volume.join("link")).unwrap();
    std::fs::create_dir_all(volume.join("a/b")).unwrap();
    std::fs::File::create(volume.join("a/sparse")).unwrap().set_len(1 << 30).unwrap();
    snapshot(&driver, options()).await.unwrap();
    assert_eq!(snapshot(&driver, options()).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    let record = logged(|record| record.is("made a snapshot")).await;
    assert_eq!(record.fields["driver"], "folder");

    std::fs::write(volume.join("file"), "tuesday").unwrap();
    let (frozen, handle) = open_snapshot(&driver).await;
    assert_eq!(std::fs::read_to_string(frozen.join("file")).unwrap(), "monday");
    let meta = |path: &Path| std::fs::symlink_metadata(path).unwrap();
    assert_eq!(meta(&frozen.join("file")).mode() & 0o7777, 0o4640);
    assert_eq!(meta(&frozen.join("file")).ino(), meta(&frozen.join("again")).ino());
    assert_eq!(std::fs::read_link(frozen.join("link")).unwrap(), Path::new("nowhere"));
    let (sparse, of_volume) = (meta(&frozen.join("a/sparse")), meta(&volume.join("a/sparse")));
    assert_eq!((sparse.len(), sparse.mtime_nsec()), (1 << 30, of_volume.mtime_nsec()));
    assert!(sparse.blocks() < 100, "{}", sparse.blocks());
    assert!(frozen.join("a/b").is_dir());

    let delete = || DeleteSnapshot::new(name("vol1"), name("monday"));
    assert_eq!(driver.call(delete(), options()).await.unwrap_err().kind, ErrorKind::InUse);
    driver.call(CloseSnapshot::new(handle), options()).await.unwrap();
    driver.call(delete(), options()).await.unwrap();
    assert!(!frozen.exists());
    assert_eq!(driver.call(delete(), options()).await.unwrap_err().kind, ErrorKind::NotFound);
    driver.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_data_restores_and_pages() {
    let folder = Folder::new();
    let driver = folder.open().await;
    std::fs::write(create(&driver, "vol1").await.join("file"), "kept").unwrap();
    driver.call(DeleteVolume::new(name("vol1")).reference_only(true), options()).await.unwrap();
    let prepare = |volume| PrepareRestore::new(name(volume), SourceKind::Tree);
    assert_eq!(driver.call(prepare("vol1"), options()).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(create(&driver, "vol1").await.join("file")).unwrap(), "kept");

    let prepared = driver.call(prepare("vol2"), options()).await.unwrap();
    let TargetLocation::Tree { path, .. } = prepared.location else { panic!("{:?}", prepared.location) };
    std::fs::write(path.join("file"), "restored").unwrap();
    let missing = driver.call(GetVolume::new(name("vol2")), options()).await.unwrap_err();
    assert_eq!(missing.kind, ErrorKind::NotFound);
    driver.call(FinishRestore::new(prepared.handle), options()).await.unwrap();
    assert_eq!(std::fs::read_to_string(mountpoint(&driver, "vol2").await.join("file")).unwrap(), "restored");

    create(&driver, "vol3").await;
    std::fs::write(folder.dir.path().join("root/volumes/vol3/record.json"), "{").unwrap();
    let page = |after: Option<&'static str>| ListVolumes::new().after(after.map(name)).limit(Some(2));
    let first = driver.call(page(None), options()).await.unwrap();
    let second = driver.call(page(Some("vol2")), options()).await.unwrap();
    let names = |listed: &convoy_driver_sdk::protocol::ListedVolumes| {
        listed.volumes.iter().map(|volume| volume.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((names(&first), first.more), (vec!["vol1".to_owned(), "vol2".to_owned()], true));
    assert_eq!((names(&second), second.more), (vec!["vol3".to_owned()], false));
    assert!(matches!(&second.volumes[0].health, Health::Damaged(why) if why.contains("record")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_killed_snapshot_leaves_nothing() {
    let folder = Folder::new();
    let driver = folder.open().await;
    let volume = create(&driver, "vol1").await;
    for number in 0..3000 {
        std::fs::write(volume.join(format!("file{number}")), "x").unwrap();
    }
    let work = folder.dir.path().join("root/work");
    let left = || std::fs::read_dir(&work).unwrap().count();
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    // Progress comes after the hundredth file.
    let watched = options().with_cancel(cancel).with_progress(move |progress| {
        assert_eq!(progress.unit, "files");
        cancelled.cancel();
    });
    assert_eq!(snapshot(&driver, watched).await.unwrap_err().kind, ErrorKind::Cancelled);
    assert_eq!(left(), 0);

    let pid =
        driver.status().pid.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    let killed = options().with_progress(move |_| {
        let _ = rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL);
    });
    let error = snapshot(&driver, killed).await.unwrap_err();
    assert_eq!((error.kind, error.retryable), (ErrorKind::Unavailable, true), "{error}");
    assert_eq!(left(), 1);
    // The next process takes away what was left, and the same call succeeds.
    snapshot(&driver, options()).await.unwrap();
    assert_eq!(left(), 0);
    let (frozen, _) = open_snapshot(&driver).await;
    assert_eq!(std::fs::read_dir(frozen).unwrap().count(), 3000);
}
