//! A driver to test, called as the host calls it, and the machine around it.

use super::check::{Failure, Step};
use crate::{ensure, ensure_eq};
use convoy_driver_devicemapper::DeviceMapper;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{
    Check, Close, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, Describe, Extent, Finding,
    GetVolume, Info, ListExtents, ListVolumes, MountVolume, Open, OpenSnapshot, Opened, OpenedSnapshot,
    Probe, Probed, Request, SourceLocation, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;
/// Blocks of the pools made here, in bytes.
pub const BLOCK: u64 = 2 * MIB;
/// How long a call may take: everything is many times slower here.
const CALL_LIMIT: Duration = Duration::from_secs(180);

/// An open driver.
pub struct Lab {
    dispatcher: Dispatcher<DeviceMapper>,
    /// The driver's directory.
    pub root: PathBuf,
    /// What it said when it was opened.
    pub opened: Opened,
}

/// Where and with what to open.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The driver's root.
    pub root: PathBuf,
    /// The options that the driver is opened with.
    pub options: BTreeMap<String, String>,
    /// The mount namespace.
    pub namespace: Option<PathBuf>,
    /// Whether the options win over saved ones.
    pub override_saved: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self::on("/dev/vda", "/dev/vdb")
    }
}

impl Setup {
    /// A pool on these devices.
    pub fn on(data: &str, metadata: &str) -> Self {
        let setup = Self {
            root: "/run/convoy/devicemapper".into(),
            options: BTreeMap::new(),
            namespace: None,
            override_saved: true,
        };
        setup.with("dm.datadev", data).with("dm.metadatadev", metadata)
    }

    /// One more option.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.options.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Sets the directory of the driver.
    #[must_use]
    pub fn at(mut self, root: impl Into<PathBuf>) -> Self {
        self.root = root.into();
        self
    }

    /// Opens the driver.
    ///
    /// # Errors
    /// The driver's.
    pub fn open(&self) -> Result<Lab, DriverError> {
        let dispatcher = Dispatcher::new();
        let open = Open::new(self.root.clone())
            .options(self.options.clone())
            .override_saved(self.override_saved)
            .mount_namespace(self.namespace.clone())
            .command_timeout_ms(Some(60_000));
        let opened = call(&dispatcher, open)?;
        Ok(Lab { dispatcher, root: self.root.clone(), opened })
    }
}

fn call<R: Request>(dispatcher: &Dispatcher<DeviceMapper>, request: R) -> Result<R::Reply, DriverError> {
    let broken = |error: serde_json::Error| DriverError::new(ErrorKind::Internal, error.to_string());
    let context = Context::new("test").with_deadline(Some(Instant::now() + CALL_LIMIT));
    let json = serde_json::to_vec(&request).map_err(broken)?;
    serde_json::from_slice(&dispatcher.dispatch(R::METHOD, &json, &context)?).map_err(broken)
}

/// Parses the name of a volume or snapshot.
pub fn name(text: &str) -> Name {
    Name::from_static_or(text)
}

trait NameExt {
    fn from_static_or(text: &str) -> Name;
}

impl NameExt for Name {
    /// Names in scenarios are good; a bad one shows as a volume that nobody made.
    fn from_static_or(text: &str) -> Name {
        Name::parse(text).unwrap_or_else(|_| Name::from_static("bad-name"))
    }
}

impl Lab {
    /// A call, as a carrier makes it.
    ///
    /// # Errors
    /// The driver's.
    pub fn call<R: Request>(&self, request: R) -> Result<R::Reply, DriverError> {
        call(&self.dispatcher, request)
    }

    /// Creates a volume.
    ///
    /// # Errors
    /// The driver's.
    pub fn create(&self, volume: &str, size: u64, filesystem: FsKind) -> Result<Volume, DriverError> {
        let options = [("fs".to_owned(), filesystem.to_string())].into();
        self.call(CreateVolume::new(name(volume)).size(Some(size)).options(options))
    }

    /// Mounts a volume in the driver's own place, and answers where.
    ///
    /// # Errors
    /// The driver's.
    pub fn mount(&self, volume: &str) -> Result<PathBuf, DriverError> {
        Ok(self.call(MountVolume::new(name(volume)))?.mountpoint)
    }

    /// Unmounts a volume.
    ///
    /// # Errors
    /// The driver's.
    pub fn unmount(&self, volume: &str) -> Result<(), DriverError> {
        self.call(UnmountVolume::new(name(volume))).map(drop)
    }

    /// Deletes a volume and its data.
    ///
    /// # Errors
    /// The driver's.
    pub fn delete(&self, volume: &str) -> Result<(), DriverError> {
        self.call(DeleteVolume::new(name(volume))).map(drop)
    }

