//! The harness of convoy's end-to-end tests: real daemons, a real Docker engine, real file systems.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`lab`] | one test's own directory; runs the test, then fails it for what it left behind |
//! | [`leaks`] | finds and clears mounts, loop devices and processes of a lab, alive or long dead |
//! | [`programs`] | where the programs under test are |
//! | [`run`] | runs a command to its end, with a time limit |
//! | [`child`] | a process in the background, ended when its guard is dropped |
//! | [`convoy`] | a convoy daemon: start, stop, kill, restart, command line, sockets |
//! | [`engine`] | a Docker engine of our own, with an image made from busybox |
//! | [`machine`] | a machine with systemd of our own, to install things on |
//! | [`package`] | what is installed, as a tree and as a Debian package |
//! | [`plugin`] | the same as a managed plugin of Docker |
//! | [`http`] | a raw HTTP client on a unix socket, as Docker speaks |
//! | [`tree`] | everything there is to know about a directory tree, as comparable text |
//! | [`blocks`] | a daemon with block volumes beside directories, and a destination for their backups |
//! | [`namespace`] | a mount namespace beside the test's own, as a container has one |
//! | [`storage`] | a file system of its own, on a loop device |
//! | [`recording`] | answers of convoy 0.5, asked again of the daemon under test |
//! | [`peers`] | programs and files of others that tests run against, fetched once |
//! | [`turns`] | of what there can be only once on a machine, one after the other |
//! | [`patience`] | waits for a condition, never for a time |
//!
//! Tests return [`Result`]; whatever fails, the guards clean up and the logs are shown.
//! Nothing here is shared between tests: nextest runs each in a process of its own.

pub mod blocks;
pub mod child;
pub mod convoy;
pub mod engine;
pub mod error;
pub mod http;
pub mod lab;
pub mod leaks;
pub mod machine;
pub mod namespace;
pub mod package;
pub mod patience;
pub mod peers;
pub mod plugin;
pub mod programs;
pub mod recording;
pub mod run;
pub mod storage;
pub mod tree;
pub mod turns;

pub use blocks::Blocks;
pub use convoy::{Carrier, Convoy, Setup};
pub use engine::Engine;
pub use error::{Error, Result, check};
pub use lab::Lab;
pub use machine::Machine;
pub use namespace::Namespace;
pub use storage::Storage;

/// Makes two tests of each scenario (`fn(Carrier) -> Result<()>`): the driver as a library and as a process.
#[macro_export]
macro_rules! each_carrier {
    ($($scenario:ident),+ $(,)?) => {
        mod library {
            $(#[test] fn $scenario() -> $crate::Result<()> { super::$scenario($crate::Carrier::Library) })+
        }
        mod process {
            $(#[test] fn $scenario() -> $crate::Result<()> { super::$scenario($crate::Carrier::Process) })+
        }
    };
}
