//! The driver's own options. Credentials and their ways are those of every AWS program: environment, profile,
//! instance role.

use crate::volume_type::{self, Defaults};
use convoy_driver_cloud::Options;
use convoy_driver_sdk::Result;
use convoy_driver_sdk::protocol::OptionSpec;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const DEFAULT_TYPE: &str = "gp3";
/// Attachments take 1 to 4 seconds; those that have not ended after this never do.
const PATIENCE: Duration = Duration::from_secs(90);

/// What the driver is told beside what all drivers of clouds are told.
#[derive(Debug, Clone)]
pub struct Own {
    /// Types and encryption.
    pub defaults: Defaults,
    /// Further tags for every volume and snapshot.
    pub tags: BTreeMap<String, String>,
    /// How long an attachment may take before it counts as stuck.
    pub patience: Duration,
}

/// The options for that.
pub fn options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(
            "ebs.defaultvolumetype",
            "type of a new volume: gp3, gp2, io1, io2, st1, sc1 or standard",
        )
        .default_value(DEFAULT_TYPE),
        OptionSpec::new("ebs.defaultencrypted", "encrypt new volumes").default_value("as the account says"),
        OptionSpec::new("ebs.defaultkmskeyid", "KMS key that new volumes are encrypted with")
            .default_value("the account's default key"),
        OptionSpec::new("ebs.tags", "tags for every volume and snapshot: key=value, separated by commas"),
    ]
}

/// The options of a create.
pub fn create_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("type", "gp3, gp2, io1, io2, st1, sc1 or standard")
            .default_value("the driver's default")
            .for_docker(),
        OptionSpec::new("iops", "IOPS of a gp3, io1 or io2 volume").for_docker(),
        OptionSpec::new("throughput", "MiB/s of a gp3 volume").for_docker(),
        OptionSpec::new("encrypted", "true: encrypt the volume").default_value("the driver's default"),
        OptionSpec::new("kmskeyid", "KMS key to encrypt it with").default_value("the driver's default"),
    ]
}

/// Takes them.
///
/// # Errors
/// `InvalidArgument`.
pub fn read(options: &Options<'_>) -> Result<Own> {
    let kind = options
        .get("defaultvolumetype")
        .or_else(|| options.saved_text("DefaultVolumeType"))
        .unwrap_or(DEFAULT_TYPE);
    let saved_encrypted = options.saved("DefaultEncrypted").and_then(Value::as_bool);
    let kms_key = options.get("defaultkmskeyid").or_else(|| options.saved_text("DefaultKmsKeyID"));
    Ok(Own {
        defaults: Defaults {
            kind: volume_type::parse(kind)?.to_owned(),
            encrypted: options.boolean("defaultencrypted")?.or(saved_encrypted).unwrap_or(false),
            kms_key: kms_key.map(str::to_owned),
        },
        tags: parse_tags(options)?,
        patience: PATIENCE,
    })
}

fn parse_tags(options: &Options<'_>) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    let pairs = options.get("tags").unwrap_or_default().split(',');
    for pair in pairs.filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (key.trim(), value.trim());
        let reserved = key.starts_with("aws:") || key.starts_with("Convoy") || key == "Name";
        if key.is_empty() || key.len() > 128 || value.len() > 256 || reserved {
            let reason = format!(
                "expected key=value with a key of 1 to 128 characters that is neither Name nor begins with Convoy or \
                 aws:, found {pair:?}"
            );
            return Err(options.invalid("tags", reason));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new option is to be given its place here: see [`OptionSpec::docker`].
    #[test]
    fn every_create_option_is_for_dockers_users_or_not() {
        let told = create_options();
        let told: Vec<_> = told.iter().map(|option| (option.name.as_str(), option.docker)).collect();
        // Whether volumes are encrypted, and with which key, the operator says.
        let expected =
            [("type", true), ("iops", true), ("throughput", true), ("encrypted", false), ("kmskeyid", false)];
        assert_eq!(told, expected);
    }
}
