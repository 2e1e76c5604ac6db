//! What can go wrong with backups: what was expected, what was found, the way out.

use convoy_objectstore::StoreError;
use convoy_tree::{Losses, RelPath, TreeError};

use crate::look::Few;

/// The result of a backup operation.
pub type BackupResult<T> = Result<T, BackupError>;

/// A failed operation on backups.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum BackupError {
    /// The store failed, or something is not in it: [`StoreError::NotFound`] names the missing object, as 0.5
    /// did.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Reading or writing the tree failed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Reading the source or writing the target failed.
    #[error("cannot {action} {what}: {source}")]
    Io { action: &'static str, what: String, source: std::io::Error },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Somebody else is doing what must not happen at the same time.
    #[error("volume {volume} at this destination is in use: {holder}; try again when it is done")]
    Busy { volume: String, holder: String },
    /// Somebody else is changing the keys of the store.
    #[error("the keys at this destination are being changed ({why}): nothing was changed, run it again")]
    KeysBusy { why: String },
    /// The lock could not be kept for as long as the work took.
    #[error(
        "the lock on volume {volume} at this destination was lost ({why}): nothing was recorded, run it again"
    )]
    LockLost { volume: String, why: String },
    /// A backup of that name is there already.
    #[error("backup {backup} of volume {volume} already exists at this destination: choose another name")]
    Exists { backup: String, volume: String },
    /// An object is not what its name says.
    #[error("{key} is damaged: {why}; other backups may be intact: check with `convoy backup verify`")]
    Damaged { key: String, why: String },
    /// What convoy wrote with a key was changed, or put where it does not belong, by somebody without the
    /// key.
    #[error(
        "{key} is not authentic: {why}; somebody without the key has written there: do not restore it, and look \
         who can write to the destination"
    )]
    NotAuthentic { key: String, why: String },
    /// A key was named, so encrypted backups are expected, and this is none.
    #[error(
        "backup {backup} is {found}, and with a key only what the key vouches for is believed: whoever can write to \
         the destination may have made it. If you know that it is yours: --allow-unencrypted of convoy's own commands accepts it"
    )]
    Unencrypted { backup: String, found: &'static str },
    /// A backup in the clear was to go where encrypted ones are.
    #[error(
        "{place} has encrypted backups, and this one would not be encrypted: name the key, or say --encryption none to \
         store it in the clear all the same"
    )]
    WouldBePlain { place: String },
    /// The keys of a store with encrypted backups are gone.
    #[error(
        "backup {backup} of volume {volume} is encrypted, and the keys of this destination \
         (convoy-objectstore/keys/) are gone: put them back from a copy. A new key would open no backup that is there"
    )]
    KeysGone { backup: String, volume: String },
    /// What an object says takes more memory than the operation may use for such things.
    #[error(
        "{key} takes more than the {limit} MiB of memory that there are for what a store says: if it is not damaged, run \
         `convoy daemon` with more --memory"
    )]
    Memory { key: String, limit: usize },
    /// A format from the future.
    #[error("{key} has format version {found}, and this convoy reads up to {known}: use a newer convoy")]
    Version { key: String, found: u64, known: u64 },
    /// The backup is encrypted and no key was given.
    #[error("backup {backup} is encrypted: give its key file or passphrase")]
    KeyMissing { backup: String },
    /// The key does not fit.
    #[error("the key file or passphrase given is not one of this store's keys")]
    KeyWrong,
    /// A key that cannot be used at all.
    #[error("{0}")]
    KeyUnusable(String),
    /// What is backed up cannot be put where it was to go.
    #[error("backup {backup} is of a {found}, and cannot be restored into a {expected}: {hint}")]
    Kind { backup: String, found: &'static str, expected: &'static str, hint: &'static str },
    /// The target is too small.
    #[error("backup {backup} needs {needed} bytes and the target has {found}: make it larger")]
    TooSmall { backup: String, needed: u64, found: u64 },
    /// The target of a tree restore must be empty, else a stranger's file could be taken for the backup's.
    #[error("{path} is not empty: a backup is restored into an empty directory")]
    NotEmpty { path: String },
    /// The target's file system cannot hold all of the backup.
    #[error("{}", say_losses(.backup, .losses))]
    Losses { backup: String, losses: Losses },
    /// The source was written to while it was read.
    #[error("{path} changed while it was being read: back up a snapshot, which nobody writes to")]
    SourceChanged { path: String },
    /// Nothing stands at this path.
    #[error("{place} has nothing at /{path}; the nearest that it has is /{nearest}")]
    NoPath { place: String, path: RelPath, nearest: RelPath },
    /// What stands at this path has no entries.
    #[error("/{path} is {found} and not a directory: name a directory")]
    NotDirectory { path: RelPath, found: &'static str },
    /// What stands at this path has no data.
    #[error("/{path} is {found} and not a regular file: name a file")]
    NotFile { path: RelPath, found: &'static str },
    /// The data of a file cannot be read.
    #[error("cannot read /{}: {source}", .path.shown())]
    InFile { path: RelPath, source: Box<BackupError> },
    /// An archive was written to its end, and does not have all that it should.
    #[error("{} could not be read and thus not be written whole: {files}", .files.say("file"))]
    Incomplete { files: Few },
    /// What the backup holds cannot be looked into like this.
    #[error("backup {backup} is {found}: {hint}")]
    NotBrowsable { backup: String, found: &'static str, hint: &'static str },
    /// Looking into an archive takes more of the disk than it may.
    #[error(
        "to look into this backup, which is one archive, takes more than {mebibytes} MiB in {place}, half of what was \
         free there: make room there, or restore it whole"
    )]
    NoRoom { place: String, mebibytes: u64 },
    /// The backup is to be kept whatever the rules say.
    #[error("backup {backup} of volume {volume} is pinned ({until}) and was not deleted: unpin it first")]
    Pinned { backup: String, volume: String, until: crate::labels::KeepUntil },
    /// What was to be said of a backup cannot be.
    #[error(transparent)]
    Label(#[from] crate::labels::LabelError),
    /// Rules that cannot be.
    #[error(transparent)]
    Exclude(#[from] crate::exclude::ExcludeError),
    /// Rules for files, and there are none.
    #[error(
        "rules say which files to leave out, and this backup is of the blocks of a device: leave out the rules, or back \
         up its files (--as tree) where the driver can hand them over"
    )]
    RulesForBlocks,
    /// Rules for files, in a format that cannot say so.
    #[error("the format of convoy 0.5 cannot say what was left out: leave out the rules or the format")]
    RulesInV0,
    /// Something asked for is not possible.
    #[error("{0}")]
    Invalid(String),
}

