//! Bodies of the admin API: whatever is accepted is accepted again, alike, in the form it is written in.
#![no_main]

use convoy_client::gojson;
use convoy_client::types::{
    CreateBackup, CreateSnapshot, CreateVolume, DeleteVolume, ListBackups, MountVolume,
};
use libfuzzer_sys::fuzz_target;
use serde::{Serialize, de::DeserializeOwned};

fn check<T: Serialize + DeserializeOwned + Default + PartialEq + std::fmt::Debug>(body: &[u8]) {
    if let Ok(asked) = gojson::parse::<T>(body) {
        let text = gojson::to_string(&asked).expect("a request is written");
        assert_eq!(gojson::parse::<T>(text.as_bytes()).expect("what was written is read"), asked);
    }
}

fuzz_target!(|body: &[u8]| {
    check::<CreateVolume>(body);
    check::<DeleteVolume>(body);
    check::<MountVolume>(body);
    check::<CreateSnapshot>(body);
    check::<CreateBackup>(body);
    check::<ListBackups>(body);
});
