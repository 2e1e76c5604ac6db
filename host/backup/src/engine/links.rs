//! Which inodes have been met under another name.
//!
//! In a snapshot that shares its files with others by hard links every file has several names, most of them elsewhere: so this remembers a
//! path in as few bytes as it can, for a million files about 80 MiB.

use std::collections::HashMap;

use convoy_tree::{Entry, RelPath};

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Links {
    /// The device of the first link; few trees have another.
    device: Option<u64>,
    here: HashMap<u64, u32>,
    elsewhere: HashMap<(u64, u64), u32>,
    /// Paths, each after its length.
    paths: Vec<u8>,
}

impl Links {
    /// The path under which this inode came first, if it came before.
    pub(crate) fn first_name(&mut self, entry: &Entry) -> Option<RelPath> {
        if !entry.is_linked() {
            return None;
        }
        let next = u32::try_from(self.paths.len()).ok()?;
        let at = if *self.device.get_or_insert(entry.dev) == entry.dev {
            *self.here.entry(entry.ino).or_insert(next)
        } else {
            *self.elsewhere.entry((entry.dev, entry.ino)).or_insert(next)
        };
        if at == next {
            let path = entry.path.as_bytes();
            // Paths that the kernel takes are shorter than 4096 bytes, but those below a deep directory may be longer.
            self.paths.extend_from_slice(&u32::try_from(path.len()).ok()?.to_le_bytes());
            self.paths.extend_from_slice(path);
            return None;
        }
        let (len, rest) = self.paths.get(usize::try_from(at).ok()?..)?.split_first_chunk::<4>()?;
        let path = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        RelPath::new(path).ok()
    }
}
