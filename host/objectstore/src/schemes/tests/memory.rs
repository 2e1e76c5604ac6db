//! `memory://name/path/`: a store for tests of the registry. It is whole and small, as an example.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::schemes::{Abilities, Location, Scheme, SettingKind, StoreOptions, StoreSetting};
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome, check_dir, check_key};
use crate::urls::{DestinationError, unescape};

/// Objects of all stores, by name and path of the store and by key.
static OBJECTS: LazyLock<Mutex<BTreeMap<String, (Bytes, SystemTime)>>> = LazyLock::new(Mutex::default);

/// See the [module](self).
#[derive(Debug)]
pub(in crate::schemes) struct Memory;

#[async_trait]
impl Scheme for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn form(&self) -> &'static str {
        "memory://name/path/"
    }

    fn parse(&'static self, rest: &str) -> Result<Location, DestinationError> {
        match rest.split_once('/') {
            Some((name, path)) if !name.is_empty() => {
                // With a slash at its end: what is below `a/` is not below `ab/`.
                let path = match unescape(path)?.trim_matches('/') {
                    "" => String::new(),
                    path => format!("{path}/"),
                };
                Ok(Location { scheme: self, host: name.to_owned(), region: None, path })
            }
            _ => Err(DestinationError::Form { message: "a memory has a name", hint: "" }),
        }
    }

    fn settings(&self) -> &'static [StoreSetting] {
        &[StoreSetting { key: "label", kind: SettingKind::Text, doc: "what a probe says" }]
    }

    fn abilities(&self) -> Abilities {
        Abilities { create_if_absent: true, ranges: true, ordered_lists: true, locks: false, versions: false }
    }

    fn admits(&self, named: &str, asked: &str) -> bool {
        asked.starts_with(named)
    }

    async fn open(&self, at: &Location, _: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Ok(Arc::new(MemoryStore { prefix: format!("{}/{}", at.host, at.path) }))
    }

    fn probe(&self, _: &Location, options: &StoreOptions) -> Result<String, StoreError> {
        Ok(format!("a memory with the label {}", options.get("label").unwrap_or_default()))
    }
}

/// A part of the memory.
#[derive(Debug)]
struct MemoryStore {
    prefix: String,
}

impl MemoryStore {
    fn key(&self, key: &str) -> Result<String, StoreError> {
        check_key(key)?;
        Ok(format!("{}{key}", self.prefix))
    }

    fn object(&self, key: &str) -> Result<(Bytes, SystemTime), StoreError> {
        let found = OBJECTS.lock().get(&self.key(key)?).cloned();
        found.ok_or_else(|| StoreError::NotFound { key: key.to_owned() })
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        OBJECTS.lock().insert(self.key(key)?, (data, SystemTime::now()));
        Ok(())
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        let key = self.key(key)?;
        let mut objects = OBJECTS.lock();
        if objects.contains_key(&key) {
            return Ok(PutOutcome::Exists);
        }
        objects.insert(key, (data, SystemTime::now()));
        Ok(PutOutcome::Created)
    }

    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        let data: BytesMut = data.try_collect::<Vec<_>>().await?.into_iter().flatten().collect();
        let size = data.len() as u64;
        self.put(key, data.freeze()).await.map(|()| size)
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        let (data, _) = self.object(key)?;
        let size = data.len() as u64;
        if size > limit { Err(StoreError::TooLarge { key: key.to_owned(), size, limit }) } else { Ok(data) }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let (data, _) = self.object(key)?;
        let (start, end) = (range.start.min(data.len() as u64), range.end.min(data.len() as u64));
        if end < range.end {
            let (expected, found) = (range.end - range.start, end - start);
            return Err(StoreError::Truncated { key: key.to_owned(), expected, found });
        }
        let bytes = data.len().saturating_sub(usize::try_from(start).unwrap_or(usize::MAX));
        Ok(data.slice(data.len() - bytes..).split_to(usize::try_from(end - start).unwrap_or(bytes)))
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        let (data, modified) = self.object(key)?;
        Ok(ObjectInfo { key: key.to_owned(), size: data.len() as u64, modified })
    }

    async fn list(&self, dir: &str, depth: Depth, _: Option<&str>) -> Result<Page, StoreError> {
        check_dir(dir)?;
        let (mut page, mut dirs) = (Page::default(), BTreeSet::new());
        for (key, (data, modified)) in OBJECTS.lock().iter() {
            let Some(key) = key.strip_prefix(&self.prefix) else { continue };
            let Some(below) = key.strip_prefix(dir) else { continue };
            match below.split_once('/') {
                Some((name, _)) if depth == Depth::One => _ = dirs.insert(format!("{dir}{name}/")),
                _ => page.objects.push(ObjectInfo {
                    key: key.to_owned(),
                    size: data.len() as u64,
                    modified: *modified,
                }),
            }
        }
        page.dirs = dirs.into_iter().collect();
        Ok(page)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            OBJECTS.lock().remove(&self.key(key)?);
        }
        Ok(())
    }

    async fn sweep(&self, _: &str, _: Duration) -> Result<u64, StoreError> {
        Ok(0)
    }
}
