//! What every request passes first.

use super::answer::{ErrorLabel, Failure};
use super::request::RequestId;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use convoy_activity::metrics::METRICS;
use convoy_client::client::REQUEST_ID_HEADER;
use convoy_driver_sdk::ErrorKind;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tracing::Instrument;

/// The version of the admin API, in the clients' `User-Agent`.
const API_VERSION: &str = "1";

/// What a client of another version begins with.
const CLIENT: &str = "Convoy-Client/";

/// The path as the client wrote it.
#[derive(Debug, Clone)]
struct AskedPath(String);

/// Checks the client's version, takes off the version prefix and gives the request an id.
pub(super) async fn front(mut request: Request, next: Next) -> Response {
    let id = new_id();
    let began = Instant::now();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("call", id, method = %request.method(), path);
    if let Some(clean) = cleaned(&path) {
        return match HeaderValue::from_str(&clean) {
            Ok(clean) => (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, clean)]).into_response(),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        };
    }
    if let Some(version) = other_version(&request) {
        let text = format!("client version {version} doesn't match with server {API_VERSION}");
        return Failure::new(ErrorKind::Unsupported, text).status(StatusCode::NOT_FOUND).into_response();
    }
    if let Some(uri) = without_prefix(request.uri()) {
        *request.uri_mut() = uri;
    }
    let label = label(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(AskedPath(path));
    async move {
        let mut response = next.run(request).await;
        let told = response.extensions().get::<ErrorLabel>().map(|told| told.0.clone());
        let nowhere = response.status() == StatusCode::NOT_FOUND && told.is_none();
        let label = if nowhere { "other" } else { label.as_str() };
        METRICS.answered(label, told.as_deref().unwrap_or("ok"), began.elapsed());
        if let Some(kind) = told {
            tracing::info!(kind, "answered with an error");
        }
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID_HEADER, id);
        }
        tracing::debug!(
            status = response.status().as_u16(),
            micros = began.elapsed().as_micros(),
            "answered"
        );
        response
    }
    .instrument(span)
    .await
}

/// An id that no other request has, not before a restart either.
fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    static PROCESS: LazyLock<u16> = LazyLock::new(rand::random);
    format!("r{:04x}-{}", *PROCESS, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What a request is counted as, if there is such a call.
fn label(request: &Request) -> String {
    match request.uri().path() {
        path if path.starts_with("/jobs/job-") => format!("{} /jobs/ID", request.method()),
        path => format!("{} {path}", request.method()),
    }
}

/// The answer to what no route takes.
pub(super) async fn not_found(request: Request) -> Response {
    let asked = request.extensions().get::<AskedPath>();
    let path = asked.map_or_else(|| request.uri().path(), |asked| asked.0.as_str());
    let text = format!("Handler not found: {} {path}", request.method());
    (StatusCode::NOT_FOUND, super::answer::text(text)).into_response()
}

fn other_version(request: &Request) -> Option<String> {
    let agent = request.headers().get(header::USER_AGENT)?.to_str().ok()?;
    let version = agent.strip_prefix(CLIENT)?;
    (version != API_VERSION).then(|| version.to_owned())
}

/// The path without empty, `.` and `..` parts, if it has any: a redirection tells the client.
fn cleaned(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    let mut clean = format!("/{}", parts.join("/"));
    if path.ends_with('/') && clean != "/" {
        clean.push('/');
    }
    (clean != path).then_some(clean)
}

/// The URI without `/v1` or the like; `None` if it has no such prefix. Docker's calls never have.
fn without_prefix(uri: &Uri) -> Option<Uri> {
    let (version, rest) = uri.path().strip_prefix("/v")?.split_once('/')?;
    let numeric = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !numeric || rest.starts_with("VolumeDriver.") || rest.starts_with("Plugin.") {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(format!("/{rest}{query}")).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let stripped = |text: &str| without_prefix(&text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(stripped("/v1/info"), Some("/info".to_owned()));
        assert_eq!(stripped("/v99.9/volumes/list?driver=1"), Some("/volumes/list?driver=1".to_owned()));
        assert_eq!(stripped("/v1/volumes/"), Some("/volumes/".to_owned()));
        for other in ["/info", "/volumes/list", "/v/info", "/vx/info", "/v1", "/v1/VolumeDriver.List"] {
            assert_eq!(stripped(other), None, "{other}");
        }
    }

    #[test]
    fn paths() {
        for clean in ["/", "/info", "/v1/volumes/"] {
            assert_eq!(cleaned(clean), None);
        }
        assert_eq!(cleaned("/v1//info").as_deref(), Some("/v1/info"));
        assert_eq!(cleaned("/a/../v1/./volumes//").as_deref(), Some("/v1/volumes/"));
    }
}
