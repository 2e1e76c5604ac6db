//! From the errors of stores and of the engine to those of the service.

use convoy_backup::BackupError;
use convoy_driver_sdk::ErrorKind;
use convoy_mount::MountError;
use convoy_objectstore::StoreError;
use convoy_volumes::Error;

/// Says what a store failed to do.
pub(super) fn store_error(error: StoreError) -> Error {
    let (kind, message) = (kind_of_store_error(&error), error.to_string());
    match without_answer(&error) {
        Some(plain) => Error::Server { kind, message, plain },
        None => {
            let hint = match &error {
                StoreError::NoDirectory { path } => {
                    Some(format!("check the spelling, or make it: mkdir -p {}", word(path)))
                }
                _ => None,
            };
            Error::Backup { kind, message, hint }
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

/// Says why the files on a device cannot be read.
pub(super) fn mount_error(error: MountError) -> Error {
    let kind = match error {
        MountError::Open(error) => return backup_error(error),
        MountError::Look(error) => return error.into(),
        MountError::Fuse(_)
        | MountError::Loop(_)
        | MountError::Keeper(_)
        | MountError::NotFileSystem { .. } => ErrorKind::Unsupported,
        MountError::Mount { .. } => ErrorKind::DataLoss,
    };
    Error::Backup { kind, message: error.to_string(), hint: None }
}

/// Says what the engine failed to do.
pub(crate) fn backup_error(error: BackupError) -> Error {
    if let BackupError::Store(error) = error {
        return store_error(error);
    }
    let message = error.to_string();
    if let BackupError::InFile { path, source } = error {
        let inner = backup_error(*source);
        return match inner {
            Error::Server { kind, plain, .. } => {
                Error::Server { kind, message, plain: format!("cannot read /{}: {plain}", path.shown()) }
            }
            inner => Error::Backup { kind: inner.kind(), message, hint: inner.hint() },
        };
    }
    let kind = match &error {
        BackupError::Incomplete { .. } => ErrorKind::DataLoss,
        BackupError::Io { source, .. } => convoy_driver_sdk::DriverError::io("", source).kind,
        BackupError::Losses { .. } => return Error::Losses(error.to_string()),
        BackupError::Cancelled => return Error::Cancelled("the work was cancelled".to_owned()),
        BackupError::Busy { .. } | BackupError::LockLost { .. } | BackupError::KeysBusy { .. } => {
            ErrorKind::Busy
        }
        BackupError::Exists { .. } => ErrorKind::AlreadyExists,
        BackupError::Pinned { .. } => ErrorKind::InUse,
        BackupError::NoPath { .. } => ErrorKind::NotFound,
        BackupError::NotBrowsable { .. } => ErrorKind::Unsupported,
        BackupError::NoRoom { .. } => ErrorKind::Exhausted,
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
    Error::Backup { kind, message, hint }
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

/// Writes a URL as a shell takes it.
pub(super) fn word(url: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:@".contains(letter);
    if url.chars().all(plain) { url.to_owned() } else { format!("'{}'", url.replace('\'', "'\\''")) }
}
