//! The kernel's device-mapper: devices by name, their tables, their nodes in `/dev/mapper`.
//!
//! All knowledge of ioctls is in the crate `devicemapper`; here are its errors told apart, waiting for udev
//! bounded, nodes made where no udev makes them, and removal repeated while somebody still looks.

use crate::error::{Error, Result};
use convoy_driver_sdk::Context;
use devicemapper::{
    DM, DevId, Device, DeviceInfo, DmError, DmFlags, DmName, DmOptions, DmResult, DmUuid, errors,
};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

mod nodes;

/// Where the kernel's and udev's device nodes are.
const DEV_MAPPER: &str = "/dev/mapper";
/// How long udev may take to handle one device.
const UDEV_LIMIT: Duration = Duration::from_secs(30);
/// How long a busy device is tried again before its removal is left to the kernel.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);
/// How long between two tries.
const RETRY_EVERY: Duration = Duration::from_millis(50);
/// Longest name of a device-mapper device: `DM_NAME_LEN` less the NUL.
pub const MAX_NAME: usize = 127;

/// One target of a table, as the library has it: start and length in sectors, type, parameters.
pub type Target = (u64, u64, String, String);

/// A device as the kernel has it.
#[derive(Debug, Clone)]
pub struct DeviceState {
    pub number: Device,
    /// Its UUID, empty if it has none.
    pub uuid: String,
    pub open_count: i32,
    /// Whether I/O is held up.
    pub suspended: bool,
    /// Whether it removes itself when it is closed.
    pub removing: bool,
    /// Its table; empty if none was ever activated.
    pub table: Vec<Target>,
}

/// How a device is made known to udev.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Like any disk.
    Public,
    /// Only its node: nobody is to look for file systems or labels on it.
    Private,
}

impl Visibility {
    fn options(self) -> DmOptions {
        match self {
            Self::Public => DmOptions::default(),
            Self::Private => DmOptions::private(),
        }
    }
}

/// What became of a device that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    Gone,
    /// Somebody has it open: the kernel removes it when it is closed.
    Deferred,
}

#[derive(Clone)]
pub struct Kernel {
    dm: Arc<DM>,
    /// Names whose removal was left to the kernel: it removes no nodes.
    deferred: Arc<Mutex<BTreeSet<String>>>,
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Kernel")
    }
}

impl Kernel {
    pub fn open() -> Result<Self> {
        nodes::ensure_control();
        let dm = DM::new()
            .and_then(|dm| dm.version().map(|_| dm))
            .map_err(|error| Error::NoDeviceMapper { missing: "device-mapper", reason: error.to_string() })?;
        Ok(Self { dm: Arc::new(dm), deferred: Arc::default() })
    }

    pub fn has_targets(&self, wanted: &[&str]) -> Result<bool> {
        let known = self.dm.list_versions().map_err(|error| library(&error))?;
        Ok(wanted.iter().all(|target| known.iter().any(|(name, ..)| name == target)))
    }

    pub fn node(name: &str) -> PathBuf {
        Path::new(DEV_MAPPER).join(name)
    }

    pub fn list(&self) -> Result<Vec<(String, Device)>> {
        let devices = self.dm.list_devices().map_err(|error| library(&error))?;
        Ok(devices.into_iter().map(|(name, number, _)| (name.to_string(), number)).collect())
    }

    /// A device; `None` when there is none of that name.
    pub fn state(&self, name: &str) -> Result<Option<DeviceState>> {
        let options = DmOptions::default().set_flags(DmFlags::DM_STATUS_TABLE | DmFlags::DM_NOFLUSH);
        match self.dm.table_status(&id(name)?, options) {
            Ok((info, table)) => Ok(Some(state_of(&info, table))),
            Err(error) => match failure("look at", name, error) {
                error if error.is(nix::errno::Errno::ENXIO) => Ok(None),
                error => Err(error),
            },
        }
    }

    /// The status of a device's only target. The kernel writes outstanding metadata first.
    ///
    /// # Errors
    /// [`Error::Kernel`]; [`Error::Library`] if it has no table.
    pub fn status(&self, name: &str) -> Result<String> {
        let (_, status) = self
            .dm
            .table_status(&id(name)?, DmOptions::default())
            .map_err(|error| failure("read the status of", name, error))?;
        status
            .into_iter()
            .next()
            .map(|(.., status)| status)
            .ok_or_else(|| Error::Library(format!("the device {name} has no table")))
    }

