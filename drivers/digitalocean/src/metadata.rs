//! Which droplet this is, by the metadata service that only the droplet can reach.

use convoy_driver_sdk::{DriverError, Result};
use reqwest::blocking::Client;
use serde::Deserialize;
use std::time::Duration;
use url::Url;

/// Where it is.
pub const ENDPOINT: &str = "http://169.254.169.254";

/// How long it may take: it answers in milliseconds, or there is none.
const LIMIT: Duration = Duration::from_secs(5);

/// The droplet this runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Droplet {
    /// Id of the droplet.
    #[serde(rename = "droplet_id")]
    pub id: u64,
    /// The short name of its region.
    pub region: String,
}

impl Droplet {
    /// Asks the metadata service.
    ///
    /// # Errors
    /// `Unavailable` when there is none: this is no droplet, or the network is not up yet.
    pub fn find(endpoint: &Url) -> Result<Self> {
        let ask = || -> std::result::Result<Self, reqwest::Error> {
            let mut url = endpoint.clone();
            url.set_path(&format!("{}/metadata/v1.json", endpoint.path().trim_end_matches('/')));
            // It is on the link itself: no proxy is right for it.
            let client = Client::builder().timeout(LIMIT).no_proxy().build()?;
            client.get(url).send()?.error_for_status()?.json()
        };
        ask().map_err(|error| {
            DriverError::unavailable(format!(
                "cannot find out which droplet this is: {}",
                error.without_url()
            ))
            .hint(
                "the driver must run on a droplet whose metadata service it can reach, or be told by \
                 do.droplet and do.region",
            )
        })
    }
}
