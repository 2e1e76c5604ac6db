//! The listener for those who watch: `/metrics` and `/healthz`, and nothing else.

use crate::listen::{self, Limits, Listener, Service};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use convoy_cli::settings::values::Address;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// Listens, and answers until told to stop.
pub async fn start(address: &Address, api: Service, stopping: CancellationToken) -> io::Result<()> {
    let (metrics, health) = (api.clone(), api);
    let router: axum::Router = axum::Router::new()
        .route("/metrics", get(move |request| pass(metrics.clone(), request)))
        .route("/healthz", get(move |request| pass(health.clone(), request)))
        .fallback(any(|| async { StatusCode::NOT_FOUND }));
    let listener = match address {
        Address::Tcp(address) => {
            let listener = tokio::net::TcpListener::bind(address).await?;
            tracing::info!(address = %listener.local_addr()?, "metrics are told");
            Listener::Tcp(listener)
        }
        Address::Unix(path) => {
            remove_stale(path)?;
            let listener = tokio::net::UnixListener::bind(path)?;
            tracing::info!(path = %path.display(), "metrics are told");
            Listener::Unix(listener)
        }
    };
    let (limits, service) = (Limits::METRICS.within_open_files(), BoxCloneSyncService::new(router));
    tokio::spawn(listen::answer(listener, "metrics", limits, service, stopping));
    Ok(())
}

/// Removes a socket that nobody listens at any more; anything else is left for the kernel to refuse.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err_and(|it| it.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Hands a request to the API without its body and its headers: whoever watches has nothing to say.
async fn pass(api: Service, request: Request) -> Response {
    let plain = Request::builder().method(Method::GET).uri(request.uri().path()).body(Body::empty());
    match plain {
        Ok(plain) => api.oneshot(plain).await.unwrap_or_else(|never| match never {}),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}
