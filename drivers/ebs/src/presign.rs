//! EC2 copies an encrypted snapshot of another region only when it is handed a request, signed for that
//! region, that it can make itself.

use crate::ec2::Ec2;
use aws_sdk_ec2::config::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use convoy_driver_sdk::{Context, DriverError, Result};
use std::time::{Duration, SystemTime};
use url::Url;

/// EC2 uses it at once.
const EXPIRES: Duration = Duration::from_secs(3600);

/// The signed request, as a URL.
///
/// # Errors
/// When there are no credentials.
pub(crate) fn copy_snapshot(
    ec2: &Ec2,
    from: &str,
    snapshot: &str,
    endpoint: Option<&Url>,
    context: &Context,
) -> Result<String> {
    let failed = |reason: String| {
        DriverError::permission_denied(format!("cannot sign the copy of {snapshot}: {reason}"))
    };
    let provider =
        ec2.base().credentials_provider().ok_or_else(|| failed("there are no credentials".to_owned()))?;
    let credentials =
        ec2.wait(context, provider.provide_credentials())?.map_err(|error| failed(error.to_string()))?;
    let address = endpoint.map_or_else(|| format!("https://ec2.{from}.amazonaws.com/"), Url::to_string);
    let mut url = Url::parse(&address).map_err(|error| failed(error.to_string()))?;
    url.query_pairs_mut().extend_pairs([
        ("Action", "CopySnapshot"),
        ("DestinationRegion", &ec2.instance.region),
        ("SourceRegion", from),
        ("SourceSnapshotId", snapshot),
        ("Version", "2016-11-15"),
    ]);
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(from)
        .name("ec2")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| failed(error.to_string()))?;
    let signed = sign(request, &params.into()).map_err(|error| failed(error.to_string()))?;
    let (instructions, _) = signed.into_parts();
    url.query_pairs_mut()
        .extend_pairs(instructions.params().iter().map(|(name, value)| (*name, value.as_ref())));
    Ok(url.into())
}
