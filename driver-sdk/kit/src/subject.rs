//! The driver under test.

use crate::check::{Outcome, done, fail, in_words, io};
use crate::leaks::Resources;
use crate::options::Options;
use crate::rules;
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, CloseSnapshot, CreateSnapshot, CreateVolume, DeleteBackup, DeleteVolume,
    GetVolume, ListVolumes, MountVolume, Open, Opened, Request, UnmountVolume, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::{Carrier, DriverHandle, DriverSpec, Drivers, LoadError, RequestContext};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long a driver may take to finish what it is doing when it is stopped.
const DRAIN: Duration = Duration::from_secs(20);

/// How long a call may go on after the case that made it.
const QUIET: Duration = Duration::from_secs(10);

/// A call that a case left behind.
pub(crate) struct StuckCall {
    pub(crate) method: String,
    /// Nothing can end it.
    pub(crate) goes_on: bool,
}

/// A loaded and open driver, and what the kit has made with it.
pub(crate) struct Subject {
    pub(crate) options: Options,
    pub(crate) spec: DriverSpec,
    pub(crate) open: Open,
    /// The kit's own files.
    pub(crate) work: PathBuf,
    runtime: Handle,
    drivers: Drivers,
    handle: Mutex<DriverHandle>,
    deadline: Mutex<Instant>,
    made: Mutex<Leftovers>,
    numbers: AtomicU64,
    baseline: OnceLock<Resources>,
}

#[derive(Default)]
struct Leftovers {
    volumes: BTreeSet<Name>,
    readings: BTreeSet<String>,
    restores: BTreeSet<String>,
    backups: BTreeSet<String>,
    /// What volumes have adopted.
    directories: BTreeSet<PathBuf>,
}

impl Subject {
    /// Loads the driver; it is opened by [`Self::start`].
    pub(crate) fn load(
        drivers: Drivers,
        spec: DriverSpec,
        options: Options,
        open: Open,
        work: PathBuf,
        runtime: Handle,
    ) -> Result<Self, LoadError> {
        let handle = runtime.block_on(drivers.load(&spec))?;
        let deadline = Instant::now() + options.limit;
        let (handle, deadline) = (Mutex::new(handle), Mutex::new(deadline));
        let numbers = AtomicU64::new(1);
        Ok(Self {
            options,
            spec,
            open,
            work,
            runtime,
            drivers,
            handle,
            deadline,
            made: Mutex::default(),
            numbers,
            baseline: OnceLock::new(),
        })
    }

    pub(crate) fn handle(&self) -> DriverHandle {
        self.handle.lock().clone()
    }

    pub(crate) fn is_process(&self) -> bool {
        self.handle().carrier() == Carrier::Process
    }

    pub(crate) fn can(&self, capability: Capability) -> bool {
        self.handle().description().capabilities.contains(&capability)
    }

