//! What callers say and are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use convoy_tree::Losses;
use futures::stream::BoxStream;

use crate::crypt::StoreKey;
use crate::error::BackupError;
use crate::exclude::{ExcludeRules, Excluded};
use crate::format::manifest::BackupKind;
use crate::labels::Labels;
use crate::record::BackupStats;

/// What a backup is of. Times are texts like `Mon Nov 23 08:38:07 +0000 2026`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackupMeta {
    /// The backup's name, which must be new in its volume.
    pub backup: String,
    /// The volume's name.
    pub volume: String,
    /// The driver's name.
    pub driver: String,
    /// Bytes of the volume; 0 if it has no size.
    pub volume_size: u64,
    /// When the volume was made.
    pub volume_created: String,
    /// The snapshot that is backed up.
    pub snapshot: String,
    /// When the snapshot was made.
    pub snapshot_created: String,
    /// When the backup is made; now, if empty.
    pub created: String,
    /// What a restore must be told (the driver's `restore_options`). Given back by `inspect`.
    pub options: BTreeMap<String, String>,
    /// What is said of it from the beginning.
    pub labels: Labels,
}

/// A stretch of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceExtent {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// It holds nothing any more and reads as zeros.
    pub discarded: bool,
}

/// Extents in order of their offset; an error ends the backup with that text.
pub type ExtentStream = BoxStream<'static, Result<SourceExtent, String>>;

/// Which parts of a device matter.
pub enum Extents {
    /// Nobody knows: all of it is read, but for the holes of a file that is used as a device.
    All,
    /// These are in use; the rest reads as zeros and is not read.
    InUse(ExtentStream),
    /// These differ from an older snapshot, that of the parent backup ([`crate::Preparation::parent`]).
    Changed {
        /// The older snapshot.
        base: String,
        /// The parts that differ.
        extents: ExtentStream,
    },
}

impl std::fmt::Debug for Extents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => f.write_str("All"),
            Self::InUse(_) => f.write_str("InUse(..)"),
            Self::Changed { base, .. } => write!(f, "Changed {{ base: {base:?}, .. }}"),
        }
    }
}

/// How to tell that a file is the one of the parent backup, unchanged, without reading it. Inode, size and
/// modification time must be the same in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameFile {
    /// The change time too: no program can set it. Right for snapshots that keep inodes (btrfs, LVM, ZFS) and
    /// for copies.
    #[default]
    ChangeTime,
    /// The time of birth in place of the change time. Right for snapshots that share unchanged files by hard
    /// links and whose files nobody writes to once they are made: every new link changes the change time, but
    /// not the file. Where the file system keeps no time of birth, the change time is compared all the same.
    BirthTime,
}

/// What is backed up: something that nobody writes to meanwhile.
#[derive(Debug)]
pub enum Source {
    /// A directory tree.
    Tree {
        /// Absolute path of the directory.
        path: PathBuf,
        /// How to tell unchanged files.
        same: SameFile,
    },
    /// A block device, or a file used as one.
    Block {
        /// Absolute path of the device.
        device: PathBuf,
        /// Size of the device in bytes.
        size: u64,
        /// Which parts matter.
        extents: Extents,
    },
}

impl Source {
    pub(crate) fn kind(&self) -> BackupKind {
        match self {
            Self::Tree { .. } => BackupKind::Tree,
            Self::Block { .. } => BackupKind::Block,
        }
    }
}

/// In which form a backup is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Packs and manifests: docs/backup-format.md.
    #[default]
    V1,
    /// That of convoy 0.5, which it can restore: slower, larger, without what 0.5 could not keep.
    V0,
}

