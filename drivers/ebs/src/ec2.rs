//! The EC2 client and the runtime it runs on.

use crate::identity::Instance;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{Provider as TlsProvider, rustls_provider::CryptoMode};
use convoy_driver_cloud::{Places, causes};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Result};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Every EC2 action the driver uses. The policy in the documentation allows these and no others.
pub const ACTIONS: &[&str] = &[
    "AttachVolume",
    "CopySnapshot",
    "CreateSnapshot",
    "CreateTags",
    "CreateVolume",
    "DeleteSnapshot",
    "DeleteTags",
    "DeleteVolume",
    "DescribeInstances",
    "DescribeSnapshots",
    "DescribeVolumes",
    "DescribeVolumesModifications",
    "DetachVolume",
    "ModifyVolume",
];

/// How often a call that waits for EC2 is asked whether to go on.
const CHECK_EVERY: Duration = Duration::from_millis(50);
/// How long one try may take.
const ATTEMPT: Duration = Duration::from_secs(20);
/// How long a call may take with all its tries.
const OPERATION: Duration = Duration::from_secs(120);
/// The first pause between tries, on average halved by chance; the others double it.
const FIRST_PAUSE: Duration = Duration::from_millis(300);
/// Tries of a call that may be repeated.
const TRIES: u32 = 6;

/// An error of EC2, before it is classified: its code decides in some places.
#[derive(Debug)]
pub struct Failure {
    /// `InvalidVolume.NotFound`; empty when there was no answer.
    pub code: String,
    /// As it is reported.
    pub error: DriverError,
}

impl Failure {
    /// Whether EC2 answered with this code.
    pub fn is(&self, code: &str) -> bool {
        self.code == code
    }

    /// Whether EC2 answered with this code and, in lower case, these words.
    pub fn says(&self, code: &str, words: &str) -> bool {
        self.code == code && self.error.message.to_lowercase().contains(words)
    }
}

impl From<Failure> for DriverError {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

/// What a call comes back with.
pub type Answer<T> = std::result::Result<T, Failure>;

/// The client of this instance's region, and of others when they are asked for.
#[derive(Debug)]
pub struct Ec2 {
    runtime: Runtime,
    base: SdkConfig,
    endpoint: Option<String>,
    home: Client,
    abroad: Mutex<BTreeMap<String, Client>>,
    calls: AtomicU64,
    /// The instance this runs on.
    pub instance: Instance,
}

impl Ec2 {
    /// Starts the runtime, finds out which instance this is and makes the client of its region.
    ///
    /// # Errors
    /// `Unavailable` if this is no instance.
    pub fn connect(places: &Places, context: &Context) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("ebs")
            .enable_all()
            .build()
            .map_err(|error| DriverError::io("start the runtime of the EC2 client", &error))?;
        let connected = within(&runtime, context, async {
            let http = HttpBuilder::new().tls_provider(TlsProvider::Rustls(CryptoMode::Ring)).build_https();
            let mut metadata =
                imds::Client::builder().configure(&ProviderConfig::default().with_http_client(http.clone()));
            if let Some(endpoint) = &places.metadata {
                metadata = metadata
                    .endpoint(endpoint.as_str())
                    .map_err(|error| DriverError::invalid(format!("ebs.metadata-endpoint: {error}")))?;
            }
            let metadata = metadata.build();
            let instance = Instance::find(&metadata).await?;
            let region = Region::new(instance.region.clone());
            let provider =
                ProviderConfig::default().with_http_client(http.clone()).with_region(Some(region.clone()));
            let credentials =
                DefaultCredentialsChain::builder().configure(provider).imds_client(metadata).build().await;
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(5))
                .operation_attempt_timeout(ATTEMPT)
                .operation_timeout(OPERATION);
            let loader = aws_config::defaults(BehaviorVersion::latest())
                .http_client(http)
                .region(region)
                .credentials_provider(credentials)
                .retry_config(
                    RetryConfig::standard().with_max_attempts(TRIES).with_initial_backoff(FIRST_PAUSE),
                )
                .timeout_config(timeouts.build());
            Ok::<_, DriverError>((Box::pin(loader.load()).await, instance))
        })??;
        let (base, instance) = connected;
        let endpoint = places.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let home = client(&base, &instance.region, endpoint.as_deref());
        Ok(Self {
            runtime,
            base,
            endpoint,
            home,
            abroad: Mutex::default(),
            calls: AtomicU64::new(0),
            instance,
        })
    }

    /// The client of the instance's region.
    pub fn home(&self) -> &Client {
        &self.home
    }

    /// The client of a region.
    pub fn of_region(&self, region: &str) -> Client {
        if region == self.instance.region {
            return self.home.clone();
        }
        let mut abroad = self.abroad.lock();
        let made = abroad
            .entry(region.to_owned())
            .or_insert_with(|| client(&self.base, region, self.endpoint.as_deref()));
        made.clone()
    }

    /// The configuration that every client shares: credentials are taken from it.
    pub fn base(&self) -> &SdkConfig {
        &self.base
    }

    /// Calls made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Waits for something of the runtime, no longer than the call.
    ///
    /// # Errors
    /// `Cancelled`, `DeadlineExceeded`.
    pub fn wait<T>(&self, context: &Context, future: impl Future<Output = T>) -> Result<T> {
        within(&self.runtime, context, future)
    }

    /// Makes one call. `action` is its name, one of [`ACTIONS`].
    ///
    /// # Errors
    /// EC2's refusal, classified; `Unavailable` without an answer; `Cancelled`, `DeadlineExceeded`.
    pub fn call<T, E, R>(
        &self,
        action: &'static str,
        context: &Context,
        request: impl Future<Output = std::result::Result<T, SdkError<E, R>>>,
    ) -> Answer<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.wait(context, Box::pin(request)) {
            Err(error) => Err(Failure { code: String::new(), error }),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(classify(action, &error)),
        }
    }
}

