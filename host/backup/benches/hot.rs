//! What is done for every byte or every file of a backup, alone: `cargo bench -p convoy-backup`.
//!
//! `cargo xtask bench` measures whole backups; this says which part of one became slower.

#![allow(clippy::unwrap_used, reason = "it measures; what fails ends it")]

use convoy_backup::hot::{Files, cut, pack};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Half of it compresses well, half does not at all.
fn data(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    let text = b"a line of a log that says the same again\n".iter().copied().cycle();
    noise.take(length / 2).chain(text.take(length / 2)).collect()
}

#[divan::bench]
fn cut_into_chunks(bencher: Bencher) {
    let data = data(64 << 20);
    bencher.counter(BytesCount::of_slice(&data)).bench(|| cut(black_box(&data)));
}

#[divan::bench]
fn name_compress_and_pack(bencher: Bencher) {
    let data = data(16 << 20);
    bencher.counter(BytesCount::of_slice(&data)).bench(|| pack(black_box(&data)).unwrap());
}

const FILES: usize = 10_000;

#[divan::bench]
fn write_a_manifest(bencher: Bencher) {
    let files = Files::new(FILES).unwrap();
    bencher.counter(ItemsCount::new(FILES)).bench(|| black_box(&files).write().unwrap());
}

#[divan::bench]
fn read_a_manifest(bencher: Bencher) {
    let bytes = Files::new(FILES).unwrap().write().unwrap();
    bencher.counter(ItemsCount::new(FILES)).bench(|| Files::read(black_box(&bytes)).unwrap());
}