/// How to make a backup.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// In which form it is written.
    pub format: Format,
    /// Use the last backup of the volume: what it has is neither read nor stored again.
    pub incremental: bool,
    /// What the source will be, where it is known before it is opened: then only backups of the same kind are
    /// built on. A backup of another kind than its parent takes nothing from it.
    pub kind: Option<BackupKind>,
    /// Trust nothing that is in the store: read all of the source, read and verify what the store has before
    /// it is used again, and repair what is damaged and still there in the source.
    pub recheck: bool,
    /// Level of zstd, 1 to 19; `None` stores everything uncompressed.
    pub level: Option<i32>,
    /// Encrypt with this key: [`crate::Engine::new_key`].
    pub key: Option<StoreKey>,
    /// Without a key: store it in the clear also where encrypted backups are.
    pub allow_plain: bool,
    /// The sequence of the new backup is greater than this: that of the newest one that the caller knows of.
    pub after: u64,
    /// What is left out of a backup of files.
    pub exclude: ExcludeRules,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self {
            format: Format::V1,
            incremental: true,
            kind: None,
            recheck: false,
            level: Some(1),
            key: None,
            allow_plain: false,
            after: 0,
            exclude: ExcludeRules::default(),
        }
    }
}

/// The backup on which the next one builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentInfo {
    /// Name of the backup.
    pub backup: String,
    /// The snapshot it was made of: ask the driver for what changed since.
    pub snapshot: String,
}

/// A backup was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// Name of the backup.
    pub backup: String,
    /// What it holds.
    pub kind: BackupKind,
    /// The backup it was built on.
    pub parent: Option<String>,
    /// What it cost.
    pub stats: BackupStats,
    /// Counts the encrypted backups of the volume; 0 for one in the clear.
    pub sequence: u64,
    /// What rules left out.
    pub excluded: Excluded,
    /// What is not in it, and why; the first hundred of those that [`BackupStats::warnings`] counts.
    pub warnings: Vec<String>,
}

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An empty directory. When a restore fails its content is removed; the directory is the caller's to
    /// remove.
    Tree {
        /// Absolute path of the directory.
        path: PathBuf,
    },
    /// A block device, or a file used as one.
    Block {
        /// Absolute path of the device.
        device: PathBuf,
        /// Size of the device in bytes.
        size: u64,
        /// It is known to read as zeros: what is zero in the backup need not be written.
        zeroed: bool,
    },
}

/// Whether backups are read that are not encrypted. No key vouches for them: whoever can write to the store
/// may have made them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unencrypted {
    /// Refused if a key is given: then encrypted ones are expected.
    #[default]
    RefusedWithKey,
    /// Refused. For stores that should have a key and have none any more.
    Refused,
    /// Read, also beside a key.
    Allowed,
}

impl Unencrypted {
    /// Whether they are refused with this key.
    pub(crate) fn refused(self, key: Option<&StoreKey>) -> bool {
        match self {
            Self::RefusedWithKey => key.is_some(),
            Self::Refused => true,
            Self::Allowed => false,
        }
    }
}

/// How to restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// The key of an encrypted backup: [`crate::Engine::unlock`].
    pub key: Option<StoreKey>,
    /// Whether a backup that is not encrypted is restored.
    pub unencrypted: Unencrypted,
    /// Keep what was restored although the target refused a part of it. Otherwise that is an error, once
    /// everything else was restored.
    pub allow_losses: bool,
}

/// A backup was restored, every byte of it verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreSummary {
    /// What it held.
    pub kind: BackupKind,
    /// Regular files; 0 for devices.
    pub files: u64,
    /// Bytes written to the target.
    pub bytes: u64,
    /// Bytes that were read from the store.
    pub bytes_read: u64,
    /// What a user should know and may do without: flags and projects that could not be set.
    pub warnings: Vec<String>,
    /// What the target refused; only with [`RestoreOptions::allow_losses`].
    pub losses: Losses,
}

/// What is known of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupInfo {
    /// Name of the backup.
    pub backup: String,
    /// Name of the volume.
    pub volume: String,
    /// What it holds.
    pub kind: BackupKind,
    /// 0 for the format of 0.5, else the version of the new one.
    pub format: u64,
    /// The driver of the volume.
    pub driver: String,
    /// Bytes of the volume; 0 if it has no size.
    pub volume_size: u64,
    /// When the volume was made.
    pub volume_created: String,
    /// Name of the snapshot.
    pub snapshot: String,
    /// When the snapshot was made.
    pub snapshot_created: String,
    /// When the backup was made.
    pub created: String,
    /// Whether a key is needed.
    pub encrypted: bool,
    /// Whether a key that was given vouches for all that is said here.
    pub authentic: bool,
    /// Counts the encrypted backups of a volume; 0 for one in the clear, and where that is not known.
    pub sequence: u64,
    /// What a restore must tell the driver.
    pub options: BTreeMap<String, String>,
    /// What it cost; of 0.5's nothing is known.
    pub stats: Option<BackupStats>,
    /// Bytes it stands for: files without their holes, or blocks that are not zero. Archives of 0.5 do not
    /// tell.
    pub bytes: Option<u64>,
    /// What people say of it.
    pub labels: Labels,
    /// What rules left out of it.
    pub excluded: Excluded,
}

