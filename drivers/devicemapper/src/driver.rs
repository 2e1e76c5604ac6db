//! The driver: its parts, and the trait's methods, each in a module of its own.

use crate::error::Error;
use crate::journal::Journal;
use crate::kernel::{MAX_NAME, Removal};
use crate::options::{self, Settings};
use crate::pool::Pool;
use crate::state::ThinId;
use crate::store::{DRIVER, Store};
use crate::tools::{MetadataReader, Tools};
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, Checked, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume,
    DeleteKept, DeleteSnapshot, DeleteVolume, Description, Extents, FinishRestore, GetSnapshot, GetVolume,
    ListExtents, ListKept, ListVolumes, ListedKept, ListedVolumes, MountVolume, Mounted, Open, OpenSnapshot,
    Opened, OpenedSnapshot, PrepareRestore, PreparedRestore, Probed, ResizeVolume, RevertVolume, Snapshot,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, Name, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

mod check;
mod clones;
mod health;
mod kept;
mod mounts;
mod open;
mod restore;
mod snapshots;
mod sources;
mod trees;
mod volumes;

/// How long undoing may take after a call that failed, perhaps because its own time was over.
const UNDO_LIMIT: Duration = Duration::from_secs(30);

/// Thin-provisioned volumes in one pool.
#[derive(Debug)]
pub struct DeviceMapper {
    root: PathBuf,
    settings: Settings,
    namespace: Option<PathBuf>,
    command_limit: Option<Duration>,
    boot_id: String,
    pool: Pool,
    store: Store,
    journal: Journal,
    reader: MetadataReader,
    tools: Tools,
    sources: sources::Sources,
    restores: Mutex<BTreeMap<String, restore::Restore>>,
    /// Restores that have become volumes: a repeated finish answers them again.
    restored: Mutex<BTreeMap<String, Name>>,
    watch: Mutex<health::Watch>,
    /// Ids of the pool that no record names and nobody announced.
    strangers: Vec<ThinId>,
}

impl DeviceMapper {
    /// The call's context, with the time limit of external commands.
    fn bounded(&self, context: &Context) -> Context {
        let limit = self.command_limit.map(|limit| Instant::now() + limit);
        let deadline = context.remaining().map(|left| Instant::now() + left);
        context.clone().with_deadline(deadline.into_iter().chain(limit).min())
    }

    fn undoing(context: &Context) -> Context {
        Context::new(context.request_id()).with_deadline(Some(Instant::now() + UNDO_LIMIT))
    }

    /// Device-mapper names are shorter than convoy's, and some are taken.
    fn check_name(&self, name: &Name) -> Result<()> {
        if name.len() > MAX_NAME || **name == *"control" || **name == *self.pool.name() {
            return Err(DriverError::invalid(format!(
                "{name} cannot be a volume of this driver: expected at most {MAX_NAME} bytes, and \
                     neither \"control\" nor the pool's name"
            ))
            .hint("volumes are device-mapper devices of the same name: choose another"));
        }
        Ok(self.pool.check_name_free(name)?)
    }

    /// The name of a snapshot's device while it is read. No volume can have it: `+` is not allowed in names.
    fn read_name(&self, id: ThinId) -> String {
        format!("{}+read+{id}", self.pool.name())
    }

    fn restore_name(&self, id: ThinId) -> String {
        format!("{}+restore+{id}", self.pool.name())
    }

    /// Begins a thin device: an id that is on disk, then the device. An id that the pool has although nobody
    /// knows of it is left alone, and the next one taken.
    fn begin(
        &self,
        what: &str,
        context: &Context,
        make: impl Fn(ThinId) -> crate::error::Result<()>,
    ) -> Result<ThinId> {
        loop {
            context.check()?;
            let id = self.journal.begin(what)?;
            match make(id) {
                Ok(()) => return Ok(id),
                Err(error)
                    if matches!(error, Error::Message { .. }) && error.is(nix::errno::Errno::EEXIST) =>
                {
                    tracing::warn!(
                        id,
                        "the pool has a device of this id that no record names: it is left alone"
                    );
                    self.journal.end(&[id], false);
                    self.journal.avoid(id);
                }
                Err(error) => {
                    self.undo(id, None, context);
                    return Err(error.into());
                }
            }
        }
    }

    /// Deletes what was begun, as far as possible now; the rest when nobody uses it any more.
    fn undo(&self, id: ThinId, name: Option<&str>, context: &Context) {
        self.journal.abandon(&[id]);
        match self.discard(id, name, &Self::undoing(context)) {
            Ok(true) => self.journal.end(&[id], true),
            Ok(false) => {}
            Err(error) => tracing::warn!(id, ?name, %error, "cannot undo now: it is tried again"),
        }
    }

