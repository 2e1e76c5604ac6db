//! What a server's refusal means, in one line: who refused what. What the SDK knows besides is logged at
//! debug level.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId;
use aws_smithy_types::error::display::DisplayErrorContext;

use crate::error::StoreError;

/// What a server says of a token that is over.
const EXPIRED: [&str; 4] = ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"];
/// Characters of what a server says that are kept.
const TEXT_MAX: usize = 500;

/// An error of the SDK, reduced to what matters.
#[derive(Debug)]
pub(super) struct S3Failure {
    status: Option<u16>,
    code: String,
    text: String,
    network: bool,
    /// Whether there are no credentials to make a request with.
    unsigned: bool,
}

impl S3Failure {
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
        let service = error.as_service_error();
        let code: String =
            service.and_then(ProvideErrorMetadata::code).unwrap_or_default().chars().take(100).collect();
        let causes = causes(&error);
        // Credentials are fetched while a request is made: that they are missing looks like a failed
        // dispatch.
        let unsigned = status.is_none() && causes.iter().any(|cause| cause.contains("redential"));
        if service.is_none() {
            tracing::debug!(error = %DisplayErrorContext(&error), "a request to S3 failed");
        }
        let text = match service.and_then(ProvideErrorMetadata::message) {
            Some(message) => format!("AWS Error: {code} {message}"),
            None if !code.is_empty() => format!("AWS Error: {code}"),
            None => match status {
                Some(status) => format!("AWS Error: HTTP status {status}"),
                None => causes.last().cloned().unwrap_or_default(),
            },
        };
        let text = match error.request_id() {
            Some(id) => format!("{text} (request {id})"),
            None => text,
        };
        // It goes into logs and answers, and comes from whoever answered.
        let text = match text.char_indices().nth(TEXT_MAX) {
            Some((end, _)) => format!("{}...", &text[..end]),
            None => text,
        };
        Self { status, code, text, network, unsigned }
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the server may not have the request at all, or want it in another form.
    pub(super) fn may_be_unsupported(&self) -> bool {
        matches!(self.status, Some(400 | 405 | 411 | 501))
            && self.code != "RequestTimeout"
            && !EXPIRED.contains(&self.code.as_str())
    }

    /// What it means for an object of a destination, which is at a server.
    pub(super) fn into_error(
        self,
        op: &'static str,
        key: &str,
        bucket: &str,
        destination: &str,
        server: Option<&str>,
    ) -> StoreError {
        let key = key.to_owned();
        let destination = destination.to_owned();
        if self.unsigned {
            return StoreError::NoCredentials { destination, detail: self.text };
        }
        let at = server.map(|server| format!(" at {server}")).unwrap_or_default();
        let detail = format!("{destination}{at}: {}", self.text);
        match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") => StoreError::NoBucket { bucket: bucket.to_owned() },
            (_, code) if EXPIRED.contains(&code) => StoreError::Expired { destination, detail: self.text },
            (Some(404), _) => StoreError::NotFound { key },
            (Some(401 | 403), code) if !matches!(code, "RequestTimeTooSkewed") => {
                StoreError::Denied { op, key, detail }
            }
            // 409 is a write of the same object at the same time.
            (Some(408 | 409 | 429 | 500..), _) | (_, "RequestTimeout" | "SlowDown" | "InternalError") => {
                StoreError::Transient { op, key, detail }
            }
            (None, _) if self.network => StoreError::Transient {
                op,
                key,
                detail: format!(
                    "cannot reach {destination}{at}: {}; check the endpoint and the network",
                    self.text
                ),
            },
            _ => StoreError::Refused { op, key, detail },
        }
    }
}

/// What an error says, and each of its causes, the last one at the end.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source()).map(one_line).collect()
}

/// A text without the line breaks that would make a message of several.
fn one_line(error: &dyn std::error::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
