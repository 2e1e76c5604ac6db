//! convoy: one program, the daemon and the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    convoy::daemon::process::complete_environment();
    convoy_cli::main(
        convoy::daemon::run,
        convoy::daemon::drivers::installed,
        |file| convoy::config::check_file(file).map_err(|error| error.to_string()),
        Some(convoy::doctor::offline::examine),
        |asked| {
            convoy::daemon::process::keep_memory_private();
            convoy::show::run(&asked)
        },
    )
}
