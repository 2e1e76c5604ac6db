//! Which inodes have been met under another name.
//!
//! In a snapshot that shares its files with others by hard links every file has several names, most of them elsewhere: so this remembers a
//! path in as few bytes as it can, for a million files about 70 MiB.

use std::collections::HashMap;

use convoy_tree::{Entry, RelPath};

/// Tables that grow one by one: a single one would need three times its size while it doubles.
const SHARDS: usize = 64;
/// Bytes of paths kept together.
const BLOCK: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Links {
    /// The device of the first link; few trees have another.
    device: Option<u64>,
    /// Where the path of an inode is: block and offset.
    here: Vec<HashMap<u64, (u32, u32)>>,
    elsewhere: HashMap<(u64, u64), (u32, u32)>,
    /// Paths, each after its length.
    paths: Vec<Vec<u8>>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            device: None,
            here: vec![HashMap::new(); SHARDS],
            elsewhere: HashMap::new(),
            paths: Vec::new(),
        }
    }
}

impl Links {
    /// The path under which this inode came first, if it came before.
    pub(crate) fn first_name(&mut self, entry: &Entry) -> Option<RelPath> {
        if !entry.is_linked() {
            return None;
        }
        let path = entry.path.as_bytes();
        let next = self.next(path.len() + 4)?;
        let shard = usize::try_from(entry.ino % SHARDS as u64).ok()?;
        let at = if *self.device.get_or_insert(entry.dev) == entry.dev {
            *self.here.get_mut(shard)?.entry(entry.ino).or_insert(next)
        } else {
            *self.elsewhere.entry((entry.dev, entry.ino)).or_insert(next)
        };
        let block = self.paths.get_mut(usize::try_from(at.0).ok()?)?;
        if at == next {
            block.extend_from_slice(&u32::try_from(path.len()).ok()?.to_le_bytes());
            block.extend_from_slice(path);
            return None;
        }
        let (len, rest) = block.get(usize::try_from(at.1).ok()?..)?.split_first_chunk::<4>()?;
        let path = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        RelPath::new(path).ok()
    }

    /// Where the next path of so many bytes goes.
    fn next(&mut self, len: usize) -> Option<(u32, u32)> {
        if self.paths.last().is_none_or(|block| block.len() + len > BLOCK) {
            // A path below a very deep directory may be longer than a block.
            self.paths.push(Vec::with_capacity(len.max(BLOCK)));
        }
        let block = self.paths.len().checked_sub(1)?;
        Some((u32::try_from(block).ok()?, u32::try_from(self.paths.get(block)?.len()).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_tree::{FileFlags, Kind, Timestamp, Xattrs};

    #[test]
    fn the_first_name_is_found_again() {
        let mut links = Links::default();
        let entry = |ino: u64, dev: u64, nlink: u32, name: String| Entry {
            path: RelPath::new(name.into_bytes()).unwrap(),
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            ctime: Timestamp::default(),
            btime: None,
            dev,
            ino,
            nlink,
            xattrs: Xattrs::new(),
            flags: FileFlags::empty(),
            project: 0,
            unread: Vec::new(),
        };
        let name = |ino: u64, dev: u64| format!("{dev}/{}/{ino}", "d".repeat(200));
        for (ino, dev) in (0..10_000).map(|n| (n, n % 3)) {
            assert_eq!(links.first_name(&entry(ino, dev, 2, name(ino, dev))), None);
            assert_eq!(links.first_name(&entry(ino, dev, 1, "alone".into())), None);
        }
        for (ino, dev) in (0..10_000).map(|n| (n, n % 3)) {
            let first = links.first_name(&entry(ino, dev, 2, "again".into())).unwrap();
            assert_eq!(first.as_bytes(), name(ino, dev).as_bytes());
        }
    }
}
