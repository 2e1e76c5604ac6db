//! What records are made of, and what the kernel says of mounts.
#![no_main]

use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Snapshot, Volume};
use convoy_driver_sdk::{Name, Timestamp, size};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(volume) = serde_json::from_slice::<Volume>(bytes) {
        let again = serde_json::to_vec(&volume).expect("a volume is written");
        serde_json::from_slice::<Volume>(&again).expect("what was written is read");
    }
    let _ = serde_json::from_slice::<Snapshot>(bytes);
    if let Ok(table) = MountTable::parse(bytes) {
        for mount in table.iter() {
            assert!(table.at(&mount.mountpoint).is_some());
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(name) = Name::parse(text) {
        // No name leads out of a directory.
        assert!(!name.as_str().contains(['/', '\0']) && name.as_str() != ".." && name.as_str() != ".");
    }
    if let Ok(time) = Timestamp::parse(text) {
        let _ = time.to_legacy();
    }
    if let Ok(bytes) = size::parse(text) {
        assert!(i64::try_from(bytes).is_ok(), "{bytes}");
    }
});
