//! From an URL to a store, and from a store's errors to those of the service.

use super::secret::Secret;
use crate::config::destinations::{DestinationSettings, Destinations, MAX_COMPRESSION};
use crate::volumes::error::{Error, Result};
use convoy_backup::{BackupError, BackupOptions, Engine, StoreKey, Unencrypted};
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{
    BackupUrl, Destination, DestinationError, LimitedStore, ObjectStore, SCHEMES, StoreError, forms,
};
use std::io::ErrorKind as ErrorKindOfIo;
use std::str::FromStr;
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
        let mut options = settings.store.clone();
        if !endpoint.is_empty() {
            if !destination.place().scheme.has_setting("endpoint") {
                let error = DestinationError::Endpoint { scheme: destination.scheme().to_owned() };
                return Err(refused(&destination.to_string(), &error));
            }
            options.set("endpoint", endpoint.to_owned());
        }
        let objects = destination.open(&options).await?;
        let objects = match road {
            Some(road) => Arc::new(LimitedStore::new(objects, road)),
            None => objects,
        };
        Ok(Store { destination, objects, settings })
    }

    /// Tells where the credentials of a destination come from, and nothing of them; `None` where none are
    /// used.
    ///
    /// # Errors
    /// For an URL that is none, and for credentials that cannot be used.
    pub fn credentials(&self, url: &str) -> Result<Option<String>> {
        let destination: Destination = parsed(url)?;
        Ok(destination.place().scheme.credentials(&self.of(&destination).0.store)?)
    }

    /// Whether the settings of a destination name a key.
    pub(super) fn names_key(&self, url: &str) -> Result<bool> {
        Ok(Secret::of(&self.of(&parsed::<Destination>(url)?).0).is_some())
    }

    /// Parses and opens a destination.
    pub(super) async fn open(&self, url: &str, endpoint: &str) -> Result<Store> {
        self.open_at(parsed::<Destination>(url)?, endpoint).await
    }

    /// Parses a backup's URL and opens where it is.
    pub(super) async fn open_backup(&self, url: &str, endpoint: &str) -> Result<(Store, BackupUrl)> {
        let url: BackupUrl = parsed(url)?;
        Ok((self.open_at(url.destination.clone(), endpoint).await?, url))
    }
}

impl Store {
    /// Names the volume or backup that is not there, where the engine names an object.
    pub(super) fn missing(&self, error: BackupError, volume: &str, backup: Option<&str>) -> Error {
        let BackupError::Store(StoreError::NotFound { key }) = &error else { return error.into() };
        let place = &self.destination;
        let is_backup = |backup: &&str| key.ends_with(&format!("/backup_{backup}.cfg"));
        let plain = match backup.filter(is_backup) {
            Some(backup) => format!("there is no backup {backup} of volume {volume} at {place}"),
            None if key.ends_with("/volume.cfg") => {
                format!("there are no backups of volume {volume} at {place}")
            }
            None => return error.into(),
        };
        let hint = format!("`convoy backup list {}` shows what is there", word(&place.to_string()));
        Error::InOldWords { kind: ErrorKind::NotFound, message: error.to_string(), plain, hint }
    }

    /// Says that the destination is full, if that is what ended a backup, and what is left there.
    pub(super) fn full(&self, error: &BackupError) -> Option<Error> {
        let BackupError::Store(StoreError::Io { source, .. }) = error else { return None };
        if !matches!(source.kind(), ErrorKindOfIo::StorageFull | ErrorKindOfIo::QuotaExceeded) {
            return None;
        }
        let place = self.destination.to_string();
        Some(Error::Backup {
            kind: convoy_driver_sdk::DriverError::io("", source).kind,
            message: format!("no room is left at {place}: no backup was made ({error})"),
            hint: Some(format!(
                "make room there and run it again; until then what was written lies there, and `convoy backup \
                 prune {}` removes it",
                word(&place)
            )),
        })
    }

    /// The level of zstd for new backups: the one that was asked for, else that of the settings, else the
    /// engine's.
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

    /// The store's key for new backups, opened with what a request or the settings name, made if the store
    /// has none;
    /// `None` if nothing is named.
    pub(super) async fn key_to_write(
        &self,
        engine: &Engine,
        asked: Option<Secret>,
    ) -> Result<Option<StoreKey>> {
        let Some(secret) = self.secret(asked) else { return Ok(None) };
        let source = secret.read().await?;
        Ok(Some(engine.new_key(Arc::clone(&self.objects), &source).await?))
    }

    /// The store's key for what is there, and whether backups that are not encrypted are read. They are not
    /// where a key is named, unless a person allows it: that the store has no keys is no reason, since who
    /// can write to it can remove them.
    pub(super) async fn key_to_read(
        &self,
        engine: &Engine,
        asked: Option<Secret>,
        allow_unencrypted: bool,
    ) -> Result<(Option<StoreKey>, Unencrypted)> {
        let secret = self.secret(asked);
        let unencrypted = match (&secret, allow_unencrypted) {
            (_, true) => Unencrypted::Allowed,
            (Some(_), false) => Unencrypted::Refused,
            (None, false) => Unencrypted::RefusedWithKey,
        };
        let objects = Arc::clone(&self.objects);
        let key = match secret {
            Some(secret) if engine.has_keys(Arc::clone(&objects)).await? => {
                Some(engine.unlock(objects, &secret.read().await?).await?)
            }
            _ => None,
        };
        Ok((key, unencrypted))
    }
}