fn client(base: &SdkConfig, region: &str, endpoint: Option<&str>) -> Client {
    let mut config = aws_sdk_ec2::config::Builder::from(base).region(Region::new(region.to_owned()));
    if let Some(endpoint) = endpoint {
        config = config.endpoint_url(endpoint);
    }
    Client::from_conf(config.build())
}

fn within<T>(runtime: &Runtime, context: &Context, future: impl Future<Output = T>) -> Result<T> {
    runtime.block_on(async {
        let mut future = std::pin::pin!(future);
        loop {
            tokio::select! {
                answer = &mut future => return Ok(answer),
                () = tokio::time::sleep(CHECK_EVERY) => context.check()?,
            }
        }
    })
}

fn classify<E, R>(action: &str, error: &SdkError<E, R>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let code = error.code().unwrap_or_default().to_owned();
    if code.is_empty() {
        let reason = causes(error);
        let error = DriverError::unavailable(format!("no answer from EC2 to {action}: {reason}"));
        return Failure { code, error };
    }
    let message = error.message().unwrap_or("no reason given");
    let built = DriverError::new(kind(&code), format!("EC2 refused {action}: {code}: {message}"));
    let error = match built.kind {
        ErrorKind::PermissionDenied => built.hint(format!(
            "the instance's role, or whatever credentials are used, must allow ec2:{action}: see the policy in the \
             driver's documentation"
        )),
        ErrorKind::Exhausted => built.hint("delete or detach what is not needed, or ask AWS to raise the limit"),
        _ => built,
    };
    Failure { code, error }
}

/// Codes of EC2 by what they mean here.
fn kind(code: &str) -> ErrorKind {
    match code {
        "UnauthorizedOperation"
        | "AuthFailure"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "RequestExpired"
        | "AccessDenied"
        | "Blocked"
        | "OptInRequired"
        | "InvalidKmsKey.InvalidState" => ErrorKind::PermissionDenied,
        "VolumeInUse" | "InvalidSnapshot.InUse" => ErrorKind::InUse,
        "IncorrectState"
        | "IncorrectModificationState"
        | "VolumeModificationRateExceeded"
        | "VolumeModificationSizeLimitExceeded"
        | "ConcurrentSnapshotLimitExceeded"
        | "SnapshotCreationPerVolumeRateExceeded" => ErrorKind::Busy,
        "InternalError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestLimitExceeded"
        | "Throttling"
        | "RequestTimeout" => ErrorKind::Unavailable,
        "UnsupportedOperation" => ErrorKind::Unsupported,
        code if code.ends_with(".NotFound") => ErrorKind::NotFound,
        code if code.ends_with("LimitExceeded") || code.starts_with("Insufficient") => ErrorKind::Exhausted,
        code if code.starts_with("Invalid")
            || code.starts_with("Missing")
            || code.starts_with("Malformed") =>
        {
            ErrorKind::InvalidArgument
        }
        _ => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_meaning_the_host_decides_by() {
        for (code, expected) in [
            ("InvalidVolume.NotFound", ErrorKind::NotFound),
            ("InvalidSnapshot.NotFound", ErrorKind::NotFound),
            ("VolumeInUse", ErrorKind::InUse),
            ("AttachmentLimitExceeded", ErrorKind::Exhausted),
            ("VolumeLimitExceeded", ErrorKind::Exhausted),
            ("MaxIOPSLimitExceeded", ErrorKind::Exhausted),
            ("SnapshotLimitExceeded", ErrorKind::Exhausted),
            ("RequestLimitExceeded", ErrorKind::Unavailable),
            ("IncorrectState", ErrorKind::Busy),
            ("InvalidParameterValue", ErrorKind::InvalidArgument),
            ("InvalidParameterCombination", ErrorKind::InvalidArgument),
            ("UnauthorizedOperation", ErrorKind::PermissionDenied),
            ("UnsupportedOperation", ErrorKind::Unsupported),
            ("InsufficientVolumeCapacity", ErrorKind::Exhausted),
        ] {
            assert_eq!(kind(code), expected, "{code}");
        }
    }
}
