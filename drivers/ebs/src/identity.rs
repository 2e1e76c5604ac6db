//! Which instance this is, by the instance metadata service, version 2.

use aws_config::imds::Client;
use convoy_driver_sdk::{DriverError, Result};
use serde::Deserialize;

const PATH: &str = "/latest/dynamic/instance-identity/document";

/// The instance this runs on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Id of the instance: `i-0123`.
    pub instance_id: String,
    /// Its type: `m5.large`.
    pub instance_type: String,
    /// Its region: `eu-west-1`.
    pub region: String,
    /// Its availability zone: `eu-west-1a`.
    pub availability_zone: String,
}

impl Instance {
    /// Asks the metadata service.
    ///
    /// # Errors
    /// `Unavailable` when there is none, or it does not answer from where this runs.
    pub async fn find(client: &Client) -> Result<Self> {
        let failed = |reason: String| {
            DriverError::unavailable(format!("cannot find out which EC2 instance this is: {reason}"),
            )
            .hint(
                "the driver must run on an EC2 instance; from within a container the metadata service answers only \
                 with the host's network, or with a hop limit of 2",
            )
        };
        let document = client.get(PATH).await.map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            failed(format!("{error}{}", source.unwrap_or_default()))
        })?;
        serde_json::from_str(document.as_ref()).map_err(|error| failed(error.to_string()))
    }
}
