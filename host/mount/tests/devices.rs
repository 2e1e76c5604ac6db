//! Backups of devices that are mounted: the image, and the files in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails that way")]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use common::{Mounted, describe, one, shell};
use convoy_backup::{BackupError, BackupKind, BackupResult, Browse, ReadAt};
use convoy_mount::{Keeper, Kept, Listed, MountError, Mountpoint, Shelf, View, browse_image, pair};
use convoy_tests::{Lab, Result};
use convoy_tree::data_extents;
use parking_lot::Mutex;

/// The device in a file, whose files somebody else mounts.
#[derive(Debug)]
struct Device {
    image: Arc<dyn ReadAt>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Image(File);

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        let mut bytes = vec![0; length.min(100_000)];
        let read = self.0.read_at(&mut bytes, offset).unwrap();
        bytes.truncate(read);
        Ok(bytes.into())
    }

    fn next_data(&self, offset: u64) -> BackupResult<Option<std::ops::Range<u64>>> {
        Ok(data_extents(&self.0, offset..self.size()).next().transpose().unwrap())
    }
}

impl Shelf for Device {
    fn open_tree(&self, _: &Listed) -> BackupResult<Arc<dyn Browse>> {
        Err(BackupError::Cancelled)
    }

    fn open_image(&self, _: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
        Ok(Arc::clone(&self.image))
    }

    fn has_files(&self) -> bool {
        true
    }

    fn open_files(&self, image: Arc<dyn ReadAt>) -> std::result::Result<Arc<dyn Browse>, MountError> {
        match &self.kept {
            Some(kept) => kept.browse_image(image),
            None => browse_image(image, &convoy_driver_sdk::Context::new("test")),
        }
    }
}

fn a_device_and_its_files(kind: &str, by_keeper: bool) -> Result<()> {
    Lab::run(|lab| {
        let (tree, image, at) = (lab.make("tree")?, lab.path("image"), lab.make("at")?);
        let script = r#"
            cd "$1"; mkdir -p a/b; head -c 3000000 /dev/urandom > a/random; echo text > a/b/text
            ln a/b/text a/second; ln -s b/text a/link; chmod 2751 a/b; chown 123:456 a/b/text; chmod 600 a/b/text
            truncate -s 320M "$2"; mkfs.KIND -q "$2"
            exec unshare --mount --propagation private sh -ec \
                'mount -o loop "$2" "$3"; cp -a "$1/." "$3"; umount "$3"' sh "$1" "$2" "$3""#;
        shell(&script.replace("KIND", kind), &[&tree, &image, &at])?;
        let attached = Arc::new(Mutex::new(None));
        let mnt = lab.make("mnt")?;
        let (mounted, keeper) = if by_keeper {
            let (ours, theirs) = pair().unwrap();
            let keeper = Keeper::new(ours, Mountpoint::open(&mnt).unwrap(), false, Arc::clone(&attached));
            let keeper = std::thread::spawn(move || keeper.run());
            let kept = Kept::new(theirs);
            let fuse = kept.mount().unwrap();
            assert!(kept.mount().is_err(), "it mounts once");
            let shelf = Device { image: Arc::new(Image(File::open(&image).unwrap())), kept: Some(kept) };
            let view = View::of_backup(one(BackupKind::Block), Arc::new(shelf)).unwrap();
            let served = convoy_mount::serve_view(Arc::new(view), fuse, false).unwrap();
            (Err(served), Some(keeper))
        } else {
            let shelf = Device { image: Arc::new(Image(File::open(&image).unwrap())), kept: None };
            let view = View::of_backup(one(BackupKind::Block), Arc::new(shelf)).unwrap();
            (Ok(Mounted::new(Arc::new(view), &mnt)), None)
        };
        let metadata = fs::metadata(mnt.join("disk.img")).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o7777), (320 << 20, 0o400));
        shell("cmp $1/disk.img $2; test $(ls $1 | wc -l) = 2", &[&mnt, &image])?;
        let lines = |root: &Path| -> Vec<String> {
            let all = describe(root).into_iter();
            // The root has the time when the file system was made; ext4 brings a directory along.
            all.filter(|line| !line.starts_with("lost+found ")).skip(1).collect()
        };
        assert_eq!(lines(&mnt.join("files")), lines(&tree));
        match mounted {
            Ok(mounted) => mounted.end(),
            Err(served) => {
                attached.lock().take().unwrap().detach().unwrap();
                served.wait().unwrap();
            }
        }
        if let Some(keeper) = keeper {
            keeper.join().unwrap().unwrap();
        }
        Ok(())
    })
}

#[test]
fn a_device_is_an_image_and_its_files() -> Result<()> {
    a_device_and_its_files("ext4", false)
}

#[test]
fn a_keeper_mounts_the_files_on_a_device_for_who_has_no_rights() -> Result<()> {
    a_device_and_its_files("xfs", true)
}
