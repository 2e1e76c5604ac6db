//! What may be asked for.

use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::options::Options;
use convoy_driver_sdk::protocol::{Open, OptionSpec};
use convoy_driver_sdk::{DriverError, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

const PATH: &str = "loop.path";
const SIZE: &str = "loop.size";
const FS: &str = "loop.fs";
const MOUNT_OPTIONS: &str = "loop.mountoptions";
/// The create option for the file system of one volume.
const CREATE_FS: &str = "fs";

const DEFAULT_SIZE: u64 = 1 << 30;
/// What containers delete becomes free space here.
const DEFAULT_MOUNT_OPTIONS: &str = "discard";

/// Sizes are whole blocks of this many bytes: a loop device has no part of a sector.
const BLOCK: u64 = 4096;
/// The smallest ext4 worth having, and the smallest XFS that `mkfs.xfs` makes.
const SMALLEST_EXT4: u64 = 8 << 20;
const SMALLEST_XFS: u64 = 300 << 20;

/// The options of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) fs: FsKind,
    /// Of volumes, as after `mount -o`.
    pub(crate) mount_options: String,
}

pub(crate) fn driver_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(PATH, "directory for the images, on XFS or btrfs")
            .default_value("images below the driver's root"),
        OptionSpec::new(SIZE, "size of a volume that is created without one").default_value("1G"),
        OptionSpec::new(FS, "file system of a volume that is created without one: ext4 or xfs")
            .default_value("ext4"),
        OptionSpec::new(
            MOUNT_OPTIONS,
            "options of every mount; with suid and dev, set-user-ID programs and devices have an effect",
        )
        .default_value(DEFAULT_MOUNT_OPTIONS),
    ]
}

pub(crate) fn create_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(CREATE_FS, "file system of the volume: ext4 or xfs")
            .default_value("that of loop.fs")
            .for_docker(),
    ]
}

/// Two btrfs with one id cannot be mounted on one machine, and every clone of an image has the id of its
/// source.
const FILE_SYSTEMS: [FsKind; 2] = [FsKind::Ext4, FsKind::Xfs];

impl Settings {
    pub(crate) fn parse(request: &Open) -> Result<Self> {
        let options = Options::new(&driver_options(), &request.options)?;
        let fs = options.fs_kind(FS, &FILE_SYSTEMS)?.unwrap_or_default();
        Ok(Self {
            path: options.path(PATH)?.unwrap_or_else(|| request.root.join("images")),
            size: checked_size(options.size(SIZE)?.unwrap_or(DEFAULT_SIZE), fs)?,
            fs,
            mount_options: options.get(MOUNT_OPTIONS).unwrap_or(DEFAULT_MOUNT_OPTIONS).to_owned(),
        })
    }

    /// The size and the file system of a volume to be made.
    pub(crate) fn wanted(
        &self,
        size: Option<u64>,
        given: &BTreeMap<String, String>,
    ) -> Result<(u64, FsKind)> {
        let options = Options::new(&create_options(), given)?;
        let fs = options.fs_kind(CREATE_FS, &FILE_SYSTEMS)?.unwrap_or(self.fs);
        Ok((checked_size(size.filter(|size| *size > 0).unwrap_or(self.size), fs)?, fs))
    }
}

/// Refuses options that a copy of an image cannot follow.
pub(crate) fn check_copy(fs: FsKind, given: &BTreeMap<String, String>) -> Result<()> {
    match Options::new(&create_options(), given)?.fs_kind(CREATE_FS, &FILE_SYSTEMS)? {
        Some(other) if other != fs => {
            Err(DriverError::invalid(format!("{CREATE_FS} is {other}: the snapshot has {fs}")))
        }
        _ => Ok(()),
    }
}

/// What a restore is told to make the same kind of volume.
pub(crate) fn restore_options(fs: FsKind) -> BTreeMap<String, String> {
    BTreeMap::from([(CREATE_FS.to_owned(), fs.to_string())])
}

/// A size in whole blocks that the file system fits in.
pub(crate) fn checked_size(bytes: u64, fs: FsKind) -> Result<u64> {
    let smallest = if fs == FsKind::Xfs { SMALLEST_XFS } else { SMALLEST_EXT4 };
    if bytes < smallest {
        return Err(DriverError::invalid(format!(
            "{bytes} bytes are too few for {fs}: expected at least {smallest}"
        )));
    }
    let whole = bytes.checked_next_multiple_of(BLOCK).filter(|whole| i64::try_from(*whole).is_ok());
    whole.ok_or_else(|| DriverError::invalid(format!("{bytes} bytes are more than a file can have")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_driver_sdk::ErrorKind;

    #[test]
    fn sizes_are_whole_blocks_within_what_can_be() {
        assert_eq!(checked_size(SMALLEST_EXT4 + 1, FsKind::Ext4).unwrap(), SMALLEST_EXT4 + BLOCK);
        for (bytes, fs) in [
            (0, FsKind::Ext4),
            (SMALLEST_XFS - 1, FsKind::Xfs),
            (u64::MAX, FsKind::Ext4),
            (1 << 63, FsKind::Xfs),
        ] {
            assert_eq!(checked_size(bytes, fs).unwrap_err().kind, ErrorKind::InvalidArgument, "{bytes}");
        }
    }

    /// A new option is to be given its place here: see [`OptionSpec::docker`].
    #[test]
    fn every_create_option_is_for_dockers_users_or_not() {
        let declared = create_options();
        let declared: Vec<_> = declared.iter().map(|option| (option.name.as_str(), option.docker)).collect();
        assert_eq!(declared, [(CREATE_FS, true)]);
    }

    #[test]
    fn options_are_refused_by_name() {
        let parse = |name: &str, value: &str| {
            Settings::parse(&Open::new("/r".into()).options([(name.to_owned(), value.to_owned())].into()))
        };
        for (name, value) in
            [(PATH, "images"), (SIZE, "much"), (SIZE, "1K"), (FS, "btrfs"), ("loop.sice", "1G")]
        {
            let error = parse(name, value).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidArgument);
            assert!(error.message.contains(name) || error.message.contains("too few"), "{error}");
        }
        assert_eq!(parse(SIZE, "1g").unwrap().path, PathBuf::from("/r/images"));
    }
}
