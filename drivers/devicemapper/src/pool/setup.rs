//! Bringing the pool up: a new one, the one of yesterday after a boot, or the one that still runs.

use super::{Pool, UUID_PREFIX};
use crate::error::{Error, Result};
use crate::kernel::{DeviceState, Kernel, Target, Visibility};
use crate::options::{NoSpace, Settings};
use crate::sectors::Sectors;
use crate::superblock::{MAX_METADATA_BYTES, METADATA_BLOCK, Superblock};
use crate::tools;
use convoy_driver_sdk::{Context, ErrorKind, filesystem};
use devicemapper::Device;
use nix::libc;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// A block device that somebody named: its number and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Disk {
    number: Device,
    length: Sectors,
}

impl Disk {
    fn open(path: &Path, option: &str) -> Result<Self> {
        let wrong = |found: String, kind| Error::Setup {
            message: format!("{option}={}: expected a block device, {found}", path.display()),
            hint: "after a reboot kernel names (/dev/sdb, /dev/loop0) may have changed: give the new one, \
                best as /dev/disk/by-id/..."
                .to_owned(),
            kind,
        };
        let metadata = match path.metadata() {
            Ok(metadata) if metadata.file_type().is_block_device() => metadata,
            Ok(_) => return Err(wrong("found something else".to_owned(), ErrorKind::InvalidArgument)),
            Err(error) => return Err(wrong(error.to_string(), ErrorKind::Unavailable)),
        };
        let number = Device::from(metadata.rdev());
        Ok(Self { number, length: length(number)? })
    }

    /// What of it the kernel uses for metadata.
    fn metadata(self) -> Sectors {
        let whole = self.length.round_down(Sectors::of_bytes(METADATA_BLOCK));
        whole.min(Sectors::of_bytes(MAX_METADATA_BYTES))
    }
}

/// The present length of a block device.
fn length(number: Device) -> Result<Sectors> {
    let path = format!("/sys/dev/block/{number}/size");
    let text = std::fs::read_to_string(&path).map_err(Error::io(format_args!("read {path}")))?;
    let sectors = text.trim().parse().map(Sectors);
    sectors.map_err(|_| Error::Library(format!("expected a number in {path}, found {text:?}")))
}

/// Makes the pool run: adopts the running one of that name if it is of these devices, checks and starts the
/// one on the devices, or makes a new one on blank devices.
///
/// `in_use` says that records name devices in this pool, so that a blank metadata device is a mistake.
///
/// # Errors
/// [`Error::Setup`] when devices, options and what is there do not fit together; [`Error::Kernel`] and
/// others.
pub fn bring_up(kernel: Kernel, settings: Settings, in_use: bool, context: &Context) -> Result<Pool> {
    if !kernel.has_targets(&["thin-pool", "thin"])? {
        // A kernel without modules says so when the pool is made.
        if let Err(error) = tools::load_module(context) {
            tracing::debug!(%error, "modprobe");
        }
    }
    if !kernel.has_targets(&["thin-pool", "thin"])? {
        return Err(Error::NoDeviceMapper {
            missing: "thin-pool target",
            reason: "neither built in nor loaded".to_owned(),
        });
    }
    let data = Disk::open(&settings.data_device, "dm.datadev")?;
    let metadata = Disk::open(&settings.metadata_device, "dm.metadatadev")?;
    let table = [table(&settings, data, metadata)];
    let name = settings.pool.clone();
    let running = match kernel.state(&name)? {
        Some(state) if state.table.is_empty() && state.uuid.starts_with(UUID_PREFIX) => {
            kernel.remove(&name, context)?;
            None
        }
        other => other,
    };
    let number = match running {
        Some(state) => {
            check_running(&settings, &state, data, metadata)?;
            if state.suspended {
                kernel.resume(&name, Visibility::Private)?;
            }
            kernel.ensure_node(&name, state.number)?;
            if !same(&state.table, &table) {
                tracing::info!(pool = name, "the pool's table is brought up to date");
                kernel.reload(&name, &state.table, &table)?;
            }
            state.number
        }
        None => {
            check_devices(&settings, in_use, context)?;
            let uuid = format!("{UUID_PREFIX}-pool-{name}");
            kernel.create(&name, &uuid, &table, false, Visibility::Private).map_err(|error| match error {
                Error::Kernel { action, source, .. } if source.raw_os_error() == Some(libc::EBUSY) => {
                    Error::Setup {
                        message: format!("cannot {action} the pool {name}: one of its devices is in use"),
                        hint: format!(
                            "see what uses them: lsblk {} {}",
                            settings.data_device.display(),
                            settings.metadata_device.display()
                        ),
                        kind: ErrorKind::InUse,
                    }
                }
                error => error,
            })?
        }
    };
    Ok(Pool { kernel, name, number, metadata: settings.metadata_device.clone(), settings })
}

