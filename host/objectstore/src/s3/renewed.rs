//! Credentials that are read again while a store is open.
//!
//! The SDK reads its files once. A backup may take longer than the credentials in them are good for, and
//! whoever renews those writes them into the same files. So credentials that say nothing of their end are
//! good for a minute here, and then read anew.

use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_runtime::env_config::file::EnvConfigFiles;
use parking_lot::Mutex;

/// How long credentials are used that say nothing of their end.
const READ_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct RenewedCredentials {
    config: ProviderConfig,
    region: Region,
    /// The files that were named, in the place of the standard chain.
    files: Option<EnvConfigFiles>,
    profile: Option<String>,
    /// What was read last, if that may be used for as long as nothing else can be read.
    last: Mutex<Option<Credentials>>,
}

impl RenewedCredentials {
    /// From the files, and the profile in them, or by the standard chain: environment, files, web identity,
    /// instance.
    pub(super) fn new(
        config: &ProviderConfig,
        region: Region,
        files: Option<EnvConfigFiles>,
        profile: Option<String>,
    ) -> Self {
        let config = config.clone().with_region(Some(region.clone()));
        Self { config, region, files, profile, last: Mutex::default() }
    }

    async fn read(&self) -> Result<Credentials, CredentialsError> {
        // A provider of the SDK keeps what it has read: a new one reads.
        let Some(files) = &self.files else {
            let chain = DefaultCredentialsChain::builder().configure(self.config.clone());
            return chain.region(self.region.clone()).build().await.provide_credentials().await;
        };
        let mut provider =
            ProfileFileCredentialsProvider::builder().configure(&self.config).profile_files(files.clone());
        if let Some(profile) = &self.profile {
            provider = provider.profile_name(profile);
        }
        provider.build().provide_credentials().await
    }

    async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        let read = self.read().await;
        let mut last = self.last.lock();
        let mut credentials = match (read, &*last) {
            (Ok(read), _) => read,
            // The file may be half written at this moment.
            (Err(error), Some(known)) => {
                tracing::warn!(%error, "credentials cannot be read again: those read before are used");
                known.clone()
            }
            (Err(error), None) => return Err(error),
        };
        *last = credentials.expiry().is_none().then(|| credentials.clone());
        credentials.expiry_mut().get_or_insert_with(|| SystemTime::now() + READ_AFTER);
        Ok(credentials)
    }
}

impl ProvideCredentials for RenewedCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{S3Options, client::http_client};
    use super::*;
    use aws_config::BehaviorVersion;
    use aws_runtime::env_config::file::EnvConfigFileKind;

    #[tokio::test]
    async fn credentials_that_are_renewed_in_their_file_are_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |id: &str| {
            let text = format!("[backups]\naws_access_key_id = {id}\naws_secret_access_key = secret\n");
            std::fs::write(file.path(), text).unwrap();
        };
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file.path()).build();
        let config = ProviderConfig::without_region()
            .with_http_client(http_client(&S3Options::default()).unwrap())
            .with_behavior_version(Some(BehaviorVersion::latest()));
        let region = Region::new("us-east-1");
        let provider =
            RenewedCredentials::new(&config, region.clone(), Some(files), Some("backups".to_owned()));
        let id = async || {
            let read = provider.provide_credentials().await.unwrap();
            // The SDK asks again soon.
            assert!(read.expiry().unwrap() <= SystemTime::now() + READ_AFTER);
            read.access_key_id().to_owned()
        };
        write("before");
        assert_eq!(id().await, "before");
        write("after");
        assert_eq!(id().await, "after");
        // Half written, then whole.
        std::fs::write(file.path(), "[back").unwrap();
        assert_eq!(id().await, "after");
        assert_eq!(id().await, "after");
        write("later");
        assert_eq!(id().await, "later");
        // Whoever asks for the first time is told.
        std::fs::write(file.path(), "").unwrap();
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, file.path()).build();
        let new = RenewedCredentials::new(&config, region, Some(files), Some("backups".to_owned()));
        assert!(new.provide_credentials().await.is_err());
    }
}
