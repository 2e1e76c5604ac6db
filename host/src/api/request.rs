//! What is read of requests.

use super::answer::Failure;
use crate::listen::SlowBody;
use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use convoy_client::gojson;
use convoy_driver_sdk::ErrorKind;
use convoy_drivers::RequestContext;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most a request may say, in bytes.
pub(super) const MAX_BODY_BYTES: usize = 1 << 20;

/// Names a request in the logs of the daemon and of the drivers.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// Gives the id of a request.
pub(super) fn request_id(request: &Request) -> String {
    request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default()
}

/// Creates the context of what a request starts.
pub(super) fn call(request: &Request) -> RequestContext {
    RequestContext::new(request_id(request))
}

/// Gives a text of a request that may be left out.
pub(super) fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
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
