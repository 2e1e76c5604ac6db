//! Reading, dispatching and answering.
//!
//! Whichever thread holds [`Server::incoming`] reads. It carries out the call it read itself, so that nothing
//! is handed from thread to thread on the way, and another thread takes the reading over meanwhile.

use super::frame::{Incoming, Line, Outgoing};
use super::messages::{Message, failure, notification, response};
use super::{MAX_CALLS, close};
use crate::context::{CancelFlag, Context};
use crate::dispatch::Dispatch;
use crate::wire::{Cancel, Envelope, Hello, LogLevel, MAX_FRAME_BYTES, ProgressNote, code, method};
use crate::{DriverError, logging};
use jsonrpsee_types::Id;
use jsonrpsee_types::error::{INVALID_REQUEST_CODE, OVERSIZED_REQUEST_CODE, PARSE_ERROR_CODE};
use parking_lot::{Condvar, Mutex};
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

struct Server {
    driver: Arc<dyn Dispatch>,
    incoming: Mutex<Incoming>,
    outgoing: Arc<Outgoing>,
    host: OnceLock<Hello>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    idle: usize,
    running: usize,
    /// Calls that wait for one of them to end.
    queue: VecDeque<Call>,
    /// Of running and waiting calls, by the id of the request.
    flags: HashMap<String, CancelFlag>,
    seen: RequestIds,
    ending: Option<Ending>,
}

#[derive(Clone)]
enum Ending {
    /// The host said goodbye: finish what is under way.
    Goodbye,
    /// The host is gone. Another may be starting another process on the same storage: stop at once.
    HostGone,
    /// There is nothing to talk about.
    Refused(String),
}

/// How many ids of requests are remembered: more than a host has in flight.
const REMEMBERED: usize = 8192;

/// The requests that were taken: one that comes a second time is not carried out again.
#[derive(Default)]
struct RequestIds(BTreeSet<u64>);

impl RequestIds {
    fn is_new(&mut self, id: &Id<'_>) -> bool {
        let Id::Number(id) = id else { return true };
        let new = self.0.insert(*id);
        if self.0.len() > REMEMBERED {
            self.0.pop_first();
        }
        new
    }
}

struct Call {
    id: Id<'static>,
    method: String,
    request: Box<RawValue>,
    context: Context,
}