    /// Makes a device, loads its table and starts it. Its node exists when this returns; when it fails,
    /// nothing is left.
    ///
    /// # Errors
    /// [`Error::Kernel`] with `EBUSY` if the name or UUID is taken; [`Error::UdevSilent`].
    pub fn create(
        &self,
        name: &str,
        uuid: &str,
        table: &[Target],
        read_only: bool,
        visibility: Visibility,
    ) -> Result<Device> {
        let flags = if read_only { DmFlags::DM_READONLY } else { DmFlags::empty() };
        let uuid = DmUuid::new(uuid).map_err(|error| library(&error))?;
        let options = visibility.options().set_flags(flags);
        let made = self
            .dm
            .device_create(dm_name(name)?, Some(uuid), options)
            .map_err(|error| failure("create", name, error))?;
        let started = self
            .dm
            .table_load(&id(name)?, table, options)
            .map_err(|error| failure("load the table of", name, error))
            .and_then(|_| self.resume(name, visibility))
            .and_then(|()| nodes::ensure(&Self::node(name), made.device()));
        match started {
            Ok(()) => Ok(made.device()),
            Err(error) => {
                if let Err(left) = self.remove(name, &Context::default()) {
                    tracing::warn!(name, %left, "a device that could not be started was left behind");
                }
                Err(error)
            }
        }
    }

    pub fn ensure_node(&self, name: &str, number: Device) -> Result<()> {
        nodes::ensure(&Self::node(name), number)
    }

    /// Replaces a device's table, which is `now`. I/O is held up, not lost, meanwhile.
    ///
    /// # Errors
    /// [`Error::Kernel`]; the old table is in force then.
    pub fn reload(&self, name: &str, now: &[Target], table: &[Target]) -> Result<()> {
        let load = |table: &[Target]| {
            self.dm
                .table_load(&id(name)?, table, DmOptions::default())
                .map(drop)
                .map_err(|error| failure("load a new table of", name, error))
        };
        load(table)?;
        let swapped = self.suspend(name, DmFlags::DM_SKIP_LOCKFS);
        // Also after a failure: a device that was left suspended hangs whoever touches it.
        let resumed = self.resume(name, Visibility::Public);
        if resumed.is_err()
            && let Err(error) = load(now).and_then(|()| self.resume(name, Visibility::Public))
        {
            // Some targets look at what they are given only when they are to begin, and then the swap is
            // done.
            tracing::error!(name, %error, "the device is held up: its old table could not be restored");
        }
        swapped.and(resumed)
    }

    /// Takes back a removal that was left to the kernel.
    ///
    /// # Errors
    /// [`Error::Message`] with `EBUSY` when the device is going right now.
    pub fn keep(&self, name: &str) -> Result<()> {
        self.message(name, "@cancel_deferred_remove")?;
        self.deferred.lock().remove(name);
        Ok(())
    }

    /// Holds up a device's I/O. Without `DM_SKIP_LOCKFS` the file system on it is frozen, whole on the
    /// device.
    pub fn suspend(&self, name: &str, flags: DmFlags) -> Result<()> {
        let options = DmOptions::default().set_flags(DmFlags::DM_SUSPEND | flags);
        self.dm.device_suspend(&id(name)?, options).map(drop).map_err(|error| failure("suspend", name, error))
    }

    /// Lets a device's I/O go on, with the table that was loaded last.
    pub fn resume(&self, name: &str, visibility: Visibility) -> Result<()> {
        let options = visibility.options();
        self.guarded("resume", name, move |dm, id| dm.device_suspend(id, options).map(drop))
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// [`Error::Kernel`], with `EBUSY` if that name is taken; [`Error::UdevSilent`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let new = to.to_owned();
        dm_name(to)?;
        self.guarded("rename", from, move |dm, id| {
            let DevId::Name(old) = id else { return Ok(()) };
            dm.device_rename(old, &DevId::Name(DmName::new(&new)?)).map(drop)
        })?;
        nodes::forget(&Self::node(from));
        match self.state(to)? {
            Some(state) => nodes::ensure(&Self::node(to), state.number),
            None => Err(Error::Library(format!("the device {to} vanished while it was renamed"))),
        }
    }

    pub fn message(&self, name: &str, message: &str) -> Result<()> {
        self.dm.target_msg(&id(name)?, None, message).map(drop).map_err(|error| match errno(&error) {
            Some(source) => Error::Message { pool: name.to_owned(), message: message.to_owned(), source },
            None => library(&error),
        })
    }

    /// Removes a device. Gone already is success. A busy one is tried until the call's deadline, five seconds
    /// at most.
    ///
    /// # Errors
    /// [`Error::Open`] if it is still busy then; [`Error::Kernel`], [`Error::UdevSilent`].
    pub fn remove(&self, name: &str, context: &Context) -> Result<()> {
        let deadline =
            Instant::now() + context.remaining().map_or(REMOVE_LIMIT, |left| left.min(REMOVE_LIMIT));
        while let Some(state) = self.state(name)? {
            if state.open_count == 0 {
                match self.try_remove(name, DmFlags::empty()) {
                    Ok(()) => break,
                    Err(error) if error.is(nix::errno::Errno::ENXIO) => break,
                    // Somebody opened it in between: udev looks at what is closed after writing.
                    Err(error) if error.is(nix::errno::Errno::EBUSY) => {}
                    Err(error) => return Err(error),
                }
            }
            if Instant::now() >= deadline || context.check().is_err() {
                return Err(Error::Open { device: Self::node(name), count: state.open_count });
            }
            std::thread::sleep(RETRY_EVERY);
        }
        nodes::forget(&Self::node(name));
        Ok(())
    }

