//! Destinations and backups' URLs, in all three forms of `&`.
#![no_main]

use convoy_client::gojson;
use convoy_objectstore::{Destination, plain_url};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let plain = plain_url(text);
    let _ = gojson::escape_url(&plain);
    if let Ok(destination) = plain.parse::<Destination>() {
        let again: Destination = destination.to_string().parse().expect("what is shown is read");
        assert_eq!(again.place(), destination.place());
    }
});
