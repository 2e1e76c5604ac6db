//! Options that mean the same with every provider.

use crate::config::{Common, Config, Options, Places};
use crate::provider::Provider;
use crate::size::Gib;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{Open, OptionSpec};
use convoy_driver_sdk::{DriverError, Result, size};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub fn driver_options<P: Provider>() -> Vec<OptionSpec> {
    let option = |name: &str, help: &str| OptionSpec::new(&format!("{}.{name}", P::PREFIX), help);
    let (api, metadata) = P::ENDPOINTS;
    let mut options = vec![
        option("defaultvolumesize", "size of a new volume").default_value(P::DEFAULT_SIZE),
        option("fs", "file system of a new volume: ext4 or xfs").default_value("ext4"),
        option("fsfreeze", "freeze a mounted file system for every snapshot").default_value("false"),
        option(
            "mountoptions",
            "options of every mount; with suid and dev, set-user-ID programs and devices have an effect",
        ),
        option("endpoint", "address of the API").default_value(api),
        option("metadata-endpoint", "address of the metadata service").default_value(metadata),
    ];
    options.extend(P::options());
    options
}

impl<T> Config<T> {
    /// Reads the options of an open, the environment, and what convoy 0.5 kept.
    ///
    /// # Errors
    /// `InvalidArgument`; `DataLoss` if what 0.5 kept is damaged; whatever keeps a file from being read.
    pub fn read<P: Provider<Own = T>>(request: &Open) -> Result<Self> {
        convoy_driver_sdk::options::check(&driver_options::<P>(), &request.options)?;
        let options = Options {
            prefix: P::PREFIX,
            given: &request.options,
            saved: saved(&request.root.join(format!("{}.cfg", P::DRIVER)))?,
        };
        let own = P::read(&options)?;
        let bytes = match (options.get("defaultvolumesize"), options.saved("DefaultVolumeSize")) {
            (None, Some(Value::Number(bytes))) if bytes.as_u64().is_some_and(|bytes| bytes > 0) => {
                bytes.as_u64().unwrap_or_default()
            }
            (text, _) => size::parse(text.unwrap_or(P::DEFAULT_SIZE))
                .map_err(|error| options.invalid("defaultvolumesize", error))?,
        };
        let common = Common {
            default_size: gib::<P>(bytes)?,
            fs: fs_kind(options.get("fs").unwrap_or("ext4"))?,
            freeze: options.boolean("fsfreeze")?.unwrap_or(false),
            mount_options: options.get("mountoptions").unwrap_or_default().to_owned(),
        };
        let places = Places {
            endpoint: options.url("endpoint")?,
            metadata: options.url("metadata-endpoint")?,
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        };
        Ok(Self { common, places, own })
    }
}

fn saved(path: &Path) -> Result<Map<String, Value>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(DriverError::io(format_args!("read {}", path.display()), &error)),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            DriverError::data_loss(format!("{} is damaged: {error}", path.display()))
                .hint("move it away to start with the defaults")
        }),
    }
}

/// The create options that [`crate::CloudDriver`] understands itself.
pub fn create_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("id", "take this existing cloud volume instead of making one"),
        OptionSpec::new("backup", "begin as this backup (a URL of this provider)"),
        OptionSpec::new("fs", "the file system of a new volume: ext4 or xfs")
            .default_value("the driver's default")
            .for_docker(),
        OptionSpec::new("copy", "true: a backup of another region may be copied here first")
            .default_value("false"),
    ]
}

/// Refuses create options that nobody knows. convoy 0.5 passes its own to every driver: empty they mean
/// nothing.
///
/// # Errors
/// `InvalidArgument`, naming the option and all that are known.
pub fn check<P: Provider>(options: &mut BTreeMap<String, String>) -> Result<()> {
    options.retain(|_, value| !value.is_empty());
    let mut known = create_options();
    known.extend(P::create_options());
    convoy_driver_sdk::options::check(&known, options)
}

/// Takes options out that are of no use in `what`.
///
/// # Errors
/// `InvalidArgument` if one has a value.
pub fn refuse(options: &mut BTreeMap<String, String>, names: &[&str], what: &str) -> Result<()> {
    for name in names {
        if options.remove(*name).is_some_and(|value| !value.is_empty()) {
            return Err(DriverError::invalid(format!("the option {name} is of no use in {what}")));
        }
    }
    Ok(())
}

/// Gives bytes as whole GiB, rounded up.
///
/// # Errors
/// `InvalidArgument` outside of what the provider has.
pub fn gib<P: Provider>(bytes: u64) -> Result<Gib> {
    let size = Gib::holding(bytes);
    if P::SIZES.contains(&size) {
        return Ok(size);
    }
    Err(DriverError::invalid(format!(
        "invalid size of {bytes} bytes: expected {} to {}, which is what {} has",
        P::SIZES.start().0,
        P::SIZES.end(),
        P::DRIVER
    )))
}

/// The file system of a new volume.
///
/// btrfs is not offered: a snapshot of it cannot be used beside its origin, on one host, without damage to
/// both.
pub fn fs_kind(text: &str) -> Result<FsKind> {
    match text {
        "ext4" => Ok(FsKind::Ext4),
        "xfs" => Ok(FsKind::Xfs),
        _ => Err(DriverError::invalid(format!("unknown file system {text:?}: expected ext4 or xfs"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new option is to be given its place here: see [`OptionSpec::docker`].
    #[test]
    fn every_create_option_is_for_dockers_users_or_not() {
        let told = create_options();
        let told: Vec<_> = told.iter().map(|option| (option.name.as_str(), option.docker)).collect();
        // Any volume and any backup of the account, and traffic that is paid for, are not theirs.
        assert_eq!(told, [("id", false), ("backup", false), ("fs", true), ("copy", false)]);
    }
}
