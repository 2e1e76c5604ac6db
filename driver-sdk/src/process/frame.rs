//! Messages as lines.

use crate::wire::MAX_FRAME_BYTES;
use parking_lot::Mutex;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

pub(super) struct Incoming {
    reader: BufReader<UnixStream>,
}

/// What reading a line came to.
pub(super) enum Line {
    /// A message, without its newline.
    Message(Vec<u8>),
    /// One that is too long; it was skipped.
    TooLong,
    /// The host is gone.
    End,
}

impl Incoming {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { reader: BufReader::with_capacity(64 << 10, socket) }
    }

    pub(super) fn next(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
        (&mut self.reader).take(limit).read_until(b'\n', &mut line)?;
        match line.pop() {
            None => Ok(Line::End),
            Some(b'\n') => Ok(Line::Message(line)),
            // Cut off by the limit, or by the end.
            Some(_) if line.len() + 1 < MAX_FRAME_BYTES => Ok(Line::End),
            Some(_) => {
                drop(line);
                self.reader.skip_until(b'\n')?;
                Ok(Line::TooLong)
            }
        }
    }
}

/// The lines that go out, whole, from any thread.
pub(super) struct Outgoing {
    socket: Mutex<UnixStream>,
}

impl Outgoing {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket: Mutex::new(socket) }
    }

    /// Sends a message; its newline is added here. Failure means the host is gone, which the reader notices.
    pub(super) fn send(&self, mut message: Vec<u8>) {
        message.push(b'\n');
        let mut socket = self.socket.lock();
        let _ = socket.write_all(&message);
    }
}
