//! The driver's options, and how they meet the configuration of an earlier start.

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::sectors::Sectors;
use crate::state::PoolConfig;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{DriverError, size};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const DATADEV: &str = "dm.datadev";
const METADATADEV: &str = "dm.metadatadev";
const POOL: &str = "dm.thinpoolname";
const BLOCK_SIZE: &str = "dm.thinpoolblocksize";
const VOLUME_SIZE: &str = "dm.defaultvolumesize";
const FS: &str = "dm.fs";
const MOUNT_OPTIONS: &str = "dm.mountoptions";
const NO_SPACE: &str = "dm.nospace";
const WARN: &str = "dm.warnpercent";
const LIMIT: &str = "dm.limitpercent";

/// The create option for the file system of one volume.
pub const CREATE_FS: &str = "fs";

/// Longest name of a pool: names and UUIDs of its devices begin with it.
const MAX_POOL_NAME: usize = 100;
/// Name of the pool, when none is given.
const DEFAULT_POOL: &str = "convoy-pool";
/// A block of a new pool: 2 MiB.
const DEFAULT_BLOCK: Sectors = Sectors(4096);
/// Bytes of a volume created without a size: 100 GiB.
const DEFAULT_VOLUME_SIZE: u64 = 100 << 30;
/// The kernel's `DATA_DEV_BLOCK_SIZE_MIN_SECTORS` (64 KiB), which is also the step.
const MIN_BLOCK: Sectors = Sectors(128);
/// The kernel's `DATA_DEV_BLOCK_SIZE_MAX_SECTORS` (1 GiB).
const MAX_BLOCK: Sectors = Sectors(2_097_152);
/// The kernel gives no btrfs a size in bytes below this (`btrfs_ioctl_resize`), not even the one it has.
pub(crate) const BTRFS_RESIZABLE: u64 = 256 << 20;

/// What happens to a write when the pool has no block left for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSpace {
    /// It waits, for a minute by default, for the pool to be extended.
    Queue,
    Fail,
}

/// What holds for this life of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub data_device: PathBuf,
    pub metadata_device: PathBuf,
    pub pool: String,
    /// Size of a block of the pool.
    pub block: Sectors,
    /// Size of a volume created without one, in bytes.
    pub default_volume_size: u64,
    pub filesystem: FsKind,
    /// Options of every mount, as after `mount -o`.
    pub mount_options: String,
    pub no_space: NoSpace,
    /// Usage in percent from which on there are warnings.
    pub warn_percent: u64,
    /// Usage in percent from which on nothing new is created.
    pub limit_percent: u64,
}

pub fn specs() -> Vec<OptionSpec> {
    let required = |name, help| OptionSpec::new(name, help).required();
    let new = OptionSpec::new;
    vec![
        required(DATADEV, "block device for the data of all volumes (known again after the first start)"),
        required(
            METADATADEV,
            "small block device for the pool's metadata (known again after the first start)",
        ),
        new(POOL, "name of the pool in /dev/mapper").default_value(DEFAULT_POOL),
        new(
            BLOCK_SIZE,
            "block size of a new pool in sectors of 512 bytes: 128 to 2097152, a multiple of 128",
        )
        .default_value("4096"),
        new(VOLUME_SIZE, "size of a volume created without one").default_value("100G"),
        new(FS, "file system of new volumes: ext4, xfs or btrfs").default_value("ext4"),
        new(
            MOUNT_OPTIONS,
            "options of every mount; `discard` gives the blocks of deleted files back; with suid and dev, \
             set-user-ID programs and devices have an effect",
        )
        .default_value("discard"),
        new(NO_SPACE, "when the pool is full, writes wait (queue) or fail at once (error)")
            .default_value("queue"),
        new(WARN, "usage of the pool, in percent, from which on there are warnings").default_value("80"),
        new(LIMIT, "usage of the pool, in percent, from which on nothing new is created").default_value("95"),
    ]
}

pub fn create_specs() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(CREATE_FS, "file system of this volume: ext4, xfs or btrfs")
            .default_value("dm.fs of the driver")
            .for_docker(),
    ]
}

