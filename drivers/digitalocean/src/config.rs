//! The driver's own options, and its environment.

use crate::api::Token;
use crate::metadata::Droplet;
use convoy_driver_cloud::Options;
use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{DriverError, Result, secret};
use std::path::Path;

/// The most that a file with a token may hold, in bytes.
const MOST_OF_A_TOKEN: u64 = 4096;

/// What the driver is told beside what all drivers of clouds are told.
#[derive(Debug, Clone)]
pub struct Own {
    /// The API token.
    pub token: Token,
    /// The droplet, if it is told and not asked for.
    pub droplet: Option<Droplet>,
    /// Tags for every volume and snapshot.
    pub tags: Vec<String>,
}

/// The options for that.
pub fn options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new("do.tokenfile", "file with the API token").default_value("the variable DO_TOKEN"),
        OptionSpec::new("do.tags", "tags for every volume and snapshot, separated by commas"),
        OptionSpec::new("do.droplet", "id of the droplet this is")
            .default_value("as the metadata service says"),
        OptionSpec::new("do.region", "region of the droplet, with do.droplet")
            .default_value("as the metadata service says"),
    ]
}

/// Takes them.
///
/// # Errors
/// `InvalidArgument`, and whatever keeps the token file from being read.
pub fn read(options: &Options<'_>) -> Result<Own> {
    let token = match options.get("tokenfile") {
        Some(path) => token_file(Path::new(path))?,
        None => std::env::var("DO_TOKEN").unwrap_or_default(),
    };
    if token.trim().is_empty() {
        return Err(DriverError::invalid("expected an API token, found none").hint(
            "set the environment variable DO_TOKEN for convoy, or do.tokenfile to a file that holds it",
        ));
    }
    let droplet = match (options.get("droplet"), options.get("region")) {
        (None, None) => None,
        (Some(id), Some(region)) => {
            let number = id
                .parse()
                .map_err(|_| options.invalid("droplet", format_args!("expected a number, found {id:?}")))?;
            Some(Droplet { id: number, region: region.to_owned() })
        }
        _ => {
            return Err(
                options.invalid("droplet", "expected do.droplet and do.region together, found one of them")
            );
        }
    };
    let tags =
        options.get("tags").unwrap_or_default().split(',').map(str::trim).filter(|tag| !tag.is_empty());
    let tags = tags.map(|tag| parse_tag(options, tag)).collect::<Result<_>>()?;
    Ok(Own { token: Token::new(&token), droplet, tags })
}

fn token_file(path: &Path) -> Result<String> {
    secret::read_text(path, MOST_OF_A_TOKEN).map_err(|error| {
        let error = DriverError::from(error);
        DriverError::new(error.kind, format!("the API token of do.tokenfile: {}", error.message))
    })
}

fn parse_tag(options: &Options<'_>, tag: &str) -> Result<String> {
    let good = tag.len() <= 255
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'-' | b'_'));
    if good {
        return Ok(tag.to_owned());
    }
    let reason =
        format_args!("expected letters, digits, colons, dashes and underscores, found {tag:?}").to_string();
    Err(options.invalid("tags", reason))
}
