//! Which inodes have been met under another name.
//!
//! In a snapshot that shares its files with others by hard links every file has several names, most of them
//! elsewhere: so this remembers a path in as few bytes as it can, for a million files about 70 MiB. The name
//! of a directory is kept once for all that is in it.

use std::collections::HashMap;

use convoy_tree::{Entry, PathKey, PathSet, RelPath};

/// Tables that grow one by one: a single one would need three times its size while it doubles.
const SHARDS: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Links {
    /// The device of the first link; few trees have another.
    device: Option<u64>,
    here: Vec<HashMap<u64, PathKey>>,
    elsewhere: HashMap<(u64, u64), PathKey>,
    paths: PathSet,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            device: None,
            here: vec![HashMap::new(); SHARDS],
            elsewhere: HashMap::new(),
            paths: PathSet::default(),
        }
    }
}

impl Links {
    /// The path under which this inode came first, if it came before.
    pub(crate) fn first_name(&mut self, entry: &Entry) -> Option<RelPath> {
        if !entry.is_linked() {
            return None;
        }
        let shard = usize::try_from(entry.ino % SHARDS as u64).ok()?;
        if *self.device.get_or_insert(entry.dev) == entry.dev {
            Self::first(self.here.get_mut(shard)?.entry(entry.ino), &mut self.paths, entry)
        } else {
            Self::first(self.elsewhere.entry((entry.dev, entry.ino)), &mut self.paths, entry)
        }
    }

    fn first<K>(
        known: std::collections::hash_map::Entry<'_, K, PathKey>,
        paths: &mut PathSet,
        entry: &Entry,
    ) -> Option<RelPath> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        match known {
            Occupied(first) => Some(paths.get(*first.get())),
            Vacant(free) => {
                free.insert(paths.add(&entry.path));
                None
            }
        }
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
