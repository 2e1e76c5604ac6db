//! From an URL to a store, and from a store's errors to those of the service.

use crate::volumes::error::{Error, Result};
use convoy_backup::{BackupError, Engine, KeySource, StoreKey};
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{
    BackupUrl, Destination, DestinationError, DirectoryStore, ObjectStore, Place, RetryPolicy, RetryStore,
    S3Options, S3Store, StoreError,
};
use std::path::PathBuf;
use std::sync::Arc;

/// A place for backups, open.
pub(super) struct Store {
    pub(super) destination: Destination,
    pub(super) objects: Arc<dyn ObjectStore>,
}

/// Opens a destination.
pub(super) async fn open(destination: Destination, endpoint: &str) -> Result<Store> {
    let objects: Arc<dyn ObjectStore> = match destination.place() {
        Place::Directory { .. } if !endpoint.is_empty() => {
            return Err(DestinationError::Endpoint { scheme: destination.scheme().to_owned() }.into());
        }
        Place::Directory { path } => Arc::new(DirectoryStore::open(path.clone()).await?),
        Place::S3 { bucket, region, prefix } => {
            let endpoint = (!endpoint.is_empty()).then(|| endpoint.to_owned());
            let options = S3Options { endpoint, ..S3Options::default() };
            let bucket = S3Store::open(bucket, region.as_deref(), prefix, &options).await?;
            Arc::new(RetryStore::new(bucket, RetryPolicy::default()))
        }
    };
    Ok(Store { destination, objects })
}

/// Parses and opens a destination.
pub(super) async fn open_destination(url: &str, endpoint: &str) -> Result<Store> {
    open(url.parse::<Destination>()?, endpoint).await
}

/// Parses a backup's URL and opens where it is.
pub(super) async fn open_backup(url: &str, endpoint: &str) -> Result<(Store, BackupUrl)> {
    let url: BackupUrl = url.parse()?;
    Ok((open(url.destination.clone(), endpoint).await?, url))
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Writing,
    Reading,
}

impl Store {
    /// The key in a file, made the store's if it is to write and has none; `None` for no file.
    pub(super) async fn key(&self, engine: &Engine, file: &str, purpose: For) -> Result<Option<StoreKey>> {
        if file.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(file);
        if !path.is_absolute() {
            let text = format!("invalid key file {file:?}: expected an absolute path on the daemon's host");
            return Err(Error::InvalidRequest(text));
        }
        let content = tokio::fs::read(&path).await.map_err(|error| Error::Backup {
            kind: ErrorKind::InvalidArgument,
            message: format!("cannot read the key file {file}: {error}"),
            hint: Some("the file is read by the daemon, on its host".to_owned()),
        })?;
        let source = KeySource::File(content.into());
        let objects = Arc::clone(&self.objects);
        let key = match purpose {
            For::Writing => engine.new_key(objects, &source).await?,
            For::Reading => engine.unlock(objects, &source).await?,
        };
        Ok(Some(key))
    }
}

impl From<DestinationError> for Error {
    fn from(error: DestinationError) -> Self {
        let hint = match &error {
            DestinationError::Scheme { .. } | DestinationError::Missing => {
                "destinations are vfs:///dir/ and s3://bucket@region/path/"
            }
            DestinationError::BackupForm { .. } => "expected <destination>?backup=<backup>&volume=<volume>",
            _ => "",
        };
        let message = match &error {
            // As always; what was expected is the hint.
            DestinationError::BackupForm { backup, volume } => {
                format!("Invalid name parsed, got {backup} and {volume}")
            }
            other => other.to_string(),
        };
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Self::Backup { kind: ErrorKind::InvalidArgument, message, hint }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Backup { kind: kind_of_store_error(&error), message: error.to_string(), hint: None }
    }
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        let kind = match &error {
            BackupError::Store(error) => kind_of_store_error(error),
            BackupError::Io { source, .. } => convoy_driver_sdk::DriverError::io("", source).kind,
            BackupError::Cancelled => return Self::Cancelled("the work was cancelled".to_owned()),
            BackupError::Busy { .. } | BackupError::LockLost { .. } => ErrorKind::Busy,
            BackupError::Exists { .. } => ErrorKind::AlreadyExists,
            BackupError::Damaged { .. } => ErrorKind::DataLoss,
            BackupError::Tree(_) | BackupError::SourceChanged { .. } => ErrorKind::Internal,
            BackupError::Version { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidArgument,
        };
        let hint = match &error {
            BackupError::KeyMissing { .. } => Some("--encryption-key-file names it".to_owned()),
            _ => None,
        };
        Self::Backup { kind, message: error.to_string(), hint }
    }
}

fn kind_of_store_error(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::NotFound { .. } | StoreError::NoDirectory { .. } | StoreError::NoBucket { .. } => {
            ErrorKind::NotFound
        }
        StoreError::Denied { .. } => ErrorKind::PermissionDenied,
        StoreError::Transient { .. } | StoreError::Timeout { .. } | StoreError::Truncated { .. } => {
            ErrorKind::Unavailable
        }
        StoreError::TooLarge { .. } => ErrorKind::DataLoss,
        StoreError::InvalidKey { .. } => ErrorKind::InvalidArgument,
        StoreError::Io { source, .. } => convoy_driver_sdk::DriverError::io("", source).kind,
        _ => ErrorKind::Internal,
    }
}
