//! `snapshot.*` as far as it does not touch data.

use super::{BTreeMap, Name, Timestamp, messages};

messages! {
    /// A snapshot as its driver knows it.
    pub struct Snapshot {
        /// The name of the snapshot, unique within its volume.
        name: Name,
        /// The volume it was taken of.
        volume: Name,
        /// When it was taken.
        created: Timestamp,
        ;
        /// Keys for `inspect`; the host adds `Driver`, `SnapshotName` and `SnapshotCreatedAt`.
        info: BTreeMap<String, String>,
    }

    /// `snapshot.create`: the state of a volume at one moment, kept.
    ///
    /// Repeating it for a snapshot that exists answers `AlreadyExists`.
    pub struct CreateSnapshot {
        /// The volume of the snapshot.
        volume: Name,
        /// The name of the new snapshot, unique within its volume.
        snapshot: Name,
        ;
        /// Freeze the mounted file system meanwhile, for drivers that declare `freeze`.
        freeze: bool,
    }

    /// `snapshot.delete`. `NotFound` when it does not exist, `InUse` while it is open.
    pub struct DeleteSnapshot {
        /// The volume of the snapshot.
        volume: Name,
        /// The name of the snapshot.
        snapshot: Name,
    }

    /// `snapshot.list`: the snapshots of one volume, sorted by name.
    pub struct ListSnapshots {
        /// The volume of the snapshot.
        volume: Name,
    }

    /// The snapshots of a volume.
    #[derive(Default)]
    pub struct ListedSnapshots {
        /// The snapshots, sorted by name.
        snapshots: Vec<Snapshot>,
    }

    /// `snapshot.get`: one snapshot, read afresh.
    pub struct GetSnapshot {
        /// The volume of the snapshot.
        volume: Name,
        /// The name of the snapshot.
        snapshot: Name,
    }
}