fn table(settings: &Settings, data: Disk, metadata: Disk) -> Target {
    let block = settings.block;
    let length = data.length.round_down(block);
    // The kernel logs when fewer blocks than this are free.
    let low_water = length.0 / block.0 * (100 - settings.warn_percent) / 100;
    let features = match settings.no_space {
        NoSpace::Queue => "0",
        NoSpace::Fail => "1 error_if_no_space",
    };
    let params = format!("{} {} {block} {low_water} {features}", metadata.number, data.number);
    (0, length.0, "thin-pool".to_owned(), params)
}

/// The kernel ends its lines with a space.
fn same(now: &[Target], wanted: &[Target]) -> bool {
    let words = |table: &[Target]| -> Vec<(u64, u64, Vec<String>)> {
        let line = |(start, length, _, params): &Target| {
            (*start, *length, params.split_whitespace().map(str::to_owned).collect())
        };
        table.iter().map(line).collect()
    };
    words(now) == words(wanted)
}

/// A pool of that name runs: it must be the one that is meant.
fn check_running(settings: &Settings, state: &DeviceState, data: Disk, metadata: Disk) -> Result<()> {
    let conflict = |found: String| Error::Setup {
        message: format!(
            "the device-mapper name {} is taken: expected a thin pool of {} and {}, found {found}",
            settings.pool,
            settings.metadata_device.display(),
            settings.data_device.display()
        ),
        hint: "name the devices the running pool was made of, or choose another dm.thinpoolname".to_owned(),
        kind: ErrorKind::AlreadyExists,
    };
    let [(_, _, kind, params)] = state.table.as_slice() else {
        return Err(conflict(format!("{} targets", state.table.len())));
    };
    let fields: Vec<&str> = params.split_whitespace().collect();
    let devices = [metadata.number.to_string(), data.number.to_string()];
    if kind != "thin-pool" || fields.get(..2).is_none_or(|found| found != devices) {
        return Err(conflict(format!("{kind} {params}")));
    }
    let block = fields.get(2).and_then(|field| field.parse().ok()).unwrap_or_default();
    check_block_size(settings, Sectors(block))?;
    // The kernel would find out when the pool has its new table already.
    let (now, wanted) = (table_length(state), data.length);
    if wanted.round_down(settings.block) < now {
        return Err(Error::Setup {
            message: format!(
                "dm.datadev={}: expected at least the {now} sectors of the running pool, found {wanted}",
                settings.data_device.display()
            ),
            hint: "a pool cannot shrink: give the device its size back".to_owned(),
            kind: ErrorKind::DataLoss,
        });
    }
    Ok(())
}

/// The length of a device by its table.
fn table_length(state: &DeviceState) -> Sectors {
    state.table.first().map_or(Sectors(0), |(_, length, ..)| Sectors(*length))
}

fn check_block_size(settings: &Settings, found: Sectors) -> Result<()> {
    if found == settings.block {
        return Ok(());
    }
    Err(Error::Setup {
        message: format!("the pool was made with blocks of {found} sectors, not {}", settings.block),
        hint: format!("start with dm.thinpoolblocksize={found}"),
        kind: ErrorKind::InvalidArgument,
    })
}

/// No pool runs: what is on the devices must be its pool, or nothing at all.
fn check_devices(settings: &Settings, in_use: bool, context: &Context) -> Result<()> {
    let metadata = settings.metadata_device.display();
    match Superblock::read(&settings.metadata_device)? {
        Superblock::Pool { block } => {
            check_block_size(settings, block)?;
            tools::thin_check(&settings.metadata_device, context)
        }
        Superblock::Blank if in_use => Err(Error::Setup {
            message: format!("the metadata device {metadata} is blank, but there are records of volumes"),
            hint: "is it the right device? Nothing was changed. To begin anew, move the records away"
                .to_owned(),
            kind: ErrorKind::DataLoss,
        }),
        Superblock::Blank => match filesystem::signature(&settings.data_device, context)? {
            None => Ok(()),
            Some(found) => Err(occupied("dm.datadev", &settings.data_device, &found)),
        },
        Superblock::Foreign => {
            let found = filesystem::signature(&settings.metadata_device, context)?;
            let found = found.unwrap_or_else(|| "data that is no thin pool's".to_owned());
            Err(occupied("dm.metadatadev", &settings.metadata_device, &found))
        }
    }
}

