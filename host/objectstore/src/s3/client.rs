//! The client: region, credentials, certificates, proxies.

use std::time::Duration;

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Builder, Connector};

use super::S3Options;
use super::answers::Answers;
use super::renewed::RenewedCredentials;
use crate::error::StoreError;

/// Names of the variables by which users of the SDK give an endpoint.
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// A client, and the server that it speaks to if that is not AWS's.
pub(super) async fn build(
    region: Option<&str>,
    options: &S3Options,
) -> Result<(Client, Option<String>), StoreError> {
    let endpoint = endpoint(options)?;
    let source = options.credentials()?;
    tracing::debug!(%source, "where credentials come from");
    let custom = endpoint.is_some();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(60))
        .operation_attempt_timeout(Duration::from_secs(300))
        .build();
    let http_client = http_client(options)?;
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client.clone())
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .timeout_config(timeouts)
        // They come below, once the region is known.
        .no_credentials();
    let region = region.map(|region| Region::new(region.to_owned()));
    let files = profile_files(options);
    if region.is_none() && custom {
        // Servers of one's own mostly do not care, but a signature needs a region. The whole chain would ask
        // a cloud's metadata service, and where there is none wait for it in vain.
        let mut profile = ProfileFileRegionProvider::builder();
        if let Some(files) = &files {
            profile = profile.profile_files(files.clone());
        }
        if let Some(name) = &options.profile {
            profile = profile.profile_name(name);
        }
        let known = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
        loader = loader.region(known.or_else(profile.build()).or_else(Region::new("us-east-1")));
    }
    if let Some(files) = &files {
        loader = loader.profile_files(files.clone());
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
    }
    if let Some(region) = region {
        loader = loader.region(region);
    }
    let shared = loader.load().await;
    let Some(region) = shared.region() else {
        let hint = "no AWS region is known: write s3://bucket@region/path/, or set AWS_REGION";
        return Err(StoreError::Config(hint.to_owned()));
    };
    // Named credentials are meant: variables of the environment do not come before them.
    let provider = ProviderConfig::without_region()
        .with_http_client(http_client)
        .with_behavior_version(Some(BehaviorVersion::latest()));
    let mut config = aws_sdk_s3::config::Builder::from(&shared)
        .credentials_provider(RenewedCredentials::new(
            &provider,
            region.clone(),
            files,
            options.profile.clone(),
        ))
        .force_path_style(options.path_style.unwrap_or(custom))
        .interceptor(Answers);
    if let Some(endpoint) = &endpoint {
        // The checksums that AWS wants since 2025 are not known to every server.
        config = config
            .endpoint_url(endpoint)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    }
    Ok((Client::from_conf(config.build()), endpoint))
}

/// The server that is not AWS's: that of the options, or of the environment. It ends in `/`, or the SDK would
/// put the bucket's name directly behind a path.
fn endpoint(options: &S3Options) -> Result<Option<String>, StoreError> {
    let by_environment =
        || ENDPOINT_VARIABLES.iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let Some(mut endpoint) = options.endpoint.clone().filter(|e| !e.is_empty()).or_else(by_environment)
    else {
        return Ok(None);
    };
    if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
        return Err(StoreError::Config(format!(
            "the S3 endpoint {endpoint} must begin with http:// or https://"
        )));
    }
    if !endpoint.ends_with('/') {
        endpoint.push('/');
    }
    Ok(Some(endpoint))
}

/// Where to look for a profile; `None` if neither a profile nor a file was named.
fn profile_files(options: &S3Options) -> Option<EnvConfigFiles> {
    let Some(path) = &options.credentials_file else {
        return options.profile.is_some().then(EnvConfigFiles::default);
    };
    let files = EnvConfigFiles::builder()
        .include_default_config_file(true)
        .with_file(EnvConfigFileKind::Credentials, path);
    Some(files.build())
}

/// What every request goes through: the proxy that was named, which is then the only one, or those of the
/// environment.
fn proxy(options: &S3Options) -> Result<ProxyConfig, StoreError> {
    let Some(proxy) = &options.proxy else { return Ok(ProxyConfig::from_env()) };
    // The URL may hold a password: it is not repeated.
    ProxyConfig::all(proxy.as_str())
        .map_err(|_| StoreError::Config("the proxy is no URL like http://proxy.example.com:3128".to_owned()))
}

/// TLS by rustls with ring, the system's certificates and those given.
pub(super) fn http_client(options: &S3Options) -> Result<SharedHttpClient, StoreError> {
    let bundle = options
        .ca_bundle
        .clone()
        .or_else(|| std::env::var_os("AWS_CA_BUNDLE").filter(|v| !v.is_empty()).map(Into::into));
    let mut trust = TrustStore::default();
    if let Some(path) = bundle {
        let pem = std::fs::read(&path).map_err(|e| {
            StoreError::Config(format!("the certificates in {} cannot be read: {e}", path.display()))
        })?;
        if !pem.windows(27).any(|w| w == b"-----BEGIN CERTIFICATE-----") {
            return Err(StoreError::Config(format!("{} holds no PEM certificate", path.display())));
        }
        trust = trust.with_pem_certificate(pem);
    }
    let tls = TlsContext::builder().with_trust_store(trust).build();
    let tls = tls.map_err(|e| StoreError::Config(format!("TLS cannot be set up: {e}")))?;
    let proxy = proxy(options)?;
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut connector = Connector::builder().proxy_config(proxy.clone());
        connector.set_connector_settings(settings.cloned());
        connector.set_sleep_impl(components.and_then(|c| c.sleep_impl()));
        connector.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    }))
}
