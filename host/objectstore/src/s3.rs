//! A store in a bucket: `s3://bucket@region/path/`, at AWS or whoever speaks the same protocol.
//!
//! Credentials and region come by the standard chain (environment, files, web identity, instance). A custom
//! endpoint means path-style addressing, as in convoy 0.5. Proxies come from the options or `HTTPS_PROXY`,
//! `HTTP_PROXY` and `NO_PROXY`; a further certificate authority from the options or `AWS_CA_BUNDLE`. Nothing
//! is set up before a store is opened, and nothing is global.

mod answers;
mod client;
mod credentials;
mod errors;
mod renewed;
mod upload;

use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::{ByteStream as SdkStream, DateTime};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use md5::{Digest, Md5};

use crate::error::StoreError;
use crate::store::{ByteStream, Depth, ObjectInfo, ObjectStore, Page, PutOutcome, check_dir, check_key};
pub use credentials::CredentialsSource;
use errors::S3Failure;

/// How to reach a bucket.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The URL of a server that is not AWS.
    pub endpoint: Option<String>,
    /// Put the bucket into the path instead of the host name; `None` does so with a custom endpoint.
    pub path_style: Option<bool>,
    /// A file of PEM certificates to trust beside the system's.
    pub ca_bundle: Option<PathBuf>,
    /// The profile whose credentials are used; `None` for the standard chain, or `default` of
    /// `credentials_file`.
    pub profile: Option<String>,
    /// A file of credentials in the place of `~/.aws/credentials`.
    pub credentials_file: Option<PathBuf>,
    /// The URL of the proxy for every request, in the place of those of the environment.
    pub proxy: Option<String>,
}

impl S3Options {
    /// Where the credentials come from that a store with these options uses.
    ///
    /// # Errors
    /// [`StoreError::Config`] for a file that cannot be used, with what to do.
    pub fn credentials(&self) -> Result<CredentialsSource, StoreError> {
        credentials::find(self)
    }
}

/// The proxy's URL may hold a password.
impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .field("ca_bundle", &self.ca_bundle)
            .field("profile", &self.profile)
            .field("credentials_file", &self.credentials_file)
            .field("proxy", &self.proxy.is_some())
            .finish()
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    /// The server, if that is not Amazon's.
    server: Option<String>,
}

/// Objects deleted with one request: what S3 takes.
const DELETE_MAX: usize = 1000;

