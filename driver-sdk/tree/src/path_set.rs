//! Many paths in little memory.

use crate::path::{RelPath, common_prefix};

/// Bytes kept together: one buffer for all would need three times its size while it grows.
const BLOCK: usize = 1 << 20;
/// Before each name: the directory it is in, and how long it is.
const HEAD: usize = 10;
/// The root of the tree.
const ROOT: u64 = u64::MAX;

/// Paths of one tree. The name of a directory is kept once for all that is in it, as long as paths come in
/// the order of a walk; in any other order they only take more memory.
#[derive(Debug, Default)]
pub struct PathSet {
    blocks: Vec<Vec<u8>>,
    /// The directory of the path that was added last.
    dir: Vec<u8>,
    /// That directory's parts: where each ends in `dir`, and its key.
    parts: Vec<(usize, u64)>,
}

/// A path in a [`PathSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PathKey(u64);

impl PathSet {
    /// Remembers a path, and gives the key to ask for it.
    pub fn add(&mut self, path: &RelPath) -> PathKey {
        let bytes = path.as_bytes();
        if bytes.is_empty() {
            return PathKey(ROOT);
        }
        let (dir, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => {
                (bytes.get(..slash).unwrap_or_default(), bytes.get(slash + 1..).unwrap_or_default())
            }
            None => (&[][..], bytes),
        };
        if self.dir != dir {
            self.change_dir(dir);
        }
        let parent = self.parts.last().map_or(ROOT, |(_, key)| *key);
        PathKey(self.store(parent, name))
    }

    fn change_dir(&mut self, dir: &[u8]) {
        let same = common_prefix(&self.dir, dir);
        let on_the_way = |end: usize| end <= same && (end == dir.len() || dir.get(end) == Some(&b'/'));
        let keep = self.parts.partition_point(|(end, _)| on_the_way(*end));
        self.parts.truncate(keep);
        let (mut at, mut parent) = self.parts.last().copied().unwrap_or((0, ROOT));
        let rest = dir.get(at..).unwrap_or_default();
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at += usize::from(at > 0) + name.len();
            parent = self.store(parent, name);
            self.parts.push((at, parent));
        }
        self.dir.clear();
        self.dir.extend_from_slice(dir);
    }

    fn store(&mut self, parent: u64, name: &[u8]) -> u64 {
        let needed = HEAD + name.len();
        if self.blocks.last().is_none_or(|block| block.len() + needed > BLOCK) {
            self.blocks.push(Vec::with_capacity(needed.max(BLOCK)));
        }
        let number = self.blocks.len() as u64 - 1;
        let Some(block) = self.blocks.last_mut() else { return ROOT };
        let key = (number << 32) | block.len() as u64;
        block.extend_from_slice(&parent.to_le_bytes());
        // A name has at most 255 bytes on every file system; what names more cannot be made anyway.
        block.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        block.extend_from_slice(name);
        key
    }

    fn part(&self, key: u64) -> Option<(u64, &[u8])> {
        let block = self.blocks.get(usize::try_from(key >> 32).ok()?)?;
        let bytes = block.get(usize::try_from(key & u64::from(u32::MAX)).ok()?..)?;
        let (parent, bytes) = bytes.split_first_chunk::<8>()?;
        let (len, bytes) = bytes.split_first_chunk::<2>()?;
        Some((u64::from_le_bytes(*parent), bytes.get(..usize::from(u16::from_le_bytes(*len)))?))
    }

    /// The path of a key.
    pub fn get(&self, key: PathKey) -> RelPath {
        let mut parts = Vec::new();
        let mut at = key.0;
        while let Some((parent, name)) = self.part(at) {
            parts.push(name);
            at = parent;
        }
        parts.reverse();
        RelPath::trusted(parts.join(&b'/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_comes_back_in_whatever_order_it_was_added() {
        let deep = vec!["d".repeat(200); 3000].join("/");
        let paths = ["", "a", "a/b", "a/b/c", "ab", "a/bc/d", "a/b/d", &deep, &format!("{deep}/x"), "z/y"];
        let paths = paths.map(|path| RelPath::new(path).unwrap());
        let mut set = PathSet::default();
        let keys: Vec<_> = paths.iter().chain(paths.iter().rev()).map(|path| set.add(path)).collect();
        for (path, key) in paths.iter().chain(paths.iter().rev()).zip(keys) {
            assert!(set.get(key) == *path, "{path}");
        }
    }

    #[test]
    fn a_directory_is_kept_once_for_all_that_is_in_it() {
        let deep = vec!["d".repeat(200); 4000].join("/");
        let (deep, mut set) = (RelPath::new(deep).unwrap(), PathSet::default());
        for file in 0..500 {
            set.add(&deep.join(format!("{file}").as_bytes()).unwrap());
        }
        assert!(set.blocks.len() <= 2, "{} MiB", set.blocks.len());
    }
}
