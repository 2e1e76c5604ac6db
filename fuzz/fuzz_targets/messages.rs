//! Requests as a driver gets them: a line with the method, then JSON. The driver is not open, so that nothing
//! is done.
#![no_main]

use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::{Context, ErrorKind};
use convoy_driver_vfs::VfsDriver;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let method = String::from_utf8_lossy(parts.next().unwrap_or_default());
    // Opening makes directories wherever the request says.
    if method == "driver.open" {
        return;
    }
    let request = parts.next().unwrap_or_default();
    let answer = Dispatcher::<VfsDriver>::new().dispatch(&method, request, &Context::default());
    if let Err(error) = answer {
        // A panic, caught at the boundary.
        assert!(error.kind != ErrorKind::Internal, "{error}");
    }
});