    /// Removes a device, or has the kernel do so as soon as nobody has it open.
    pub fn remove_or_defer(&self, name: &str, context: &Context) -> Result<Removal> {
        match self.remove(name, context) {
            Ok(()) => Ok(Removal::Gone),
            Err(Error::Open { count, .. }) => {
                tracing::warn!(name, count, "the device is still open: it goes when it is closed");
                match self.try_remove(name, DmFlags::DM_DEFERRED_REMOVE) {
                    Err(error) if !error.is(nix::errno::Errno::ENXIO) => Err(error),
                    _ if self.state(name)?.is_some() => {
                        self.deferred.lock().insert(name.to_owned());
                        Ok(Removal::Deferred)
                    }
                    _ => {
                        nodes::forget(&Self::node(name));
                        Ok(Removal::Gone)
                    }
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the nodes of devices that the kernel has removed since their removal was left to it.
    pub fn forget_deferred(&self) -> Result<()> {
        let names = self.deferred.lock().clone();
        for name in names {
            if self.state(&name)?.is_none() {
                nodes::forget(&Self::node(&name));
                self.deferred.lock().remove(&name);
            }
        }
        Ok(())
    }

    /// Removes the nodes of devices that are gone, among those whose names begin so.
    pub fn forget_gone(&self, prefixes: &[String]) -> Result<()> {
        for name in nodes::names(prefixes) {
            if self.state(&name)?.is_none() {
                nodes::forget(&Self::node(&name));
            }
        }
        Ok(())
    }

    fn try_remove(&self, name: &str, flags: DmFlags) -> Result<()> {
        let options = DmOptions::default().set_flags(flags);
        self.guarded("remove", name, move |dm, id| dm.device_remove(id, options).map(drop))
    }

    /// Calls that wait for udev, on a thread of their own: a udev that cannot reach this process's semaphores
    /// (another IPC namespace) would be waited for for ever. Where no thread can be had the call is made
    /// here: a device that stays suspended is worse than waiting.
    fn guarded(
        &self,
        action: &'static str,
        name: &str,
        call: impl Fn(&DM, &DevId<'_>) -> DmResult<()> + Clone + Send + 'static,
    ) -> Result<()> {
        let (answer, answered) = channel();
        let (dm, owned, apart) = (Arc::clone(&self.dm), name.to_owned(), call.clone());
        let thread = std::thread::Builder::new().name("devicemapper".to_owned()).spawn(move || {
            let result = DmName::new(&owned).and_then(|name| apart(&dm, &DevId::Name(name)));
            // Nobody listens any more if it took too long.
            let _ = answer.send(result);
        });
        if thread.is_err() {
            return call(&self.dm, &id(name)?).map_err(|error| failure(action, name, error));
        }
        match answered.recv_timeout(UDEV_LIMIT) {
            Ok(result) => result.map_err(|error| failure(action, name, error)),
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::UdevSilent { name: name.to_owned(), seconds: UDEV_LIMIT.as_secs() })
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Library(format!("{action} {name}: no answer"))),
        }
    }
}

fn state_of(info: &DeviceInfo, table: Vec<Target>) -> DeviceState {
    let flags = info.flags();
    DeviceState {
        number: info.device(),
        uuid: info.uuid().map(ToString::to_string).unwrap_or_default(),
        open_count: info.open_count(),
        suspended: flags.contains(DmFlags::DM_SUSPEND) && !flags.contains(DmFlags::DM_INTERNAL_SUSPEND),
        removing: flags.contains(DmFlags::DM_DEFERRED_REMOVE),
        table,
    }
}

fn dm_name(name: &str) -> Result<&DmName> {
    DmName::new(name).map_err(|error| library(&error))
}

fn id(name: &str) -> Result<DevId<'_>> {
    dm_name(name).map(DevId::Name)
}

fn failure(action: &'static str, name: &str, error: DmError) -> Error {
    match errno(&error) {
        Some(source) => Error::Kernel { action, name: name.to_owned(), source },
        None => library(&error),
    }
}

/// What the kernel answered; the library's own message prints whole headers.
fn errno(error: &DmError) -> Option<std::io::Error> {
    match error {
        DmError::Core(errors::Error::Ioctl(_, _, _, errno)) => {
            Some(std::io::Error::from_raw_os_error(**errno as i32))
        }
        _ => None,
    }
}

fn library(error: &DmError) -> Error {
    match errno(error) {
        Some(source) => Error::Io { what: "ask device-mapper".to_owned(), source },
        None => Error::Library(error.to_string()),
    }
}
