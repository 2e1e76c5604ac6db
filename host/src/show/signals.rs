//! Waits to be told to end.

use super::error::ShowError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end a command.
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Listens from now on. To be called in a runtime.
    pub(super) fn new() -> Result<Self, ShowError> {
        let listen = |kind| signal(kind).map_err(ShowError::system("listen to signals"));
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one.
    pub(super) async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
