//! What a server's refusal means.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_types::error::display::DisplayErrorContext;

use crate::error::StoreError;

/// Characters of what a server says that are kept.
const TEXT_MAX: usize = 500;

/// An error of the SDK, reduced to what matters.
#[derive(Debug)]
pub(super) struct Said {
    status: Option<u16>,
    code: String,
    text: String,
    network: bool,
}

impl Said {
    pub(super) fn new<E>(error: SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        SdkError<E>: RequestId,
    {
        let status = error.raw_response().map(|r| r.status().as_u16());
        let network = matches!(
            error,
            SdkError::DispatchFailure(_) | SdkError::ResponseError(_) | SdkError::TimeoutError(_)
        );
        // Credentials are fetched while a request is made: that they are missing looks like a failed dispatch or construction.
        let service = error.as_service_error();
        let code: String =
            service.and_then(ProvideErrorMetadata::code).unwrap_or_default().chars().take(100).collect();
        let text = match service.and_then(ProvideErrorMetadata::message) {
            Some(message) => format!("{code} {message}"),
            None if !code.is_empty() => code.clone(),
            None => DisplayErrorContext(&error).to_string(),
        };
        let text = match error.request_id() {
            Some(id) => format!("AWS Error: {text} (request {id})"),
            None => format!("AWS Error: {text}"),
        };
        // It goes into logs and answers, and comes from whoever answered.
        let text = match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        };
        Self { status, code, text, network }
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the server may not have the request at all, or want it in another form.
    pub(super) fn may_be_unsupported(&self) -> bool {
        matches!(self.status, Some(400 | 405 | 411 | 501))
            && !matches!(self.code.as_str(), "RequestTimeout" | "ExpiredToken")
    }

    pub(super) fn into_error(self, op: &'static str, key: &str, bucket: &str) -> StoreError {
        let key = key.to_owned();
        let detail = self.text;
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => StoreError::NoBucket { bucket: bucket.to_owned() },
            (Some(404), _) => StoreError::NotFound { key },
            (Some(401 | 403), code) if !matches!(code, "RequestTimeTooSkewed") => {
                StoreError::Denied { op, key, detail }
            }
            // 409 is a write of the same object at the same time.
            (Some(408 | 409 | 429 | 500..), _) | (_, "RequestTimeout" | "SlowDown" | "InternalError") => {
                StoreError::Transient { op, key, detail }
            }
            (None, _) if self.network && !detail.contains("redentials") => {
                StoreError::Transient { op, key, detail }
            }
            (None, _) if detail.contains("redentials") => StoreError::Denied { op, key, detail },
            _ => StoreError::Refused { op, key, detail },
        }
    }
}
