//! Connections: accepted, answered, and ended in order.

use crate::api::Service;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long to wait when no connection can be accepted: as a rule, file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers connections until told to stop; ends when the last answer is written.
pub async fn answer(listener: UnixListener, service: Service, stopping: CancellationToken) {
    let connections = GracefulShutdown::new();
    let service =
        service.map_request(|request: hyper::Request<hyper::body::Incoming>| request.map(Body::new));
    let mut http = http1::Builder::new();
    // As convoy has always written them; scripts look for `Content-Type`.
    http.title_case_headers(true);
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service.clone()));
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection broke");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
