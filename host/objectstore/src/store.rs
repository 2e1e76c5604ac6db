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
    /// Its name.
    pub key: String,
    /// Bytes.
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
/// A write is atomic and durable: when it has returned, the whole object is safe; before, readers see the old one or none.
/// A read returns exactly what was asked for, or an error. All calls may be made at the same time from many tasks.
#[async_trait]
pub trait ObjectStore: Send + Sync + Debug {
    /// Writes an object, in the place of one of that name.
    ///
    /// # Errors
    /// Whatever the store says; the old object is then unchanged, or (network stores, after a time-out) replaced.
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError>;

    /// Writes an object unless there is one of that name. Of many callers one is told [`PutOutcome::Created`].
    ///
    /// # Errors
    /// As [`ObjectStore::put`].
    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError>;

    /// Writes an object of unknown size, holding no more of it in memory than a part. Gives its size in bytes.
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
    ///
    /// # Errors
    /// Whatever the store says.
    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError>;

    /// Deletes objects; those that are not there are no error.
    ///
    /// # Errors
    /// Whatever the store says; some may be deleted then.
    async fn delete(&self, keys: &[String]) -> Result<(), StoreError>;

    /// Removes what writers that died have left below a directory and which no listing shows. Gives how many.
    ///
    /// # Errors
    /// Whatever the store says.
    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError>;
}

/// Every page of a listing as one.
///
/// # Errors
/// As [`ObjectStore::list`].
pub async fn list_all(store: &dyn ObjectStore, dir: &str, depth: Depth) -> Result<Page, StoreError> {
    let mut all = Page::default();
    let mut from: Option<String> = None;
    loop {
        let page = store.list(dir, depth, from.as_deref()).await?;
        all.objects.extend(page.objects);
        all.dirs.extend(page.dirs);
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(all),
        }
    }
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
