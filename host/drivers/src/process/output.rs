//! What a driver's program writes on standard output and error: into the host's log, line by line.

use convoy_driver_sdk::Name;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

/// Longer lines are cut, in bytes.
const MAX_LINE: u64 = 8 << 10;
/// How many lines are kept for the message when the program fails to start.
const KEPT: usize = 5;

#[derive(Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    pub(super) fn get(&self) -> Vec<String> {
        self.0.lock().iter().cloned().collect()
    }

    fn push(&self, line: String) {
        let mut lines = self.0.lock();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Reads a stream to its end.
pub(super) async fn follow(
    driver: Name,
    stream: &'static str,
    pipe: impl AsyncRead + Unpin,
    last: LastLines,
) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if text.is_empty() {
            continue;
        }
        tracing::info!(target: "convoy::driver", driver = driver.as_str(), stream, "{text}");
        last.push(text);
    }
}
