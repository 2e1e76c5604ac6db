//! From `tracing` in a driver to the host's log.
//!
//! A shared library has its own copy of `tracing`, a process even its own memory: in both, the SDK installs a
//! subscriber that hands each event over as a [`LogRecord`]. Spans are not handed over; the id of the call
//! is.

use crate::wire::{LogLevel, LogRecord};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

type Sink = Box<dyn Fn(LogRecord) + Send + Sync>;

/// What is logged, shared by all instances in this program; an index into [`LEVELS`].
static LEVEL: AtomicUsize = AtomicUsize::new(2);

const LEVELS: [(LogLevel, LevelFilter); 5] = [
    (LogLevel::Error, LevelFilter::ERROR),
    (LogLevel::Warn, LevelFilter::WARN),
    (LogLevel::Info, LevelFilter::INFO),
    (LogLevel::Debug, LevelFilter::DEBUG),
    (LogLevel::Trace, LevelFilter::TRACE),
];

thread_local! {
    static REQUEST_ID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Sends the events of this program or library to a sink, from now on. Only the first sink of a program
/// counts: a driver that installed its own subscriber before keeps it.
pub(crate) fn install(sink: impl Fn(LogRecord) + Send + Sync + 'static) {
    let forward = Forward { sink: Box::new(sink), spans: AtomicU64::new(1) };
    // Refused when there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(forward);
}

/// Logs events of this level and above, from now on.
pub(crate) fn set_level(level: LogLevel) {
    let index = LEVELS.iter().position(|(known, _)| *known == level).unwrap_or_default();
    LEVEL.store(index, Ordering::Relaxed);
    tracing::callsite::rebuild_interest_cache();
}

fn filter() -> LevelFilter {
    LEVELS.get(LEVEL.load(Ordering::Relaxed)).map_or(LevelFilter::INFO, |(_, filter)| *filter)
}

/// Runs a call so that what is logged on this thread meanwhile carries its id.
pub(crate) fn in_call<T>(request_id: &str, call: impl FnOnce() -> T) -> T {
    let before = REQUEST_ID.replace(Some(request_id.to_owned()));
    let result = call();
    REQUEST_ID.set(before);
    result
}

struct Forward {
    sink: Sink,
    spans: AtomicU64,
}

impl Subscriber for Forward {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= filter()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(filter())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        (self.sink)(
            LogRecord::new(
                level(*event.metadata().level()),
                event.metadata().target().to_owned(),
                fields.message,
            )
            .fields(fields.others)
            .request_id(REQUEST_ID.with_borrow(Clone::clone)),
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.put(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn events_arrive_with_level_fields_and_call() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        install(move |record| sink.lock().unwrap().push(record));
        set_level(LogLevel::Debug);
        in_call("7", || {
            tracing::info_span!("ignored").in_scope(|| {
                tracing::warn!(volume = "v1", size = 3u64, flag = true, "almost {}", "full");
            });
            tracing::trace!("not asked for");
        });
        set_level(LogLevel::Error);
        tracing::warn!("no longer asked for");
        tracing::error!(target: "other", "bad");
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].level, seen[0].message.as_str()), (LogLevel::Warn, "almost full"));
        assert_eq!(seen[0].request_id.as_deref(), Some("7"));
        let fields = serde_json::to_value(&seen[0].fields).unwrap();
        assert_eq!(fields, serde_json::json!({"volume": "v1", "size": 3, "flag": true}));
        assert_eq!((seen[1].target.as_str(), &seen[1].request_id), ("other", &None));
    }
}
