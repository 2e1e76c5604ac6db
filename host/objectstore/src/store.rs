//! The one trait behind which backups live.

use std::fmt::Debug;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::error::StoreError;

/// What a listing says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The key of the object.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, by the clock of the store (not of this machine).
    pub modified: SystemTime,
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects, sorted by key.
    pub objects: Vec<ObjectInfo>,
    /// Of a listing that is not recursive: the directories in it, each ending in `/`.
    pub dirs: Vec<String>,
    /// What to pass for the next page; `None` at the end.
    pub next: Option<String>,
}

/// What became of a [`ObjectStore::put_if_absent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is now there, with these bytes.
    Created,
    /// An object of that name was there before, and is unchanged.
    Exists,
}

/// How deep a listing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Depth {
    /// What is directly in the directory: its objects and its directories.
    One,
    /// Every object below.
    All,
}

/// The bytes of an object that is written while they are made.
pub type ByteStream = BoxStream<'static, Result<Bytes, StoreError>>;

/// A place for named, immutable-in-effect byte strings.
///
/// Keys are `/`-separated paths without empty, `.` or `..` parts and without parts that begin with `.`.
/// A write is atomic and durable: when it has returned, the whole object is safe; before, readers see the old
/// one or none. A read returns exactly what was asked for, or an error. All calls may be made at the same
/// time from many tasks.
#[async_trait]
pub trait ObjectStore: Send + Sync + Debug {
    /// Writes an object, in the place of one of that name.
    ///
    /// # Errors
    /// Whatever the store says; the old object is then unchanged, or (network stores, after a time-out)
    /// replaced.
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError>;

    /// Writes an object unless there is one of that name. Of many callers one is told
    /// [`PutOutcome::Created`].
    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError>;

    /// Writes an object of unknown size, holding no more of it in memory than a part. Gives its size in
    /// bytes.
    ///
    /// # Errors
    /// As [`ObjectStore::put`], and the stream's own; nothing is left then.
    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError>;

    /// Reads a whole object of at most `limit` bytes.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::TooLarge`], and whatever the store says.
    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// Reads a range of bytes of an object, all of it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::Truncated`] if the object ends before the range does.
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// What there is to know of an object without reading it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], and whatever the store says.
    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError>;

    /// Lists a directory (`""`, or a key that ends in `/`); one that is not there is empty.
    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError>;

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// Whatever the store says; some may be deleted then.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// Removes what writers that died have left below a directory and which no listing shows. Gives how many.
    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError>;
}

/// What [`list_all`] gives at most, objects and directories together. Larger listings are read with
/// [`Pages`].
pub const LIST_MAX: usize = 100_000;
/// So many pages in a row may be empty: a server that passes over what was deleted sends some.
const EMPTY_PAGES: u32 = 200;

/// The pages of a listing, one after the other. A listing that goes in a circle, or that goes on without an
/// entry, ends with an error.
#[derive(Debug)]
pub struct Pages<'a> {
    store: &'a dyn ObjectStore,
    dir: String,
    depth: Depth,
    from: Option<String>,
    ended: bool,
    read: u64,
    empty: u32,
    /// Where the listing was after 1, 2, 4, 8 ... pages. To be there again is a circle.
    mark: Option<String>,
}

impl<'a> Pages<'a> {
    /// The pages of what is in a directory, or below it.
    pub fn new(store: &'a dyn ObjectStore, dir: &str, depth: Depth) -> Self {
        let dir = dir.to_owned();
        Self { store, dir, depth, from: None, ended: false, read: 0, empty: 0, mark: None }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// As [`ObjectStore::list`]; [`StoreError::Refused`] for a listing that would not end.
    pub async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list(&self.dir, self.depth, self.from.as_deref()).await?;
        let next = page.next.clone();
        self.ended = next.is_none();
        self.read += 1;
        self.empty = if page.objects.is_empty() && page.dirs.is_empty() { self.empty + 1 } else { 0 };
        if next.is_some() && (next == self.from || next == self.mark) {
            return Err(endless(&self.dir, "the listing comes back to where it was"));
        }
        if self.empty > EMPTY_PAGES {
            return Err(endless(&self.dir, "the listing goes on and on without an entry"));
        }
        if self.read.is_power_of_two() {
            self.mark.clone_from(&next);
        }
        self.from = next;
        Ok(Some(page))
    }
}

/// A listing that a store makes no end of.
fn endless(dir: &str, why: &str) -> StoreError {
    let detail = format!("{why}: the store is damaged or not convoy's");
    StoreError::Refused { op: "list", key: dir.to_owned(), detail }
}

/// Every page of a listing as one, of at most [`LIST_MAX`] entries.
///
/// # Errors
/// As [`Pages::next`]; [`StoreError::Refused`] for one with more entries.
pub async fn list_all(store: &dyn ObjectStore, dir: &str, depth: Depth) -> Result<Page, StoreError> {
    let mut all = Page::default();
    let mut pages = Pages::new(store, dir, depth);
    while let Some(page) = pages.next().await? {
        all.objects.extend(page.objects);
        all.dirs.extend(page.dirs);
        if all.objects.len() + all.dirs.len() > LIST_MAX {
            return Err(endless(dir, &format!("there are more than {LIST_MAX} entries")));
        }
    }
    Ok(all)
}

/// Checks that a key obeys the rules at [`ObjectStore`].
///
/// # Errors
/// [`StoreError::InvalidKey`] naming the rule.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    let bad = |why| Err(StoreError::InvalidKey { key: key.to_owned(), why });
    if key.is_empty() {
        return bad("it is empty");
    }
    if key.len() > 1024 {
        return bad("it is longer than 1024 bytes");
    }
    for part in key.split('/') {
        if part.is_empty() {
            return bad("a part of it is empty");
        }
        if part.starts_with('.') {
            return bad("a part of it begins with a dot");
        }
        if part.contains('\0') {
            return bad("it contains a NUL");
        }
    }
    Ok(())
}

/// Checks a directory to list: `""`, or a key and `/`.
///
/// # Errors
/// [`StoreError::InvalidKey`].
pub fn check_dir(dir: &str) -> Result<(), StoreError> {
    match dir.strip_suffix('/') {
        Some(key) => check_key(key),
        None if dir.is_empty() => Ok(()),
        None => Err(StoreError::InvalidKey { key: dir.to_owned(), why: "a directory ends in /" }),
    }
}

#[async_trait]
impl<S: ObjectStore + ?Sized> ObjectStore for std::sync::Arc<S> {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        (**self).put(key, data).await
    }
    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        (**self).put_if_absent(key, data).await
    }
    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        (**self).put_stream(key, data).await
    }
    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        (**self).get(key, limit).await
    }
    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        (**self).get_range(key, range).await
    }
    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        (**self).head(key).await
    }
    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        (**self).list(dir, depth, page).await
    }
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        (**self).delete(keys).await
    }
    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        (**self).sweep(dir, older_than).await
    }
}
