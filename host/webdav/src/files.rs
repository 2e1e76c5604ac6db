//! A view as `dav-server` wants file systems. The calls of a view block: so many threads make them.
//!
//! WebDAV knows files and directories. The link to the newest backup is shown as the directory that it leads to;
//! other links, devices, pipes and sockets are left out.

use std::io::SeekFrom;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use convoy_backup::{BackupError, BackupResult};
use convoy_mount::{Cursor, Found, OpenFile, Place, View, target};
use convoy_tree::{Kind, Timestamp};
use dav_server::davpath::DavPath;
use dav_server::fs::{
    DavDirEntry, DavFile, DavFileSystem, DavMetaData, FsError, FsFuture, FsResult, FsStream, OpenOptions,
    ReadDirMeta,
};
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::Semaphore;

/// Calls that are made at the same time.
const CALLS: usize = 16;

/// Entries that are read at once.
const PAGE: usize = 128;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Files {
    view: Arc<View>,
    calls: Arc<Semaphore>,
}

impl Files {
    pub(crate) fn new(view: Arc<View>) -> Self {
        Self { view, calls: Arc::new(Semaphore::new(CALLS)) }
    }

    /// Makes a call on a thread that may wait.
    async fn call<T: Send + 'static>(
        &self,
        name: String,
        call: impl FnOnce(&View) -> BackupResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let turn = Arc::clone(&self.calls).acquire_owned().await.map_err(|_| FsError::GeneralFailure)?;
        let view = Arc::clone(&self.view);
        let made = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            call(&view)
        });
        match made.await {
            Ok(made) => made.map_err(|error| failed(&error, &name)),
            Err(_) => Err(FsError::GeneralFailure),
        }
    }

    /// What a request names.
    async fn find(&self, path: &DavPath) -> FsResult<Found> {
        let bytes = path.as_bytes().to_vec();
        let found = self.call(shown(path), move |view| find(view, &bytes)).await?;
        found.filter(is_shown).ok_or(FsError::NotFound)
    }

    /// The entries of a directory from a cursor on, page by page.
    fn pages(self, directory: Place, name: String) -> FsStream<Box<dyn DavDirEntry>> {
        let pages = stream::try_unfold(Cursor::Number(0), move |from| {
            let (files, directory, name) = (self.clone(), directory.clone(), name.clone());
            async move {
                if from == Cursor::End {
                    return Ok(None);
                }
                let page = files.call(name, move |view| {
                    let (entries, next) = view.list(&directory, &from, PAGE)?;
                    let followed = entries.into_iter().map(|(name, found)| Ok((name, follow(view, found)?)));
                    Ok((followed.collect::<BackupResult<Vec<_>>>()?, next))
                });
                page.await.map(Some)
            }
        });
        let entries = pages.map_ok(|page| {
            let shown = page.into_iter().filter(|(_, found)| is_shown(found));
            let entry = |(name, found): (Vec<u8>, Found)| {
                Box::new(FileEntry { name, metadata: Metadata::of(&found) }) as Box<dyn DavDirEntry>
            };
            stream::iter(shown.map(entry).map(Ok).collect::<Vec<FsResult<_>>>())
        });
        entries.try_flatten().boxed()
    }
}

/// What clients are told of an error; people find it in the log.
fn failed(error: &BackupError, name: &str) -> FsError {
    match error {
        BackupError::NoPath { .. } => FsError::NotFound,
        BackupError::NotDirectory { .. } | BackupError::NotFile { .. } => FsError::Forbidden,
        _ => {
            tracing::warn!(path = name, %error, "cannot read from a backup");
            FsError::GeneralFailure
        }
    }
}

/// Walks from the root. A slash too many means nothing.
fn find(view: &View, path: &[u8]) -> BackupResult<Option<Found>> {
    let mut found = view.look(&view.top())?;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        if !found.entry.is_dir() {
            return Ok(None);
        }
        match view.lookup(&found.place, name)? {
            Some(next) => found = follow(view, next)?,
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

/// Goes from the link to the newest backup to that backup.
fn follow(view: &View, found: Found) -> BackupResult<Found> {
    let Place::Latest(volume) = found.place else { return Ok(found) };
    let name = target(&found.entry).unwrap_or_default();
    Ok(view.lookup(&Place::Volume(volume), name)?.unwrap_or(found))
}

fn is_shown(found: &Found) -> bool {
    matches!(found.entry.kind, Kind::File | Kind::Dir)
}

/// A path for messages.
fn shown(path: &DavPath) -> String {
    path.as_url_string()
}

/// What WebDAV tells of a file.
#[derive(Debug, Clone)]
struct Metadata {
    size: u64,
    is_dir: bool,
    modified: SystemTime,
}

impl Metadata {
    fn of(found: &Found) -> Self {
        let entry = &found.entry;
        let size = if entry.is_file() { entry.size } else { 0 };
        Self { size, is_dir: entry.is_dir(), modified: time(entry.mtime) }
    }
}

/// HTTP has no times before 1970.
fn time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(time.sec).unwrap_or(0));
    let whole = UNIX_EPOCH.checked_add(seconds).filter(|_| time.sec <= LAST);
    whole.unwrap_or(UNIX_EPOCH) + Duration::from_nanos(time.nsec.into())
}