/// Parses the URL of a destination or of a backup.
pub(super) fn parsed<T: FromStr<Err = DestinationError>>(url: &str) -> Result<T> {
    url.parse().map_err(|error| refused(url, &error))
}

/// What is wrong with an URL: to scripts as 0.5 said it, to people with what was given and what to give.
fn refused(url: &str, error: &DestinationError) -> Error {
    let destinations = || format!("destinations are {}", forms(" and "));
    const BACKUPS: &str = "expected <destination>?backup=<backup>&volume=<volume>, which `convoy backup list \
                           <destination>` shows";
    let is_backup_name = url.starts_with("backup-") && !url.contains(['/', ':']);
    let no_destination = || format!("{url} is no destination");
    let (plain, hint) = match error {
        DestinationError::Missing => ("no destination is named".to_owned(), destinations()),
        DestinationError::Scheme { .. } | DestinationError::BackupForm { .. } if is_backup_name => {
            (format!("{url} is the name of a backup and does not say where it is"), BACKUPS.to_owned())
        }
        DestinationError::Scheme { .. } if url.starts_with('/') => {
            let of_paths = SCHEMES.iter().find(|scheme| scheme.parse(url).is_ok());
            let meant = of_paths.map(|scheme| format!("say {}://{url}; ", scheme.name()));
            (no_destination(), meant.unwrap_or_default() + &destinations())
        }
        DestinationError::Form { hint, .. } if !hint.is_empty() => (no_destination(), (*hint).to_owned()),
        DestinationError::Scheme { .. } | DestinationError::Form { .. } => (no_destination(), destinations()),
        DestinationError::BackupForm { .. } if !url.contains('?') => {
            (format!("{url} is a destination and names no backup"), BACKUPS.to_owned())
        }
        DestinationError::BackupForm { .. } => (format!("{url} names no backup"), BACKUPS.to_owned()),
        DestinationError::Endpoint { .. } => (
            format!("an S3 endpoint is named, and {url} is not in S3"),
            "leave --s3-endpoint out (Endpoint in the API)".to_owned(),
        ),
        other => {
            let kind = ErrorKind::InvalidArgument;
            return Error::Backup { kind, message: other.to_string(), hint: None };
        }
    };
    let message = match error {
        // As always; what was expected is the hint.
        DestinationError::BackupForm { backup, volume } => {
            format!("Invalid name parsed, got {backup} and {volume}")
        }
        other => other.to_string(),
    };
    Error::InOldWords { kind: ErrorKind::InvalidArgument, message, plain, hint }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let (kind, message) = (kind_of_store_error(&error), error.to_string());
        match without_answer(&error) {
            Some(plain) => Self::Server { kind, message, plain },
            None => {
                let hint = match &error {
                    StoreError::NoDirectory { path } => {
                        Some(format!("check the spelling, or make it: mkdir -p {}", word(path)))
                    }
                    _ => None,
                };
                Self::Backup { kind, message, hint }
            }
        }
    }
}

/// An error that has an answer of a server in it, without that.
fn without_answer(error: &StoreError) -> Option<String> {
    let (op, key, what) = match error {
        StoreError::Denied { op, key, .. } => (op, key, "access was denied"),
        StoreError::Transient { op, key, .. } => (op, key, "the server failed, or could not be reached"),
        StoreError::Refused { op, key, .. } => (op, key, "the server refused it"),
        _ => return None,
    };
    Some(format!("{op} {key}: {what}"))
}

impl From<BackupError> for Error {
    fn from(error: BackupError) -> Self {
        if let BackupError::Store(error) = error {
            return error.into();
        }
        let kind = match &error {
            BackupError::Io { source, .. } => convoy_driver_sdk::DriverError::io("", source).kind,
            BackupError::Losses { .. } => return Self::Losses(error.to_string()),
            BackupError::Cancelled => return Self::Cancelled("the work was cancelled".to_owned()),
            BackupError::Busy { .. } | BackupError::LockLost { .. } | BackupError::KeysBusy { .. } => {
                ErrorKind::Busy
            }
            BackupError::Exists { .. } => ErrorKind::AlreadyExists,
            BackupError::Damaged { .. }
            | BackupError::NotAuthentic { .. }
            | BackupError::KeysGone { .. }
            | BackupError::Memory { .. } => ErrorKind::DataLoss,
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
        StoreError::Denied { .. } | StoreError::NoCredentials { .. } | StoreError::Expired { .. } => {
            ErrorKind::PermissionDenied
        }
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

/// An URL as a shell takes it.
fn word(url: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@".contains(letter);
    if url.chars().all(plain) { url.to_owned() } else { format!("'{}'", url.replace('\'', "'\\''")) }
}
