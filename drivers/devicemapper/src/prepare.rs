//! Getting devices ready for a pool: what 0.5's `dm_dev_partition.sh` did, and loop devices for a trial.
//!
//! This is the logic of `convoy devicemapper prepare`. A disk is only looked at unless writing is asked for;
//! one with anything on it is refused.

use crate::error::{Error, Result};
use crate::sectors::Sectors;
use crate::superblock::{MAX_METADATA_BYTES, METADATA_BLOCK};
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::{Context, DriverError, ErrorKind, atomic, filesystem, size};
use devicemapper::Device;
use nix::libc;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Volumes and snapshots a pool is prepared for, unless told otherwise; as in 0.5.
pub const DEVICES: u64 = 10_000;
/// Partitions begin at multiples of this.
const ALIGNMENT: u64 = 1 << 20;
/// The label at both ends of a disk takes less than this.
const LABEL: u64 = 2 * ALIGNMENT;
/// Less is no pool.
const MIN_DISK: u64 = 64 << 20;
/// Bytes of a block of the pool that the size of the metadata is reckoned with.
const BLOCK: u64 = 2 << 20;
/// How long new partitions may take to appear.
const APPEAR: Duration = Duration::from_secs(10);

/// Devices for a pool, or a plan of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolDevices {
    /// The disk, or the directory of the loop files.
    pub on: PathBuf,
    /// Its size in bytes, or that of the data file.
    pub size: u64,
    /// Volumes and snapshots there is metadata for.
    pub devices: u64,
    /// Bytes for metadata.
    pub metadata_size: u64,
    /// Bytes for data.
    pub data_size: u64,
    /// The data device, as it is or will be.
    pub data: PathBuf,
    /// The metadata device, as it is or will be.
    pub metadata: PathBuf,
    /// Whether they are there; otherwise this is a plan.
    pub done: bool,
}

impl fmt::Display for PoolDevices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = self.on.display();
        writeln!(f, "{on} size is {} bytes", self.size)?;
        writeln!(f, "Maximum volume and snapshot counts is {}", self.devices)?;
        let would = if self.done { "is" } else { "would be" };
        writeln!(f, "Metadata Device size {would} {} bytes", self.metadata_size)?;
        writeln!(f, "Data Device size {would} {} bytes", self.data_size)?;
        if !self.done {
            writeln!(
                f,
                "Nothing was written. To partition {on}, add --write-to-disk; then start the daemon with:"
            )?;
        }
        write!(
            f,
            "convoy daemon --drivers devicemapper --driver-opts dm.datadev={} --driver-opts \
             dm.metadatadev={}",
            self.data.display(),
            self.metadata.display()
        )
    }
}

/// Bytes of metadata for a pool: a block for the tree of each device, 64 bytes for each block of data, and as
/// much again, since snapshots that grow apart share less and less. Within what the kernel can use.
pub fn metadata_size(data: u64, devices: u64) -> u64 {
    let needed =
        devices.saturating_mul(METADATA_BLOCK).saturating_add(data.div_ceil(BLOCK).saturating_mul(64));
    let generous = needed.saturating_mul(2).clamp(4 << 20, MAX_METADATA_BYTES);
    generous.next_multiple_of(ALIGNMENT)
}

/// Looks at a disk and plans a partition for metadata and, behind it so that it can grow, one for data. With
/// `write` they are made.
///
/// # Errors
/// [`Error::Setup`] if it is no disk, in use, too small, or not empty; [`Error::Command`].
pub fn disk(device: &Path, devices: u64, write: bool, context: &Context) -> Result<PoolDevices> {
    let bytes = check_empty(device, context)?;
    let metadata_size = metadata_size(bytes, devices);
    if bytes < MIN_DISK || metadata_size > bytes / 2 {
        return Err(refuse(
            device,
            format!("expected at least {MIN_DISK} bytes, twice its metadata, found {bytes}"),
            "take a larger disk, or plan for fewer volumes and snapshots",
            ErrorKind::InvalidArgument,
        ));
    }
    let mut prepared = PoolDevices {
        on: device.to_owned(),
        size: bytes,
        devices,
        metadata_size,
        data_size: bytes - LABEL - metadata_size,
        data: partition(device, 2),
        metadata: partition(device, 1),
        done: false,
    };
    if write {
        make_partitions(device, metadata_size, context)?;
        for path in [&mut prepared.metadata, &mut prepared.data] {
            await_node(path, context)?;
        }
        blank(&prepared.metadata)?;
        prepared.data_size = length(&prepared.data)?;
        for path in [&mut prepared.metadata, &mut prepared.data] {
            *path = stable_name(path, context);
        }
        prepared.done = true;
    }
    Ok(prepared)
}

