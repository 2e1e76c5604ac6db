//! What programs have open: files, and directories that they list.

use std::collections::HashMap;
use std::sync::Arc;

use convoy_backup::BackupResult;
use fuser::FileHandle;
use parking_lot::Mutex;

use crate::view::{Cursor, Found, OpenFile, Place, View};

/// Files and directories that are open at the same time, at the most.
const MOST: usize = 65_536;

/// Entries that are read at once.
const PAGE: usize = 128;

/// Something that is open.
#[derive(Debug, Clone)]
pub(super) enum Handle {
    File(Arc<OpenFile>),
    Directory(Arc<Mutex<Listing>>),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Handles {
    open: HashMap<u64, Handle>,
    last: u64,
}

impl Handles {
    /// Keeps something; `None` if there are too many.
    pub(super) fn keep(&mut self, handle: Handle) -> Option<FileHandle> {
        if self.open.len() >= MOST {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, handle);
        Some(FileHandle(self.last))
    }

    pub(super) fn file(&self, handle: FileHandle) -> Option<Arc<OpenFile>> {
        match self.open.get(&handle.0)? {
            Handle::File(file) => Some(Arc::clone(file)),
            Handle::Directory(_) => None,
        }
    }

    pub(super) fn directory(&self, handle: FileHandle) -> Option<Arc<Mutex<Listing>>> {
        match self.open.get(&handle.0)? {
            Handle::Directory(listing) => Some(Arc::clone(listing)),
            Handle::File(_) => None,
        }
    }

    /// Lets go of everything. Numbers are not given again.
    pub(super) fn let_go_of_all(&mut self) -> Vec<Handle> {
        self.open.drain().map(|(_, handle)| handle).collect()
    }

    /// Lets go of something.
    pub(super) fn let_go(&mut self, handle: FileHandle) -> Option<Handle> {
        self.open.remove(&handle.0)
    }
}

/// A directory that is being listed, page by page: one page is in memory. Entries have the numbers 0, 1, 2
/// and so on, which are the same for all who list it, since nothing changes.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) place: Place,
    /// The number of the first entry of the page.
    first: u64,
    page: Vec<(Vec<u8>, Found)>,
    /// What is behind the page.
    next: Cursor,
}

impl Listing {
    pub(super) fn new(place: Place) -> Self {
        Self { place, first: 0, page: Vec::new(), next: Cursor::Number(0) }
    }

    /// The entry with a number, `None` behind the last. Whoever goes back reads from the beginning again.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) fn entry(&mut self, view: &View, number: u64) -> BackupResult<Option<&(Vec<u8>, Found)>> {
        if number < self.first {
            *self = Self::new(self.place.clone());
        }
        loop {
            let behind = self.first + self.page.len() as u64;
            if number < behind || self.next == Cursor::End {
                break;
            }
            let (page, next) = view.list(&self.place, &self.next, PAGE)?;
            (self.first, self.page, self.next) = (behind, page, next);
        }
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        Ok(index.and_then(|index| self.page.get(index)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MountError;
    use crate::view::{Listed, Shelf};
    use convoy_backup::{BackupError, BackupKind, Browse, ReadAt, browse_directory};
    use std::path::PathBuf;

    #[derive(Debug)]
    struct Directory(PathBuf);

    impl Shelf for Directory {
        fn open_tree(&self, _: &Listed) -> BackupResult<Arc<dyn Browse>> {
            browse_directory(&self.0)
        }

        fn open_image(&self, _: &Listed) -> BackupResult<Arc<dyn ReadAt>> {
            Err(BackupError::Cancelled)
        }

        fn has_files(&self) -> bool {
            false
        }

        fn open_files(&self, _: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError> {
            Err(MountError::Keeper(String::new()))
        }
    }

    #[test]
    fn entries_keep_their_numbers_whichever_way_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..700 {
            std::fs::write(dir.path().join(format!("file-{number:03}")), "").unwrap();
        }
        let listed = Listed {
            volume: "vol".to_owned(),
            backup: "b-1".to_owned(),
            created: None,
            kind: BackupKind::Tree,
        };
        let view = View::of_backup(listed, Arc::new(Directory(dir.path().to_owned()))).unwrap();
        let mut listing = Listing::new(view.top());
        for number in (0..700).chain([0, 699, 128, 127, 256, 3]) {
            let (name, _) = listing.entry(&view, number).unwrap().unwrap();
            assert_eq!(*name, format!("file-{number:03}").into_bytes());
            assert!(listing.page.len() <= PAGE);
        }
        assert!(listing.entry(&view, 700).unwrap().is_none());
        assert!(listing.entry(&view, u64::MAX).unwrap().is_none());
        assert!(listing.entry(&view, 5).unwrap().is_some());
    }
}
