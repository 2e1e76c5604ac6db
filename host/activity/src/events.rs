//! Tells what happened: to whoever listens, and to whoever asks later.

use crate::metrics::METRICS;
use convoy_client::types::{Event, EventFilter};
use convoy_driver_sdk::Timestamp;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast;

/// How many events a slow listener may lag behind before it misses some.
const BACKLOG: usize = 256;

/// How many past events are kept in memory.
const REMEMBERED: usize = 4096;

/// Every kind of event.
pub const KINDS: [&str; 24] = [
    "volume.create",
    "volume.delete",
    "volume.mount",
    "volume.unmount",
    "volume.resize",
    "volume.restore",
    "volume.accept",
    "volume.failure",
    "kept.delete",
    "snapshot.create",
    "snapshot.delete",
    "snapshot.revert",
    "snapshot.failure",
    "backup.create",
    "backup.delete",
    "backup.label",
    "backup.failure",
    "schedule.success",
    "schedule.failure",
    "schedule.skip",
    "schedule.stall",
    "driver.up",
    "driver.warning",
    "driver.healthy",
];

/// Sends events to listeners and remembers the last 4096. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Events(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    sender: broadcast::Sender<Arc<Event>>,
    past: Mutex<VecDeque<Arc<Event>>>,
}

impl Default for Events {
    fn default() -> Self {
        Self(Arc::new(Inner { sender: broadcast::Sender::new(BACKLOG), past: Mutex::default() }))
    }
}

impl Events {
    /// Tells everybody who listens, and fills in the time. The kind is one of [`KINDS`].
    pub fn send(&self, event: Event) {
        debug_assert!(KINDS.contains(&event.kind.as_str()), "{} is not among the kinds", event.kind);
        tracing::info!(
            kind = event.kind,
            driver = event.driver,
            volume = event.volume,
            snapshot = event.snapshot,
            message = event.message,
            "event"
        );
        METRICS.happened(&event.kind);
        let event = Arc::new(Event { time: Timestamp::now().to_string(), ..event });
        // Remembered and told under one lock: a listener that asks for the past gets each event once.
        let mut past = self.0.past.lock();
        if past.len() == REMEMBERED {
            past.pop_front();
        }
        past.push_back(Arc::clone(&event));
        // An error says that nobody listens.
        let _ = self.0.sender.send(event);
    }

    /// Gives the last 4096 events as far as they happened since then, and a receiver of those to come; with
    /// `None` the receiver alone.
    pub fn listen(&self, since: Option<Timestamp>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let past = self.0.past.lock();
        let listener = self.0.sender.subscribe();
        let Some(since) = since else { return (Vec::new(), listener) };
        let wanted = |event: &Arc<Event>| Timestamp::parse(&event.time).is_ok_and(|time| time >= since);
        (past.iter().filter(|event| wanted(event)).cloned().collect(), listener)
    }
}

/// Whether somebody wants to hear of an event. A kind may be named by its beginning: `backup` or
/// `backup.create`.
pub fn is_wanted(filter: &EventFilter, event: &Event) -> bool {
    let one_of = |wanted: &str, is: &dyn Fn(&str) -> bool| {
        wanted.is_empty() || wanted.split(',').map(str::trim).any(is)
    };
    one_of(&filter.kind, &|wanted| names(wanted, &event.kind))
        && one_of(&filter.volume, &|volume| volume == event.volume)
        && one_of(&filter.driver, &|driver| driver == event.driver)
}

fn names(wanted: &str, kind: &str) -> bool {
    kind == wanted || kind.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'))
}

/// What is asked for among the kinds and is none, nor the beginning of one: who waits for it would wait for
/// ever.
pub fn unknown_kind(filter: &EventFilter) -> Option<&str> {
    let asked = filter.kind.split(',').map(str::trim);
    asked.filter(|_| !filter.kind.is_empty()).find(|asked| !KINDS.iter().any(|kind| names(asked, kind)))
}

/// Creates an event of this kind about a volume.
pub fn about(kind: &str, driver: &str, volume: &str) -> Event {
    Event { kind: kind.to_owned(), driver: driver.to_owned(), volume: volume.to_owned(), ..Event::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_is_told_once_and_is_bounded() {
        let events = Events::default();
        for number in 0..REMEMBERED + 10 {
            events.send(about("volume.create", "vfs", &format!("v{number}")));
        }
        let (past, mut listener) = events.listen(Some(Timestamp::from_unix(0)));
        assert_eq!((past.len(), past[0].volume.as_str()), (REMEMBERED, "v10"));
        assert!(listener.try_recv().is_err());
        events.send(about("volume.delete", "vfs", "v1"));
        assert_eq!(listener.try_recv().unwrap().kind, "volume.delete");
        assert!(events.listen(None).0.is_empty());
        assert!(events.listen(Some(Timestamp::from_unix(4_000_000_000))).0.is_empty());
    }

    #[test]
    fn filters() {
        let event = about("backup.create", "vfs", "db");
        let filter = |kind: &str, volume: &str, driver: &str| EventFilter {
            kind: kind.to_owned(),
            volume: volume.to_owned(),
            driver: driver.to_owned(),
            ..EventFilter::default()
        };
        for (wanted, filter) in [
            (true, filter("", "", "")),
            (true, filter("backup", "db", "vfs")),
            (true, filter("volume,backup.create", "web, db", "")),
            (false, filter("back", "", "")),
            (false, filter("backup.delete", "", "")),
            (false, filter("", "web", "")),
            (false, filter("", "", "ebs")),
        ] {
            assert_eq!(is_wanted(&filter, &event), wanted, "{filter:?}");
        }
        for (kind, unknown) in [
            ("", None),
            ("backup", None),
            ("volume,driver.up", None),
            ("backup,back", Some("back")),
            ("x", Some("x")),
        ] {
            assert_eq!(unknown_kind(&filter(kind, "", "")), unknown);
        }
    }

    #[test]
    fn every_kind_is_documented() {
        let document = include_str!("../../../docs/monitoring.md");
        let (_, after) = document.split_once("Kinds: ").unwrap();
        let (kinds, _) = after.split_once(".\n\n").unwrap();
        let named: Vec<&str> = kinds.split(',').map(|kind| kind.trim().trim_matches('`')).collect();
        assert_eq!(named, KINDS);
    }
}
