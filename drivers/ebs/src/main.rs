//! The driver as an executable: see `convoy_driver_sdk::process`.

fn main() -> std::process::ExitCode {
    convoy_driver_sdk::process::serve::<convoy_driver_ebs::Ebs>()
}