/// Serves the host until it says goodbye or is gone.
pub(super) fn serve(socket: UnixStream, driver: Arc<dyn Dispatch>) -> io::Result<()> {
    let server = Arc::new(Server {
        driver,
        incoming: Mutex::new(Incoming::new(socket.try_clone()?)),
        outgoing: Arc::new(Outgoing::new(socket)),
        host: OnceLock::new(),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    start_thread(&server)?;
    let mut state = server.state.lock();
    loop {
        match state.ending.clone() {
            Some(Ending::HostGone) => return Ok(()),
            Some(Ending::Refused(why)) => return Err(io::Error::new(io::ErrorKind::Unsupported, why)),
            Some(Ending::Goodbye) if state.running == 0 && state.queue.is_empty() => break,
            _ => server.changed.wait(&mut state),
        }
    }
    drop(state);
    close(server.driver.as_ref()).map_err(io::Error::other)
}

fn start_thread(server: &Arc<Server>) -> io::Result<()> {
    let server = Arc::clone(server);
    std::thread::Builder::new().name("convoy-call".to_owned()).spawn(move || work(&server)).map(drop)
}

fn work(server: &Arc<Server>) {
    while let Some(call) = server.next_call() {
        if server.state.lock().idle == 0
            && let Err(error) = start_thread(server)
        {
            // Cancellations are heard when this call is done.
            tracing::warn!(%error, "cannot start another thread");
        }
        server.carry_out(call);
    }
}

impl Server {
    /// Waits for its turn to read, and reads until there is a call to carry out; `None` at the end.
    fn next_call(&self) -> Option<Call> {
        {
            let mut state = self.state.lock();
            if let Some(call) = state.queue.pop_front() {
                state.running += 1;
                return Some(call);
            }
            state.idle += 1;
        }
        let mut incoming = self.incoming.lock();
        self.state.lock().idle -= 1;
        loop {
            if self.state.lock().ending.is_some() {
                return None;
            }
            let call = match incoming.next() {
                Ok(Line::Message(line)) => self.understand(&line),
                Ok(Line::TooLong) => {
                    self.refuse(
                        OVERSIZED_REQUEST_CODE,
                        format!("a message of more than {MAX_FRAME_BYTES} bytes"),
                    );
                    None
                }
                Ok(Line::End) | Err(_) => {
                    self.end(Ending::HostGone);
                    None
                }
            };
            let Some(call) = call else { continue };
            let mut state = self.state.lock();
            if state.running < MAX_CALLS {
                state.running += 1;
                return Some(call);
            }
            state.queue.push_back(call);
        }
    }

    fn end(&self, ending: Ending) {
        self.state.lock().ending.get_or_insert(ending);
        self.changed.notify_all();
    }

    /// A message that has no id to answer to.
    fn refuse(&self, code: i32, what: String) {
        let error = DriverError::invalid(what);
        self.outgoing.send(failure(Id::Null, code, &error));
    }

    /// Answers or obeys what is no call.
    fn understand(&self, line: &[u8]) -> Option<Call> {
        let message: Message<'_> = match serde_json::from_slice(line) {
            Ok(message) => message,
            Err(error) => {
                self.refuse(PARSE_ERROR_CODE, format!("expected a JSON-RPC 2.0 request, found {error}"));
                return None;
            }
        };
        match (&message.id, message.method.as_ref()) {
            (Some(id), method::HELLO) => self.greet(id.clone(), &message),
            (Some(id), _) if self.host.get().is_none() => {
                let error = DriverError::unavailable("expected hello first");
                self.outgoing.send(failure(id.clone(), INVALID_REQUEST_CODE, &error));
            }
            (Some(id), _) => return self.accept(id.clone().into_owned(), &message),
            (None, method::GOODBYE) => self.end(Ending::Goodbye),
            (None, method::CANCEL) => {
                if let Ok(Cancel { request_id, .. }) = message.params() {
                    self.state.lock().flags.get(&request_id).inspect(|flag| flag.cancel());
                }
            }
            // A notification of a newer minor version.
            (None, _) => {}
        }
        None
    }

    fn greet(&self, id: Id<'_>, message: &Message<'_>) {
        let checked = message.params::<Hello>().and_then(|host| Ok(host.check().map(|()| host)?));
        match checked {
            Ok(host) => {
                let level = host.log_level.unwrap_or(LogLevel::Info);
                let logs = host.features.iter().any(|feature| feature == "log");
                let mut own = Hello::new(concat!("convoy-driver-sdk ", env!("CARGO_PKG_VERSION")));
                own.log_level = Some(level);
                // A second hello changes nothing.
                let _ = self.host.set(host);
                self.outgoing.send(response(id, serde_json::to_vec(&own).map_err(unwritable)));
                if logs {
                    let outgoing = Arc::clone(&self.outgoing);
                    logging::install(move |record| {
                        notification(method::LOG, &record).into_iter().for_each(|note| outgoing.send(note));
                    });
                    logging::set_level(level);
                }
            }
            Err(error) => {
                self.outgoing.send(failure(id, code::DRIVER, &error));
                self.end(Ending::Refused(error.message));
            }
        }
    }

    fn accept(&self, id: Id<'static>, message: &Message<'_>) -> Option<Call> {
        let Envelope { request, context } = match message.params::<Envelope<Box<RawValue>>>() {
            Ok(envelope) => envelope,
            Err(error) => {
                self.outgoing.send(failure(id, code::DRIVER, &error));
                return None;
            }
        };
        let flag = CancelFlag::default();
        {
            let mut state = self.state.lock();
            if !state.seen.is_new(&id) {
                tracing::warn!(%id, method = %message.method, "a request that came twice is carried out once");
                return None;
            }
            state.flags.insert(context.request_id.clone(), flag.clone());
        }
        let deadline = context.deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
        let context =
            self.with_progress(Context::new(context.request_id).with_deadline(deadline).with_cancel(flag));
        Some(Call { id, method: message.method.clone().into_owned(), request, context })
    }

    fn with_progress(&self, context: Context) -> Context {
        let wanted = self.host.get().is_some_and(|host| host.features.iter().any(|name| name == "progress"));
        if !wanted {
            return context;
        }
        let (outgoing, request_id) = (Arc::clone(&self.outgoing), context.request_id().to_owned());
        context.with_progress(move |progress| {
            let note = ProgressNote::new(request_id.clone(), progress);
            notification(method::PROGRESS, &note).into_iter().for_each(|note| outgoing.send(note));
        })
    }

    fn carry_out(&self, call: Call) {
        let Call { id, method, request, context } = call;
        let outcome = logging::in_call(context.request_id(), || {
            self.driver.dispatch(&method, request.get().as_bytes(), &context)
        });
        self.outgoing.send(response(id, outcome));
        let mut state = self.state.lock();
        state.running -= 1;
        state.flags.remove(context.request_id());
        if state.ending.is_some() {
            self.changed.notify_all();
        }
    }
}

fn unwritable(error: serde_json::Error) -> DriverError {
    DriverError::internal(format!("cannot write the hello: {error}"))
}
