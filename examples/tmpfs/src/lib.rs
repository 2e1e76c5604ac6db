//! A convoy driver for volumes in memory: scratch space and secrets that must never reach a disk.
//!
//! A volume is a tmpfs, mounted at `<root>/mounts/<name>` for as long as the volume exists. What is in it is
//! gone after a reboot; that the volume exists, and its size, is remembered in a record.

use convoy_driver_sdk::filesystem::{Mount, mount, unmount};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::options::Options;
use convoy_driver_sdk::protocol::{
    Capability, CreateVolume, DeleteVolume, Description, GetVolume, ListVolumes, ListedVolumes, MountVolume,
    Mounted, Open, Opened, OptionSpec, ResizeVolume, UnmountVolume, Volume,
};
use convoy_driver_sdk::records::{RecordError, RecordStore};
use convoy_driver_sdk::{Context, Driver, DriverError, Name, Result, Timestamp, options};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;

convoy_driver_sdk::export!(Tmpfs);

const SIZE: &str = "tmpfs.size";
const DEFAULT_SIZE: u64 = 64 << 20;
/// A tmpfs has whole pages, and takes a number that is too large for none.
const SIZES: RangeInclusive<u64> = 4096..=1 << 62;

#[derive(Serialize, Deserialize)]
struct Record {
    size: u64,
    created: Timestamp,
    /// A delete has begun; it is finished at the next start if it was cut off.
    deleting: bool,
}

/// Keeps volumes in memory.
pub struct Tmpfs {
    root: PathBuf,
    default_size: u64,
    records: RecordStore<Record>,
}

impl Tmpfs {
    fn record(&self, name: &Name) -> Result<Record> {
        let missing = || DriverError::not_found(format!("there is no volume {name}"));
        self.records.load(name)?.filter(|record| !record.deleting).ok_or_else(missing)
    }

    fn mountpoint(&self, name: &Name) -> PathBuf {
        self.root.join("mounts").join(name.as_str())
    }

    fn mount_tmpfs(&self, name: &Name, options: &str, context: &Context) -> Result<()> {
        let target = self.mountpoint(name);
        convoy_driver_sdk::atomic::create_dir(&target, 0o711)
            .map_err(|error| DriverError::io(format_args!("make {}", target.display()), &error))?;
        mount(&Mount::new("tmpfs", target, "tmpfs").options(options.to_owned()), context)
    }

    fn remove(&self, name: &Name, context: &Context) -> Result<()> {
        unmount(&self.mountpoint(name), None, context)?;
        match std::fs::remove_dir(self.mountpoint(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DriverError::io(format_args!("remove the directory of {name}"), &error))
            }
            _ => Ok(self.records.delete(name)?),
        }
    }

    fn volume(&self, name: &Name, record: &Record, mounts: &MountTable) -> Volume {
        let mountpoint = Some(self.mountpoint(name)).filter(|path| mounts.is_mounted(path));
        Volume::new(name.clone(), record.size, record.created).mountpoint(mountpoint)
    }
}

impl Driver for Tmpfs {
    fn describe() -> Description {
        let size = OptionSpec::new(SIZE, "size of a volume that is created without one").default_value("64M");
        Description::new("tmpfs", env!("CARGO_PKG_VERSION"), "volumes in memory")
            .capabilities([Capability::Sized, Capability::ResizeOffline, Capability::ResizeOnline].into())
            .options(vec![size])
    }

    fn open(request: Open, context: &Context) -> Result<(Self, Opened)> {
        let options = Options::new(&Self::describe().options, &request.options)?;
        let default_size = options.size(SIZE)?.unwrap_or(DEFAULT_SIZE);
        let records = RecordStore::volumes(&request.root, "tmpfs")?;
        let driver = Self { root: request.root, default_size, records };
        let mut opened = Opened::default();
        let mounts = MountTable::read()?;
        for (name, record) in driver.records.load_all()?.records {
            match record {
                Err(damaged) => opened.warnings.push(damaged.to_string()),
                Ok(record) if record.deleting => {
                    driver.remove(&name, context)?;
                    opened.recovered.push(format!("finished deleting {name}"));
                }
                Ok(record) if !mounts.is_mounted(&driver.mountpoint(&name)) => {
                    driver.mount_tmpfs(&name, &format!("size={}", record.size), context)?;
                    opened.recovered.push(format!("mounted {name} anew: it is empty"));
                }
                Ok(_) => {}
            }
        }
        Ok((driver, opened))
    }

    fn info(&self, _: &Context) -> Result<BTreeMap<String, String>> {
        Ok(BTreeMap::from([("DefaultSize".to_owned(), self.default_size.to_string())]))
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        options::check(&[], &request.options)?;
        let name = request.name;
        let size = request.size.unwrap_or(self.default_size);
        if !SIZES.contains(&size) {
            let text = format!("expected {SIZES:?} bytes, found {size}");
            return Err(DriverError::invalid(text));
        }
        let record = Record { size, created: Timestamp::now(), deleting: false };
        self.records.insert(&name, &record).map_err(|error| match error {
            RecordError::Exists { .. } => {
                DriverError::already_exists(format!("the volume {name} exists already"))
            }
            other => other.into(),
        })?;
        // What a delete with `reference_only` kept is taken back.
        let kept = MountTable::read()?.is_mounted(&self.mountpoint(&name));
        let option = if kept { "remount,size=" } else { "size=" };
        if let Err(error) = self.mount_tmpfs(&name, &format!("{option}{size}"), context) {
            self.records.delete(&name)?;
            return Err(error);
        }
        Ok(self.volume(&name, &record, &MountTable::read()?))
    }

    fn delete_volume(&self, request: DeleteVolume, context: &Context) -> Result<()> {
        let record = self.record(&request.name)?;
        if request.reference_only {
            return Ok(self.records.delete(&request.name)?);
        }
        self.records.save(&request.name, &Record { deleting: true, ..record })?;
        self.remove(&request.name, context)
    }

    fn mount_volume(&self, request: MountVolume, _: &Context) -> Result<Mounted> {
        if request.mountpoint.is_some() {
            return Err(DriverError::unsupported("a mountpoint of the caller's choice"));
        }
        self.record(&request.name)?;
        Ok(Mounted::new(self.mountpoint(&request.name)))
    }

    fn unmount_volume(&self, request: UnmountVolume, _: &Context) -> Result<()> {
        // The memory is the volume: it stays mounted.
        self.record(&request.name).map(drop)
    }

    fn list_volumes(&self, request: ListVolumes, _: &Context) -> Result<ListedVolumes> {
        let mounts = MountTable::read()?;
        let (mut volumes, mut warnings) = (Vec::new(), Vec::new());
        for (name, record) in self.records.load_all()?.records {
            match record {
                Ok(record) if record.deleting => {}
                Ok(record) => volumes.push(self.volume(&name, &record, &mounts)),
                Err(damaged) => warnings.push(damaged.to_string()),
            }
        }
        let (volumes, more) = request.page(volumes);
        Ok(ListedVolumes::new(volumes).more(more).warnings(warnings))
    }

    fn get_volume(&self, request: GetVolume, _: &Context) -> Result<Volume> {
        Ok(self.volume(&request.name, &self.record(&request.name)?, &MountTable::read()?))
    }

    fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        let record = Record { size: request.size, ..self.record(&request.name)? };
        self.mount_tmpfs(&request.name, &format!("remount,size={}", request.size), context)?;
        self.records.save(&request.name, &record)?;
        Ok(self.volume(&request.name, &record, &MountTable::read()?))
    }
}
