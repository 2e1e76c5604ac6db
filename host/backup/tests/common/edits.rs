//! Trees that random acts make, and everything about them in words.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::noise;

/// Everything about what is at a path, in words; nothing that this crate wrote is used to find it out.
pub fn tell(root: &Path, path: &Path, first: &mut HashMap<(u64, u64), PathBuf>) -> String {
    let at = root.join(path);
    let meta = fs::symlink_metadata(&at).unwrap();
    let content = if meta.is_file() {
        blake3::hash(&fs::read(&at).unwrap()).to_hex().to_string()
    } else if meta.is_symlink() {
        format!("{:?}", fs::read_link(&at).unwrap())
    } else {
        String::new()
    };
    let size = if meta.is_file() { meta.len() } else { 0 };
    let link = first.entry((meta.dev(), meta.ino())).or_insert_with(|| path.to_owned()).clone();
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(&at, &mut list[..]).unwrap();
    let attributes: BTreeMap<String, Vec<u8>> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(&at, name, &mut value[..]).unwrap();
            value.truncate(length);
            (String::from_utf8_lossy(name).into_owned(), value)
        })
        .collect();
    format!(
        "{:o} {}:{} {} {}.{:09} {size} {content} {link:?} {attributes:?}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.rdev(),
        meta.mtime(),
        meta.mtime_nsec()
    )
}

/// Everything below a directory that `wanted` wants, by path.
pub fn seen(root: &Path, wanted: &dyn Fn(&Path, bool) -> bool) -> BTreeMap<PathBuf, String> {
    fn visit(root: &Path, at: &Path, all: &mut Vec<(PathBuf, bool)>) {
        for entry in fs::read_dir(root.join(at)).unwrap() {
            let entry = entry.unwrap();
            let (path, directory) = (at.join(entry.file_name()), entry.file_type().unwrap().is_dir());
            all.push((path.clone(), directory));
            if directory {
                visit(root, &path, all);
            }
        }
    }
    let mut all = Vec::new();
    visit(root, Path::new(""), &mut all);
    // Not in the order of the tree: which name of a file is the first must not depend on what is left out.
    all.sort();
    let mut first = HashMap::new();
    let wanted = all.into_iter().filter(|(path, directory)| wanted(path, *directory));
    wanted.map(|(path, _)| (path.clone(), tell(root, &path, &mut first))).collect()
}

pub fn everything(root: &Path) -> BTreeMap<PathBuf, String> {
    seen(root, &|_, _| true)
}

pub fn write(root: &Path, path: &str, content: &str) {
    let at = root.join(path);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    fs::write(at, content).unwrap();
}

pub fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

pub fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 5 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A thing to do to a tree.
#[derive(Debug, Clone)]
pub struct Act {
    what: u8,
    path: usize,
    other: usize,
    seed: u64,
    len: usize,
}

pub const PATHS: [&str; 14] = [
    "a",
    "b",
    "d",
    "d/a",
    "d/b",
    "d/e",
    "d/e/a",
    "d/e/f/g",
    "d-e",
    "d.e/x",
    "x.log",
    "d/x.log",
    "d.e/x.log",
    "z/y",
];

pub fn act() -> impl Strategy<Value = Act> {
    let len = prop_oneof![5 => 0..200usize, 1 => 1_000_000..3_000_000usize];
    (0..10u8, 0..PATHS.len(), 0..PATHS.len(), 0..3u64, len).prop_map(|(what, path, other, seed, len)| Act {
        what,
        path,
        other,
        seed,
        len,
    })
}

/// Does it; what cannot be done is not done.
pub fn perform(root: &Path, act: &Act) -> Option<()> {
    let (path, other) = (root.join(PATHS[act.path]), root.join(PATHS[act.other]));
    if act.what < 8 {
        let _ = fs::create_dir_all(path.parent()?);
    }
    let there = fs::symlink_metadata(&path).ok();
    match act.what {
        0..=2 => {
            if there.is_none_or(|there| there.is_file()) {
                let _ = fs::remove_file(&path);
                fs::write(&path, noise(act.len, act.seed)).ok()?;
                set_time(&path, i64::try_from(act.seed).ok()? * 1000 - 700);
            }
        }
        3 => fs::hard_link(&path, &other).ok()?,
        4 => symlink(format!("/nowhere/{}", act.seed), &path).ok()?,
        5 => {
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
                .ok()?
        }
        6 => fs::create_dir_all(&path).ok()?,
        7 => {
            if there.is_some_and(|there| !there.is_symlink()) {
                std::os::unix::fs::chown(&path, Some(u32::try_from(act.seed).ok()? + 7), Some(3)).ok()?;
                let mode = [0o4755, 0o600, 0o1777][usize::try_from(act.seed).ok()?];
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).ok()?;
                let flags = rustix::fs::XattrFlags::empty();
                rustix::fs::setxattr(&path, "user.p", &act.seed.to_le_bytes(), flags).ok()?;
            }
        }
        8 => fs::remove_file(&path).ok()?,
        _ => fs::rename(&path, &other).ok()?,
    }
    Some(())
}

pub fn tree(acts: &[Act]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for act in acts {
        perform(dir.path(), act);
    }
    dir
}
