//! What a store holds: records, manifests, segments, packs, moves and chunks of the new format, records and
//! blocks of 0.5's. The first byte says which of them the rest is. Whatever it says it is read or refused,
//! and what is read is written and read again.
#![no_main]

use convoy_backup::fuzz;
use libfuzzer_sys::fuzz_target;

const READERS: [fn(&[u8]) -> bool; 7] =
    [fuzz::record, fuzz::manifest, fuzz::segment, fuzz::pack, fuzz::moves, fuzz::chunk, fuzz::old_block];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else { return };
    READERS[usize::from(*which) % READERS.len()](rest);
});