impl S3Store {
    /// Opens a store. Makes no request to it: whether bucket and credentials are right is told by the first
    /// call.
    ///
    /// # Errors
    /// [`StoreError::Config`] if there is no region, or the certificates cannot be read.
    pub async fn open(
        bucket: &str,
        region: Option<&str>,
        prefix: &str,
        options: &S3Options,
    ) -> Result<Self, StoreError> {
        let (client, endpoint) = client::build(region, options).await?;
        let server = endpoint.map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        Ok(Self { client, bucket: bucket.to_owned(), prefix: prefix.to_owned(), server })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The checksum a body is sent with to servers that may not know the newer ones, which the SDK sends to
    /// AWS: buckets with Object Lock take nothing without.
    async fn content_md5(&self, data: &Bytes) -> Option<String> {
        self.server.as_ref()?;
        let data = data.clone();
        let digest = tokio::task::spawn_blocking(move || base64::encode(Md5::digest(&data))).await;
        // That the task is gone says that the program is ending.
        digest.ok()
    }

    /// What an error means for an object of this store.
    fn fail(&self, op: &'static str, key: &str, said: S3Failure) -> StoreError {
        let destination = format!("s3://{}/{}", self.bucket, self.prefix);
        said.into_error(op, key, &self.bucket, &destination, self.server.as_deref())
    }

    /// Reads a body to its end, which may be after `limit` bytes at most: a server may say one length and
    /// send another, or none and never end.
    async fn collect(&self, key: &str, mut body: SdkStream, limit: u64) -> Result<Bytes, StoreError> {
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut data = BytesMut::new();
        while let Some(part) = body.next().await {
            let part = part.map_err(|e| StoreError::Transient {
                op: "read",
                key: key.to_owned(),
                detail: format!("the answer broke off: {e}"),
            })?;
            if part.len() > most - data.len() {
                let detail = format!("the server sends more than the {limit} bytes there can be");
                return Err(StoreError::Refused { op: "read", key: key.to_owned(), detail });
            }
            if data.is_empty() {
                // Of what is known to be small no more is taken than there is.
                let (least, _) = body.size_hint();
                let rest = usize::try_from(least).unwrap_or(usize::MAX);
                data.reserve(part.len().saturating_add(rest).min(most));
            }
            data.extend_from_slice(&part);
        }
        Ok(data.freeze())
    }

    async fn delete_some(&self, keys: &[String]) -> Result<(), StoreError> {
        let first = keys.first().map_or("", String::as_str);
        let bad = |e: &dyn std::fmt::Display| StoreError::Refused {
            op: "delete",
            key: first.to_owned(),
            detail: e.to_string(),
        };
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            delete =
                delete.objects(ObjectIdentifier::builder().key(self.key(key)).build().map_err(|e| bad(&e))?);
        }
        let delete = delete.build().map_err(|e| bad(&e))?;
        let answer = match self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await {
            Ok(answer) => answer,
            Err(e) => {
                let said = S3Failure::new(e);
                // Not every server has this request, or agrees on the checksum it needs.
                if said.may_be_unsupported() {
                    return self.delete_each(keys).await;
                }
                return Err(self.fail("delete", first, said));
            }
        };
        match answer.errors().first() {
            None => Ok(()),
            Some(e) => Err(StoreError::Transient {
                op: "delete",
                key: e.key().unwrap_or(first).to_owned(),
                detail: format!("{} {}", e.code().unwrap_or_default(), e.message().unwrap_or_default()),
            }),
        }
    }

