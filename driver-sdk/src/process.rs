//! The process carrier: a driver as an executable that speaks JSON-RPC 2.0.
//!
//! The host starts it with a unix socket as the descriptor that [`FD_VARIABLE`] names; each message is one
//! line. Standard output and error are free for anything: the host logs them. Calls run on as many threads as
//! are busy, up to [`MAX_CALLS`]; one more reads, so that a cancellation is heard while all of them work.

#![allow(unsafe_code, reason = "the host hands the socket over as a number")]

use crate::Driver;
use crate::dispatch::{Dispatch, Dispatcher};
use crate::protocol::{Close, Request};
use crate::wire::FD_VARIABLE;
use crate::{Context, DriverError};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;

mod calls;
mod frame;
mod manual;
mod messages;

/// How many calls run at once; more wait for a thread.
pub const MAX_CALLS: usize = 64;

/// Exit code when the program is run by hand.
const BY_HAND: u8 = 2;

/// All that the `main` of a driver's executable does.
///
/// ```ignore
/// fn main() -> std::process::ExitCode {
///     convoy_driver_sdk::process::serve::<MyDriver>()
/// }
/// ```
pub fn serve<D: Driver>() -> ExitCode {
    let Some(fd) = std::env::var_os(FD_VARIABLE) else {
        manual::explain(&D::describe());
        return ExitCode::from(BY_HAND);
    };
    // What a driver knows (tokens, keys) is in no core dump, and no other user attaches a debugger.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("{}: a crash may leave secrets in a core dump: {error}", env!("CARGO_PKG_NAME"));
    }
    let served = fd
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{FD_VARIABLE} is {}, no number", fd.display()),
            )
        })
        .and_then(adopt)
        .and_then(|socket| calls::serve(socket, Arc::new(Dispatcher::<D>::new())));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", env!("CARGO_PKG_NAME"));
            ExitCode::FAILURE
        }
    }
}

/// As [`serve`], over a socket that is there: for the fuzz targets in `fuzz/`.
///
/// # Errors
/// When no thread can be started, or there is nothing to talk about.
#[doc(hidden)]
pub fn serve_on(socket: UnixStream, driver: Arc<dyn Dispatch>) -> io::Result<()> {
    calls::serve(socket, driver)
}

/// Takes the inherited descriptor over; children do not inherit it any more.
fn adopt(fd: i32) -> io::Result<UnixStream> {
    // SAFETY: `F_GETFD` on a number that is not open fails and does nothing else.
    let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd.max(0)) };
    let not_a_socket = |error| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{FD_VARIABLE}={fd} names no socket ({error}): only the host sets this variable"),
        )
    };
    rustix::io::fcntl_getfd(borrowed).map_err(not_a_socket)?;
    rustix::net::sockopt::socket_type(borrowed).map_err(not_a_socket)?;
    rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and the host gave it to this program, which opened nothing under that number.
    Ok(UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Brings a driver to rest.
fn close(driver: &dyn Dispatch) -> Result<(), DriverError> {
    driver.dispatch(Close::METHOD, b"{}", &Context::new("goodbye")).map(drop)
}
