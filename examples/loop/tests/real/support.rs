//! A driver on storage of its own.

use convoy_driver_loop::LoopImages;
use convoy_driver_sdk::protocol::{
    CreateSnapshot, CreateVolume, Extents, ListExtents, MountVolume, Open, OpenSnapshot, Opened,
    OpenedSnapshot, SourceKind, SourceLocation, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, Name, Result};
use convoy_tests::{Lab, Storage};
use std::path::PathBuf;

/// The file systems the images are on.
pub(crate) const KINDS: [&str; 2] = ["xfs", "btrfs"];
/// Sizes of volumes in the tests.
pub(crate) const SIZE: u64 = 32 << 20;

/// Where a driver keeps what it has. Declared in this order: the driver goes before the storage.
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) storage: Storage,
}

pub(crate) fn context() -> Context {
    Context::new("test")
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

impl Place {
    pub(crate) fn new(lab: &Lab, kind: &str) -> convoy_tests::Result<Self> {
        let storage = Storage::new(lab, kind, 800 << 20, "")?;
        Ok(Self { root: lab.make(&format!("root-{kind}"))?, storage })
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.storage.path().join("images")
    }

    pub(crate) fn request(&self) -> Open {
        let path = self.images().display().to_string();
        let options = [("loop.path".to_owned(), path), ("loop.size".to_owned(), SIZE.to_string())];
        Open::new(self.root.clone()).options(options.into())
    }

    pub(crate) fn open(&self) -> (Calls, Opened) {
        let (driver, opened) = LoopImages::open(self.request(), &context()).unwrap();
        (Calls(driver), opened)
    }
}

/// Calls that need few words.
pub(crate) struct Calls(pub(crate) LoopImages);

impl Calls {
    pub(crate) fn create(&self, volume: &str) -> Result<Volume> {
        self.create_with(volume, None, &[])
    }

    pub(crate) fn create_with(
        &self,
        volume: &str,
        size: Option<u64>,
        options: &[(&str, &str)],
    ) -> Result<Volume> {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.0.create_volume(CreateVolume::new(name(volume)).size(size).options(options), &context())
    }

    pub(crate) fn mount(&self, volume: &str) -> Result<PathBuf> {
        let request = MountVolume::new(name(volume));
        self.0.mount_volume(request, &context()).map(|mounted| mounted.mountpoint)
    }

    pub(crate) fn unmount(&self, volume: &str) -> Result<()> {
        self.0.unmount_volume(UnmountVolume::new(name(volume)), &context())
    }

    pub(crate) fn snapshot(&self, volume: &str, snapshot: &str) -> Result<()> {
        let request = CreateSnapshot::new(name(volume), name(snapshot)).freeze(true);
        self.0.create_snapshot(request, &context()).map(drop)
    }

    pub(crate) fn read(&self, volume: &str, snapshot: &str, base: Option<&str>) -> Result<OpenedSnapshot> {
        self.read_as(volume, snapshot, base, None)
    }

    pub(crate) fn read_as(
        &self,
        volume: &str,
        snapshot: &str,
        base: Option<&str>,
        kind: Option<SourceKind>,
    ) -> Result<OpenedSnapshot> {
        let request = OpenSnapshot::new(name(volume), name(snapshot)).base(base.map(name)).kind(kind);
        self.0.open_snapshot(request, &context())
    }

    /// All extents of an open snapshot, a few at a time.
    pub(crate) fn extents(&self, handle: &str) -> Extents {
        let mut all = Extents::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let request = ListExtents::new(handle.to_owned()).from(at).limit(Some(3));
            let page = self.0.list_extents(request, &context()).unwrap();
            all.extents.extend(page.extents);
            all.discarded.extend(page.discarded);
            from = page.next;
        }
        all
    }
}

/// The file of an open snapshot, and whether its extents are those that changed.
pub(crate) fn block(opened: &OpenedSnapshot) -> (PathBuf, bool) {
    match &opened.location {
        SourceLocation::Block { device, changed_only, .. } => (device.clone(), *changed_only),
        other => panic!("expected a block device, found {other:?}"),
    }
}