/// Sparse files with loop devices, for a trial. Files that are there are attached again, as after a reboot.
///
/// # Errors
/// [`Error::Io`], [`Error::Command`]; [`Error::Setup`] if a file there has another size.
pub fn loop_files(dir: &Path, data_size: u64, context: &Context) -> Result<PoolDevices> {
    atomic::create_dir(dir, 0o700).map_err(Error::io(format_args!("make {}", dir.display())))?;
    let metadata_size = metadata_size(data_size, DEVICES);
    let data = attach(&dir.join("data.img"), data_size, context)?;
    let metadata = attach(&dir.join("metadata.img"), metadata_size, context)?;
    let on = dir.to_owned();
    Ok(PoolDevices {
        on,
        size: data_size,
        devices: DEVICES,
        metadata_size,
        data_size,
        data,
        metadata,
        done: true,
    })
}

pub fn parse_size(text: &str) -> Result<u64> {
    size::parse(text).map_err(|error| Error::Driver(DriverError::invalid(error.to_string())))
}

fn attach(file: &Path, bytes: u64, context: &Context) -> Result<PathBuf> {
    let image = File::options().read(true).write(true).create(true).truncate(false).open(file);
    let image = image.map_err(Error::io(format_args!("open {}", file.display())))?;
    let found = image.metadata().map_err(Error::io(format_args!("look at {}", file.display())))?.len();
    match found {
        0 => image.set_len(bytes).map_err(Error::io(format_args!("enlarge {}", file.display())))?,
        found if found == bytes => {}
        found => {
            return Err(refuse(
                file,
                format!("expected a file of {bytes} bytes, found {found}"),
                "give the size of the first time, or remove the file if what is in it may be lost",
                ErrorKind::AlreadyExists,
            ));
        }
    }
    // `--nooverlap` answers the loop device that the file has already.
    let losetup = Command::new("losetup").package("mount").args(["--find", "--show", "--nooverlap", "--"]);
    Ok(losetup.arg(file).run(context)?.text().trim().into())
}

/// The size of a disk on which there is nothing and which nobody uses.
fn check_empty(device: &Path, context: &Context) -> Result<u64> {
    let hint = "name a whole disk that holds nothing; nothing was changed";
    // O_EXCL on a block device: refused while it, or a partition of it, is mounted or in use.
    let opened = File::options().read(true).custom_flags(libc::O_EXCL).open(device);
    let opened = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => refuse(device, "it is in use".to_owned(), hint, ErrorKind::InUse),
        _ => Error::io(format_args!("open {}", device.display()))(error),
    })?;
    let found = opened.metadata().map_err(Error::io("fstat"))?;
    if !found.file_type().is_block_device() {
        return Err(refuse(device, "it is no block device".to_owned(), hint, ErrorKind::InvalidArgument));
    }
    let sys = PathBuf::from(format!("/sys/dev/block/{}", Device::from(found.rdev())));
    if sys.join("partition").exists() {
        return Err(refuse(device, "it is a partition".to_owned(), hint, ErrorKind::InvalidArgument));
    }
    let parts = std::fs::read_dir(&sys).map_err(Error::io(format_args!("read {}", sys.display())))?;
    if parts.flatten().any(|entry| entry.path().join("partition").exists()) {
        return Err(refuse(device, "it is partitioned already".to_owned(), hint, ErrorKind::AlreadyExists));
    }
    if let Some(found) = filesystem::signature(device, context)? {
        return Err(refuse(device, format!("{found} is on it"), hint, ErrorKind::AlreadyExists));
    }
    length(device)
}

fn refuse(device: &Path, found: String, hint: &str, kind: ErrorKind) -> Error {
    Error::Setup {
        message: format!("{} cannot be used: {found}", device.display()),
        hint: hint.to_owned(),
        kind,
    }
}

fn length(device: &Path) -> Result<u64> {
    use std::io::{Seek, SeekFrom};
    File::open(device)
        .and_then(|mut device| device.seek(SeekFrom::End(0)))
        .map_err(Error::io(format_args!("find the size of {}", device.display())))
}

