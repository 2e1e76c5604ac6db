//! A store in a directory, local or NFS: `vfs:///dir/`.
//!
//! A write goes to a hidden file beside its target, is synced, renamed over it, and the directory is synced.
//! Nothing depends on locks or on what another client has cached, so several hosts can share the directory.
//! Directories are made 0700 and files 0644, as convoy 0.5 did, and directories that become empty are
//! removed. One that does not answer is given up after a while, and used again when it does: see `patience`.
//! Nothing below the directory is believed: see `beneath`.

mod beneath;
mod first;
mod list;
mod patience;
mod write;

use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::error::StoreError;
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome, check_dir, check_key};
use beneath::Root;
use patience::Watch;

/// Objects deleted in one call, which has a time limit: as many as in one request to S3.
const DELETED_AT_ONCE: usize = 1000;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct DirectoryStore {
    root: PathBuf,
    watch: Arc<Watch>,
    /// How long a call may take.
    patience: Duration,
}

impl DirectoryStore {
    /// Opens a store in a directory that is there.
    ///
    /// # Errors
    /// [`StoreError::NoDirectory`]; [`StoreError::Unresponsive`].
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let root = root.into();
        let (watch, path) = (Watch::of(&root), root.clone());
        watch.run("look up", "", patience::LOOK, move || Root::open(&path)).await?;
        Ok(Self { root, watch, patience: patience::CALL })
    }

    #[cfg(test)]
    fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Runs a call that blocks, off the async threads.
    async fn blocking<T, F>(&self, op: &'static str, key: &str, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Root, &str) -> Result<T, StoreError> + Send + 'static,
    {
        let (root, owned) = (self.root.clone(), key.to_owned());
        self.watch.run(op, key, self.patience, move || call(&Root::open(&root)?, &owned)).await
    }
}

fn info(key: &str, stat: &rustix::fs::Stat) -> ObjectInfo {
    ObjectInfo {
        key: key.to_owned(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: modified(stat),
    }
}

/// When a file was written, by the file system's clock.
fn modified(stat: &rustix::fs::Stat) -> SystemTime {
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    let since = u64::try_from(stat.st_mtime).ok().map(|seconds| Duration::new(seconds, nanos));
    since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Reads all of an object, if it is no larger than `limit`.
fn read_whole(root: &Root, key: &str, limit: u64) -> Result<Bytes, StoreError> {
    let (file, size) = root.file("read", key)?;
    if size > limit {
        return Err(StoreError::TooLarge { key: key.to_owned(), size, limit });
    }
    let mut data = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // One byte past the limit tells a file that grew meanwhile.
    file.take(limit + 1).read_to_end(&mut data).map_err(|e| StoreError::from_io("read", key, e))?;
    let found = data.len() as u64;
    if found > limit {
        return Err(StoreError::TooLarge { key: key.to_owned(), size: found, limit });
    }
    Ok(data.into())
}

fn read_range(root: &Root, key: &str, range: &Range<u64>) -> Result<Bytes, StoreError> {
    let (file, size) = root.file("read", key)?;
    let expected = range.end.saturating_sub(range.start);
    let truncated = |found| StoreError::Truncated { key: key.to_owned(), expected, found };
    if range.end > size {
        return Err(truncated(size.saturating_sub(range.start).min(expected)));
    }
    let len = usize::try_from(expected).map_err(|_| StoreError::TooLarge {
        key: key.to_owned(),
        size: expected,
        limit: usize::MAX as u64,
    })?;
    let mut data = vec![0; len];
    match file.read_exact_at(&mut data, range.start) {
        Ok(()) => Ok(data.into()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Err(truncated(0)),
        Err(e) => Err(StoreError::from_io("read", key, e)),
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        self.blocking("write", key, move |root, key| write::put(root, key, &data)).await
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        check_key(key)?;
        self.blocking("write", key, move |root, key| write::put_if_absent(root, key, &data)).await
    }

    async fn put_stream(&self, key: &str, mut data: ByteStream) -> Result<u64, StoreError> {
        check_key(key)?;
        let mut partial = self.blocking("write", key, write::Partial::create).await?;
        while let Some(bytes) = data.next().await {
            let bytes = bytes?;
            partial = self
                .blocking("write", key, move |_, key| {
                    partial.append(key, &bytes)?;
                    Ok(partial)
                })
                .await?;
        }
        self.blocking("write", key, |_, key| partial.finish(key)).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        check_key(key)?;
        self.blocking("read", key, move |root, key| read_whole(root, key, limit)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_key(key)?;
        self.blocking("read", key, move |root, key| read_range(root, key, &range)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        check_key(key)?;
        self.blocking("look up", key, |root, key| Ok(info(key, &root.look("look up", key)?))).await
    }

    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        check_dir(dir)?;
        let after = page.map(str::to_owned);
        self.blocking("list", dir, move |root, dir| list::page(root, dir, depth, after.as_deref())).await
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            check_key(key)?;
        }
        for some in keys.chunks(DELETED_AT_ONCE) {
            let some = some.to_vec();
            self.blocking("delete", "", move |root, _| write::delete(root, &some)).await?;
        }
        Ok(())
    }

    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        check_dir(dir)?;
        self.blocking("sweep", dir, move |root, dir| list::sweep(root, dir, older_than)).await
    }
}
