//! Leases: a program that has one on a file (`fcntl` with `F_SETLEASE`) is asked by the kernel before anybody
//! else may open it, and has some time to answer.

use std::io;
use std::time::{Duration, Instant};

/// Where the kernel says how many seconds it waits before it takes a lease away.
const BREAK_TIME: &str = "/proc/sys/fs/lease-break-time";
/// What it is when that cannot be read.
const USUAL: u64 = 45;
/// Above this a setting is not believed.
const LONGEST: u64 = 600;
/// How much longer than the kernel one waits.
const MARGIN: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// Opens what a program may have a lease on: `open`, which must not wait itself (`O_NONBLOCK`), is repeated
/// while it says
/// `WouldBlock`, up to five seconds longer than the kernel lets anybody keep a lease
/// (`/proc/sys/fs/lease-break-time`).
///
/// # Errors
/// What `open` says; `WouldBlock` with the reason in words when leases are taken again and again.
pub fn wait_for_lease<T>(open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    wait(break_time, MARGIN, open)
}

fn wait<T>(
    limit: impl Fn() -> u64,
    margin: Duration,
    mut open: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    let mut give_up: Option<(Instant, u64)> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        match open() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            other => return other,
        }
        let (end, limit) = *give_up.get_or_insert_with(|| {
            let limit = limit();
            (Instant::now() + Duration::from_secs(limit) + margin, limit)
        });
        if Instant::now() >= end {
            let text = format!(
                "a program keeps a lease on it (fcntl F_SETLEASE), also after the {limit} seconds that {BREAK_TIME} allows: \
                 end that program (lslocks names it)"
            );
            return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

fn break_time() -> u64 {
    let text = std::fs::read_to_string(BREAK_TIME).unwrap_or_default();
    text.trim().parse().map_or(USUAL, |seconds: u64| seconds.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_waited_for_and_one_that_never_ends_is_told() {
        let mut left = 3;
        let opened = wait_for_lease(|| {
            left -= 1;
            if left > 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(left) }
        });
        assert_eq!(opened.unwrap(), 0);
        let error = wait(
            || 0,
            Duration::from_millis(20),
            || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) },
        );
        assert!(error.unwrap_err().to_string().contains("F_SETLEASE"));
        let error = wait_for_lease(|| -> io::Result<()> { Err(io::ErrorKind::NotFound.into()) });
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
