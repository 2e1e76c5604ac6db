//! The driver as an executable.

fn main() -> std::process::ExitCode {
    convoy_driver_sdk::process::serve::<convoy_driver_local::LocalDriver>()
}
