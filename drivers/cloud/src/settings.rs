//! Options that mean the same with every provider.

use crate::provider::{GIB, Provider};
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{DriverError, ErrorKind, Result};
use std::collections::BTreeMap;

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
            return Err(DriverError::new(
                ErrorKind::InvalidArgument,
                format!("the option {name} is of no use in {what}"),
            ));
        }
    }
    Ok(())
}

/// Bytes as whole GiB, rounded up.
///
/// # Errors
/// `InvalidArgument` outside of what the provider has.
pub fn gib<P: Provider>(bytes: u64) -> Result<u64> {
    let gib = bytes.div_ceil(GIB);
    if P::GIB_RANGE.contains(&gib) {
        return Ok(gib);
    }
    Err(DriverError::new(
        ErrorKind::InvalidArgument,
        format!(
            "invalid size of {bytes} bytes: expected {} to {} GiB, which is what {} has",
            P::GIB_RANGE.start(),
            P::GIB_RANGE.end(),
            P::DRIVER
        ),
    ))
}

/// The file system of a new volume.
///
/// btrfs is not offered: a snapshot of it cannot be used beside its origin, on one host, without damage to
/// both.
///
/// # Errors
/// `InvalidArgument`.
pub fn fs_kind(text: &str) -> Result<FsKind> {
    match text {
        "ext4" => Ok(FsKind::Ext4),
        "xfs" => Ok(FsKind::Xfs),
        _ => Err(DriverError::new(
            ErrorKind::InvalidArgument,
            format!("unknown file system {text:?}: expected ext4 or xfs"),
        )),
    }
}

/// A yes or no.
///
/// # Errors
/// `InvalidArgument`.
pub fn boolean(name: &str, text: &str) -> Result<bool> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(DriverError::new(
            ErrorKind::InvalidArgument,
            format!("invalid value {text:?} of {name}: expected true or false"),
        )),
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
