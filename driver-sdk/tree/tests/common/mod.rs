//! A comparison of trees that shares nothing with the code under test: `std::fs` and plain system calls by
//! path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Everything about one entry that a copy must keep.
#[derive(PartialEq, Eq)]
pub(crate) struct Seen {
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    rdev: u64,
    content: Vec<u8>,
    holes: bool,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of this tree with the same inode, if it is another one.
    linked_to: Option<PathBuf>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mode, owner, mtime, rdev, content, holes, xattrs, linked_to } = self;
        let start = String::from_utf8_lossy(&content[..content.len().min(20)]);
        write!(f, "{mode:o} {owner:?} {mtime:?} {rdev} {start:?}..{} holes={holes} ", content.len())?;
        write!(f, "{xattrs:?} {linked_to:?}")
    }
}

/// All of `root`, by relative path.
pub(crate) fn see(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut first = BTreeMap::new();
    visit(root, Path::new(""), &mut seen, &mut first);
    seen
}

fn visit(
    root: &Path,
    at: &Path,
    seen: &mut BTreeMap<PathBuf, Seen>,
    first: &mut BTreeMap<(u64, u64), PathBuf>,
) {
    let path = root.join(at);
    let meta = fs::symlink_metadata(&path).unwrap();
    let kind = meta.file_type();
    let content = if kind.is_file() {
        fs::read(&path).unwrap()
    } else if kind.is_symlink() {
        use std::os::unix::ffi::OsStrExt as _;
        fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let linked_to = (meta.nlink() > 1 && !kind.is_dir())
        .then(|| first.entry((meta.dev(), meta.ino())).or_insert_with(|| at.to_owned()).clone())
        .filter(|first| first != at);
    seen.insert(
        at.to_owned(),
        Seen {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            rdev: if kind.is_char_device() || kind.is_block_device() { meta.rdev() } else { 0 },
            holes: kind.is_file() && meta.len() > 0 && meta.blocks() * 512 < meta.len() / 2,
            content,
            xattrs: xattrs(&path),
            linked_to,
        },
    );
    if kind.is_dir() {
        let mut names: Vec<OsString> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            visit(root, &at.join(name), seen, first);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    list[..len]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .map(|name| {
            let mut value = vec![0; 65536];
            let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..len].to_vec())
        })
        .collect()
}

/// Fails with the first difference between two trees.
pub(crate) fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (see(a), see(b));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (path, seen) in &a {
        assert_eq!(seen, &b[path], "{}", path.display());
    }
}
