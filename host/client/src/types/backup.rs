//! Requests and answers about backups.

use super::{Deserialize, Pairs, Serialize, is_false, is_zero};

/// A backup, as `backup list` and `backup inspect` answer it: text under every key, sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Pairs", into = "Pairs")]
pub struct BackupInfo {
    /// `backup-` and 16 hex digits.
    pub backup_name: String,
    /// What to give to `inspect`, `delete` and `create --backup`.
    pub backup_url: String,
    /// The driver of the volume.
    pub driver_name: String,
    /// The volume's name.
    pub volume_name: String,
    /// Its size in bytes, as text; "0" where the driver enforces none.
    pub volume_size: String,
    /// When the volume was created.
    pub volume_created_at: String,
    /// The snapshot's name.
    pub snapshot_name: String,
    /// When the snapshot was made.
    pub snapshot_created_at: String,
    /// When the backup was made.
    pub created_time: String,
    /// What else the answer has, by name.
    pub extra: Pairs,
}

macro_rules! known_keys {
    ($($key:literal => $field:ident,)*) => {
        impl From<Pairs> for BackupInfo {
            fn from(mut pairs: Pairs) -> Self {
                Self { $($field: pairs.remove($key).unwrap_or_default(),)* extra: pairs }
            }
        }
        impl From<BackupInfo> for Pairs {
            fn from(info: BackupInfo) -> Self {
                let mut pairs = info.extra;
                $(pairs.insert($key.to_owned(), info.$field);)*
                pairs
            }
        }
    };
}

known_keys! {
    "BackupName" => backup_name,
    "BackupURL" => backup_url,
    "DriverName" => driver_name,
    "VolumeName" => volume_name,
    "VolumeSize" => volume_size,
    "VolumeCreatedAt" => volume_created_at,
    "SnapshotName" => snapshot_name,
    "SnapshotCreatedAt" => snapshot_created_at,
    "CreatedTime" => created_time,
}

/// The body of `POST /backups/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateBackup {
    /// The destination: `vfs:///dir/` or `s3://bucket@region/path/`.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// Of which snapshot.
    pub snapshot_name: String,
    /// Answer [`CreatedBackup`] and not only the URL.
    pub verbose: bool,
    /// Whether a verbose answer has what 0.5 did not tell: what the backup cost.
    #[serde(skip_serializing_if = "is_false")]
    pub details: bool,
    /// Empty: the present format; `v0`: the one convoy 0.5 can restore.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    /// `tree`: its files, `block`: its blocks; empty: what the driver of the volume hands over unasked.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Trust nothing that an earlier backup left: read everything and check that the store has it.
    #[serde(skip_serializing_if = "is_false")]
    pub full: bool,
    /// The level of zstd, 1 to 19, or 0 to store everything as it is; missing: that of the destination's
    /// settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<u8>,
    /// Of which volume; needed only where two volumes have a snapshot of that name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub volume_name: String,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// `none`: not encrypted, also where the destination has a key or encrypted backups; empty: as there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption: String,
    /// What is left out: patterns in the syntax of gitignore, after those of the daemon's settings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Names of markers: of a directory that has one only itself and the marker is backed up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_if_present: Vec<String>,
    /// Whether the same holds for directories with a valid `CACHEDIR.TAG`.
    #[serde(skip_serializing_if = "is_false")]
    pub exclude_caches: bool,
    /// Whether `.convoyignore` in the root of the volume is followed; it belongs to whoever writes to the
    /// volume.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_convoyignore: bool,
    /// Tags that it gets: at most 64, keys of up to 63 letters, digits, `.`, `_`, `-` and `/`, values of up to
    /// 255 bytes.
    #[serde(skip_serializing_if = "Pairs::is_empty")]
    pub tags: Pairs,
    /// A note, of up to 4096 bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Until when it is kept whatever the rules say: `forever`, a date, or a moment in RFC 3339; empty: it is
    /// not pinned.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub keep_until: String,
}

/// The answer to a verbose `POST /backups/create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreatedBackup {
    /// The backup's URL.
    #[serde(rename = "URL")]
    pub url: String,
    /// What it cost, where that was asked for and is known: a storage system does not tell it of its own.
    #[serde(flatten)]
    pub cost: Option<BackupCost>,
}

/// What a backup holds and cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct BackupCost {
    /// Bytes that the backup stands for.
    pub bytes: u64,
    /// Bytes that were read from the snapshot: fewer, where an earlier backup has the rest.
    pub bytes_read: u64,
    /// Bytes that were added to the store.
    pub bytes_added: u64,
    /// Regular files; 0 for a block device.
    pub files: u64,
    /// Milliseconds it took.
    pub millis: u64,
    /// How much of the snapshot was left out; the progress says what and why.
    pub warnings: u64,
    /// Files that rules left out; missing for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excluded_files: u64,
    /// Directories that rules left out, with all that is in them; missing for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excluded_directories: u64,
}

/// The body of `GET /backups/list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListBackups {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// Only of this volume; empty: of all.
    pub volume_name: String,
    /// Only of this snapshot; empty: of all.
    pub snapshot_name: String,
    /// Only those that have all of these tags: `KEY`, or `KEY=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Only those that are pinned at present.
    #[serde(skip_serializing_if = "is_false")]
    pub pinned: bool,
    /// Whether it is an error that there was never a backup at the destination. Else the answer is then as
    /// 0.5 gave it: no backups.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub must_exist: bool,
    /// Whether the answer has what 0.5 did not tell: bytes and files of the backup, the bytes it added to the
    /// store, and how much was left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub details: bool,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
}