fn occupied(option: &str, device: &Path, found: &str) -> Error {
    let device = device.display();
    Error::Setup {
        message: format!("{option}={device}: expected an empty device, found {found}"),
        hint: format!(
            "if what is on it may be lost: wipefs -a {device}; dd if=/dev/zero of={device} bs=4096 count=1"
        ),
        kind: ErrorKind::AlreadyExists,
    }
}

impl Pool {
    /// Takes over what the pool's devices have grown by; answers whether they had.
    ///
    /// # Errors
    /// [`Error::Kernel`]; the pool goes on as it was.
    pub fn extend(&self) -> Result<bool> {
        let settings = &self.settings;
        let data = Disk::open(&settings.data_device, "dm.datadev")?;
        let metadata = Disk::open(&settings.metadata_device, "dm.metadatadev")?;
        let wanted = table(settings, data, metadata);
        let Some(state) = self.kernel.state(&self.name)? else {
            return Err(Error::Library(format!("the pool {} is gone", self.name)));
        };
        let status = self.status()?;
        let total = status.metadata.total;
        let more_metadata = metadata.metadata() > Sectors::of_bytes(total) && total > 0;
        if Sectors(wanted.1) <= table_length(&state) && !more_metadata {
            return Ok(false);
        }
        check_running(settings, &state, data, metadata)?;
        self.kernel.reload(&self.name, &state.table, &[wanted])?;
        Ok(true)
    }

    /// Bytes of data the pool can hold.
    pub fn size(&self) -> Result<u64> {
        let state = self.kernel.state(&self.name)?;
        Ok(state.map_or(0, |state| table_length(&state).bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn settings(no_space: &str) -> Settings {
        let options = [("dm.datadev", "/dev/a"), ("dm.metadatadev", "/dev/b"), ("dm.nospace", no_space)];
        let options: BTreeMap<_, _> =
            options.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        Settings::new(&options, None, false).unwrap()
    }

    const DATA: Disk = Disk { number: Device { major: 254, minor: 0 }, length: Sectors(1_048_577) };
    const META: Disk = Disk { number: Device { major: 254, minor: 16 }, length: Sectors(131_072) };

    #[test]
    fn a_table_as_the_kernel_gives_it_back_is_the_same() {
        let wanted = [table(&settings("error"), DATA, META)];
        assert_eq!(wanted[0].1, 1_048_576);
        assert_eq!(wanted[0].3, "254:16 254:0 4096 51 1 error_if_no_space");
        let given = |params: &str| [(0, 1_048_576, "thin-pool".to_owned(), params.to_owned())];
        assert!(same(&given("254:16 254:0 4096 51 1 error_if_no_space "), &wanted));
        assert!(!same(&given("254:16 254:0 4096 51 1 skip_block_zeroing "), &wanted));
        assert_eq!(Disk { length: Sectors(u64::MAX), ..META }.metadata(), Sectors(33_292_800));
        assert_eq!(Disk { length: Sectors(1003), ..META }.metadata(), Sectors(1000));
    }

    #[test]
    fn a_running_pool_must_be_the_one_that_is_meant() {
        let state = |kind: &str, params: &str| DeviceState {
            number: Device { major: 253, minor: 0 },
            uuid: String::new(),
            open_count: 0,
            suspended: false,
            removing: false,
            table: vec![(0, 1_048_576, kind.to_owned(), params.to_owned())],
        };
        let check =
            |kind: &str, params: &str| check_running(&settings("queue"), &state(kind, params), DATA, META);
        check("thin-pool", "254:16 254:0 4096 0 1 skip_block_zeroing").unwrap();
        for (kind, params, expected) in [
            ("thin-pool", "254:0 254:16 4096 0 0", "is taken"),
            ("thin-pool", "254:16", "is taken"),
            ("linear", "254:16 254:0", "is taken"),
            ("thin-pool", "254:16 254:0 128 0 0", "blocks of 128 sectors"),
        ] {
            let error = check(kind, params).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let running = state("thin-pool", "254:16 254:0 4096 0 0");
        let small = Disk { length: Sectors(1_048_575), ..DATA };
        let error = check_running(&settings("queue"), &running, small, META).unwrap_err().to_string();
        assert!(error.contains("at least the 1048576 sectors"), "{error}");
    }
}
