//! HTTP servers on loopback, and what can go wrong on the way.

use crate::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::io::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use url::Url;

/// How long requests in the making may take when the server ends.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// By lower case name.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// An answer to a request.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

type Action = Arc<dyn Fn() + Send + Sync>;

#[derive(Clone)]
pub enum Fault {
    /// The server answers this instead of doing anything.
    Answer(Reply),
    /// The connection breaks before anything is done.
    LoseRequest,
    /// It is done, but the connection breaks before the answer.
    LoseAnswer,
    /// The answer takes so long.
    Delay(Duration),
    /// Something happens elsewhere before it is done; nothing is lost.
    Meanwhile(Action),
    /// Something happens elsewhere before it is done, and the request is lost.
    Before(Action),
    /// Something happens elsewhere after it is done, and the answer is lost.
    After(Action),
}

struct Rule {
    matches: Box<dyn Fn(&Request) -> bool + Send>,
    skip: usize,
    times: usize,
    fault: Fault,
}

/// The faults of a server, and the requests it has seen.
#[derive(Default)]
pub struct Line {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Request>>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line")
    }
}

impl Line {
    /// From now on, after letting `skip` matching requests pass, the next `times` go wrong.
    pub fn fail(
        &self,
        skip: usize,
        times: usize,
        fault: Fault,
        matches: impl Fn(&Request) -> bool + Send + 'static,
    ) {
        lock(&self.rules).push(Rule { matches: Box::new(matches), skip, times, fault });
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        lock(&self.rules).clear();
    }

    /// The requests so far, and forgets them.
    pub fn take_seen(&self) -> Vec<Request> {
        std::mem::take(&mut lock(&self.seen))
    }

    fn next(&self, request: &Request) -> Option<Fault> {
        lock(&self.seen).push(request.clone());
        let mut rules = lock(&self.rules);
        for rule in rules.iter_mut().filter(|rule| (rule.matches)(request)) {
            if rule.skip > 0 {
                rule.skip -= 1;
            } else if rule.times > 0 {
                rule.times -= 1;
                return Some(rule.fault.clone());
            }
        }
        None
    }
}

/// A server, until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    pub line: Arc<Line>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Serves with a function, several requests at once.
    pub fn start(handle: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let line = Arc::new(Line::default());
        let handle: Handle = Arc::new(handle);
        let known = Arc::clone(&line);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (handle, line) = (Arc::clone(&handle), Arc::clone(&known));
                let service = service_fn(move |request| {
                    let (handle, line) = (Arc::clone(&handle), Arc::clone(&line));
                    // A request that has arrived is carried out, whether or not somebody still waits for the
                    // answer.
                    async move { tokio::spawn(answer(request, handle, line)).await.map_err(Error::other)? }
                });
                tokio::spawn(async move {
                    // A connection that breaks is a fault on purpose, or the client's business.
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Ok(Self { address, line, runtime: Some(runtime) })
    }

    pub fn url(&self) -> Result<Url> {
        Ok(Url::parse(&format!("http://{}", self.address))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // What the server's function holds (processes, devices, directories) is let go before the test
            // ends.
            runtime.shutdown_timeout(LAST_REQUESTS);
        }
    }
}

type Handle = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

async fn answer(
    request: hyper::Request<Incoming>,
    handle: Handle,
    line: Arc<Line>,
) -> std::result::Result<hyper::Response<Full<Bytes>>, Error> {
    let lost = || Error::other("lost on purpose");
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().as_bytes();
    let request = Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: url::form_urlencoded::parse(query).into_owned().collect(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: body.collect().await.map_err(Error::other)?.to_bytes().to_vec(),
    };
    let fault = line.next(&request);
    match &fault {
        Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
        Some(Fault::LoseRequest) => return Err(lost()),
        Some(Fault::Meanwhile(action)) => {
            let action = Arc::clone(action);
            tokio::task::spawn_blocking(move || action()).await.map_err(Error::other)?;
        }
        Some(Fault::Before(action)) => {
            action();
            return Err(lost());
        }
        _ => {}
    }
    let reply = match &fault {
        Some(Fault::Answer(reply)) => reply.clone(),
        _ => tokio::task::spawn_blocking(move || handle(&request)).await.map_err(Error::other)?,
    };
    match fault {
        Some(Fault::LoseAnswer) => return Err(lost()),
        Some(Fault::After(action)) => {
            action();
            return Err(lost());
        }
        _ => {}
    }
    let mut response = hyper::Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(reply.body))).map_err(Error::other)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