impl BackupInfo {
    /// About the bytes of memory it takes.
    pub(crate) fn weight(&self) -> usize {
        let texts =
            [&self.driver, &self.volume_created, &self.snapshot, &self.snapshot_created, &self.created];
        let options = self.options.iter().map(|(key, value)| key.len() + value.len() + 128);
        let texts = texts.map(String::len).iter().sum::<usize>();
        size_of::<Self>() + texts + options.sum::<usize>() + self.labels.weight() + self.excluded.weight()
    }

    /// The keys and values of `backup list` and `backup inspect`, as 0.5 named them. `url` is the backup's.
    #[must_use]
    pub fn to_map(&self, url: &str) -> BTreeMap<String, String> {
        let pairs = [
            ("BackupName", self.backup.clone()),
            ("BackupURL", url.to_owned()),
            ("DriverName", self.driver.clone()),
            ("VolumeName", self.volume.clone()),
            ("VolumeSize", self.volume_size.to_string()),
            ("VolumeCreatedAt", self.volume_created.clone()),
            ("SnapshotName", self.snapshot.clone()),
            ("SnapshotCreatedAt", self.snapshot_created.clone()),
            ("CreatedTime", self.created.clone()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// A listing: one bad record does not hide the others.
#[derive(Debug, Default)]
pub struct Listing {
    /// What could be read.
    pub backups: Vec<BackupInfo>,
    /// What could not: volume, backup (or the volume's own record), why.
    pub unreadable: Vec<(String, String, BackupError)>,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// With a key, only a backup is deleted that it vouches for: whoever else can write to the store could
    /// have taken away its pin. Without one a record is believed as it is, and one that is damaged can be
    /// deleted.
    pub key: Option<StoreKey>,
}

/// A backup was deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteSummary {
    /// Objects removed beside its record.
    pub objects: u64,
    /// Bytes they had.
    pub bytes: u64,
    /// Its data is still there because of other work on this volume, which is named: `prune`, or the next
    /// delete, removes it.
    pub deferred: Option<String>,
}

/// How to prune.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Say what would be done and do nothing.
    pub dry_run: bool,
    /// A pack of which less than this percentage is in use is rewritten without the rest; 0 rewrites none.
    pub repack_below: u8,
    /// The key of encrypted backups; without it their packs are removed when nothing uses them, but not
    /// rewritten.
    pub key: Option<StoreKey>,
    /// Whether packs of backups that are not encrypted are rewritten too.
    pub unencrypted: Unencrypted,
}

impl Default for PruneOptions {
    fn default() -> Self {
        Self { dry_run: false, repack_below: 50, key: None, unencrypted: Unencrypted::default() }
    }
}

/// What pruning did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneSummary {
    /// Objects nothing referred to.
    pub objects: u64,
    /// Bytes they had.
    pub bytes: u64,
    /// Packs that were rewritten.
    pub repacked: u64,
    /// Bytes gained by that.
    pub repacked_bytes: u64,
    /// Unfinished writes removed.
    pub partial: u64,
    /// Volumes that were looked at.
    pub volumes: u64,
    /// Volumes that were left alone because somebody works on them: which, and who.
    pub skipped: Vec<String>,
    /// Objects that are not convoy's, by their names: they are never removed. The first hundred of them.
    pub strange: Vec<String>,
    /// How many there are.
    pub strange_count: u64,
}

impl PruneSummary {
    /// Strange names kept to be told; more of them say nothing new, and a store may hold any number.
    const STRANGE: usize = 100;

