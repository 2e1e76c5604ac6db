//! What a command takes: time, processor and memory, of itself and of the daemon that does its work.

#![allow(unsafe_code, reason = "only the C library tells what one child has used")]

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use convoy_tests::error::Context;
use convoy_tests::run::readable;
use convoy_tests::{Convoy, Error, Result};

/// What something has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Seconds on the clock.
    pub(super) wall: f64,
    /// Seconds of processors, of the program's own code and the kernel's for it.
    pub(super) cpu: f64,
    /// The most resident memory, in MiB. Of a daemon and its client it is both together.
    pub(super) peak: f64,
}

/// Runs a command that must succeed, and throws away what it prints. `often` times: the mean of all, and the
/// most memory.
pub(super) fn of(
    command: &dyn Fn() -> Result<Command>,
    often: u32,
    daemon: Option<&Convoy>,
) -> Result<Usage> {
    let before = daemon.map(begin).transpose()?;
    let mut all = Usage::default();
    for _ in 0..often {
        let used = once(&mut command()?)?;
        all.wall += used.wall;
        all.cpu += used.cpu;
        all.peak = all.peak.max(used.peak);
    }
    if let (Some(daemon), Some(before)) = (daemon, before) {
        all.cpu += seconds(daemon)? - before;
        // The client's and the daemon's.
        all.peak += f64::from(u32::try_from(daemon.peak_kib()?).unwrap_or(u32::MAX)) / 1024.0;
    }
    all.wall /= f64::from(often);
    all.cpu /= f64::from(often);
    Ok(all)
}

/// Forgets how much memory a daemon has had, and tells the seconds of processors that it has used.
fn begin(daemon: &Convoy) -> Result<f64> {
    let path = format!("/proc/{}/clear_refs", daemon.id());
    fs::write(&path, "5").during(|| format!("write {path}"))?;
    seconds(daemon)
}

/// Seconds of processors that a daemon has used, to the kernel's tick.
fn seconds(daemon: &Convoy) -> Result<f64> {
    let path = format!("/proc/{}/stat", daemon.id());
    let text = fs::read_to_string(&path).during(|| format!("read {path}"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |number: usize| fields.get(number).and_then(|ticks| ticks.parse::<u32>().ok());
    match (ticks(11), ticks(12)) {
        // The kernel tells hundredths, whatever its own clock is.
        (Some(user), Some(system)) => Ok((f64::from(user) + f64::from(system)) / 100.0),
        _ => Err(Error::Unexpected(format!("{path} does not tell the time of processors"))),
    }
}

fn once(command: &mut Command) -> Result<Usage> {
    let line = readable(command);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let child = command.spawn().during(|| format!("cannot start {line}"))?;
    let pid = libc::pid_t::try_from(child.id()).unwrap_or(-1);
    let mut status = 0;
    // SAFETY: numbers alone, for which zero is a value.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    let ended = loop {
        // SAFETY: both pointers are to variables of the right types; the child is ours, and nobody else waits.
        let ended = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut used) };
        if ended >= 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            break ended;
        }
    };
    let wall = start.elapsed().as_secs_f64();
    if ended != pid || !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
        return Err(Error::Unexpected(format!("{line} ended with {status:#x}")));
    }
    let cpu = [used.ru_utime, used.ru_stime].map(of_time).iter().sum();
    let peak = f64::from(u32::try_from(used.ru_maxrss).unwrap_or(u32::MAX)) / 1024.0;
    Ok(Usage { wall, cpu, peak })
}

// Far below 2^52.
#[expect(clippy::cast_precision_loss)]
fn of_time(time: libc::timeval) -> f64 {
    time.tv_sec as f64 + time.tv_usec as f64 / 1e6
}