    /// Deletes devices that no record names any more, as far as possible now. Written down once, however
    /// many.
    fn clear(&self, ids: &[ThinId], context: &Context) {
        self.journal.abandon(ids);
        let context = Self::undoing(context);
        let gone = |id: &ThinId| match self.discard(*id, None, &context) {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(id, %error, "cannot delete now: it is tried again");
                false
            }
        };
        let gone: Vec<_> = ids.iter().copied().filter(gone).collect();
        if !gone.is_empty() {
            self.journal.end(&gone, true);
        }
    }

    /// Ends a device of ours and deletes it from the pool; answers whether it is gone.
    fn discard(&self, id: ThinId, name: Option<&str>, context: &Context) -> crate::error::Result<bool> {
        if let Some(name) = name
            && self.pool.is(name, id)?
            && self.pool.deactivate_or_defer(name, context)? == Removal::Deferred
        {
            return Ok(false);
        }
        match self.pool.delete(id) {
            // Still active, under a name that a deferred removal frees.
            Err(error) if error.is(nix::errno::Errno::EBUSY) => Ok(false),
            Err(error) => Err(error),
            Ok(()) => Ok(true),
        }
    }

    /// Settles what was left between two states: see [`crate::state::PendingDevice`]. One line for each that
    /// is settled.
    fn settle(&self, context: &Context) -> Vec<String> {
        if self.journal.abandoned().is_empty() {
            return Vec::new();
        }
        self.release_abandoned(context);
        let abandoned = self.journal.abandoned();
        let recorded = self.store.ids();
        let (mut lines, mut kept, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for pending in abandoned {
            let (id, what) = (pending.dev_id, pending.what);
            if recorded.contains(&id) {
                kept.push(id);
                continue;
            }
            // A record that cannot be read may name it.
            if self.store.has_unreadable() {
                tracing::warn!(id, what, "not undone while a record cannot be read");
                continue;
            }
            match self.discard(id, None, context) {
                Ok(true) => {
                    lines.push(format!("{what}: it was cut off, its device {id} was deleted"));
                    gone.push(id);
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(id, what, %error, "cannot settle: it is tried again"),
            }
        }
        for (ids, gone) in [(kept, false), (gone, true)] {
            if !ids.is_empty() {
                self.journal.end(&ids, gone);
            }
        }
        lines
    }
}

/// Methods of the trait that are one call: a row each.
macro_rules! methods {
    ($($method:ident($request:ty) -> $reply:ty = $call:expr;)*) => {$(
        fn $method(&self, request: $request, context: &Context) -> Result<$reply> {
            let call: fn(&Self, $request, &Context) -> Result<$reply> = $call;
            call(self, request, context)
        }
    )*};
}

impl Driver for DeviceMapper {
    fn describe() -> Description {
        Description::new(
            DRIVER,
            env!("CARGO_PKG_VERSION"),
            "thin-provisioned block volumes with instant snapshots and backups of changed blocks",
        )
        .capabilities(
            [
                Capability::Snapshots,
                Capability::ReadBlock,
                Capability::ChangedExtents,
                Capability::ReadEither,
                Capability::RestoreBlock,
                Capability::RestoreTree,
                Capability::ResizeOffline,
                Capability::ResizeOnline,
                Capability::MountAt,
                Capability::MountNamespace,
                Capability::Sized,
                Capability::Freeze,
                Capability::Clone,
                Capability::Revert,
                Capability::Check,
                Capability::Kept,
            ]
            .into(),
        )
        .options(options::specs())
        .create_options(options::create_specs())
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        open::open(request, context)
    }

    fn info(&self, _context: &Context) -> Result<BTreeMap<String, String>> {
        Ok(self.show()?)
    }

    fn probe(&self, context: &Context) -> Result<Probed> {
        self.look(context)
    }

    fn get_snapshot(&self, request: GetSnapshot, _context: &Context) -> Result<Snapshot> {
        let (volume, snapshot) = self.store.snapshot(&request.volume, &request.snapshot)?;
        Ok(crate::store::snapshot(&volume, &snapshot))
    }

    methods! {
        check(Check) -> Checked = |it, request, context| it.examine(request, context);
        create_volume(CreateVolume) -> Volume = |it, request, context| it.create(request, context);
        delete_volume(DeleteVolume) -> () = |it, request, context| it.delete(&request, context);
        mount_volume(MountVolume) -> Mounted = |it, request, context| it.mount(request, context);
        unmount_volume(UnmountVolume) -> () = |it, request, context| it.unmount(&request.name, context);
        list_volumes(ListVolumes) -> ListedVolumes = |it, request, _| it.list(&request);
        get_volume(GetVolume) -> Volume = |it, request, _| it.get(&request.name);
        resize_volume(ResizeVolume) -> Volume = |it, request, context| it.resize(&request, context);
        clone_volume(CloneVolume) -> Volume = |it, request, context| it.clone_snapshot(&request, context);
        revert_volume(RevertVolume) -> Volume = |it, request, context| it.revert(&request, context);
        list_kept(ListKept) -> ListedKept = |it, request, _| Ok(it.list_kept(&request));
        delete_kept(DeleteKept) -> () = |it, request, context| it.delete_kept(&request.name, context);
        create_snapshot(CreateSnapshot) -> Snapshot = |it, request, context| {
            it.take_snapshot(&request, context)
        };
        delete_snapshot(DeleteSnapshot) -> () = |it, request, context| it.drop_snapshot(&request, context);
        open_snapshot(OpenSnapshot) -> OpenedSnapshot = |it, request, context| {
            it.open_source(&request, context)
        };
        list_extents(ListExtents) -> Extents = |it, request, _| it.extents(&request);
        close_snapshot(CloseSnapshot) -> () = |it, request, context| {
            it.close_source(&request.handle, context)
        };
        prepare_restore(PrepareRestore) -> PreparedRestore = |it, request, context| {
            it.begin_restore(request, context)
        };
        finish_restore(FinishRestore) -> Volume = |it, request, context| {
            it.complete_restore(&request.handle, context)
        };
        abort_restore(AbortRestore) -> () = |it, request, context| it.drop_restore(&request.handle, context);
    }
}