/// `/dev/sdb1`, but `/dev/nvme0n1p1`.
fn partition(device: &Path, number: u32) -> PathBuf {
    let text = device.to_string_lossy();
    let between = if text.ends_with(|last: char| last.is_ascii_digit()) { "p" } else { "" };
    PathBuf::from(format!("{text}{between}{number}"))
}

fn make_partitions(device: &Path, metadata_size: u64, context: &Context) -> Result<()> {
    let sectors = Sectors::of_bytes(metadata_size);
    let script = format!("label: gpt\nsize={sectors}, name=convoy-metadata\nname=convoy-data\n");
    // The shell would not say which package is missing.
    Command::new("sfdisk").package("fdisk").arg("--version").run(context)?;
    // The script comes by standard input; the shell's printf writes it.
    let run = "printf '%s' \"$1\" | sfdisk --quiet --wipe never --wipe-partitions always -- \"$0\"";
    Command::new("sh").package("fdisk").args(["-c", run]).arg(device).arg(script).run(context)?;
    Ok(())
}

fn await_node(path: &Path, context: &Context) -> Result<()> {
    let deadline = Instant::now() + APPEAR;
    while !path.exists() {
        context.check()?;
        if Instant::now() > deadline {
            let text = format!("the partition {} was made but did not appear", path.display());
            return Err(Error::Driver(DriverError::unavailable(text).hint("run partprobe")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A new pool is made where the first block of metadata is blank.
fn blank(device: &Path) -> Result<()> {
    let zeros = vec![0; usize::try_from(METADATA_BLOCK).unwrap_or_default()];
    File::options()
        .write(true)
        .open(device)
        .and_then(|file| file.write_all_at(&zeros, 0).and_then(|()| file.sync_all()))
        .map_err(Error::io(format_args!("write {}", device.display())))
}

/// The name that stays the same when disks are found in another order.
fn stable_name(device: &Path, context: &Context) -> PathBuf {
    let blkid = Command::new("blkid").package("util-linux").accept(2);
    let uuid = blkid.args(["-p", "-s", "PART_ENTRY_UUID", "-o", "value", "--"]).arg(device).run(context);
    uuid.ok()
        .map(|output| Path::new("/dev/disk/by-partuuid").join(output.text().trim()))
        .filter(|path| path.file_name().is_some() && path.exists())
        .unwrap_or_else(|| device.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_grows_with_devices_and_data_within_the_kernels_bounds() {
        assert_eq!(metadata_size(64 << 20, 1), 4 << 20);
        // 0.5 reckoned 42627072 bytes for this disk.
        assert_eq!(metadata_size(100 << 30, DEVICES), 85 << 20);
        assert_eq!(metadata_size(u64::MAX, DEVICES), MAX_METADATA_BYTES.next_multiple_of(ALIGNMENT));
    }

    #[test]
    fn partitions_are_named_as_the_kernel_does() {
        assert_eq!(partition(Path::new("/dev/sdb"), 1), Path::new("/dev/sdb1"));
        assert_eq!(partition(Path::new("/dev/nvme0n1"), 2), Path::new("/dev/nvme0n1p2"));
    }

    #[test]
    fn only_a_whole_disk_is_looked_at() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = disk(file.path(), DEVICES, true, &Context::default()).unwrap_err();
        assert!(error.to_string().contains("no block device"), "{error}");
        assert!(disk(Path::new("/nonexistent"), DEVICES, false, &Context::default()).is_err());
    }

    #[test]
    fn a_plan_ends_with_the_daemons_command_line() {
        let plan = PoolDevices {
            on: "/dev/sdb".into(),
            size: 100 << 30,
            devices: DEVICES,
            metadata_size: 85 << 20,
            data_size: 99 << 30,
            data: "/dev/sdb2".into(),
            metadata: "/dev/sdb1".into(),
            done: false,
        };
        let text = plan.to_string();
        assert!(text.contains("Metadata Device size would be 89128960 bytes"), "{text}");
        let last = "convoy daemon --drivers devicemapper --driver-opts dm.datadev=/dev/sdb2 --driver-opts \
            dm.metadatadev=/dev/sdb1";
        assert_eq!(text.lines().last(), Some(last));
    }
}
