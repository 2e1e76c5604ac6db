//! The client alone, for where no daemon is to run: a container with the daemon's socket in it, and tests.

use convoy_drivers::{Drivers, SearchPath};
use std::process::ExitCode;

fn main() -> ExitCode {
    let no_daemon = |_| {
        convoy_cli::fail(
            "convoy-cli is the client alone and has no daemon",
            Some("run `convoy daemon` instead"),
        )
    };
    convoy_cli::main(
        no_daemon,
        |path| Drivers::new(SearchPath::standard(path)),
        |_| Err("convoy-cli is the client alone and knows no settings: use `convoy config check`".to_owned()),
        None,
        |_| {
            convoy_cli::fail(
                "convoy-cli is the client alone and reads no destination itself",
                Some("run `convoy backup mount` or `convoy backup serve` instead"),
            )
        },
    )
}
