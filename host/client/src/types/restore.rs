//! Restores of parts of a backup or snapshot into a volume.

use super::{Deserialize, Serialize, is_false};

/// The body of `POST /restores`: brings parts of a backup or snapshot back into a volume, which may be in
/// use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestoreParts {
    /// The backup; or a snapshot is named.
    #[serde(rename = "URL", skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// A custom S3 endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The snapshot; or a backup is named.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot_name: String,
    /// The volume of the snapshot; needed only where two volumes have a snapshot of that name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot_volume: String,
    /// The volume that they come into.
    pub volume_name: String,
    /// What is brought back, each with everything below it; none: everything. `/etc/`, `./etc` and `etc` are
    /// the same. Bytes that are not printable UTF-8 may be written as `%XX`, as they are shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Patterns of what is left out, as in a `.gitignore` at the root of the backup.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// The directory in the volume that stands for the root of the backup, made if it is missing; empty: the
    /// root of the volume.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// What becomes of what is there and differs: `keep` (also if this is empty), `replace`, `rename`,
    /// `newer`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub existing: String,
    /// Delete, in the directories that are brought back, what the backup has not.
    #[serde(skip_serializing_if = "is_false")]
    pub delete_extra: bool,
    /// Change nothing, and list what would be done.
    #[serde(skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// List what was done.
    #[serde(skip_serializing_if = "is_false")]
    pub details: bool,
    /// The file, on the daemon's host, with the key of encrypted backups.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Restore from a backup that is not encrypted although a key is named; no key vouches for it.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
    /// Make the volume exactly what the backup or snapshot is. Nobody may use it meanwhile; paths, patterns
    /// and the like are not for this.
    #[serde(skip_serializing_if = "is_false")]
    pub in_place: bool,
    /// In place: stop the containers that use the volume, and start them again.
    #[serde(skip_serializing_if = "is_false")]
    pub stop: bool,
    /// In place: do not keep the state of before as a snapshot.
    #[serde(skip_serializing_if = "is_false")]
    pub no_keep: bool,
    /// In place: the name of that snapshot; empty: `before-restore-` and the time.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keep_as: String,
}

/// `DELETE /restores`: take a volume as it is although a restore in place of it is not finished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AcceptRestore {
    /// The volume.
    pub volume_name: String,
}

/// What a restore of parts did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestoreReport {
    /// The volume that they came into.
    pub volume_name: String,
    /// Whether nothing was changed in fact.
    pub dry_run: bool,
    /// What was made where nothing was.
    pub created: u64,
    /// What took the place of something.
    pub replaced: u64,
    /// What took the place of something, which has another name now.
    pub renamed: u64,
    /// What was there and got its owner, mode, attributes and times alone: directories; in place also files.
    pub updated: u64,
    /// What was there, differs from the backup, and stays.
    pub kept: u64,
    /// What was there as the backup has it.
    pub same: u64,
    /// What was deleted; with a directory goes everything below it.
    pub deleted: u64,
    /// What a pattern left out; what is below it does not count.
    pub excluded: u64,
    /// Regular files that were written.
    pub files: u64,
    /// Bytes that they have.
    pub bytes: u64,
    /// Those of them that were in the volume already, and were not read from the backup.
    #[serde(skip_serializing_if = "is_zero")]
    pub reused: u64,
    /// What could not be restored.
    pub failed: u64,
    /// The first thousand of them, with the reasons.
    pub failures: Vec<RestoreChange>,
    /// How many things the file system refused a part of.
    pub lost: u64,
    /// What was done, or would be, if that was asked for: the first ten thousand.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<RestoreChange>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_listed: u64,
    /// The snapshot with the state of before, of a restore in place.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub snapshot: String,
    /// Why the volume cannot be mounted, and the ways out: something could not be restored in place.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub unfinished: String,
    /// Whether the volume was taken back to that snapshot, since something could not be restored.
    #[serde(skip_serializing_if = "is_false")]
    pub reverted: bool,
    /// The containers that were stopped and started again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<String>,
    /// Containers that were stopped and do not run, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_started: Vec<String>,
}

/// One thing that a restore did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestoreChange {
    /// `create`, `replace`, `rename`, `update`, `keep`, `delete` or `fail`.
    pub action: String,
    /// `a regular file`, `a directory`, and so on.
    pub kind: String,
    /// Where, from the root of the volume.
    pub path: String,
    /// Bytes of a file that is written.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// The new name of what made way, or the name that it is a hard link to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub other: String,
    /// Why, where that is not plain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
