//! What happened, for whoever listens.

use convoy_client::types::Event;
use convoy_driver_sdk::Timestamp;
use std::sync::Arc;
use tokio::sync::broadcast;

/// How many events a slow listener may lag behind before it misses some.
const BACKLOG: usize = 256;

/// The daemon's events. Cheap when nobody listens.
#[derive(Debug, Clone)]
pub struct Events(broadcast::Sender<Arc<Event>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Events {
    /// Tells everybody who listens. The time is filled in.
    pub fn send(&self, event: Event) {
        tracing::info!(
            kind = event.kind,
            driver = event.driver,
            volume = event.volume,
            snapshot = event.snapshot,
            message = event.message,
            "event"
        );
        if self.0.receiver_count() > 0 {
            // An error says that the last listener left meanwhile.
            let _ = self.0.send(Arc::new(Event { time: Timestamp::now().to_string(), ..event }));
        }
    }

    /// What happens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Event>> {
        self.0.subscribe()
    }
}

/// An event of this kind about a volume.
pub fn about(kind: &str, driver: &str, volume: &str) -> Event {
    Event { kind: kind.to_owned(), driver: driver.to_owned(), volume: volume.to_owned(), ..Event::default() }
}