    /// Takes a snapshot.
    ///
    /// # Errors
    /// The driver's.
    pub fn snapshot(&self, volume: &str, snapshot: &str) -> Result<(), DriverError> {
        let request = CreateSnapshot::new(name(volume), name(snapshot)).freeze(true);
        self.call(request).map(drop)
    }

    /// Deletes a snapshot.
    ///
    /// # Errors
    /// The driver's.
    pub fn delete_snapshot(&self, volume: &str, snapshot: &str) -> Result<(), DriverError> {
        self.call(DeleteSnapshot::new(name(volume), name(snapshot))).map(drop)
    }

    /// A volume.
    ///
    /// # Errors
    /// The driver's.
    pub fn get(&self, volume: &str) -> Result<Volume, DriverError> {
        self.call(GetVolume::new(name(volume)))
    }

    /// All volumes.
    ///
    /// # Errors
    /// The driver's.
    pub fn list(&self) -> Result<Vec<Volume>, DriverError> {
        Ok(self.call(ListVolumes::default())?.volumes)
    }

    /// What `convoy info` shows.
    ///
    /// # Errors
    /// The driver's.
    pub fn info(&self) -> Result<BTreeMap<String, String>, DriverError> {
        Ok(self.call(Info::new())?.info)
    }

    /// A number of what `convoy info` shows.
    ///
    /// # Errors
    /// The driver's, or none of that key.
    pub fn figure(&self, key: &str) -> Step<u64> {
        let info = self.info()?;
        let text = info.get(key).ok_or_else(|| Failure::new(format!("info has no {key}: {info:?}")))?;
        Ok(text.parse()?)
    }

    /// How the pool is.
    ///
    /// # Errors
    /// The driver's.
    pub fn probe(&self) -> Result<Probed, DriverError> {
        self.call(Probe::new())
    }

    /// Opens a snapshot, with its device and all its extents.
    ///
    /// # Errors
    /// The driver's, or pages that do not follow each other.
    pub fn open_snapshot(&self, volume: &str, snapshot: &str, base: Option<&str>) -> Step<Source> {
        let base = base.map(name);
        let request = OpenSnapshot::new(name(volume), name(snapshot)).base(base);
        let OpenedSnapshot { handle, location, .. } = self.call(request)?;
        let SourceLocation::Block { device, size, changed_only, .. } = location else {
            return Err(Failure::new(format!("{snapshot} is no block device: {location:?}")));
        };
        let mut source =
            Source { handle, device, size, changed_only, extents: Vec::new(), discarded: Vec::new() };
        let mut from = 0;
        loop {
            // A small page, so that there are several.
            let request = ListExtents::new(source.handle.clone()).from(from).limit(Some(3));
            let page = self.call(request)?;
            source.extents.extend(page.extents);
            source.discarded.extend(page.discarded);
            let Some(next) = page.next else { return Ok(source) };
            ensure!(next > from, "the page after {from} is at {next}");
            from = next;
        }
    }

    /// Ends everything; the machine must be as it was before the driver came, but for the pool.
    ///
    /// # Errors
    /// What is left.
    pub fn leave(self) -> Step {
        self.leave_with(&["convoy-pool"])
    }

    /// The same where devices of the scenario stay besides the pool.
    ///
    /// # Errors
    /// What is left.
    pub fn leave_with(self, devices: &[&str]) -> Step {
        self.leave_but_for(0, devices)
    }

    /// The same where up to `lost` blocks of the pool may belong to nobody: the kernel writes down that a
    /// block is taken before it writes down by whom, so a power cut in between leaves some, and a data device
    /// that fails others. The `thin_check` of Debian 12 does not take them back; the driver's check must tell
    /// of every one, and `thin_repair` must take them back.
    ///
    /// # Errors
    /// What is left.
    pub fn leave_but_for(self, lost: u64, devices: &[&str]) -> Step {
        for volume in self.list()? {
            self.unmount(&volume.name)?;
            self.delete(&volume.name)?;
        }
        self.call(Close::new())?;
        let info = self.info()?;
        let metadata = info.get("MetadataDevice").map(String::as_str).unwrap_or_default();
        let ids = sh(&format!(
            "dmsetup message convoy-pool 0 reserve_metadata_snap
             thin_ls -m --no-headers -o DEV {metadata}
             dmsetup message convoy-pool 0 release_metadata_snap"
        ))?;
        ensure!(ids.is_empty(), "devices are left in the pool: {ids}");
        let used = self.figure("PoolDataUsed")?;
        ensure!(used <= lost * BLOCK, "{used} bytes of the pool are left in use");
        if lost > 0 {
            ensure_eq!(self.lost_blocks()? * BLOCK, used);
        }
        no_leaks(devices)?;
        let left: Vec<_> = std::fs::read_dir(&self.root)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        ensure!(
            left.iter().all(|file| !file.contains("_volume_") && !file.contains(".tmp")),
            "left: {left:?}"
        );
        if used > 0 {
            println!("{} blocks belonged to nobody", used / BLOCK);
            // Blocks in use, as the superblock tells: `nr_allocated` of the data's space map.
            let left = sh(&format!(
                "dmsetup remove convoy-pool; truncate -s $(blockdev --getsize64 {metadata}) /run/repaired
                 thin_repair -i {metadata} -o /run/repaired > /dev/null; od -An -t u8 -j 72 -N 8 /run/repaired"
            ))?;
            ensure_eq!(left, "0");
        }
        Ok(())
    }