    async fn delete_each(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            let sent = self.client.delete_object().bucket(&self.bucket).key(self.key(key)).send().await;
            match sent.map_err(|e| self.fail("delete", key, S3Failure::new(e))) {
                Ok(_) | Err(StoreError::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

fn broken_off(key: &str, expected: u64, found: usize) -> StoreError {
    StoreError::Transient {
        op: "read",
        key: key.to_owned(),
        detail: format!("the answer broke off: {found} of {expected} bytes"),
    }
}

fn time(at: Option<&DateTime>) -> SystemTime {
    at.and_then(|at| SystemTime::try_from(*at).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn size(bytes: Option<i64>) -> u64 {
    bytes.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(&self, key: &str, data: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        let md5 = self.content_md5(&data).await;
        let put = self.client.put_object().bucket(&self.bucket).key(self.key(key)).body(data.into());
        put.set_content_md5(md5)
            .send()
            .await
            .map(|_| ())
            .map_err(|e| self.fail("write", key, S3Failure::new(e)))
    }

    async fn put_if_absent(&self, key: &str, data: Bytes) -> Result<PutOutcome, StoreError> {
        check_key(key)?;
        let md5 = self.content_md5(&data).await;
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.key(key))
            .body(data.into())
            .set_content_md5(md5)
            .if_none_match("*");
        // A repetition may find what an attempt has made whose answer was lost: only who repeats knows of
        // that.
        let once = aws_sdk_s3::config::Config::builder().retry_config(RetryConfig::disabled());
        match put.customize().config_override(once).send().await {
            Ok(_) => Ok(PutOutcome::Created),
            Err(e) => {
                let said = S3Failure::new(e);
                if said.status() == Some(412) {
                    Ok(PutOutcome::Exists)
                } else {
                    Err(self.fail("write", key, said))
                }
            }
        }
    }

    async fn put_stream(&self, key: &str, data: ByteStream) -> Result<u64, StoreError> {
        check_key(key)?;
        upload::put_stream(self, key, data).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let got = self.client.get_object().bucket(&self.bucket).key(self.key(key)).send().await;
        let got = got.map_err(|e| self.fail("read", key, S3Failure::new(e)))?;
        let expected = got.content_length().map(|bytes| size(Some(bytes)));
        if let Some(size) = expected.filter(|size| *size > limit) {
            return Err(StoreError::TooLarge { key: key.to_owned(), size, limit });
        }
        let data = self.collect(key, got.body, expected.unwrap_or(limit)).await?;
        match expected {
            Some(expected) if data.len() as u64 != expected => Err(broken_off(key, expected, data.len())),
            _ => Ok(data),
        }
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        check_key(key)?;
        let expected = range.end.saturating_sub(range.start);
        if expected == 0 {
            self.head(key).await?;
            return Ok(Bytes::new());
        }
        let truncated = |found| StoreError::Truncated { key: key.to_owned(), expected, found };
        let get = self.client.get_object().bucket(&self.bucket).key(self.key(key)).range(format!(
            "bytes={}-{}",
            range.start,
            range.end - 1
        ));
        let got = match get.send().await {
            Ok(got) => got,
            Err(e) => {
                let said = S3Failure::new(e);
                return Err(if said.status() == Some(416) {
                    truncated(0)
                } else {
                    self.fail("read", key, said)
                });
            }
        };
        if size(got.content_length()) > expected {
            let detail = "the server sends more than the range that was asked for".to_owned();
            return Err(StoreError::Refused { op: "read", key: key.to_owned(), detail });
        }
        // `bytes 0-99/1234`: the last number is the size of the object.
        let total = got.content_range().and_then(|range| range.rsplit('/').next()?.parse::<u64>().ok());
        let data = self.collect(key, got.body, expected).await?;
        match total {
            _ if data.len() as u64 == expected => Ok(data),
            Some(total) if total >= range.end => Err(broken_off(key, expected, data.len())),
            _ => Err(truncated(data.len() as u64)),
        }
    }

    async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        check_key(key)?;
        let head = self.client.head_object().bucket(&self.bucket).key(self.key(key)).send().await;
        let head = head.map_err(|e| self.fail("look up", key, S3Failure::new(e)))?;
        Ok(ObjectInfo {
            key: key.to_owned(),
            size: size(head.content_length()),
            modified: time(head.last_modified()),
        })
    }

    async fn list(&self, dir: &str, depth: Depth, page: Option<&str>) -> Result<Page, StoreError> {
        check_dir(dir)?;
        let delimiter = (depth == Depth::One).then(|| "/".to_owned());
        let list =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(dir)).set_delimiter(delimiter);
        let answer = list.set_continuation_token(page.map(str::to_owned)).send().await;
        let answer = answer.map_err(|e| self.fail("list", dir, S3Failure::new(e)))?;
        let ours =
            |key: Option<&str>| key.and_then(|key| key.strip_prefix(self.prefix.as_str())).map(str::to_owned);
        let mut found = Page::default();
        for object in answer.contents() {
            // Some tools mark directories by empty objects, and what breaks the rules for keys is not
            // convoy's.
            if let Some(key) = ours(object.key()).filter(|key| check_key(key).is_ok()) {
                found.objects.push(ObjectInfo {
                    key,
                    size: size(object.size()),
                    modified: time(object.last_modified()),
                });
            }
        }
        found.dirs.extend(
            answer
                .common_prefixes()
                .iter()
                .filter_map(|p| ours(p.prefix()))
                .filter(|dir| check_dir(dir).is_ok()),
        );
        // AWS sorts; not everybody does.
        found.objects.sort_by(|a, b| a.key.cmp(&b.key));
        found.dirs.sort_unstable();
        found.next = answer
            .next_continuation_token()
            .filter(|_| answer.is_truncated() == Some(true))
            .map(str::to_owned);
        Ok(found)
    }

    async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for key in keys {
            check_key(key)?;
        }
        for some in keys.chunks(DELETE_MAX) {
            self.delete_some(some).await?;
        }
        Ok(())
    }

    async fn sweep(&self, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
        check_dir(dir)?;
        upload::sweep(self, dir, older_than).await
    }
}
