//! The end of what a command prints.

use std::collections::VecDeque;

/// How much of what a command prints is kept: the end, where the reason stands as a rule.
pub(crate) const TAIL_BYTES: usize = 4096;

/// The last 4096 bytes of an output.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    /// Appends to the output.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.dropped += excess as u64;
        self.bytes.drain(..excess);
    }

    /// Gives the text, and how many bytes are missing before it.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        match self.dropped {
            0 => text.to_owned(),
            dropped => format!("[{dropped} bytes before] {text}"),
        }
    }
}
