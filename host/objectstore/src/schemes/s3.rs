//! `s3://bucket@region/path/`: a bucket at AWS, or at whoever speaks the same protocol.

use std::sync::Arc;

use async_trait::async_trait;

use super::definition::SettingKind::{Path, Switch, Text, Url};
use super::definition::{Abilities, Location, Scheme, StoreOptions, StoreSetting};
use crate::error::StoreError;
#[cfg(feature = "s3")]
use crate::retry::{RetryPolicy, RetryStore};
#[cfg(feature = "s3")]
use crate::s3::{S3Options, S3Store};
use crate::store::ObjectStore;
use crate::urls::{DestinationError, unescape};

#[derive(Debug)]
pub(super) struct S3;

const FORM: DestinationError = DestinationError::Form {
    message: "Invalid URL. Must be either s3://bucket@region/path/, or s3://bucket/path",
    hint: "",
};

const SETTINGS: &[StoreSetting] = &[
    StoreSetting {
        key: "endpoint",
        kind: Url,
        doc: "the S3 server, if it is not Amazon's; `--s3-endpoint` overrides it",
    },
    StoreSetting {
        key: "path-style",
        kind: Switch,
        doc: "`true`: requests name the bucket in the path; `false`: in the host name. Default: `true` with \
            an endpoint",
    },
    StoreSetting { key: "region", kind: Text, doc: "the region, if the URL names none" },
    StoreSetting {
        key: "profile",
        kind: Text,
        doc: "a profile of the credentials file or of `~/.aws/config`, used instead of the credentials of \
            the environment and the machine",
    },
    StoreSetting {
        key: "credentials-file",
        kind: Path,
        doc: "the credentials file, instead of `~/.aws/credentials` of the daemon's user",
    },
    StoreSetting { key: "ca-file", kind: Path, doc: "PEM certificates to trust in addition to the system's" },
    StoreSetting {
        key: "proxy",
        kind: Url,
        doc: "a proxy for every request, instead of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`",
    },
];

#[async_trait]
impl Scheme for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn form(&self) -> &'static str {
        "s3://bucket@region/path/"
    }

    fn parse(&'static self, rest: &str) -> Result<Location, DestinationError> {
        let (host, path) = rest.split_once('/').ok_or(FORM)?;
        let (bucket, region) = match host.split_once('@') {
            Some((bucket, region)) => (bucket, Some(region)),
            None => (host, None),
        };
        let plain =
            |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain(bucket) || region.is_some_and(|r| !plain(r)) {
            return Err(FORM);
        }
        let path = match unescape(path)?.trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        Ok(Location { scheme: self, host: bucket.to_owned(), region: region.map(str::to_owned), path })
    }

    fn settings(&self) -> &'static [StoreSetting] {
        SETTINGS
    }

    fn abilities(&self) -> Abilities {
        // AWS sorts; not everybody does. Versions that a bucket keeps are its owner's.
        Abilities {
            create_if_absent: true,
            ranges: true,
            ordered_lists: false,
            locks: false,
            versions: false,
        }
    }

    /// What is below the path: there are no links. Some servers read `.` and `..` as directories do.
    fn admits(&self, named: &str, asked: &str) -> bool {
        asked.starts_with(named) && !asked.split('/').any(|part| matches!(part, "." | ".."))
    }

    #[cfg(feature = "s3")]
    async fn open(&self, at: &Location, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
        let region = at.region.clone().or_else(|| options.get("region"));
        let store = S3Store::open(&at.host, region.as_deref(), &at.path, &s3_options(options)).await?;
        Ok(Arc::new(RetryStore::new(store, RetryPolicy::default())))
    }

    #[cfg(not(feature = "s3"))]
    async fn open(&self, _: &Location, _: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
        Err(StoreError::Config("this program was built without S3".to_owned()))
    }

    #[cfg(feature = "s3")]
    fn credentials(&self, options: &StoreOptions) -> Result<Option<String>, StoreError> {
        Ok(Some(s3_options(options).credentials()?.to_string()))
    }

    /// S3 refuses requests of a clock that is wrong by more than a quarter of an hour.
    fn server(&self, at: &Location, options: &StoreOptions) -> Option<String> {
        let amazon = || at.region.as_ref().map(|region| format!("https://s3.{region}.amazonaws.com/"));
        options.get("endpoint").or_else(amazon)
    }
}

#[cfg(feature = "s3")]
fn s3_options(options: &StoreOptions) -> S3Options {
    S3Options {
        endpoint: options.get("endpoint"),
        path_style: options.get("path-style").map(|value| value == "true"),
        ca_bundle: options.get("ca-file").map(Into::into),
        profile: options.get("profile"),
        credentials_file: options.get("credentials-file").map(Into::into),
        proxy: options.get("proxy"),
    }
}
