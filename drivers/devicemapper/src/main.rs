//! The devicemapper driver as a process.

fn main() -> std::process::ExitCode {
    convoy_driver_sdk::process::serve::<convoy_driver_devicemapper::DeviceMapper>()
}
