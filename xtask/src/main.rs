//! `cargo xtask`: the one door for building, testing, showing and measuring convoy.

mod bench;
mod cargo;
mod demo;
mod deny;
mod dependencies;
mod fuzz;
mod keep;
mod package;
mod test;

use std::process::ExitCode;

use convoy_tests::{Error, Result};

const HELP: &str = "\
cargo xtask demo           show the main job with a real Docker engine: write, snapshot, back up, restore, read
cargo xtask test [ARGS]    check the style and run every test; with ARGS, run `cargo nextest run ARGS` alone
cargo xtask bench [NAMES]  measure, and compare with the goals; with NAMES, only those
cargo xtask keep V COMMIT  keep a host and drivers of an earlier version V of the protocol, for tests
cargo xtask fuzz [SECONDS] feed the parsers of what comes from outside with nonsense, so long each
cargo xtask package        make a Debian package and an archive; with --with-ebs, with that driver, too
cargo xtask ci             all of it: test, fuzz for a minute each, documentation, dependencies, demo, package
cargo xtask install-deps   install what the above need (each does it by itself)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rest = words.get(1..).unwrap_or_default();
    let result = match words.first().map(String::as_str) {
        Some("demo") => dependencies::install_engine().and_then(|()| demo::run()),
        Some("test") => dependencies::install().and_then(|()| test::run(rest)),
        Some("bench") => dependencies::install()
            .and_then(|()| dependencies::install_peers())
            .and_then(|()| bench::run(rest)),
        Some("keep") => keep::run(rest),
        Some("package") => dependencies::install_package().and_then(|()| package::run(rest)),
        Some("fuzz") => fuzz::run(rest),
        Some("ci") => ci(),
        Some("install-deps") => dependencies::install(),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some(other) => Err(Error::Unexpected(format!("no command {other:?}; there are:\n{HELP}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ci() -> Result<()> {
    dependencies::install()?;
    test::run(&[])?;
    fuzz::run_in_ci()?;
    cargo::doc()?;
    deny::run()?;
    demo::run()?;
    package::run(&[])
}
