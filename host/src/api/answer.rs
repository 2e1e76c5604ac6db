//! The forms of answers.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use convoy_activity::metrics::kind_name;
use convoy_client::client::{HINT_HEADER, KIND_HEADER, PLAIN_HEADER, encode_header};
use convoy_client::error::LOSSES;
use convoy_client::gojson;
use convoy_driver_sdk::ErrorKind;
use convoy_volumes::Error;
use serde::Serialize;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer of the admin API.
pub(super) type Answer = Result<Response, Failure>;

/// Creates an answer of a text, as all are, JSON among them.
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
