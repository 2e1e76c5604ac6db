//! Reads the files on devices and images that real programs made.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::fs::{self, File};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use convoy_backup::{BackupError, BackupResult, Browse, ReadAt, Visit, browse_directory};
use convoy_driver_sdk::Context;
use convoy_mount::{MountError, browse_device, browse_image};
use convoy_tests::error::check;
use convoy_tests::{Lab, Result, run};
use convoy_tree::{RelPath, data_extents};

const SIZE: u64 = 320 << 20;

/// An image in a file, of which a part may be damaged.
#[derive(Debug)]
struct Image {
    file: File,
    damaged: Range<u64>,
    read: AtomicU64,
}

impl Image {
    fn of(path: &Path) -> Arc<Self> {
        Arc::new(Self { file: File::open(path).unwrap(), damaged: 0..0, read: AtomicU64::new(0) })
    }
}

impl ReadAt for Image {
    fn size(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }

    fn read_at(&self, offset: u64, length: usize) -> BackupResult<Bytes> {
        // No more than a chunk at once, as a backup gives.
        let mut bytes = vec![0; length.min(100_000)];
        let read = self.file.read_at(&mut bytes, offset).unwrap();
        bytes.truncate(read);
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        if offset < self.damaged.end && self.damaged.start < offset + read as u64 {
            return Err(BackupError::Damaged { key: "pack".to_owned(), why: "the test says so".to_owned() });
        }
        Ok(bytes.into())
    }

    fn next_data(&self, _: u64) -> BackupResult<Option<Range<u64>>> {
        unreachable!("the kernel does not ask where the data is")
    }
}

fn shell(script: &str, words: &[&Path]) -> Result<String> {
    run::capture(Command::new("sh").args(["-ec", script, "sh"]).args(words))?.ok()
}

/// A tree with some of everything, below a directory of its own.
fn tree(lab: &Lab) -> Result<PathBuf> {
    let tree = lab.make("tree")?;
    let script = r#"
        cd "$1"
        mkdir -p a/b/c empty
        head -c 3000000 /dev/urandom > a/random
        echo text > a/b/text
        truncate -s 20M a/hole; echo end >> a/hole
        ln -s ../b/text a/link
        ln a/b/text a/b/c/second
        chmod 2751 a/b; chown 123:456 a/b/text
        mkfifo fifo
        i=0; while [ $i -lt 300 ]; do echo $i > empty/../a/b/c/file-$i; i=$((i+1)); done"#;
    shell(script, &[&tree])?;
    Ok(tree)
}

/// Makes an image with a file system that holds the tree. Mounts where nobody sees it.
fn image(lab: &Lab, kind: &str, tree: &Path) -> Result<PathBuf> {
    let (image, at) = (lab.path(kind), lab.make(&format!("{kind}-at"))?);
    File::create(&image).unwrap().set_len(SIZE).unwrap();
    let script = r#"
        mkfs.$0 -q "$1"
        exec unshare --mount --propagation private sh -ec 'mount -o loop "$1" "$2"; cp -a "$3/." "$2"; umount "$2"' \
            sh "$1" "$2" "$3""#;
    let words = [image.as_path(), &at, tree];
    run::capture(Command::new("sh").args(["-ec", script, kind]).args(words))?.ok()?;
    Ok(image)
}

/// Everything a tree has, in order: metadata, and what is in files.
fn everything(tree: &dyn Browse) -> BackupResult<Vec<String>> {
    let mut nodes = Vec::new();
    tree.walk(&RelPath::root(), &mut |node| {
        nodes.push(node);
        Ok(ControlFlow::Continue(Visit::Continue))
    })?;
    let mut lines = Vec::new();
    for node in nodes {
        let entry = node.entry;
        if entry.path.as_bytes() == b"lost+found" {
            continue;
        }
        let data = if entry.is_file() { contents(&*tree.open(&entry.path)?)? } else { Vec::new() };
        lines.push(format!(
            "{} {:?} {:o} {}:{} {} {:?}",
            entry.path,
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            if entry.path.is_root() { "".to_owned() } else { entry.mtime.sec.to_string() },
            data.iter().fold((data.len(), 0_u64), |(length, sum), byte| {
                (length, sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
            }),
        ));
    }
    Ok(lines)
}

fn contents(file: &dyn ReadAt) -> BackupResult<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let part = file.read_at(data.len() as u64, 1 << 20)?;
        if part.is_empty() {
            return Ok(data);
        }
        data.extend_from_slice(&part);
    }
}

