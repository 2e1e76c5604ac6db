//! Objects of unknown size, sent in parts.

use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use super::errors::S3Failure;
use super::{S3Store, time};
use crate::error::StoreError;
use crate::store::{ByteStream, ObjectStore};

/// Bytes of a part. S3 takes 10,000 of at least 5 MiB: after a thousand they become larger.
const PART: usize = 16 << 20;

struct Parts {
    stream: ByteStream,
    waiting: BytesMut,
    ended: bool,
}

impl Parts {
    /// The next part of so many bytes; the last may be shorter, and there is none after it.
    async fn next(&mut self, size: usize) -> Result<Bytes, StoreError> {
        while !self.ended && self.waiting.len() < size {
            match self.stream.next().await {
                Some(bytes) => self.waiting.extend_from_slice(&bytes?),
                None => self.ended = true,
            }
        }
        Ok(self.waiting.split_to(size.min(self.waiting.len())).freeze())
    }

    fn done(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }
}

pub(super) async fn put_stream(store: &S3Store, key: &str, data: ByteStream) -> Result<u64, StoreError> {
    let mut parts = Parts { stream: data, waiting: BytesMut::new(), ended: false };
    let first = parts.next(PART).await?;
    if parts.done() {
        let size = first.len() as u64;
        store.put(key, first).await?;
        return Ok(size);
    }
    let begin = store.client.create_multipart_upload().bucket(&store.bucket).key(store.key(key)).send().await;
    let begin = begin.map_err(|e| store.fail("write", key, S3Failure::new(e)))?;
    let id = begin.upload_id().unwrap_or_default().to_owned();
    match send(store, key, &id, first, &mut parts).await {
        Ok(size) => Ok(size),
        Err(error) => {
            let abort =
                store.client.abort_multipart_upload().bucket(&store.bucket).key(store.key(key)).upload_id(id);
            if let Err(e) = abort.send().await {
                let abort = store.fail("write", key, S3Failure::new(e));
                tracing::warn!(key, error = %abort, "an unfinished upload stays until it is swept");
            }
            Err(error)
        }
    }
}

async fn send(
    store: &S3Store,
    key: &str,
    id: &str,
    first: Bytes,
    parts: &mut Parts,
) -> Result<u64, StoreError> {
    let mut sent = CompletedMultipartUpload::builder();
    let mut total = 0;
    let mut next = first;
    for number in 1i32.. {
        total += next.len() as u64;
        let md5 = store.content_md5(&next).await;
        let part = store
            .client
            .upload_part()
            .bucket(&store.bucket)
            .key(store.key(key))
            .upload_id(id)
            .part_number(number);
        let done = part
            .set_content_md5(md5)
            .body(next.into())
            .send()
            .await
            .map_err(|e| store.fail("write", key, S3Failure::new(e)))?;
        let tag = done.e_tag().map(str::to_owned);
        sent = sent.parts(CompletedPart::builder().part_number(number).set_e_tag(tag).build());
        let larger = usize::try_from(number / 1000).unwrap_or(0).min(5);
        next = parts.next(PART << larger).await?;
        if next.is_empty() {
            break;
        }
    }
    let complete =
        store.client.complete_multipart_upload().bucket(&store.bucket).key(store.key(key)).upload_id(id);
    complete
        .multipart_upload(sent.build())
        .send()
        .await
        .map_err(|e| store.fail("write", key, S3Failure::new(e)))?;
    Ok(total)
}

/// Aborts uploads that nobody has finished for a long time.
pub(super) async fn sweep(store: &S3Store, dir: &str, older_than: Duration) -> Result<u64, StoreError> {
    let list =
        store.client.list_multipart_uploads().bucket(&store.bucket).prefix(store.key(dir)).send().await;
    let list = match list {
        Ok(list) => list,
        Err(e) => {
            let said = S3Failure::new(e);
            // What has no such listing has its own way to clean up.
            return if said.may_be_unsupported() { Ok(0) } else { Err(store.fail("sweep", dir, said)) };
        }
    };
    let mut aborted = 0;
    for upload in list.uploads() {
        let age = SystemTime::now().duration_since(time(upload.initiated())).unwrap_or_default();
        let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
        if age >= older_than && upload.initiated().is_some() {
            let abort = store
                .client
                .abort_multipart_upload()
                .bucket(&store.bucket)
                .key(key)
                .upload_id(id)
                .send()
                .await;
            abort.map_err(|e| store.fail("sweep", dir, S3Failure::new(e)))?;
            aborted += 1;
        }
    }
    Ok(aborted)
}
