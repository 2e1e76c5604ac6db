//! The tmpfs example through every carrier, on the real kernel; run as root.

use crate::support::{Root, drivers};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{
    CreateVolume, DeleteVolume, GetVolume, ListVolumes, MountVolume, Open, ResizeVolume,
};
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::path::Path;

fn options() -> RequestContext {
    RequestContext::new("test").within(std::time::Duration::from_secs(30))
}

fn capacity(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_blocks * stat.f_frsize
}

async fn life_of_a_volume(spec: &str) {
    let root = Root::new();
    let open = Open::new(root.path().to_owned());
    let driver = drivers().load(&spec.parse().unwrap()).await.unwrap();
    driver.open(open.clone(), options()).await.unwrap();
    let name = Name::from_static("scratch");
    let create = CreateVolume::new(name.clone()).size(Some(1 << 20));
    assert_eq!(driver.call(create.clone(), options()).await.unwrap().size, 1 << 20);
    assert_eq!(driver.call(create.clone(), options()).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    let wrong = create.clone().options([("colour".to_owned(), "red".to_owned())].into());
    assert_eq!(driver.call(wrong, options()).await.unwrap_err().kind, ErrorKind::InvalidArgument);

    let mount = MountVolume::new(name.clone());
    let path = driver.call(mount.clone(), options()).await.unwrap().mountpoint;
    assert_eq!(capacity(&path), 1 << 20);
    std::fs::write(path.join("file"), "content").unwrap();
    driver.call(ResizeVolume::new(name.clone(), 4 << 20), options()).await.unwrap();
    assert_eq!(capacity(&path), 4 << 20);

    // Forgotten and taken back, with its content; then there after a restart of the driver.
    driver.call(DeleteVolume::new(name.clone()).reference_only(true), options()).await.unwrap();
    assert_eq!(driver.call(mount.clone(), options()).await.unwrap_err().kind, ErrorKind::NotFound);
    driver.call(create, options()).await.unwrap();
    driver.stop(std::time::Duration::from_secs(5)).await;
    let driver = drivers().load(&spec.parse().unwrap()).await.unwrap();
    driver.open(open.clone(), options()).await.unwrap();
    assert_eq!(std::fs::read_to_string(path.join("file")).unwrap(), "content");
    let listed = driver.call(ListVolumes::default(), options()).await.unwrap();
    assert_eq!(listed.volumes, [driver.call(GetVolume::new(name.clone()), options()).await.unwrap()]);
    assert_eq!(listed.volumes[0].mountpoint.as_deref(), Some(path.as_path()));

    driver.call(DeleteVolume::new(name.clone()), options()).await.unwrap();
    assert!(!path.exists() && !MountTable::read().unwrap().is_mounted(&path));
    let gone = DeleteVolume::new(name);
    assert_eq!(driver.call(gone, options()).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn builtin() {
    life_of_a_volume("builtin:tmpfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn library() {
    life_of_a_volume("library:tmpfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process() {
    life_of_a_volume("process:tmpfs").await;
}
