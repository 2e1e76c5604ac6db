//! `backup.*`: backups that the storage itself keeps (`native_backup`), such as EBS snapshots.

use super::{BTreeMap, Name, Timestamp, messages};

messages! {
    /// `backup.create`: keep a snapshot in the provider's own backup store; returns when it is safe there.
    pub struct CreateBackup {
        /// The volume that the snapshot was taken of.
        volume: Name,
        /// The snapshot to keep.
        snapshot: Name,
        ;
        /// Options of the backup. None is defined yet: a driver refuses those that it does not know.
        options: BTreeMap<String, String>,
    }

    /// A backup was made.
    pub struct CreatedBackup {
        /// Its URL, with the driver's scheme (`ebs://region/snap-0123`); a create with option `backup`
        /// restores it.
        url: String,
    }

    /// `backup.delete`: delete a backup. `NotFound` when it does not exist.
    pub struct DeleteBackup {
        /// The URL of the backup.
        url: String,
    }

    /// `backup.inspect`: read one backup. `NotFound` when it does not exist.
    pub struct InspectBackup {
        /// The URL of the backup.
        url: String,
    }

    /// A backup of the provider.
    pub struct BackupInfo {
        /// The URL of the backup.
        url: String,
        /// The volume it was made of.
        volume: String,
        /// The snapshot it was made of.
        snapshot: String,
        /// When it was made.
        created: Timestamp,
        ;
        /// The size of the volume, in bytes.
        size: u64,
        /// Further keys for `backup inspect`.
        info: BTreeMap<String, String>,
    }

    /// `backup.list`: the provider's backups made by this driver.
    #[derive(Default)]
    pub struct ListBackups {
        ;
        /// `ebs://region` or the like; the driver's own region when missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        destination: Option<String>,
        /// Only backups of this volume; of all volumes when missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        volume: Option<Name>,
    }

    /// The provider's backups that were made by this driver.
    #[derive(Default)]
    pub struct ListedBackups {
        /// The backups, in no particular order.
        backups: Vec<BackupInfo>,
    }
}
