//! Calls to one process, over the client of `jsonrpsee`.

use super::messages;
use super::transport::{Line, Receiver, Sender, request_id};
use crate::context::RequestContext;
use convoy_driver_sdk::wire::{CallContext, Cancel, Envelope, MAX_FRAME_BYTES, method};
use convoy_driver_sdk::{DriverError, Name, Result};
use jsonrpsee_core::client::{Client, ClientBuilder, ClientT, Error};
use jsonrpsee_core::traits::ToRpcParams;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use std::any::Any;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

/// The client's own time limit; deadlines are kept by `wait`.
const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How many calls the client may have under way: more than the host gives a driver at once (`crate::calls`).
const MAX_CALLS: usize = 4096;
/// What a message has beside its parameters, in bytes.
const OVERHEAD: usize = 256;

pub(super) type Answer = Result<Vec<u8>>;

/// A process one can talk to.
pub(crate) struct Connection {
    client: Client,
    line: Arc<Line>,
    ids: AtomicU64,
}

impl Connection {
    /// Takes the host's end of the socket.
    ///
    /// `restarts`: whether a process that ends is started again.
    pub(super) fn new(
        driver: Name,
        socket: std::os::unix::net::UnixStream,
        restarts: bool,
    ) -> io::Result<Arc<Self>> {
        socket.set_nonblocking(true)?;
        let (reader, writer) = UnixStream::from_std(socket)?.into_split();
        let line = Arc::new(Line::new(driver, restarts));
        let client = ClientBuilder::new()
            .request_timeout(NO_LIMIT)
            .max_concurrent_requests(MAX_CALLS)
            .build_with_tokio(
                Sender { socket: writer, line: Arc::clone(&line) },
                Receiver::new(reader, Arc::clone(&line)),
            );
        Ok(Arc::new(Self { client, line, ids: AtomicU64::new(1) }))
    }

    /// The driver, as far as it is known.
    pub(super) fn driver(&self) -> Name {
        self.line.driver.clone()
    }

    /// Waits until the process says nothing more, and gives the reason.
    pub(super) async fn silent(&self) -> String {
        tokio::select! {
            reason = self.line.silent() => reason,
            // It was written to in vain, or answered a call that nobody had made.
            error = self.client.on_disconnect() => format!("the process broke the protocol: {error}"),
        }
    }

    /// Gives the process up: calls that were not answered fail with this reason.
    pub(super) fn give_up(&self, reason: &str) {
        self.line.give_up(reason);
    }

    pub(super) fn call<R: Serialize>(
        self: &Arc<Self>,
        method: &'static str,
        request: R,
        call: RequestContext,
    ) -> Result<ProcessCall> {
        let number = self.ids.fetch_add(1, Ordering::Relaxed);
        let request_id = request_id(&call.request_id, number);
        let deadline_ms = call.deadline.map(|deadline| {
            u64::try_from(deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX)
        });
        let context = CallContext::new(request_id.clone()).deadline_ms(deadline_ms);
        let params = Params::new(method, &Envelope { request, context })?;
        if let Some(progress) = call.progress {
            self.line.listeners.lock().insert(number, progress);
        }
        let connection = Arc::clone(self);
        let guard = Underway::new(self, number, call.hold);
        let answer = Box::pin(async move {
            let answer = connection.ask(method, params).await;
            drop(guard);
            answer
        });
        Ok(ProcessCall { connection: Arc::clone(self), request_id, answer: Some(answer) })
    }

    pub(super) async fn request(&self, method: &'static str, params: &impl Serialize) -> Answer {
        self.ask(method, Params::new(method, params)?).await
    }

    async fn ask(&self, method: &'static str, params: Params) -> Answer {
        let answer = tokio::select! {
            biased;
            answer = self.client.request::<Box<RawValue>, _>(method, params) => answer,
            // The client loses a request that it takes at the moment at which it ends.
            () = self.line.ended() => return Err(self.gone().await),
        };
        match answer {
            Ok(json) => Ok(Box::<str>::from(json).into_boxed_bytes().into_vec()),
            Err(Error::Call(error)) => Err(messages::driver_error(&self.line.driver, &error)),
            Err(Error::RestartNeeded(_) | Error::ServiceDisconnect | Error::Transport(_)) => {
                Err(self.gone().await)
            }
            Err(other) => {
                Err(DriverError::internal(format!("driver {}: {method}: {other}", self.line.driver)))
            }
        }
    }