impl Settings {
    /// Takes what was given; for what was not, what an earlier start had; then the defaults. What differs
    /// from an earlier start is refused, unless it is meant (`override_saved`); the block size of a pool
    /// never changes.
    ///
    /// # Errors
    /// [`Error::Setup`] with `InvalidArgument`.
    pub fn new(
        options: &BTreeMap<String, String>,
        saved: Option<&PoolConfig>,
        override_saved: bool,
    ) -> Result<Self> {
        let known = specs();
        if let Some(unknown) = options.keys().find(|key| !known.iter().any(|spec| spec.name == **key)) {
            let names: Vec<_> = known.iter().map(|spec| spec.name.as_str()).collect();
            return Err(invalid(
                format!("unknown option {unknown}: expected one of {}", names.join(", ")),
                "leave it out, or correct its name",
            ));
        }
        let given = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let device = |key: &str, saved: Option<&PathBuf>| {
            given(key).map(PathBuf::from).or_else(|| saved.cloned()).ok_or_else(|| {
                invalid(
                    format!("the option {key} is missing"),
                    "give a data and a metadata device; `convoy devicemapper prepare` makes both of a disk",
                )
            })
        };
        let saved_pool =
            saved.and_then(|saved| Some(saved.thinpool_device.file_name()?.to_str()?.to_owned()));
        let settings = Self {
            data_device: device(DATADEV, saved.map(|saved| &saved.data_device))?,
            metadata_device: device(METADATADEV, saved.map(|saved| &saved.metadata_device))?,
            pool: match given(POOL) {
                Some(name) => pool_name(name)?,
                None => saved_pool.unwrap_or_else(|| DEFAULT_POOL.to_owned()),
            },
            block: block_size(given(BLOCK_SIZE), saved)?,
            default_volume_size: match given(VOLUME_SIZE) {
                Some(text) => volume_size(text)?,
                None => saved.map_or(DEFAULT_VOLUME_SIZE, |saved| saved.default_volume_size),
            },
            filesystem: match given(FS) {
                Some(text) => text.parse()?,
                None => saved.map_or_else(FsKind::default, |saved| saved.filesystem),
            },
            mount_options: options.get(MOUNT_OPTIONS).cloned().unwrap_or_else(|| "discard".to_owned()),
            no_space: match given(NO_SPACE) {
                None | Some("queue") => NoSpace::Queue,
                Some("error") => NoSpace::Fail,
                Some(other) => {
                    return Err(invalid(
                        format!("{NO_SPACE}={other}: expected queue or error"),
                        "queue lets writes wait for the pool to be extended, error lets them fail",
                    ));
                }
            },
            warn_percent: percent(WARN, given(WARN), 80)?,
            limit_percent: percent(LIMIT, given(LIMIT), 95)?,
        };
        if settings.data_device == settings.metadata_device {
            return Err(invalid(
                format!("{DATADEV} and {METADATADEV} are the same device"),
                "give two devices, or two partitions of one",
            ));
        }
        if let Some(saved) = saved.filter(|_| !override_saved) {
            settings.check_same(saved)?;
        }
        Ok(settings)
    }

    /// Refuses what differs from an earlier start: neither is silently taken for the other.
    fn check_same(&self, saved: &PoolConfig) -> Result<()> {
        let path = |path: &Path| path.display().to_string();
        let pairs = [
            (DATADEV, path(&self.data_device), path(&saved.data_device)),
            (METADATADEV, path(&self.metadata_device), path(&saved.metadata_device)),
            (POOL, path(&self.pool_device()), path(&saved.thinpool_device)),
            (VOLUME_SIZE, self.default_volume_size.to_string(), saved.default_volume_size.to_string()),
            (FS, self.filesystem.to_string(), saved.filesystem.to_string()),
        ];
        match pairs.into_iter().find(|(_, given, saved)| given != saved) {
            None => Ok(()),
            Some((key, given, saved)) => Err(invalid(
                format!("{key} is {given} now, and was {saved} when the driver was started before"),
                "leave the option out to keep what was saved, or start with --ignore-config-file to change \
                 it",
            )),
        }
    }

    pub fn pool_device(&self) -> PathBuf {
        Kernel::node(&self.pool)
    }

    pub fn block_bytes(&self) -> u64 {
        self.block.bytes()
    }

    /// A size rounded up to whole blocks of the pool; `None` when that is more than a device can have.
    pub fn round_up(&self, bytes: u64) -> Option<u64> {
        bytes.checked_next_multiple_of(self.block_bytes()).filter(|bytes| i64::try_from(*bytes).is_ok())
    }
}

fn pool_name(name: &str) -> Result<String> {
    let good =
        convoy_driver_sdk::Name::parse(name).is_ok() && name.len() <= MAX_POOL_NAME && name != "control";
    if good {
        return Ok(name.to_owned());
    }
    Err(invalid(
        format!(
            "{POOL}={name}: expected a name of 2 to {MAX_POOL_NAME} letters, digits, dashes, underscores and \
             dots"
        ),
        "it becomes /dev/mapper/<name>",
    ))
}

/// As in 0.5, the number counts sectors, and its unit letter multiplies them.
fn block_size(given: Option<&str>, saved: Option<&PoolConfig>) -> Result<Sectors> {
    let saved = saved.map(|saved| saved.thinpool_block_size);
    let Some(text) = given else {
        return Ok(saved.unwrap_or(DEFAULT_BLOCK));
    };
    let sectors = size::parse(text)
        .map(Sectors)
        .map_err(|error| invalid(format!("{BLOCK_SIZE}: {error}"), "for example 4096"))?;
    if !(MIN_BLOCK..=MAX_BLOCK).contains(&sectors) || !sectors.is_multiple_of(MIN_BLOCK) {
        return Err(invalid(
            format!(
                "{BLOCK_SIZE}={text}: expected {MIN_BLOCK} to {MAX_BLOCK} sectors of 512 \
                 bytes, a multiple of {MIN_BLOCK}"
            ),
            "4096 (2 MiB) suits most pools",
        ));
    }
    match saved {
        Some(saved) if saved != sectors => Err(invalid(
            format!(
                "{BLOCK_SIZE}={text}: this pool was made with blocks of {saved} sectors, which never change"
            ),
            "leave the option out",
        )),
        _ => Ok(sectors),
    }
}

