//! Connections: accepted, bounded, answered, and ended in order.
//!
//! Whoever connects may be slow, silent or many. Each listener has limits of its own ([`Limits`]), so that
//! the clients of one socket never keep those of another waiting.
//!
//! - [`crowd`]: who is connected, and who gives way to whom; [`deadline`]: time limits of bodies and answers.

pub mod crowd;
pub mod deadline;

pub use deadline::SlowBody;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use crowd::{Crowd, Peer};
use deadline::{TimedBody, TimedWrites};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

/// How long to wait when no connection can be accepted: as a rule, file descriptors have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// The memory a connection has for the header of a request and for what is not sent yet, in bytes. A longer
/// header is answered with 431.
const BUFFER: usize = 16 << 10;

/// A service that answers every request.
pub type Service = BoxCloneSyncService<Request, Response, Infallible>;

/// What clients of a listener may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many connections there are at once.
    pub connections: usize,
    /// How long the header of a request may take, from the beginning of the connection or the end of the
    /// answer before: so long may a connection be idle.
    pub header: Duration,
    /// How long the body of a request may take.
    pub body: Duration,
    /// How long a client may take no byte of an answer.
    pub write: Duration,
}

impl Limits {
    /// For the admin API, and for Docker's. Each has as many connections, so together with [`Self::METRICS`]
    /// a daemon has at most 1088.
    pub const API: Self = Self {
        connections: 512,
        header: Duration::from_secs(60),
        body: Duration::from_secs(60),
        write: Duration::from_secs(120),
    };

    /// For those who watch.
    pub const METRICS: Self = Self { connections: 64, write: Duration::from_secs(30), ..Self::API };

    /// Fewer connections where few files may be open: an eighth of them.
    #[must_use]
    pub fn within_open_files(self) -> Self {
        let open = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let eighth = open.and_then(|open| usize::try_from(open / 8).ok()).unwrap_or(usize::MAX);
        Self { connections: self.connections.min(eighth.max(8)), ..self }
    }
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket, whose kernel says who connects.
    Unix(UnixListener),
    /// An address of the network.
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Either<UnixStream, TcpStream>, Peer)> {
        Ok(match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred().map_or(Peer::Unknown, |peer| Peer::of(peer.uid()));
                (Either::Left(stream), peer)
            }
            Self::Tcp(listener) => (Either::Right(listener.accept().await?.0), Peer::Unknown),
        })
    }
}

/// Answers connections until told to stop; ends when the last answer is written. `name` is the listener's in
/// the log.
pub async fn answer(
    listener: Listener,
    name: &'static str,
    limits: Limits,
    service: Service,
    stopping: CancellationToken,
) {
    let connections = GracefulShutdown::new();
    let crowd = Arc::new(Crowd::new(name, limits.connections));
    let mut http = http1::Builder::new();
    // As convoy has always written them; scripts look for `Content-Type`.
    http.title_case_headers(true);
    http.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(BUFFER);
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Closed without an answer: Docker then tries again, which it does not after an error.
        let Some(place) = crowd.enter(peer) else { continue };
        let place = Arc::new(place);
        let of_place = Arc::clone(&place);
        let service = service.clone();
        let answer = service_fn(move |request: hyper::Request<Incoming>| {
            let busy = of_place.begin();
            let request = request.map(|body| Body::new(TimedBody::new(body, limits.body)));
            let answering = service.clone().oneshot(request);
            async move { answering.await.map(|answer| answer.map(|body| crowd::AnswerBody::new(body, busy))) }
        });
        let stream = TokioIo::new(TimedWrites::new(stream, limits.write));
        let connection = connections.watch(http.serve_connection(stream, answer));
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke");
                    }
                }
                () = place.gives_way() => {}
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}
