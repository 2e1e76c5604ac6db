//! Files that are hard to keep, and whether they were kept.

use convoy_tree::{Found, Kind, WalkOptions, walk};
use rustix::fs::XattrFlags;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::Path;

/// Everything that has to be kept of a tree, by path.
pub(crate) type Tree = BTreeMap<String, Thing>;

/// What has to be kept of one thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thing {
    kind: Kind,
    mode: u16,
    owner: (u32, u32),
    modified: Option<(i64, u32)>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    content: Vec<u8>,
    /// The first path of the same inode, if this is not it.
    link: Option<String>,
}

/// Bytes that no compressor and no zero detection can do without.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[4]
        })
        .collect()
}

/// Fills a volume with files that are hard to keep.
pub(crate) fn write(dir: &Path, seed: u64) -> io::Result<()> {
    for (number, length) in [0, 1, 511, 4096, 4097, 70_000, 1_000_003].into_iter().enumerate() {
        fs::write(dir.join(format!("file-{length}")), noise(length, seed + number as u64))?;
    }
    let deep = dir.join("a directory").join("ünïcode").join("deep");
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("with spaces and \n a line end"), noise(3000, seed + 20))?;
    fs::write(dir.join("secret"), noise(64, seed + 21))?;
    fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o4711))?;
    fs::create_dir(dir.join("sticky"))?;
    fs::set_permissions(dir.join("sticky"), fs::Permissions::from_mode(0o1777))?;
    std::os::unix::fs::chown(dir.join("secret"), Some(12_345), Some(54_321)).or_else(not_root)?;
    symlink("file-4096", dir.join("link"))?;
    symlink("nowhere/at all", dir.join("dangling"))?;
    fs::hard_link(dir.join("file-70000"), dir.join("hard link"))?;
    let sparse = OpenOptions::new().write(true).create_new(true).open(dir.join("sparse"))?;
    sparse.write_all_at(&noise(5000, seed + 22), 1 << 20)?;
    sparse.set_len(3 << 20)?;
    match rustix::fs::setxattr(dir.join("file-1"), "user.kit", b"attribute", XattrFlags::empty()) {
        // Not every file system has them.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_nanos(1_000_000_000_123_456_789);
    File::open(dir.join("file-511"))?.set_modified(old)?;
    sync(dir)
}

fn not_root(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::PermissionDenied { Ok(()) } else { Err(error) }
}

/// Changes what [`write`] made: a file within, one longer, one shorter, one gone, one new, one under another
/// name.
pub(crate) fn change(dir: &Path, seed: u64) -> io::Result<()> {
    let within = OpenOptions::new().write(true).open(dir.join("file-1000003"))?;
    within.write_all_at(&noise(10_000, seed + 30), 500_000)?;
    OpenOptions::new()
        .write(true)
        .open(dir.join("file-4097"))?
        .write_all_at(&noise(9000, seed + 31), 4000)?;
    OpenOptions::new().write(true).open(dir.join("sparse"))?.set_len(2 << 20)?;
    fs::remove_file(dir.join("file-70000"))?;
    fs::write(dir.join("new"), noise(200_000, seed + 32))?;
    fs::rename(dir.join("file-511"), dir.join("renamed"))?;
    fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o600))?;
    sync(dir)
}

/// Puts what was written on stable storage.
pub(crate) fn sync(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Reads a tree. What a file system makes by itself at its root is left out.
pub(crate) fn read(dir: &Path) -> Result<Tree, String> {
    let mut tree = Tree::new();
    let mut links: BTreeMap<u64, String> = BTreeMap::new();
    for found in walk(dir, WalkOptions::default()).map_err(|error| error.to_string())? {
        let Found::Entry(found) = found.map_err(|error| error.to_string())? else { continue };
        let path = found.entry.path.as_path().display().to_string();
        if path.split('/').next() == Some("lost+found") {
            continue;
        }
        let mut content = Vec::new();
        if found.entry.is_file() {
            let (mut file, _) = found.open().map_err(|error| format!("{path}: {error}"))?;
            file.read_to_end(&mut content).map_err(|error| format!("{path}: {error}"))?;
        }
        let entry = &found.entry;
        // Names in this tree: a frozen tree may share its inodes with others.
        let link = (entry.is_file() && entry.nlink > 1)
            .then(|| links.entry(entry.ino).or_insert_with(|| path.clone()).clone())
            .filter(|first| *first != path);
        let root = entry.path.is_root();
        let attributes = entry
            .xattrs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        let thing = Thing {
            kind: entry.kind.clone(),
            mode: entry.mode,
            owner: (entry.uid, entry.gid),
            // The root's moves with what a file system keeps there.
            modified: (!root).then_some((entry.mtime.sec, entry.mtime.nsec)),
            attributes: if root { BTreeMap::new() } else { attributes },
            content,
            link,
        };
        tree.insert(path, thing);
    }
    Ok(tree)
}

/// The first differences between two trees; empty if there are none.
pub(crate) fn differences(expected: &Tree, found: &Tree) -> Vec<String> {
    let mut all = Vec::new();
    for path in expected.keys().chain(found.keys().filter(|path| !expected.contains_key(*path))) {
        let name = if path.is_empty() { "the root" } else { path };
        match (expected.get(path), found.get(path)) {
            (Some(_), None) => all.push(format!("{name:?} is missing")),
            (None, Some(_)) => all.push(format!("{name:?} is too much")),
            (Some(expected), Some(found)) if expected != found => {
                all.push(format!("{name:?} {}", expected.against(found)));
            }
            _ => {}
        }
    }
    all.truncate(5);
    all
}

impl Thing {
    /// In which way it differs.
    fn against(&self, found: &Self) -> String {
        let differ = self.content.iter().zip(&found.content).position(|(a, b)| a != b);
        match differ {
            Some(at) => format!("differs at byte {at}"),
            None if self.content.len() != found.content.len() => {
                format!("has {} bytes, expected {}", found.content.len(), self.content.len())
            }
            None => {
                let facts = |thing: &Self| {
                    format!(
                        "{:?} mode {:o} owner {:?} modified {:?} link {:?} attributes {:?}",
                        thing.kind, thing.mode, thing.owner, thing.modified, thing.link, thing.attributes
                    )
                };
                format!("is {}, expected {}", facts(found), facts(self))
            }
        }
    }
}

/// Bytes that the file system at a path has in all.
pub(crate) fn capacity(path: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_blocks * found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_same_and_every_change_is_seen() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        write(one.path(), 1).unwrap();
        convoy_tree::copy_tree(one.path(), two.path(), &convoy_tree::CopyOptions::default()).unwrap();
        let before = read(one.path()).unwrap();
        assert_eq!(differences(&before, &read(two.path()).unwrap()), [""; 0]);
        assert!(before.len() > 15);
        for damage in ["file-1", "sparse", "secret"] {
            let path = two.path().join(damage);
            let byte = fs::read(&path).unwrap()[0];
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[byte ^ 1], 0).unwrap();
            let found = differences(&before, &read(two.path()).unwrap());
            assert!(found.iter().any(|text| text.contains(damage) && text.contains("byte 0")), "{found:?}");
        }
        change(one.path(), 1).unwrap();
        let found = differences(&before, &read(one.path()).unwrap());
        assert_eq!(found.len(), 5, "{found:?}");
    }
}