    pub(crate) fn note_strange(&mut self, key: &str) {
        self.strange_count += 1;
        if self.strange.len() < Self::STRANGE {
            self.strange.push(key.to_owned());
        }
    }
}

/// How to count what a store has.
#[derive(Debug, Clone, Default)]
pub struct StatsOptions {
    /// The key of encrypted backups; without it their chunks are not counted.
    pub key: Option<StoreKey>,
}

/// What a store has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSummary {
    /// Of each volume, in the order of their directories.
    pub volumes: Vec<VolumeStats>,
    /// What could not be counted, and why; the first thousand. Of a damaged pack the backup is not known.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub fault_count: u64,
    /// Volumes that were left out because somebody deletes there: which, and who.
    pub skipped: Vec<String>,
    /// Volumes whose chunks were not counted for want of the key.
    pub sealed: u64,
}

/// What a store has of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeStats {
    /// Name of the volume.
    pub volume: String,
    /// Backups whose records can be read.
    pub backups: u64,
    /// How many of them are encrypted.
    pub encrypted: u64,
    /// Backups that do not say how large they are: archives of 0.5.
    pub unmeasured: u64,
    /// Regular files in all backups together.
    pub files: u64,
    /// Bytes that all backups together stand for.
    pub logical_bytes: u64,
    /// Those of them that are of backups made of chunks, and not of 0.5's.
    pub chunked_bytes: u64,
    /// Bytes of all objects of the volume.
    pub stored_bytes: u64,
    /// Packs.
    pub packs: u64,
    /// What is in the packs; `None` where no key opens one of them.
    pub chunks: Option<ChunkStats>,
    /// Bytes of objects that no backup needs; `None` where it is not known what one needs.
    pub unneeded_bytes: Option<u64>,
}

/// The chunks of a volume: those of files and blocks, and those of the lists of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkStats {
    /// How many different ones there are.
    pub distinct: u64,
    /// Whether that is exact. Else there was no memory for all of them, and it is told from a random share.
    pub exact: bool,
    /// How many are stored: some more, where one is stored twice.
    pub stored: u64,
    /// Bytes that those stored have.
    pub bytes: u64,
    /// Bytes that they take, compressed and sealed.
    pub stored_bytes: u64,
}

impl ChunkStats {
    /// Those of two volumes, which share none.
    #[must_use]
    pub fn together(self, other: Self) -> Self {
        Self {
            distinct: self.distinct.saturating_add(other.distinct),
            exact: self.exact && other.exact,
            stored: self.stored.saturating_add(other.stored),
            bytes: self.bytes.saturating_add(other.bytes),
            stored_bytes: self.stored_bytes.saturating_add(other.stored_bytes),
        }
    }
}

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// Read and check this percentage of the data, 0 to 100; structure is always checked. Which part is
    /// random, another each time.
    pub read_data: u8,
    /// The key of encrypted backups.
    pub key: Option<StoreKey>,
    /// Whether backups that are not encrypted are checked; else they are faults.
    pub unencrypted: Unencrypted,
}

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifySummary {
    /// Backups looked at.
    pub backups: u64,
    /// Bytes of data read and checked.
    pub bytes_read: u64,
    /// Every fault: of which backup, and what.
    pub faults: Vec<Fault>,
    /// Objects nothing refers to, left by interrupted runs: `prune` removes them. 0 where not every backup
    /// could be checked.
    pub garbage: u64,
    /// The backups that a given key vouches for: volume, backup, sequence.
    pub authentic: Vec<(String, String, u64)>,
}

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Something is missing, or is not what was stored.
    Damaged,
    /// The backup is not encrypted, and with a key encrypted ones are expected.
    Unencrypted,
    /// Somebody without the key has changed what convoy wrote.
    NotAuthentic,
    /// It was not checked: the backup is encrypted and no key was given that opens it.
    NoKey,
}

impl FaultKind {
    /// `damaged`, `unencrypted`, `not-authentic` or `no-key`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Unencrypted => "unencrypted",
            Self::NotAuthentic => "not-authentic",
            Self::NoKey => "no-key",
        }
    }
}

/// Something wrong in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Name of the volume.
    pub volume: String,
    /// The backup that cannot be restored because of it.
    pub backup: String,
    /// What kind of fault.
    pub kind: FaultKind,
    /// What is wrong.
    pub what: String,
}