    /// Sends a notification; a process that is gone does not need it.
    pub(super) async fn notify(&self, method: &'static str, params: &impl Serialize) {
        if let Ok(params) = Params::new(method, params) {
            let _ = self.client.notification(method, params).await;
        }
    }

    async fn gone(&self) -> DriverError {
        let reason = self.line.verdict().await;
        let restarts = self.line.restarts;
        let then = if restarts { "; it is started again: try again" } else { "" };
        let text = format!("driver {}: {reason}{then}", self.line.driver);
        DriverError::unavailable(text).retryable(restarts)
    }
}

struct Params(Box<RawValue>);

impl Params {
    fn new(method: &str, params: &impl Serialize) -> Result<Self> {
        let json = to_raw_value(params).map_err(|error| {
            DriverError::internal(format!("cannot write the request of {method}: {error}"))
        })?;
        if json.get().len() + OVERHEAD > MAX_FRAME_BYTES {
            return Err(DriverError::invalid(format!(
                "the request of {method} has {} bytes, more than the {MAX_FRAME_BYTES} of a message",
                json.get().len()
            )));
        }
        Ok(Self(json))
    }
}

impl ToRpcParams for Params {
    fn to_rpc_params(self) -> std::result::Result<Option<Box<RawValue>>, serde_json::Error> {
        Ok(Some(self.0))
    }
}

/// What lasts as long as the process is busy with a call.
struct Underway {
    connection: Arc<Connection>,
    number: u64,
    _hold: Option<Arc<dyn Any + Send + Sync>>,
}

impl Underway {
    fn new(connection: &Arc<Connection>, number: u64, hold: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { connection: Arc::clone(connection), number, _hold: hold }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.connection.line.listeners.lock().remove(&self.number);
    }
}

/// A call under way. When this is dropped before the answer, the answer is waited for in the background:
/// until then the process is busy with the call.
pub(super) struct ProcessCall {
    connection: Arc<Connection>,
    request_id: String,
    answer: Option<Pin<Box<dyn Future<Output = Answer> + Send>>>,
}

impl ProcessCall {
    /// Something that asks the process to end this call.
    pub(super) fn canceller(&self) -> impl Fn() + use<> {
        let (connection, request_id) = (Arc::clone(&self.connection), self.request_id.clone());
        move || {
            let (connection, note) = (Arc::clone(&connection), Cancel::new(request_id.clone()));
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { connection.notify(method::CANCEL, &note).await });
            }
        }
    }
}

impl Future for ProcessCall {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Answer> {
        let Some(answer) = self.answer.as_mut() else { return Poll::Pending };
        let answer = ready!(answer.as_mut().poll(context));
        self.answer = None;
        Poll::Ready(answer)
    }
}

impl Drop for ProcessCall {
    fn drop(&mut self) {
        if let (Some(answer), Ok(runtime)) = (self.answer.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream as Socket;

    /// At whatever moment of a call its process ends.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_call_that_meets_the_end_of_its_process_ends() {
        for turn in 0..4000_u32 {
            let (ours, mut theirs) = Socket::pair().unwrap();
            let connection = Connection::new(Name::from_static("mortal"), ours, true).unwrap();
            let end = std::thread::spawn(move || {
                // Before it is sent, while it is sent, or once it is there.
                match turn % 4 {
                    0 => {}
                    1 => std::thread::yield_now(),
                    2 => std::thread::sleep(Duration::from_micros(u64::from(turn % 64))),
                    _ => drop(theirs.read(&mut [0; 16])),
                }
                drop(theirs);
            });
            let watched = Arc::clone(&connection);
            let watching = tokio::spawn(async move {
                watched.silent().await;
                watched.give_up("the test ended it");
            });
            let call = connection.call("volume.delete", (), RequestContext::new("r")).unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(20), call).await;
            let answer = answer.unwrap_or_else(|_| panic!("the call of turn {turn} hangs"));
            assert!(answer.is_err());
            watching.await.unwrap();
            end.join().unwrap();
        }
    }
}