/// The last second of the year 9999, which is the last that a header of HTTP can tell.
const LAST: i64 = 253_402_300_799;

impl DavMetaData for Metadata {
    fn len(&self) -> u64 {
        self.size
    }

    fn modified(&self) -> FsResult<SystemTime> {
        Ok(self.modified)
    }

    fn is_dir(&self) -> bool {
        self.is_dir
    }
}

#[derive(Debug)]
struct FileEntry {
    name: Vec<u8>,
    metadata: Metadata,
}

impl DavDirEntry for FileEntry {
    fn name(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn metadata(&'_ self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let metadata: Box<dyn DavMetaData> = Box::new(self.metadata.clone());
        Box::pin(async move { Ok(metadata) })
    }
}

/// A file that is being read.
#[derive(Debug)]
struct Reading {
    files: Files,
    file: Arc<OpenFile>,
    metadata: Metadata,
    name: String,
    at: u64,
}

impl DavFile for Reading {
    fn metadata(&'_ mut self) -> FsFuture<'_, Box<dyn DavMetaData>> {
        let metadata: Box<dyn DavMetaData> = Box::new(self.metadata.clone());
        Box::pin(async move { Ok(metadata) })
    }

    fn write_buf(&'_ mut self, _: Box<dyn Buf + Send>) -> FsFuture<'_, ()> {
        Box::pin(async { Err(FsError::Forbidden) })
    }

    fn write_bytes(&'_ mut self, _: Bytes) -> FsFuture<'_, ()> {
        Box::pin(async { Err(FsError::Forbidden) })
    }

    fn read_bytes(&'_ mut self, count: usize) -> FsFuture<'_, Bytes> {
        Box::pin(async move {
            let (file, at) = (Arc::clone(&self.file), self.at);
            let read = self.files.call(self.name.clone(), move |_| file.data.read_at(at, count)).await?;
            self.at = self.at.saturating_add(read.len() as u64);
            Ok(read)
        })
    }

    fn seek(&'_ mut self, to: SeekFrom) -> FsFuture<'_, u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.metadata.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        Box::pin(async move {
            self.at = at.ok_or(FsError::GeneralFailure)?;
            Ok(self.at)
        })
    }

    fn flush(&'_ mut self) -> FsFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

impl DavFileSystem for Files {
    fn open<'a>(&'a self, path: &'a DavPath, options: OpenOptions) -> FsFuture<'a, Box<dyn DavFile>> {
        Box::pin(async move {
            if options.write || options.append || options.create || options.truncate {
                return Err(FsError::Forbidden);
            }
            let (found, name) = (self.find(path).await?, shown(path));
            let metadata = Metadata::of(&found);
            let file = self.call(name.clone(), move |view| view.open(&found.place)).await?;
            let file = Arc::new(file);
            Ok(Box::new(Reading { files: self.clone(), file, metadata, name, at: 0 }) as Box<dyn DavFile>)
        })
    }

    fn read_dir<'a>(
        &'a self,
        path: &'a DavPath,
        _: ReadDirMeta,
    ) -> FsFuture<'a, FsStream<Box<dyn DavDirEntry>>> {
        Box::pin(async move {
            let found = self.find(path).await?;
            if !found.entry.is_dir() {
                return Err(FsError::Forbidden);
            }
            Ok(self.clone().pages(found.place, shown(path)))
        })
    }

    fn metadata<'a>(&'a self, path: &'a DavPath) -> FsFuture<'a, Box<dyn DavMetaData>> {
        Box::pin(async move {
            let metadata = Metadata::of(&self.find(path).await?);
            Ok(Box::new(metadata) as Box<dyn DavMetaData>)
        })
    }
}
