//! A proxy between host and driver that loses, repeats, delays and cuts messages: `faulty PLAN PROGRAM`.
//!
//! The host starts it as if it were the driver; it starts the driver with a socket of its own and passes each
//! line on, but for those that the plan names. The plan is JSON,
//! `{"lives": [[{"to": "driver", "at": 4, "fault": "drop"}]]}`: one list for each time it is started, since a
//! fault often ends the process; after the last one it is a plain wire.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]

use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

type Failure = Box<dyn std::error::Error>;

#[derive(Deserialize)]
struct Plan {
    lives: Vec<Vec<Planned>>,
}

#[derive(Clone, Deserialize)]
struct Planned {
    to: Side,
    /// Which line to that side, counted from 0.
    at: usize,
    fault: Fault,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Driver,
    Host,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// It never arrives.
    Drop,
    /// It arrives twice.
    Duplicate,
    /// It arrives again behind the line that follows it.
    DuplicateLate,
    /// It, and all behind it, arrive so many milliseconds later.
    Delay(u64),
    /// So many bytes of it arrive, as a line.
    Truncate(usize),
    /// So many bytes of it arrive, and nothing more.
    Cut(usize),
}

fn main() -> Result<ExitCode, Failure> {
    let words: Vec<String> = std::env::args().collect();
    let [_, plan, program] = words.as_slice() else { return Err("expected: faulty PLAN PROGRAM".into()) };
    let faults = faults_of_this_life(plan)?;
    let fd = std::env::var("CONVOY_DRIVER_FD")?.parse()?;
    // SAFETY: the host gives this program a socket under that number.
    let host = UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    let (driver, theirs) = UnixStream::pair()?;
    // Any descriptor will do; standard input needs no preparation.
    let mut child = Command::new(program)
        .env("CONVOY_DRIVER_FD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()?;
    let to_driver = Wire::new(Side::Driver, &faults, host.try_clone()?, driver.try_clone()?);
    let to_host = Wire::new(Side::Host, &faults, driver, host);
    let threads = [to_driver, to_host].map(|wire| std::thread::spawn(move || wire.run()));
    let status = child.wait()?;
    drop(threads);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Each start takes the next list.
fn faults_of_this_life(plan: &str) -> Result<Vec<Planned>, Failure> {
    let mut lives = OpenOptions::new().create(true).append(true).open(format!("{plan}.lives"))?;
    let life = usize::try_from(lives.metadata()?.len())?;
    lives.write_all(b".")?;
    let plan: Plan = serde_json::from_str(&std::fs::read_to_string(plan)?)?;
    Ok(plan.lives.get(life).cloned().unwrap_or_default())
}

struct Wire {
    faults: Vec<Planned>,
    from: BufReader<UnixStream>,
    to: UnixStream,
}

impl Wire {
    fn new(side: Side, faults: &[Planned], from: UnixStream, to: UnixStream) -> Self {
        let faults = faults.iter().filter(|planned| planned.to == side).cloned().collect();
        Self { faults, from: BufReader::new(from), to }
    }

    /// Until either end is closed; then both are.
    fn run(mut self) {
        let _ = self.pass();
        let _ = self.to.shutdown(std::net::Shutdown::Both);
        let _ = self.from.get_ref().shutdown(std::net::Shutdown::Both);
    }

    fn pass(&mut self) -> std::io::Result<()> {
        let mut late = None;
        for at in 0.. {
            let mut line = Vec::new();
            if self.from.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let again = late.take();
            let fault = self.faults.iter().find(|planned| planned.at == at).map(|planned| planned.fault);
            let cut = |bytes: usize| line.get(..bytes.min(line.len().saturating_sub(2))).unwrap_or_default();
            match fault {
                None => self.to.write_all(&line)?,
                Some(Fault::Drop) => {}
                Some(Fault::Duplicate) => self.to.write_all(&line.repeat(2))?,
                Some(Fault::DuplicateLate) => {
                    self.to.write_all(&line)?;
                    late = Some(line);
                }
                Some(Fault::Delay(ms)) => {
                    std::thread::sleep(Duration::from_millis(ms));
                    self.to.write_all(&line)?;
                }
                Some(Fault::Truncate(bytes)) => self.to.write_all(&[cut(bytes), b"\n"].concat())?,
                Some(Fault::Cut(bytes)) => return self.to.write_all(cut(bytes)),
            }
            if let Some(line) = again {
                self.to.write_all(&line)?;
            }
        }
        Ok(())
    }
}
