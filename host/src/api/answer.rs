//! The forms of answers.

use crate::daemon::listen::deadline::SlowBody;
use crate::metrics::kind_name;
use crate::volumes::Error;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use convoy_client::client::{HINT_HEADER, KIND_HEADER, PLAIN_HEADER, encode_header};
use convoy_client::error::LOSSES;
use convoy_client::gojson;
use convoy_driver_sdk::ErrorKind;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most a request may say, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A text, as all answers are, JSON among them.
pub(super) fn text(text: String) -> Response {
    // An answer without a body has no type.
    if text.is_empty() {
        return StatusCode::OK.into_response();
    }
    ([(header::CONTENT_TYPE, TEXT)], text).into_response()
}

/// Prints an answer as scripts know it.
///
/// # Errors
/// None for the types of this crate, whose keys are texts.
pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    gojson::to_string(value).map_err(|error| Failure::internal(&error))
}

/// What kind of error an answer tells of, for those who count.
#[derive(Debug, Clone)]
pub(super) struct ErrorLabel(pub(super) String);

/// An error of the admin API.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) kind: String,
    pub(super) message: String,
    /// What people are told in its place.
    pub(super) plain: Option<String>,
    pub(super) hint: Option<String>,
}

impl Failure {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (status, kind) = (StatusCode::BAD_REQUEST, kind_name(kind));
        Self { status, kind, message: message.into(), plain: None, hint: None }
    }

    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        Self::new(ErrorKind::Internal, format!("cannot write the answer: {error}"))
    }

    /// Message and hint in one text.
    pub(super) fn full_text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{} ({hint})", self.message),
            None => self.message.clone(),
        }
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut failure = Self::new(error.kind(), error.to_string());
        (failure.plain, failure.hint) = (error.plain(), error.hint());
        if matches!(error, Error::Losses(_)) {
            LOSSES.clone_into(&mut failure.kind);
        }
        failure
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (
            self.status,
            [
                (header::CONTENT_TYPE, TEXT),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
            ],
            format!("{}\n", self.message),
        )
            .into_response();
        response.extensions_mut().insert(ErrorLabel(self.kind.clone()));
        let headers = response.headers_mut();
        if let Ok(kind) = HeaderValue::from_str(&self.kind) {
            headers.insert(KIND_HEADER, kind);
        }
        for (name, said) in [(PLAIN_HEADER, self.plain), (HINT_HEADER, self.hint)] {
            if let Some(Ok(said)) = said.map(|said| HeaderValue::from_str(&encode_header(&said))) {
                headers.insert(name, said);
            }
        }
        response
    }
}

/// Reads the body of a request, whatever its method.
pub(super) async fn body<T: Serialize + DeserializeOwned + Default>(request: Request) -> Result<T, Failure> {
    let bytes = raw_body(request.into_body()).await?;
    gojson::parse(&bytes).map_err(|error| Failure::new(ErrorKind::InvalidArgument, error.to_string()))
}

async fn raw_body(body: Body) -> Result<bytes::Bytes, Failure> {
    axum::body::to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
        if let Some(slow) = slow(&error) {
            return Failure::new(ErrorKind::DeadlineExceeded, slow.to_string())
                .status(StatusCode::REQUEST_TIMEOUT);
        }
        let text =
            format!("cannot read the request, of which at most {MAX_BODY_BYTES} bytes are accepted: {error}");
        Failure::new(ErrorKind::InvalidArgument, text).status(StatusCode::PAYLOAD_TOO_LARGE)
    })
}

/// Whether a body could not be read because it did not come.
fn slow(error: &axum::Error) -> Option<&SlowBody> {
    std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
        .find_map(|error| error.downcast_ref())
}