/// `GET /backups/inspect`, `DELETE /backups`: one backup by URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BackupRef {
    /// The backup's URL.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Whether the answer has what 0.5 did not tell: bytes and files of the backup, the bytes it added to the
    /// store, and how much was left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub details: bool,
}

/// `POST /backups/verify`: is what a store holds whole?
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VerifyBackups {
    /// A backup's URL, or a destination: then all backups there.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// With a destination: only of this volume.
    pub volume_name: String,
    /// How much of the data to read and check, in percent; 0: only that it is there.
    pub read_data: u8,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Accept backups that are not encrypted although a key is named; no key vouches for them.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
}

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VerifyReport {
    /// Backups looked at.
    pub backups: u64,
    /// Bytes that were read and checked.
    pub bytes_read: u64,
    /// Objects that no backup needs, left by interrupted work: a prune removes them.
    pub garbage: u64,
    /// What is missing, damaged or not to be trusted, and what could not be checked; empty: all is well.
    pub problems: Vec<Problem>,
}

/// Something that is missing or damaged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Problem {
    /// The backup that needs it; empty where none could be told.
    #[serde(rename = "BackupURL")]
    pub backup_url: String,
    /// The object's key in the store.
    pub object: String,
    /// What is wrong with it.
    pub message: String,
    /// `damaged`; `unencrypted` where a key is named; `not-authentic`: somebody without the key changed it;
    /// `no-key`: it could not be checked; `older`: this host saw a newer state.
    pub kind: String,
}

/// `POST /backups/prune`: remove what no backup refers to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneBackups {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// Only of this volume; empty: of all.
    pub volume_name: String,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// Rewrite the data of backups too that are not encrypted although a key is named; no key vouches for
    /// them.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_unencrypted: bool,
}

/// What a prune removed, or would remove.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PruneReport {
    /// Whether nothing was removed in fact.
    pub dry_run: bool,
    /// Volumes whose data was looked at.
    pub volumes: u64,
    /// How many objects were removed.
    pub objects: u64,
    /// How many bytes the removed objects had.
    pub bytes: u64,
    /// What was left alone and why, one line each (a volume that a backup is running for).
    pub skipped: Vec<String>,
}

/// `POST /backups/stats`: what the backups at a destination are, and what they take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CountBackups {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// Only of this volume; empty: of all.
    pub volume_name: String,
    /// The file, on the daemon's host, with the key of encrypted backups; empty: not encrypted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with the passphrase in the place of a key file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
}

/// What the backups at a destination are, and what they take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StatsReport {
    /// Of each volume, by name.
    pub volumes: Vec<VolumeStats>,
    /// Of all of them together. What is not known of one is not known here.
    pub total: VolumeStats,
    /// What is damaged, missing or not to be trusted, and therefore not counted: the first thousand.
    pub problems: Vec<Problem>,
    /// How many there are beside those.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_problems: u64,
    /// Volumes that were left out and why, one line each.
    pub skipped: Vec<String>,
    /// Volumes of which the chunks were not counted for want of the key.
    #[serde(skip_serializing_if = "is_zero")]
    pub sealed: u64,
}

/// What a destination has of a volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeStats {
    /// The volume's name; empty in the total.
    pub volume: String,
    /// Backups.
    pub backups: u64,
    /// Backups that do not say how large they are, which is missing in `logical_bytes`: archives of 0.5.
    #[serde(skip_serializing_if = "is_zero")]
    pub unmeasured: u64,
    /// Regular files in all backups together.
    pub files: u64,
    /// Bytes that all backups together stand for.
    pub logical_bytes: u64,
    /// Bytes of all objects in the store.
    pub stored_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// Different chunks; `null` where no key was given that opens all packs, as all that follows from them.
    pub chunks: Option<u64>,
    /// Whether that is told from a random share of them, since there was no memory for all.
    #[serde(skip_serializing_if = "is_false")]
    pub chunks_estimated: bool,
    /// Bytes that the stored chunks have.
    pub chunk_bytes: Option<u64>,
    /// Bytes that they take, compressed and sealed.
    pub chunk_stored_bytes: Option<u64>,
    /// Bytes that backups made of chunks stand for, for each byte of a stored chunk.
    pub dedup_ratio: Option<f64>,
    /// Bytes of stored chunks for each byte that they take.
    pub compression_ratio: Option<f64>,
    /// Bytes of objects that no backup needs; `null` where that is not known of all backups.
    pub unneeded_bytes: Option<u64>,
}

/// `GET /backups/keys`: the keys that open the encrypted backups at a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListKeys {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
}

/// `POST /backups/keys/add`: lets a further key open them. Answered with the new key's name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AddKey {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// The file, on the daemon's host, with a key that opens them already; empty: the one of the daemon's
    /// settings.
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with a passphrase that opens them already.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// The file, on the daemon's host, with the new key; empty: a passphrase is added.
    pub new_key_file: String,
    /// The file, on the daemon's host, with the new passphrase; empty: a key file is added.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub new_passphrase_file: String,
}

/// `POST /backups/keys/remove`: takes from a key that it opens them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RemoveKey {
    /// The destination, as `backup create --dest` takes it.
    #[serde(rename = "URL")]
    pub url: String,
    /// A custom S3 endpoint.
    pub endpoint: String,
    /// The file, on the daemon's host, with a key that stays; empty: the one of the daemon's settings.
    pub encryption_key_file: String,
    /// The file, on the daemon's host, with a passphrase that stays.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub passphrase_file: String,
    /// The name of the key that goes.
    pub name: String,
}