/// How many losses are named in an error: a line should hold them.
const NAMED: usize = 3;

fn say_losses(backup: &str, losses: &Losses) -> String {
    let named = losses.texts.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    let more = if losses.count > NAMED as u64 { "; and more" } else { "" };
    format!(
        "the file system restored to refuses {} of the things in backup {backup} ({named}{more}): nothing was kept",
        losses.count
    )
}

impl BackupError {
    /// An error of the kernel about a path.
    pub(crate) fn io(
        action: &'static str,
        what: impl std::fmt::Display,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::Io { action, what: what.to_string(), source: source.into() }
    }

    /// An object that is not what it should be.
    pub(crate) fn damaged(key: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Damaged { key: key.into(), why: why.to_string() }
    }

    /// An object that is not what the holder of the key wrote.
    pub(crate) fn not_authentic(key: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::NotAuthentic { key: key.into(), why: why.to_string() }
    }

    /// The same of a file, unless somebody asked to stop or it says so already.
    pub(crate) fn of_file(self, path: &RelPath) -> Self {
        match self {
            Self::Cancelled | Self::InFile { .. } | Self::NoPath { .. } | Self::NotFile { .. } => self,
            error => Self::InFile { path: path.clone(), source: Box::new(error) },
        }
    }

    /// Whether something named by the caller is simply not there.
    #[must_use]
    pub fn not_found(&self) -> bool {
        matches!(self, Self::Store(StoreError::NotFound { .. }))
    }

    /// Whether something that convoy never makes is in the place of a directory or file of the store.
    #[must_use]
    pub fn foreign(&self) -> bool {
        matches!(self, Self::Store(StoreError::Foreign { .. }))
    }
}
