//! Completions and man pages, made from the definition of the command line.

use crate::complete;
use crate::error::{Failure, Result};
use crate::output::Output;
use std::path::Path;

/// Prints a shell's completion script.
pub(crate) fn completions(shell: clap_complete::Shell, output: &mut Output) -> Result<()> {
    output.bytes(&complete::script(shell)?)
}

/// Writes a page for convoy and one for each command into a directory.
pub(crate) fn man(directory: &Path, output: &mut Output) -> Result<()> {
    let failed = |error: std::io::Error| Failure::Other {
        message: format!("cannot write man pages to {}: {error}", directory.display()),
        hint: Some("name a directory that can be written to".to_owned()),
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(crate::command(), directory).map_err(failed)?;
    output.done(format_args!("Man pages written to {}", directory.display()))
}
