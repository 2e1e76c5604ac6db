//! The client alone, for where no daemon is to run: a container with the daemon's socket in it, and tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    convoy_cli::main(|_| {
        convoy_cli::fail(
            "convoy-cli is the client alone and has no daemon",
            Some("run `convoy daemon` instead"),
        )
    })
}
