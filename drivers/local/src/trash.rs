//! What is being removed, in the background if it takes longer than a moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use convoy_driver_sdk::tree::{TreeError, remove_tree_while};

/// How long a removal is waited for; it goes on afterwards.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes trees until it is stopped. What is left then, the next start removes.
#[derive(Debug, Default)]
pub(crate) struct Trash {
    stop: Arc<AtomicBool>,
}

impl Trash {
    pub(crate) fn remove(&self, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return;
        }
        let stop = Arc::clone(&self.stop);
        let (done, wait) = channel::<()>();
        std::thread::spawn(move || {
            for path in paths {
                match remove_tree_while(&path, &|| !stop.load(Ordering::Relaxed)) {
                    Ok(()) | Err(TreeError::Cancelled) => {}
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "cannot remove what was deleted");
                    }
                }
            }
            drop(done);
        });
        // Either way of ending is fine: the sender is dropped when all is gone.
        let _ = wait.recv_timeout(PATIENCE);
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