fn volume_size(text: &str) -> Result<u64> {
    match size::parse(text) {
        Ok(0) => Err(invalid(format!("{VOLUME_SIZE}={text}: a volume needs a size"), "for example 100G")),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(invalid(format!("{VOLUME_SIZE}: {error}"), "for example 100G")),
    }
}

fn percent(key: &str, given: Option<&str>, default: u64) -> Result<u64> {
    let Some(text) = given else { return Ok(default) };
    text.parse().ok().filter(|percent| (1..=100).contains(percent)).ok_or_else(|| {
        invalid(
            format!("{key}={text}: expected a whole number from 1 to 100"),
            "it is a percentage of the pool",
        )
    })
}

fn invalid(message: String, hint: &str) -> Error {
    Error::Driver(DriverError::invalid(message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::ErrorKind;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    const DEVICES: [(&str, &str); 2] = [(DATADEV, "/dev/sdb1"), (METADATADEV, "/dev/sdb2")];

    /// A new option is to be given its place here: see [`OptionSpec::docker`].
    #[test]
    fn every_create_option_is_for_dockers_users_or_not() {
        let told = create_specs();
        let told: Vec<_> = told.iter().map(|option| (option.name.as_str(), option.docker)).collect();
        assert_eq!(told, [(CREATE_FS, true)]);
    }

    #[test]
    fn the_defaults_are_those_of_0_5() {
        let settings = Settings::new(&options(&DEVICES), None, false).unwrap();
        assert_eq!(settings.pool_device(), PathBuf::from("/dev/mapper/convoy-pool"));
        assert_eq!((settings.block, settings.block_bytes()), (Sectors(4096), 2 << 20));
        assert_eq!((settings.default_volume_size, settings.filesystem), (100 << 30, FsKind::Ext4));
        assert_eq!(settings.round_up((2 << 20) + 1), Some(4 << 20));
        assert_eq!(settings.round_up(u64::MAX), None);
    }

    #[test]
    fn what_is_given_wins_over_what_was_saved_if_it_is_meant() {
        let saved: PoolConfig =
            serde_json::from_str(include_str!("../tests/fixtures/v0.5.2/root/devicemapper.cfg")).unwrap();
        let alone = Settings::new(&options(&[]), Some(&saved), false).unwrap();
        assert_eq!((alone.data_device, alone.default_volume_size), ("/dev/vda".into(), 64 << 20));
        let given =
            options(&[(FS, "xfs"), (DATADEV, "/dev/disk/by-id/x"), (VOLUME_SIZE, "1G"), (BLOCK_SIZE, "4K")]);
        let refused = Settings::new(&given, Some(&saved), false).unwrap_err().to_string();
        assert!(refused.contains("/dev/disk/by-id/x") && refused.contains("/dev/vda"), "{refused}");
        let both = Settings::new(&given, Some(&saved), true).unwrap();
        assert_eq!(both.data_device, PathBuf::from("/dev/disk/by-id/x"));
        assert_eq!((both.filesystem, both.default_volume_size), (FsKind::Xfs, 1 << 30));
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        let saved: PoolConfig =
            serde_json::from_str(include_str!("../tests/fixtures/v0.5.2/root/devicemapper.cfg")).unwrap();
        for (key, value, expected) in [
            (DATADEV, "", "missing"),
            (METADATADEV, "/dev/sdb1", "same device"),
            (POOL, "../x", "expected a name"),
            (BLOCK_SIZE, "100", "multiple of 128"),
            (BLOCK_SIZE, "4194304", "2097152"),
            (VOLUME_SIZE, "0", "needs a size"),
            (VOLUME_SIZE, "ten", "invalid size"),
            (FS, "ntfs", "ext4, xfs or btrfs"),
            (NO_SPACE, "hang", "queue or error"),
            (WARN, "101", "1 to 100"),
            ("dm.thinpool", "x", "dm.thinpoolname"),
        ] {
            let mut given = options(&DEVICES);
            given.insert(key.to_owned(), value.to_owned());
            let error = DriverError::from(Settings::new(&given, None, false).unwrap_err());
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert!(error.message.contains(expected), "{key}={value}: {error}");
        }
        let error =
            Settings::new(&options(&[(BLOCK_SIZE, "128")]), Some(&saved), true).unwrap_err().to_string();
        assert!(error.contains("never change"), "{error}");
    }
}
