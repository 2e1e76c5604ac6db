//! Options. Credentials and their ways are those of every AWS program: environment, profile, instance role.

use crate::provider::Ec2Cloud;
use crate::volume_type::{self, Defaults};
use convoy_driver_cloud::{Common, common_create_options, settings};
use convoy_driver_sdk::protocol::{Open, OptionSpec};
use convoy_driver_sdk::{DriverError, ErrorKind, Result, size};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;

const DEFAULT_SIZE: &str = "4G";
const DEFAULT_TYPE: &str = "gp3";
/// Attachments take 1 to 4 seconds; those that have not ended after this never do.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything the driver is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where EC2 is, if not where the region's name says.
    pub endpoint: Option<Url>,
    /// Where the metadata service is, if not at its usual address.
    pub metadata: Option<Url>,
    /// Types and encryption.
    pub defaults: Defaults,
    /// Further tags for every volume and snapshot.
    pub tags: BTreeMap<String, String>,
    /// How volumes are made.
    pub common: Common,
    /// How long an attachment may take before it counts as stuck.
    pub patience: Duration,
    /// Where device nodes are: `/dev`.
    pub dev: PathBuf,
    /// Where the kernel describes devices: `/sys`.
    pub sys: PathBuf,
}

/// The options that the driver declares.
pub fn options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("ebs.defaultvolumesize", "size of a new volume").default_value(DEFAULT_SIZE),
        OptionSpec::new(
            "ebs.defaultvolumetype",
            "type of a new volume: gp3, gp2, io1, io2, st1, sc1 or standard",
        )
        .default_value(DEFAULT_TYPE),
        OptionSpec::new("ebs.defaultencrypted", "encrypt new volumes").default_value("as the account says"),
        OptionSpec::new("ebs.defaultkmskeyid", "KMS key that new volumes are encrypted with")
            .default_value("the account's default key"),
        OptionSpec::new("ebs.fs", "file system of a new volume: ext4 or xfs").default_value("ext4"),
        OptionSpec::new("ebs.fsfreeze", "freeze a mounted file system for every snapshot")
            .default_value("false"),
        OptionSpec::new("ebs.tags", "tags for every volume and snapshot: key=value, separated by commas"),
        OptionSpec::new("ebs.endpoint", "address of EC2")
            .default_value("AWS_ENDPOINT_URL_EC2, or the region's address"),
        OptionSpec::new("ebs.metadata-endpoint", "address of the instance metadata service")
            .default_value("AWS_EC2_METADATA_SERVICE_ENDPOINT, or http://169.254.169.254"),
    ]
}

/// The options of a create.
pub fn create_options() -> Vec<OptionSpec> {
    let mut options = common_create_options();
    options.extend([
        OptionSpec::new("type", "gp3, gp2, io1, io2, st1, sc1 or standard")
            .default_value("the driver's default"),
        OptionSpec::new("iops", "IOPS of a gp3, io1 or io2 volume"),
        OptionSpec::new("throughput", "MiB/s of a gp3 volume"),
        OptionSpec::new("encrypted", "true: encrypt the volume").default_value("the driver's default"),
        OptionSpec::new("kmskeyid", "KMS key to encrypt it with").default_value("the driver's default"),
    ]);
    options
}

impl Config {
    /// From the options of an open.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn read(request: &Open) -> Result<Self> {
        let given = &request.options;
        convoy_driver_sdk::options::check(&options(), given)?;
        let option = |name: &str| given.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let saved = SavedConfig::load(&request.root)?;
        let size = match (option("ebs.defaultvolumesize"), saved.default_volume_size) {
            (Some(text), _) => size::parse(text).map_err(|error| invalid(error.to_string()))?,
            (None, Some(bytes)) if bytes > 0 => bytes,
            (None, _) => size::parse(DEFAULT_SIZE).map_err(|error| invalid(error.to_string()))?,
        };
        let kind =
            option("ebs.defaultvolumetype").or(saved.default_volume_type.as_deref()).unwrap_or(DEFAULT_TYPE);
        let encrypted = match option("ebs.defaultencrypted") {
            Some(text) => settings::boolean("ebs.defaultencrypted", text)?,
            None => saved.default_encrypted,
        };
        let saved_key = saved.default_kms_key_id.filter(|key| !key.is_empty());
        Ok(Self {
            endpoint: option("ebs.endpoint").map(|text| parse_url("ebs.endpoint", text)).transpose()?,
            metadata: option("ebs.metadata-endpoint")
                .map(|text| parse_url("ebs.metadata-endpoint", text))
                .transpose()?,
            defaults: Defaults {
                kind: volume_type::parse(kind)?.to_owned(),
                encrypted,
                kms_key: option("ebs.defaultkmskeyid").map(str::to_owned).or(saved_key),
            },
            tags: parse_tags(option("ebs.tags").unwrap_or_default())?,
            common: Common {
                default_gib: settings::gib::<Ec2Cloud>(size)?,
                fs: settings::fs_kind(option("ebs.fs").unwrap_or("ext4"))?,
                freeze: settings::boolean("ebs.fsfreeze", option("ebs.fsfreeze").unwrap_or_default())?,
            },
            patience: PATIENCE,
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        })
    }
}

/// What convoy 0.5 kept of the options of its first start: defaults beneath the options of this one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SavedConfig {
    default_volume_size: Option<u64>,
    default_volume_type: Option<String>,
    #[serde(rename = "DefaultKmsKeyID")]
    default_kms_key_id: Option<String>,
    default_encrypted: bool,
}

impl SavedConfig {
    fn load(root: &Path) -> Result<Self> {
        let path = root.join("ebs.cfg");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(DriverError::io(format_args!("read {}", path.display()), &error)),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                DriverError::new(ErrorKind::DataLoss, format!("{} is damaged: {error}", path.display()))
                    .hint("move it away to start with the defaults")
            }),
        }
    }
}

fn parse_url(option: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| invalid(format!("{option}: {text:?} is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid(format!("{option}: expected an http or https URL, found {text:?}")));
    }
    Ok(url)
}

fn parse_tags(text: &str) -> Result<BTreeMap<String, String>> {
    let mut tags = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (key.trim(), value.trim());
        let reserved = key.starts_with("aws:") || key.starts_with("Convoy") || key == "Name";
        if key.is_empty() || key.len() > 128 || value.len() > 256 || reserved {
            return Err(invalid(format!(
                "ebs.tags: expected key=value with a key of 1 to 128 characters that is neither Name nor begins with \
                 Convoy or aws:, found {pair:?}"
            )));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}

fn invalid(text: String) -> DriverError {
    DriverError::new(ErrorKind::InvalidArgument, text)
}
