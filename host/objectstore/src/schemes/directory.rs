//! `vfs:///dir/`: a directory. The name is that of the driver which kept backups there in convoy 0.5.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::definition::{Abilities, Location, Scheme, StoreOptions};
use crate::directory::DirectoryStore;
use crate::error::StoreError;
use crate::store::ObjectStore;
use crate::urls::{DestinationError, unescape};

#[derive(Debug)]
pub(super) struct Directory;

#[async_trait]
impl Scheme for Directory {
    fn name(&self) -> &'static str {
        "vfs"
    }

    fn form(&self) -> &'static str {
        "vfs:///dir/"
    }

    /// Convoy 0.5 took that, and handed it out in the URLs of backups.
    fn takes_one_slash(&self) -> bool {
        true
    }

    fn parse(&'static self, rest: &str) -> Result<Location, DestinationError> {
        if !rest.starts_with('/') {
            return Err(DestinationError::Form {
                message: "VFS path must follow: vfs:///path/ format",
                hint: "expected vfs:/// and the absolute path of a directory",
            });
        }
        Ok(Location { scheme: self, host: String::new(), region: None, path: unescape(rest)? })
    }

    fn abilities(&self) -> Abilities {
        // Locks of a network file system are as good as its server: none is relied on.
        Abilities { create_if_absent: true, ranges: true, ordered_lists: true, locks: false, versions: false }
    }

    /// A directory itself and none below it: whoever may write below it may plant links there.
    fn admits(&self, named: &str, asked: &str) -> bool {
        Path::new(named) == Path::new(asked)
    }

    async fn open(&self, at: &Location, _: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Ok(Arc::new(DirectoryStore::open(&at.path).await?))
    }

    fn probe(&self, at: &Location, _: &StoreOptions) -> Result<String, StoreError> {
        let is_there = if Path::new(&at.path).is_dir() { "is there" } else { "is not there" };
        Ok(format!("the directory {is_there}"))
    }
}
