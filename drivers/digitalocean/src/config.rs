//! Options and environment.

use crate::api::{self, Token};
use crate::{metadata, provider::DigitalOceanCloud};
use convoy_driver_cloud::{Common, settings};
use convoy_driver_sdk::protocol::{Open, OptionSpec};
use convoy_driver_sdk::{DriverError, ErrorKind, Result, size};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use url::Url;

const DEFAULT_SIZE: &str = "10G";

/// Everything the driver is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The API token.
    pub token: Token,
    /// Where the API is.
    pub endpoint: Url,
    /// Where the metadata service is.
    pub metadata: Url,
    /// The droplet, if it is told and not asked for.
    pub droplet: Option<metadata::Droplet>,
    /// Tags for every volume and snapshot.
    pub tags: Vec<String>,
    /// How volumes are made.
    pub common: Common,
    /// Where device nodes are: `/dev`.
    pub dev: PathBuf,
    /// Where the kernel describes devices: `/sys`.
    pub sys: PathBuf,
}

/// The options that the driver declares.
pub fn options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("do.defaultvolumesize", "size of a new volume").default_value(DEFAULT_SIZE),
        OptionSpec::new("do.fs", "file system of a new volume: ext4 or xfs").default_value("ext4"),
        OptionSpec::new("do.fsfreeze", "freeze a mounted file system for every snapshot")
            .default_value("false"),
        OptionSpec::new("do.tokenfile", "file with the API token").default_value("the variable DO_TOKEN"),
        OptionSpec::new("do.tags", "tags for every volume and snapshot, separated by commas"),
        OptionSpec::new("do.droplet", "id of the droplet this is")
            .default_value("as the metadata service says"),
        OptionSpec::new("do.region", "region of the droplet, with do.droplet")
            .default_value("as the metadata service says"),
        OptionSpec::new("do.endpoint", "address of the API").default_value(api::ENDPOINT),
        OptionSpec::new("do.metadata-endpoint", "address of the metadata service")
            .default_value(metadata::ENDPOINT),
    ]
}

impl Config {
    /// From the options of an open and the environment.
    ///
    /// # Errors
    /// `InvalidArgument`, and whatever keeps the token file from being read.
    pub fn read(request: &Open) -> Result<Self> {
        let given = &request.options;
        convoy_driver_sdk::options::check(&options(), given)?;
        let option = |name: &str| given.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let token = match option("do.tokenfile") {
            Some(path) => token_file(Path::new(path))?,
            None => std::env::var("DO_TOKEN").unwrap_or_default(),
        };
        if token.trim().is_empty() {
            return Err(invalid("expected an API token, found none".to_owned()).hint(
                "set the environment variable DO_TOKEN for convoy, or do.tokenfile to a file that holds it",
            ));
        }
        let saved = SavedConfig::load(&request.root)?;
        let size = match (option("do.defaultvolumesize"), saved.default_volume_size) {
            (Some(text), _) => size::parse(text).map_err(|error| invalid(error.to_string()))?,
            (None, Some(bytes)) if bytes > 0 => bytes,
            (None, _) => size::parse(DEFAULT_SIZE).map_err(|error| invalid(error.to_string()))?,
        };
        let droplet = match (option("do.droplet"), option("do.region")) {
            (None, None) => None,
            (Some(id), Some(region)) => {
                let id = id
                    .parse()
                    .map_err(|_| invalid(format!("do.droplet: expected a number, found {id:?}")))?;
                Some(metadata::Droplet { id, region: region.to_owned() })
            }
            _ => {
                return Err(invalid(
                    "expected do.droplet and do.region together, found one of them".to_owned(),
                ));
            }
        };
        let tags =
            option("do.tags").unwrap_or_default().split(',').map(str::trim).filter(|tag| !tag.is_empty());
        Ok(Self {
            token: Token::new(&token),
            endpoint: parse_url("do.endpoint", option("do.endpoint").unwrap_or(api::ENDPOINT))?,
            metadata: parse_url(
                "do.metadata-endpoint",
                option("do.metadata-endpoint").unwrap_or(metadata::ENDPOINT),
            )?,
            droplet,
            tags: tags.map(parse_tag).collect::<Result<_>>()?,
            common: Common {
                default_gib: settings::gib::<DigitalOceanCloud>(size)?,
                fs: settings::fs_kind(option("do.fs").unwrap_or("ext4"))?,
                freeze: settings::boolean("do.fsfreeze", option("do.fsfreeze").unwrap_or_default())?,
            },
            dev: PathBuf::from("/dev"),
            sys: PathBuf::from("/sys"),
        })
    }
}

/// What convoy 0.5 kept of the options of its first start: a default beneath the options of this one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SavedConfig {
    default_volume_size: Option<u64>,
}

impl SavedConfig {
    fn load(root: &Path) -> Result<Self> {
        let path = root.join("digitalocean.cfg");
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

fn token_file(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| DriverError::io(format_args!("read the API token in {}", path.display()), &error))
}

fn parse_url(option: &str, text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| invalid(format!("{option}: {text:?} is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(invalid(format!("{option}: expected an http or https URL, found {text:?}")));
    }
    Ok(url)
}

fn parse_tag(tag: &str) -> Result<String> {
    let good = tag.len() <= 255
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_'));
    if good {
        return Ok(tag.to_owned());
    }
    Err(invalid(format!("do.tags: expected letters, digits, colons, dashes and underscores, found {tag:?}")))
}

fn invalid(text: String) -> DriverError {
    DriverError::new(ErrorKind::InvalidArgument, text)
}
