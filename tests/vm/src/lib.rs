//! A virtual machine for tests that need what the machine's own kernel lacks: device-mapper, above all.
//!
//! - [`image`]: a kernel of this machine's packages and a small initramfs, made once and kept in the user's
//!   cache.
//! - [`vm`]: a throw-away machine whose root is this machine's `/`, read-only below a memory overlay, so that
//!   programs built here run there as they are; its disks are files, kept for a second boot where a test says
//!   so.
//! - [`guest`]: what runs inside it.
//!
//! No hardware virtualisation is used: QEMU translates (TCG), which costs speed and works everywhere.

pub mod guest;
pub mod image;
pub mod vm;

use std::path::PathBuf;

/// What keeps a machine from running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or program of a Debian package is missing.
    #[error("{what} is missing: apt-get install {package}")]
    Missing {
        /// The file or program.
        what: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// The kernel image is not as the boot protocol says.
    #[error("cannot unpack the kernel {}: {reason}", path.display())]
    Kernel {
        /// The file or program that could not be used.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A program failed.
    #[error("{program} failed: {output}")]
    Program {
        /// The program, as it was started.
        program: &'static str,
        /// What it wrote.
        output: String,
    },
    /// The machine ended without saying how its command ended.
    #[error("the machine ended after {seconds} s without a status; its console said:\n{console}")]
    Died {
        /// After how long.
        seconds: u64,
        /// The end of its console.
        console: String,
    },
    /// The command took too long.
    #[error("the command was not done after {seconds} s; so far it wrote:\n{output}")]
    TimedOut {
        /// How long the machine was given.
        seconds: u64,
        /// What the machine printed until then.
        output: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the machine printed.
        source: std::io::Error,
    },
}

/// What comes back from a function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { what: what.to_string(), source }
}
