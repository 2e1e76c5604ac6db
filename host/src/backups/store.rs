//! From an URL to a store, and from a store's errors to those of the service.

use super::error::{backup_error, store_error, word};
use super::secret::Secret;
use crate::config::destinations::{DestinationSettings, Destinations, MAX_COMPRESSION};
use convoy_backup::{BackupError, BackupOptions, Engine, StoreKey, Unencrypted};
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{
    BackupUrl, Destination, DestinationError, LimitedStore, ObjectStore, SCHEMES, StoreError, forms,
};
use convoy_volumes::{Error, Result};
use std::io::ErrorKind as ErrorKindOfIo;
use std::str::FromStr;
use std::sync::Arc;

/// A place for backups, open.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) destination: Destination,
    pub(super) objects: Arc<dyn ObjectStore>,
    settings: DestinationSettings,
}

impl Destinations {
    /// Opens a destination as its settings say; an endpoint that is not empty comes before theirs.
    pub(super) async fn open_at(&self, destination: Destination, endpoint: &str) -> Result<Store> {
        let (settings, bandwidth) = self.of(&destination);
        let mut options = settings.store.clone();
        if !endpoint.is_empty() {
            if !destination.place().scheme.has_setting("endpoint") {
                let error = DestinationError::Endpoint { scheme: destination.scheme().to_owned() };
                return Err(refused(&destination.to_string(), &error));
            }
            options.set("endpoint", endpoint.to_owned());
        }
        let objects = destination.open(&options).await.map_err(store_error)?;
        let objects = match bandwidth {
            Some(bandwidth) => Arc::new(LimitedStore::new(objects, bandwidth)),
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
        destination.place().scheme.credentials(&self.of(&destination).0.store).map_err(store_error)
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
        let BackupError::Store(StoreError::NotFound { key }) = &error else { return backup_error(error) };
        let place = &self.destination;
        let is_backup = |backup: &&str| key.ends_with(&format!("/backup_{backup}.cfg"));
        let plain = match backup.filter(is_backup) {
            Some(backup) => format!("there is no backup {backup} of volume {volume} at {place}"),
            None if key.ends_with("/volume.cfg") => {
                format!("there are no backups of volume {volume} at {place}")
            }
            None => return backup_error(error),
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
                "make room there and run it again; until then what was written lies there, and `convoy \
                 backup \
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
        Ok(Some(engine.new_key(Arc::clone(&self.objects), &source).await.map_err(backup_error)?))
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
            Some(secret) if engine.has_keys(Arc::clone(&objects)).await.map_err(backup_error)? => {
                Some(engine.unlock(objects, &secret.read().await?).await.map_err(backup_error)?)
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
