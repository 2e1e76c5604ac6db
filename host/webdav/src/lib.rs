//! Serves a [`View`](convoy_mount::View) through WebDAV (RFC 4918), read-only.
//!
//! [`WebDav`] answers requests; connections and their limits are whose socket it is. What is in the tree is
//! never run: answers tell browsers so. `files` is the view as `dav-server` wants file systems; `guard` decides
//! who is answered at all.

mod files;
mod guard;

use std::error::Error;
use std::sync::Arc;

use bytes::Buf;
use convoy_mount::View;
use dav_server::body::Body;
use dav_server::{DavHandler, DavMethodSet};
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{Request, Response, StatusCode};

use files::Files;
pub use guard::{Guard, Refusal};

/// Bytes of a file that are read at once.
const PIECE: usize = 256 << 10;

/// See the [module](self).
#[derive(Clone)]
pub struct WebDav {
    handler: DavHandler,
    guard: Arc<Guard>,
}

impl std::fmt::Debug for WebDav {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebDav").field("guard", &self.guard).finish_non_exhaustive()
    }
}

impl WebDav {
    /// Serves this view to whom the guard lets in.
    #[must_use]
    pub fn new(view: Arc<View>, guard: Guard) -> Self {
        let handler = DavHandler::builder()
            .filesystem(Box::new(Files::new(view)))
            .methods(DavMethodSet::WEBDAV_RO)
            // The list of a large directory as one page would be in memory as a whole.
            .autoindex(false)
            .read_buf_size(PIECE)
            .build_handler();
        Self { handler, guard: Arc::new(guard) }
    }

    /// Answers a request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body,
        B::Data: Buf + Send + 'static,
        B::Error: Error + Send + Sync + 'static,
    {
        let checked = self.guard.check(&request);
        let mut response = match checked {
            Ok(()) => Box::pin(self.handler.handle(request)).await,
            Err(refusal) => refused(refusal),
        };
        let headers = response.headers_mut();
        // A page that was backed up must not act for who looks at it.
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

fn refused(refusal: Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{refusal}\n")));
    match refusal {
        Refusal::Password => {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let scheme = HeaderValue::from_static("Basic realm=\"convoy\", charset=\"UTF-8\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        Refusal::Host | Refusal::Depth => *response.status_mut() = StatusCode::FORBIDDEN,
    }
    response
}
