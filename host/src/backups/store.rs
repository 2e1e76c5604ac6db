//! From an URL to a store, and from a store's errors to those of the service.

use super::secret::Secret;
use super::settings::{DestinationSettings, Destinations, MAX_COMPRESSION};
use crate::volumes::error::{Error, Result};
use convoy_backup::{BackupError, BackupOptions, Engine, StoreKey};
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{
    BackupUrl, Destination, DestinationError, DirectoryStore, LimitedStore, ObjectStore, Place, RetryPolicy,
    RetryStore, S3Options, S3Store, StoreError,
};
use std::sync::Arc;

/// A place for backups, open.
pub(super) struct Store {
    pub(super) destination: Destination,
    pub(super) objects: Arc<dyn ObjectStore>,
    settings: DestinationSettings,
}

impl Destinations {
    /// Opens a destination as its settings say; an endpoint that is not empty comes before theirs.
    pub(super) async fn open_at(&self, destination: Destination, endpoint: &str) -> Result<Store> {
        let (settings, road) = self.of(&destination);
        let objects: Arc<dyn ObjectStore> = match destination.place() {
            Place::Directory { .. } if !endpoint.is_empty() => {
                return Err(DestinationError::Endpoint { scheme: destination.scheme().to_owned() }.into());
            }
            Place::Directory { path } => Arc::new(DirectoryStore::open(path.clone()).await?),
            Place::S3 { bucket, region, prefix } => {
                let endpoint = Some(endpoint).filter(|endpoint| !endpoint.is_empty()).map(str::to_owned);
                let options = S3Options {
                    endpoint: endpoint.or_else(|| settings.endpoint.clone()),
                    path_style: settings.path_style,
                    ca_bundle: settings.ca_file.clone(),
                    profile: settings.profile.clone(),
                    credentials_file: settings.credentials_file.clone(),
                    proxy: settings.proxy.clone(),
                };
                let region = region.as_ref().or(settings.region.as_ref()).map(String::as_str);
                let bucket = S3Store::open(bucket, region, prefix, &options).await?;
                Arc::new(RetryStore::new(bucket, RetryPolicy::default()))
            }
        };
        let objects = match road {
            Some(road) => Arc::new(LimitedStore::new(objects, road)),
            None => objects,
        };
        Ok(Store { destination, objects, settings })
    }

    /// Parses and opens a destination.
    pub(super) async fn open(&self, url: &str, endpoint: &str) -> Result<Store> {
        self.open_at(url.parse::<Destination>()?, endpoint).await
    }

    /// Parses a backup's URL and opens where it is.
    pub(super) async fn open_backup(&self, url: &str, endpoint: &str) -> Result<(Store, BackupUrl)> {
        let url: BackupUrl = url.parse()?;
        Ok((self.open_at(url.destination.clone(), endpoint).await?, url))
    }
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Writing,
    Reading,
}

impl Store {
    /// The level of zstd for new backups: the one that was asked for, else that of the settings, else the engine's.
    pub(super) fn level(&self, asked: Option<u8>) -> Result<Option<i32>> {
        match asked.or(self.settings.compression) {
            None => Ok(BackupOptions::default().level),
            Some(0) => Ok(None),
            Some(level) if level <= MAX_COMPRESSION => Ok(Some(level.into())),
            Some(level) => Err(Error::InvalidRequest(format!(
                "invalid compression {level}: expected a level from 1 to {MAX_COMPRESSION}, or 0 for none"
            ))),
        }
    }

    /// What opens its encrypted backups: what a request names, else what the settings do.
    pub(super) fn secret(&self, asked: Option<Secret>) -> Option<Secret> {
        asked.or_else(|| Secret::of(&self.settings))
    }

    /// The store's key, opened with what a request or the settings name, made if it is to write and has none;
    /// `None` if nothing is named.
    pub(super) async fn key(
        &self,
        engine: &Engine,
        asked: Option<Secret>,
        purpose: For,
    ) -> Result<Option<StoreKey>> {
        let by_settings = asked.is_none();
        let Some(secret) = self.secret(asked) else { return Ok(None) };
        let objects = Arc::clone(&self.objects);
        // Settings are there for whatever comes: a store without encrypted backups is read without a key.
        if by_settings && purpose == For::Reading && !engine.has_keys(Arc::clone(&objects)).await? {
            return Ok(None);
        }
        let source = secret.read().await?;
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
            BackupError::Busy { .. } | BackupError::LockLost { .. } | BackupError::KeysBusy { .. } => {
                ErrorKind::Busy
            }
            BackupError::Exists { .. } => ErrorKind::AlreadyExists,
            BackupError::Damaged { .. } => ErrorKind::DataLoss,
            BackupError::Tree(_) | BackupError::SourceChanged { .. } => ErrorKind::Internal,
            BackupError::Version { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::InvalidArgument,
        };
        let hint = match &error {
            BackupError::KeyMissing { .. } => {
                Some("--encryption-key-file or --passphrase-file names it".to_owned())
            }
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
        StoreError::Unresponsive { .. } => ErrorKind::DeadlineExceeded,
        StoreError::TooLarge { .. } => ErrorKind::DataLoss,
        StoreError::InvalidKey { .. } => ErrorKind::InvalidArgument,
        StoreError::Io { source, .. } => convoy_driver_sdk::DriverError::io("", source).kind,
        _ => ErrorKind::Internal,
    }
}