fn same_as_the_tree(kind: &str) -> Result<()> {
    Lab::run(|lab| {
        let tree = tree(lab)?;
        let image = Image::of(&image(lab, kind, &tree)?);
        let files = browse_image(image.clone(), &Context::new("test")).unwrap();
        let expected = everything(&*browse_directory(&tree).unwrap()).unwrap();
        assert_eq!(everything(&*files).unwrap(), expected);
        // What was not asked for was not read.
        let read = image.read.load(Ordering::Relaxed);
        check(read < SIZE / 4, || format!("{read} bytes were read"))?;
        // Nobody sees it, and nothing is left.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let here = lab.directory().display().to_string();
        let seen = mounts.lines().find(|line| line.contains(&here) || line.contains("fuse convoy"));
        check(seen.is_none(), || format!("a mount can be seen: {seen:?}"))?;
        drop(files);
        Ok(())
    })
}

#[test]
fn ext4_in_an_image_is_the_tree_that_was_copied_there() -> Result<()> {
    same_as_the_tree("ext4")
}

#[test]
fn xfs_in_an_image_is_the_tree_that_was_copied_there() -> Result<()> {
    same_as_the_tree("xfs")
}

#[test]
fn btrfs_in_an_image_is_the_tree_that_was_copied_there() -> Result<()> {
    same_as_the_tree("btrfs")
}

#[test]
fn a_damaged_part_fails_the_file_that_has_it_and_no_other() -> Result<()> {
    Lab::run(|lab| {
        let tree = tree(lab)?;
        let path = image(lab, "ext4", &tree)?;
        // Where the random file lies: its beginning is found nowhere else.
        let random = fs::read(tree.join("a/random")).unwrap();
        let begins = data_extents(&File::open(&path).unwrap(), 0..SIZE).find_map(|extent| {
            let extent = extent.unwrap();
            let mut data = vec![0; usize::try_from(extent.end - extent.start).unwrap()];
            File::open(&path).unwrap().read_exact_at(&mut data, extent.start).unwrap();
            let at = data.windows(4096).position(|window| window == &random[..4096]);
            at.map(|at| extent.start + at as u64)
        });
        let begins = begins.unwrap();
        let damaged = begins..begins + 4096;
        let image = Image { file: File::open(&path).unwrap(), damaged, read: AtomicU64::new(0) };
        let files = browse_image(Arc::new(image), &Context::new("test")).unwrap();
        let at = |path: &str| RelPath::new(path.as_bytes()).unwrap();
        let error = contents(&*files.open(&at("a/random")).unwrap()).unwrap_err().to_string();
        check(error.contains("a/random"), || error)?;
        assert_eq!(contents(&*files.open(&at("a/b/text")).unwrap()).unwrap(), b"text\n");
        Ok(())
    })
}

#[test]
fn a_device_is_read_like_its_image() -> Result<()> {
    Lab::run(|lab| {
        let tree = tree(lab)?;
        let image = image(lab, "ext4", &tree)?;
        let device = shell("losetup --find --show --read-only \"$1\"", &[&image])?;
        let device = PathBuf::from(device);
        let files = browse_device(&device, &Context::new("test")).unwrap();
        assert_eq!(everything(&*files).unwrap(), everything(&*browse_directory(&tree).unwrap()).unwrap());
        drop(files);
        shell("losetup --detach \"$1\"", &[&device]).map(drop)
    })
}

#[test]
fn what_is_no_file_system_is_said_to_be_none() -> Result<()> {
    Lab::run(|lab| {
        let path = lab.path("image");
        File::create(&path).unwrap().set_len(16 << 20).unwrap();
        let error = browse_image(Image::of(&path), &Context::new("test")).unwrap_err();
        check(matches!(error, MountError::NotFileSystem { .. }), || error.to_string())?;
        shell("mkswap \"$1\"", &[&path])?;
        let error = browse_image(Image::of(&path), &Context::new("test")).unwrap_err().to_string();
        check(error.starts_with("the device holds swap"), || error)
    })
}
