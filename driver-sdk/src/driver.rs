//! The trait a driver author implements.

use crate::protocol::{
    AbortRestore, BackupInfo, Check, Checked, CloneVolume, CloseSnapshot, CreateBackup, CreateSnapshot,
    CreateVolume, CreatedBackup, DeleteBackup, DeleteKept, DeleteSnapshot, DeleteVolume, Description,
    Extents, FinishRestore, GetSnapshot, GetVolume, InspectBackup, ListBackups, ListExtents, ListKept,
    ListSnapshots, ListVolumes, ListedBackups, ListedKept, ListedSnapshots, ListedVolumes, MountVolume,
    Mounted, Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore, PreparedRestore, Probed,
    ResizeVolume, RevertVolume, Snapshot, UnmountVolume, Volume,
};
use crate::{Context, DriverError, Result};
use std::collections::BTreeMap;

/// One kind of storage.
///
/// Methods block; the host calls them from threads that may wait, several at once. It never has two changing
/// calls on one volume in flight, with one exception: a mount or an unmount may come while a snapshot of that
/// volume is being made, opened, closed or deleted, which can take long. So a driver needs locks only for
/// that, for what its volumes share, and for the calls that change nothing. Every method may be repeated
/// after a crash or a lost answer and says in its request's documentation what a repetition answers. Methods
/// of capabilities that are not declared need not be implemented.
pub trait Driver: Send + Sync + Sized + 'static {
    /// Who this is, what it can do and which options it knows. Touches nothing.
    fn describe() -> Description;

    /// Takes the options, reconciles what a crash left (finish or undo every operation that was cut off) and
    /// is ready for calls.
    ///
    /// # Errors
    /// `InvalidArgument` for options; whatever keeps the storage from being used.
    fn open(request: Open, context: &Context) -> Result<(Self, Opened)>;

    /// What `convoy info` shows.
    fn info(&self, _context: &Context) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }

    /// Whether the storage is well.
    ///
    /// # Errors
    /// A failure of the probe itself.
    fn probe(&self, _context: &Context) -> Result<Probed> {
        Ok(Probed::well())
    }

    /// Compares records with what is really there, and repairs if that is asked for: [`Check`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; a failure of the check itself: what it finds is an answer, not an
    /// error.
    fn check(&self, _request: Check, _context: &Context) -> Result<Checked> {
        Err(DriverError::unsupported("checking its storage"))
    }

    /// No more calls follow.
    fn close(&self, _context: &Context) -> Result<()> {
        Ok(())
    }

    /// Makes an empty volume: [`CreateVolume`].
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidArgument`, `Exhausted` and others.
    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume>;

    /// Deletes a volume, or forgets it and keeps its data: [`DeleteVolume`].
    ///
    /// # Errors
    /// `NotFound`, `InUse` and others.
    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()>;

    /// Mounts a volume and says where: [`MountVolume`].
    ///
    /// # Errors
    /// `NotFound`, `DataLoss`, `Unsupported` for a mountpoint, and others.
    fn mount_volume(&self, request: MountVolume, context: &Context) -> Result<Mounted>;

    /// Unmounts a volume: [`UnmountVolume`].
    ///
    /// # Errors
    /// `NotFound`, `Busy` while the kernel holds it, and others.
    fn unmount_volume(&self, request: UnmountVolume, context: &Context) -> Result<()>;

    /// Lists a page of the volumes: [`ListVolumes`].
    ///
    /// # Errors
    /// Only if nothing at all can be listed.
    fn list_volumes(&self, request: ListVolumes, context: &Context) -> Result<ListedVolumes>;

    /// Reads one volume afresh: [`GetVolume`].
    ///
    /// # Errors
    /// `NotFound`, `DataLoss` for a damaged record.
    fn get_volume(&self, request: GetVolume, context: &Context) -> Result<Volume>;

    /// Gives a volume another size: [`ResizeVolume`].
    ///
    /// # Errors
    /// `Unsupported` unless declared.
    fn resize_volume(&self, _request: ResizeVolume, _context: &Context) -> Result<Volume> {
        Err(DriverError::unsupported("resizing a volume"))
    }

    /// Makes a volume of a snapshot: [`CloneVolume`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`, `AlreadyExists`, `Exhausted`, `InvalidArgument` for a size
    /// below the snapshot's.
    fn clone_volume(&self, _request: CloneVolume, _context: &Context) -> Result<Volume> {
        Err(DriverError::unsupported("volumes from snapshots"))
    }

    /// Takes a volume back to one of its snapshots: [`RevertVolume`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`, `InUse`.
    fn revert_volume(&self, _request: RevertVolume, _context: &Context) -> Result<Volume> {
        Err(DriverError::unsupported("going back to a snapshot"))
    }

    /// Lists the data of volumes that were forgotten: [`ListKept`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; otherwise only if nothing at all can be listed.
    fn list_kept(&self, _request: ListKept, _context: &Context) -> Result<ListedKept> {
        Err(DriverError::unsupported("telling what it keeps"))
    }

    /// Deletes the data of a volume that was forgotten: [`DeleteKept`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`, `InUse`, `InvalidArgument` for what is not the driver's to
    /// delete.
    fn delete_kept(&self, _request: DeleteKept, _context: &Context) -> Result<()> {
        Err(DriverError::unsupported("telling what it keeps"))
    }

    /// Takes a snapshot: [`CreateSnapshot`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`, `AlreadyExists`, `Exhausted`.
    fn create_snapshot(&self, _request: CreateSnapshot, _context: &Context) -> Result<Snapshot> {
        Err(DriverError::unsupported("snapshots"))
    }

    /// Deletes a snapshot: [`DeleteSnapshot`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`, `InUse`.
    fn delete_snapshot(&self, _request: DeleteSnapshot, _context: &Context) -> Result<()> {
        Err(DriverError::unsupported("snapshots"))
    }

    /// See [`ListSnapshots`]. The default takes them from the volume.
    ///
    /// # Errors
    /// `NotFound`.
    fn list_snapshots(&self, request: ListSnapshots, context: &Context) -> Result<ListedSnapshots> {
        let mut snapshots = self.get_volume(GetVolume::new(request.volume), context)?.snapshots;
        snapshots.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ListedSnapshots::new(snapshots))
    }

    /// See [`GetSnapshot`]. The default takes it from the volume.
    ///
    /// # Errors
    /// `NotFound`.
    fn get_snapshot(&self, request: GetSnapshot, context: &Context) -> Result<Snapshot> {
        let volume = self.get_volume(GetVolume::new(request.volume.clone()), context)?;
        volume.snapshots.into_iter().find(|snapshot| snapshot.name == request.snapshot).ok_or_else(|| {
            DriverError::not_found(format!("volume {} has no snapshot {}", request.volume, request.snapshot))
        })
    }

    /// Hands a snapshot over for reading: [`OpenSnapshot`].
    ///
    /// # Errors
    /// `Unsupported` unless declared; `NotFound`.
    fn open_snapshot(&self, _request: OpenSnapshot, _context: &Context) -> Result<OpenedSnapshot> {
        Err(DriverError::unsupported("reading snapshots"))
    }

    /// Lists a page of the extents of an open block snapshot: [`ListExtents`].
    ///
    /// # Errors
    /// `Unsupported` unless `read_block` is declared; `NotFound` for an unknown handle.
    fn list_extents(&self, _request: ListExtents, _context: &Context) -> Result<Extents> {
        Err(DriverError::unsupported("extents"))
    }

    /// Takes note that a snapshot is read no more: [`CloseSnapshot`].
    ///
    /// # Errors
    /// `Unsupported` unless declared.
    fn close_snapshot(&self, _request: CloseSnapshot, _context: &Context) -> Result<()> {
        Err(DriverError::unsupported("reading snapshots"))
    }

    /// Makes a place that a restore is written to: [`PrepareRestore`].
    ///
    /// # Errors
    /// `Unsupported` unless declared for that kind; `AlreadyExists`, `Exhausted`.
    fn prepare_restore(&self, _request: PrepareRestore, _context: &Context) -> Result<PreparedRestore> {
        Err(DriverError::unsupported("restoring"))
    }

    /// Makes a volume of what was restored: [`FinishRestore`].
    ///
    /// # Errors
    /// `NotFound` for an unknown handle; `AlreadyExists` if the name was taken meanwhile.
    fn finish_restore(&self, _request: FinishRestore, _context: &Context) -> Result<Volume> {
        Err(DriverError::unsupported("restoring"))
    }

    /// Removes what was restored so far: [`AbortRestore`].
    fn abort_restore(&self, _request: AbortRestore, _context: &Context) -> Result<()> {
        Err(DriverError::unsupported("restoring"))
    }

    /// Keeps a snapshot in the provider's own backup store: [`CreateBackup`].
    ///
    /// # Errors
    /// `Unsupported` unless `native_backup` is declared.
    fn create_backup(&self, _request: CreateBackup, _context: &Context) -> Result<CreatedBackup> {
        Err(DriverError::unsupported("backups of its own"))
    }

    /// Deletes a backup of the provider: [`DeleteBackup`].
    ///
    /// # Errors
    /// `Unsupported` unless `native_backup` is declared; `NotFound`.
    fn delete_backup(&self, _request: DeleteBackup, _context: &Context) -> Result<()> {
        Err(DriverError::unsupported("backups of its own"))
    }

    /// Reads one backup of the provider: [`InspectBackup`].
    ///
    /// # Errors
    /// `Unsupported` unless `native_backup` is declared; `NotFound`.
    fn inspect_backup(&self, _request: InspectBackup, _context: &Context) -> Result<BackupInfo> {
        Err(DriverError::unsupported("backups of its own"))
    }

    /// Lists the provider's backups: [`ListBackups`].
    ///
    /// # Errors
    /// `Unsupported` unless `native_backup` is declared.
    fn list_backups(&self, _request: ListBackups, _context: &Context) -> Result<ListedBackups> {
        Err(DriverError::unsupported("backups of its own"))
    }
}