    /// The file of the driver, if it is not linked in.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        self.handle().status().path
    }

    /// The calls of a case share its time.
    pub(crate) fn begin(&self) {
        *self.deadline.lock() = Instant::now() + self.options.limit;
    }

    fn call_options(&self) -> RequestContext {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        RequestContext::new(format!("kit-{number}")).with_deadline(*self.deadline.lock())
    }

    /// Opens the driver with the options of the test.
    pub(crate) fn start(&self) -> Result<Opened, DriverError> {
        self.runtime.block_on(self.handle().open(self.open.clone(), self.call_options()))
    }

    /// Makes a call, within the time of the case.
    pub(crate) fn call<R: Request>(&self, request: R) -> Result<R::Reply, DriverError> {
        self.runtime.block_on(self.handle().call(request, self.call_options()))
    }

    /// Makes a call with so much time, or that is cancelled after it.
    pub(crate) fn call_for<R: Request>(
        &self,
        request: R,
        time: Duration,
        cancelled: bool,
    ) -> Result<R::Reply, DriverError> {
        let options = if cancelled {
            let token = CancellationToken::new();
            let later = token.clone();
            self.runtime.spawn(async move {
                tokio::time::sleep(time).await;
                later.cancel();
            });
            self.call_options().with_cancel(token)
        } else {
            self.call_options().within(time)
        };
        self.runtime.block_on(self.handle().call(request, options))
    }

    /// Waits until the driver has no call under way, also none that nobody waits for.
    pub(crate) fn settle(&self, rule: rules::Rule) -> Outcome {
        let end = *self.deadline.lock();
        while self.handle().status().calls > 0 {
            if Instant::now() > end {
                return fail(rule, "a call whose caller is gone is still under way");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Waits until nothing of a case is under way any more. A process that does not end what it does is
    /// killed, and is there again. Gives what did not end, and whether it still goes on: a library cannot be
    /// killed.
    pub(crate) fn end_calls(&self) -> Result<(), StuckCall> {
        let end = Instant::now() + QUIET;
        loop {
            let Some(call) = self.handle().under_way().into_iter().next() else { return Ok(()) };
            if Instant::now() < end {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
            let killed = self.pid();
            self.begin();
            let goes_on = !self.is_process() || self.kill().and_then(|()| self.recover(killed)).is_err();
            return Err(StuckCall { method: call.method, goes_on });
        }
    }

    /// Stops the driver in order and starts it again.
    pub(crate) fn restart(&self) -> Outcome<Opened> {
        self.stop();
        match self.runtime.block_on(self.drivers.load(&self.spec)) {
            Ok(handle) => *self.handle.lock() = handle,
            Err(error) => return fail(rules::HELLO, format!("the driver does not start again: {error}")),
        }
        done(rules::DURABLE, "driver.open after a stop", self.start())
    }

    /// Stops the driver in order.
    pub(crate) fn stop(&self) {
        let handle = self.handle();
        self.runtime.block_on(handle.stop(DRAIN));
    }

    /// Kills the process as `kill -9` does.
    pub(crate) fn kill(&self) -> Outcome {
        let pid = self.pid().and_then(Pid::from_raw);
        // Gone already is as good.
        pid.map_or(Ok(()), |pid| rustix::process::kill_process(pid, Signal::KILL)).or(Ok(()))
    }

    pub(crate) fn pid(&self) -> Option<i32> {
        self.handle().status().pid.and_then(|pid| i32::try_from(pid).ok())
    }

    /// Waits until a driver that was killed is there again and open.
    pub(crate) fn recover(&self, killed: Option<i32>) -> Outcome {
        let end = *self.deadline.lock();
        loop {
            let status = self.handle().status();
            let pid = status.pid.and_then(|pid| i32::try_from(pid).ok());
            match status.health {
                convoy_drivers::DriverHealth::Ready if pid != killed => return Ok(()),
                convoy_drivers::DriverHealth::Failed | convoy_drivers::DriverHealth::Stopped => {
                    let why = status.last_error.unwrap_or_default();
                    return fail(rules::WHOLE, format!("after a kill the driver does not open again: {why}"));
                }
                _ if Instant::now() > end => {
                    let why = status.last_error.unwrap_or_default();
                    return fail(rules::TIME, format!("after a kill the driver is not back in time: {why}"));
                }
                _ => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// A name nobody has.
    pub(crate) fn name(&self, purpose: &str) -> Name {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Name::parse(format!("kit-{purpose}-{number}")).unwrap_or_else(|_| Name::from_static("kit-volume"))
    }

    pub(crate) fn create_request(&self, name: &Name) -> CreateVolume {
        self.made.lock().volumes.insert(name.clone());
        CreateVolume::new(name.clone()).size(self.options.size).options(self.create_options(name))
    }

    /// The options of a volume: `{name}` in a value stands for its name. The directories that it adopts are
    /// there.
    pub(crate) fn create_options(&self, name: &Name) -> BTreeMap<String, String> {
        let filled = |(key, value): (&String, &String)| (key.clone(), value.replace("{name}", name));
        let adopted = self.options.adopted.iter().map(filled).inspect(|(_, directory)| {
            // One that is there is not the kit's to remove. One that cannot be made the driver refuses.
            if std::fs::create_dir(directory).is_ok() {
                self.made.lock().directories.insert(directory.into());
            }
        });
        self.options.create.iter().map(filled).chain(adopted).collect()
    }

    /// Makes a volume that is removed after the case.
    pub(crate) fn create(&self, purpose: &str) -> Outcome<Name> {
        let name = self.name(purpose);
        let request = self.create_request(&name);
        let volume = done(rules::CREATE, &format!("volume.create {name}"), self.call(request))?;
        crate::check::same(rules::CREATE, "the name of the volume made", &name, &volume.name)?;
        Ok(name)
    }

    pub(crate) fn get(&self, name: &Name) -> Result<Volume, DriverError> {
        self.call(GetVolume::new(name.clone()))
    }

    pub(crate) fn delete(&self, name: &Name) -> Result<(), DriverError> {
        self.call(DeleteVolume::new(name.clone())).map(drop)
    }

    pub(crate) fn mount(&self, name: &Name) -> Outcome<PathBuf> {
        let request = MountVolume::new(name.clone());
        let path = done(rules::MOUNT, &format!("volume.mount {name}"), self.call(request))?.mountpoint;
        crate::check::ensure(rules::MOUNT, path.is_absolute() && path.is_dir(), || {
            format!("volume.mount {name}: expected an absolute path to a directory, found {}", path.display())
        })?;
        Ok(path)
    }

    pub(crate) fn unmount(&self, name: &Name) -> Outcome {
        let answer = self.call(UnmountVolume::new(name.clone()));
        done(rules::UNMOUNT, &format!("volume.unmount {name}"), answer).map(drop)
    }

    pub(crate) fn snapshot(&self, volume: &Name, snapshot: &str) -> Outcome<Name> {
        let snapshot = Name::parse(snapshot).unwrap_or_else(|_| Name::from_static("snapshot"));
        let request =
            CreateSnapshot::new(volume.clone(), snapshot.clone()).freeze(self.can(Capability::Freeze));
        done(rules::SNAPSHOT, &format!("snapshot.create {snapshot} of {volume}"), self.call(request))?;
        Ok(snapshot)
    }

    /// Names of all volumes that the kit can see.
    pub(crate) fn names(&self) -> Outcome<Vec<Name>> {
        let listed = done(rules::LIST, "volume.list", self.call(ListVolumes::default()))?;
        Ok(listed.volumes.into_iter().map(|volume| volume.name).collect())
    }

    pub(crate) fn reading(&self, handle: &str) {
        self.made.lock().readings.insert(handle.to_owned());
    }

    pub(crate) fn restoring(&self, handle: &str) {
        self.made.lock().restores.insert(handle.to_owned());
    }

    pub(crate) fn backup(&self, url: &str) {
        self.made.lock().backups.insert(url.to_owned());
    }

    /// A volume that is made otherwise than by [`Self::create`] is removed after the case, too.
    pub(crate) fn owns(&self, name: &Name) {
        self.made.lock().volumes.insert(name.clone());
    }

    pub(crate) fn clean(&self) -> Outcome {
        self.begin();
        let made = std::mem::take(&mut *self.made.lock());
        if self.can(Capability::Snapshots) {
            for handle in made.readings {
                done(rules::SNAPSHOT_OPEN, "snapshot.close", self.call(CloseSnapshot::new(handle)))?;
            }
        }
        if self.can(Capability::RestoreTree) || self.can(Capability::RestoreBlock) {
            for handle in made.restores {
                done(rules::ABORT, "restore.abort", self.call(AbortRestore::new(handle)))?;
            }
        }
        for name in made.volumes {
            self.remove(&name)?;
        }
        for url in made.backups {
            match self.call(DeleteBackup::new(url)) {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                answer => done(rules::BACKUP, "backup.delete", answer).map(drop)?,
            }
        }
        for directory in made.directories {
            let removed = std::fs::remove_dir_all(&directory);
            io(rules::ADOPTED, format_args!("remove {}, which was adopted", directory.display()), removed)?;
        }
        Ok(())
    }

    fn remove(&self, name: &Name) -> Outcome {
        match self.call(UnmountVolume::new(name.clone())) {
            Err(error) if error.kind != ErrorKind::NotFound => {
                return fail(rules::UNMOUNT, format!("volume.unmount {name}: {}", in_words(&error)));
            }
            _ => {}
        }
        match self.delete(name) {
            Err(error) if error.kind != ErrorKind::NotFound => {
                fail(rules::DELETE, format!("volume.delete {name}: {}", in_words(&error)))
            }
            _ => Ok(()),
        }
    }

    /// What the kernel holds for the driver now.
    pub(crate) fn held(&self) -> Resources {
        Resources::look(&self.places(), self.pid())
    }

    /// Remembers what is held before the first volume.
    pub(crate) fn remember_held(&self) {
        self.baseline.get_or_init(|| self.held());
    }

    /// What is held now that was not before the first volume.
    pub(crate) fn leaked(&self) -> Vec<String> {
        self.baseline.get().map_or_else(Vec::new, |before| self.held().since(before))
    }

    /// The directories and devices that the driver was told of: what is mounted or lies in them, or is made
    /// of them, is its own.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let named = self
            .open
            .options
            .values()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path.starts_with("/") && *path != Path::new("/"));
        let is_device = |path: &Path| {
            use std::os::unix::fs::FileTypeExt as _;
            path.metadata().is_ok_and(|found| found.file_type().is_block_device())
        };
        let named = named.filter(|path| path.is_dir() || is_device(path));
        std::iter::once(self.open.root.clone()).chain(named).collect()
    }

    pub(crate) fn is_mounted(path: &Path) -> bool {
        convoy_driver_sdk::mountinfo::MountTable::read().is_ok_and(|table| table.is_mounted(path))
    }
}

/// Runs several closures at the same time and gives what they give, in their order.
pub(crate) fn at_once<T: Send, F: FnOnce() -> T + Send>(all: Vec<F>) -> Vec<Option<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = all.into_iter().map(|one| scope.spawn(one)).collect();
        running.into_iter().map(|thread| thread.join().ok()).collect()
    })
}

pub(crate) type Kit = Arc<Subject>;