    /// What the driver finds.
    ///
    /// # Errors
    /// The driver's.
    pub fn check(&self, repair: bool) -> Result<Vec<Finding>, DriverError> {
        Ok(self.call(Check::new().repair(repair))?.findings)
    }

    /// Blocks of the pool that nobody owns, as the driver tells.
    ///
    /// # Errors
    /// The driver's.
    pub fn lost_blocks(&self) -> Step<u64> {
        let findings = self.check(false)?;
        let lost = findings.iter().find_map(|finding| finding.message.split_once(" blocks of "));
        lost.map_or(Ok(0), |(count, _)| Ok(count.parse()?))
    }

    /// Whether the driver says of itself what it can do.
    ///
    /// # Errors
    /// The driver's.
    pub fn describe(&self) -> Result<convoy_driver_sdk::protocol::Description, DriverError> {
        self.call(Describe::new())
    }
}

/// A snapshot that is open for reading.
#[derive(Debug)]
pub struct Source {
    /// Names it in the calls that follow.
    pub handle: String,
    /// Where its bytes are.
    pub device: PathBuf,
    /// The size in bytes.
    pub size: u64,
    /// Whether the extents are only those that changed.
    pub changed_only: bool,
    /// In use, or changed.
    pub extents: Vec<Extent>,
    /// No longer in use.
    pub discarded: Vec<Extent>,
}

/// Runs a program.
///
/// # Errors
/// If it fails.
pub fn sh(script: &str) -> Step<String> {
    Ok(Command::new("sh").args(["-c", script]).run(&Context::default())?.text().trim().to_owned())
}

/// No device-mapper devices but these, no mounts of any, no nodes of gone ones, no semaphores waiting for
/// udev.
///
/// # Errors
/// What is left.
pub fn no_leaks(expected: &[&str]) -> Step {
    let devices = sh("dmsetup ls | cut -f1 | sort")?;
    let names: Vec<&str> = devices.lines().filter(|name| *name != "No devices found").collect();
    ensure_eq!(names, expected);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let stays = |line: &str| expected.iter().any(|name| line.contains(&format!(" /dev/mapper/{name} ")));
    let mounted: Vec<_> = mounts
        .lines()
        .filter(|line| (line.contains("/dev/mapper/") || line.contains("/dev/dm-")) && !stays(line))
        .collect();
    ensure!(mounted.is_empty(), "still mounted: {mounted:?}");
    let mut nodes = Vec::new();
    for entry in std::fs::read_dir("/dev/mapper")? {
        nodes.push(entry?.file_name().to_string_lossy().into_owned());
    }
    nodes.sort();
    let mut wanted: Vec<_> = expected.iter().copied().chain(["control"]).map(str::to_owned).collect();
    wanted.sort();
    ensure_eq!(nodes, wanted);
    let semaphores = std::fs::read_to_string("/proc/sysvipc/sem")?;
    ensure!(semaphores.lines().count() <= 1, "semaphores are left:\n{semaphores}");
    Ok(())
}

/// The kind of error a call must end in.
///
/// # Errors
/// If it succeeded or failed otherwise.
pub fn expect<T>(result: Result<T, DriverError>, kind: ErrorKind) -> Step<DriverError> {
    match result {
        Ok(_) => Err(Failure::new(format!("expected {kind:?}, but it succeeded"))),
        Err(error) => {
            ensure!(error.kind == kind, "expected {kind:?}, found {error:?}");
            Ok(error)
        }
    }
}

/// Room of the file system at a path, in bytes.
///
/// # Errors
/// Those of the system call.
pub fn capacity(path: &Path) -> Step<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_blocks * stat.f_frsize)
}
