//! From a method name and JSON to the trait and back.
//!
//! Every carrier ends here, so that what a driver is asked, and what becomes of a panic, is the same in all.

use crate::protocol::{
    AbortRestore, Check, CloneVolume, Close, CloseSnapshot, CreateBackup, CreateSnapshot, CreateVolume,
    DeleteBackup, DeleteKept, DeleteSnapshot, DeleteVolume, Describe, Done, FinishRestore, GetSnapshot,
    GetVolume, Info, InfoReply, InspectBackup, ListBackups, ListExtents, ListKept, ListSnapshots,
    ListVolumes, MountVolume, Open, OpenSnapshot, PrepareRestore, Probe, Request, ResizeVolume, RevertVolume,
    UnmountVolume,
};
use crate::{Context, Driver, DriverError, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// A driver behind its dispatcher: not open until `driver.open` succeeded.
#[derive(Debug, Default)]
pub struct Dispatcher<D> {
    driver: OnceLock<D>,
}

/// What carriers hold: a [`Dispatcher`] of any driver.
pub trait Dispatch: Send + Sync + 'static {
    /// Carries out one call: JSON in, JSON out. Never panics.
    ///
    /// # Errors
    /// The driver's; `InvalidArgument` for a request that cannot be read; `Unsupported` for an unknown
    /// method; `Internal` for a panic.
    fn dispatch(&self, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>>;
}

impl<D: Driver> Dispatcher<D> {
    /// A dispatcher of a driver that is not open yet.
    pub fn new() -> Self {
        Self { driver: OnceLock::new() }
    }

    fn driver(&self) -> Result<&D> {
        self.driver
            .get()
            .ok_or_else(|| DriverError::unavailable("the driver is not open: expected driver.open first"))
    }

    fn open(&self, request: Open, context: &Context) -> Result<<Open as Request>::Reply> {
        if self.driver.get().is_some() {
            return Err(DriverError::already_exists("the driver is open already"));
        }
        let (driver, opened) = D::open(request, context)?;
        self.driver.set(driver).map_err(|_| DriverError::busy("the driver was opened twice at once"))?;
        Ok(opened)
    }

    fn route(&self, method: &str, json: &[u8], context: &Context) -> Result<Vec<u8>> {
        /// One arm a method: the request's type names it.
        macro_rules! route {
            ($($request:ty => $call:expr;)*) => {
                match method {
                    $(<$request as Request>::METHOD => answer::<$request>(json, $call),)*
                    _ => Err(DriverError::unsupported(format_args!("the method {method:?}"))),
                }
            };
        }
        route! {
            Describe => |_| Ok(D::describe());
            Open => |request| self.open(request, context);
            Info => |_| self.driver()?.info(context).map(InfoReply::new);
            Probe => |_| self.driver()?.probe(context);
            Check => |request| self.driver()?.check(request, context);
            Close => |_| self.driver.get().map_or(Ok(()), |driver| driver.close(context)).map(done);
            CreateVolume => |request| self.driver()?.create_volume(request, context);
            DeleteVolume => |request| self.driver()?.delete_volume(request, context).map(done);
            MountVolume => |request| self.driver()?.mount_volume(request, context);
            UnmountVolume => |request| self.driver()?.unmount_volume(request, context).map(done);
            ResizeVolume => |request| self.driver()?.resize_volume(request, context);
            CloneVolume => |request| self.driver()?.clone_volume(request, context);
            RevertVolume => |request| self.driver()?.revert_volume(request, context);
            ListVolumes => |request| self.driver()?.list_volumes(request, context);
            GetVolume => |request| self.driver()?.get_volume(request, context);
            ListKept => |request| self.driver()?.list_kept(request, context);
            DeleteKept => |request| self.driver()?.delete_kept(request, context).map(done);
            CreateSnapshot => |request| self.driver()?.create_snapshot(request, context);
            DeleteSnapshot => |request| self.driver()?.delete_snapshot(request, context).map(done);
            ListSnapshots => |request| self.driver()?.list_snapshots(request, context);
            GetSnapshot => |request| self.driver()?.get_snapshot(request, context);
            OpenSnapshot => |request| self.driver()?.open_snapshot(request, context);
            ListExtents => |request| self.driver()?.list_extents(request, context);
            CloseSnapshot => |request| self.driver()?.close_snapshot(request, context).map(done);
            PrepareRestore => |request| self.driver()?.prepare_restore(request, context);
            FinishRestore => |request| self.driver()?.finish_restore(request, context);
            AbortRestore => |request| self.driver()?.abort_restore(request, context).map(done);
            CreateBackup => |request| self.driver()?.create_backup(request, context);
            DeleteBackup => |request| self.driver()?.delete_backup(request, context).map(done);
            InspectBackup => |request| self.driver()?.inspect_backup(request, context);
            ListBackups => |request| self.driver()?.list_backups(request, context);
        }
    }
}

impl<D: Driver> Dispatch for Dispatcher<D> {
    fn dispatch(&self, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>> {
        catch_unwind(AssertUnwindSafe(|| self.route(method, request, context)))
            .unwrap_or_else(|panic| Err(from_panic(method, panic.as_ref())))
    }
}

fn done((): ()) -> Done {
    Done::new()
}

fn answer<R: Request>(json: &[u8], call: impl FnOnce(R) -> Result<R::Reply>) -> Result<Vec<u8>> {
    let request = serde_json::from_slice(json).map_err(|error| {
        DriverError::invalid(format!("cannot read the request of {}: {error}", R::METHOD))
    })?;
    serde_json::to_vec(&call(request)?)
        .map_err(|error| DriverError::internal(format!("cannot write the reply of {}: {error}", R::METHOD)))
}

/// The error a panic becomes; its text goes to the caller, its backtrace to standard error by the panic hook.
fn from_panic(method: &str, panic: &(dyn std::any::Any + Send)) -> DriverError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(method, text, "the driver panicked");
    DriverError::internal(format!("the driver panicked in {method}: {text}"))
        .hint("this is a defect of the driver: report it to its author with the log")
}
