//! HTTP over a unix socket: what convoy's client and the questions to Docker's engine both send with.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use std::path::Path;
use tokio::net::UnixStream;

/// A request that was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody could be reached at the socket.
    #[error(transparent)]
    Connect(std::io::Error),
    /// The connection ended, or spoke no HTTP, before an answer came.
    #[error(transparent)]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

/// Sends a request over a connection of its own and waits for the head of the answer, whatever its status.
///
/// `body` is JSON. `headers` come beside `Host`, which is `host`, and the type of the body. The body of the
/// answer is not bounded here: whoever reads it sets the limit.
///
/// # Errors
/// [`SendError`]; also where `path` is no path of HTTP.
pub async fn send(
    socket: &Path,
    host: &str,
    method: Method,
    path: &str,
    headers: &[(header::HeaderName, &str)],
    body: Option<Vec<u8>>,
) -> Result<Response<Incoming>, SendError> {
    let connection = UnixStream::connect(socket).await.map_err(SendError::Connect)?;
    let exchange = async {
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection)).await?;
        tokio::spawn(driver);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, host);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        Ok(sender.send_request(request.body(Full::new(Bytes::from(body.unwrap_or_default())))?).await?)
    };
    exchange.await.map_err(SendError::Broken)
}
