//! Whole stores of somebody who means harm: the bytes choose what the objects in one say, with right
//! checksums. Whatever they say, everything that is done to a store ends, without a defect. The test
//! `hostile_stores` of the engine does the same by chance, in 256 MiB.
#![no_main]

#[path = "../../host/backup/tests/common/forge.rs"]
mod forge;
#[path = "../../host/backup/tests/common/stores.rs"]
mod stores;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    // In memory where that is: what is synced takes no time there.
    let memory = std::path::Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.expect("a directory");
    let (store, work) = (place.path().join("store"), place.path().join("work"));
    for dir in [&store, &work] {
        std::fs::create_dir(dir).expect("a directory");
    }
    stores::write(&mut stores::Choices(bytes), &store);
    RUNTIME.block_on(stores::use_it(&store, &work));
});
