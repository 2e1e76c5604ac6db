//! The comparison of maps against the comparison of bytes, on the file systems it is for.

use convoy_driver_sdk::protocol::Extent;
use convoy_driver_sdk::{mapping, reflink};
use convoy_tests::{Lab, Result, Storage};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = 128;
const ROUNDS: u64 = 60;

/// A sequence that is the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One change of a file, as a file system in an image makes them: writes, discards, and what else moves
/// blocks.
fn change(file: &File, random: &mut Random) {
    let (from, length) = (random.below(BLOCKS), 1 + random.below(12));
    let (offset, length) = (from * BLOCK, (length * BLOCK).min((BLOCKS - from) * BLOCK));
    match random.below(6) {
        0 => fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length).unwrap(),
        1 => fallocate(file, FallocateFlags::empty(), offset, length).unwrap(),
        2 => fallocate(file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, offset, length).unwrap(),
        // One byte repeated: what btrfs can compress.
        3 => file.write_all_at(&vec![(random.below(255) + 1) as u8; length as usize], offset).unwrap(),
        _ => {
            let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
            file.write_all_at(&bytes, offset).unwrap();
        }
    }
}

fn within(extents: &[Extent], at: u64) -> bool {
    extents.iter().any(|extent| extent.offset <= at && at < extent.offset + extent.length)
}

fn compare_often(storage: &Storage, compressed: bool) {
    let path = storage.path().join("live");
    let live = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    live.set_len(BLOCKS * BLOCK).unwrap();
    let mut random = Random(if compressed { 7 } else { 1 });
    let mut base = reflink::clone_file(&path, &storage.path().join("0"), 0o400).unwrap();
    let (mut unchanged, mut told) = (0, 0);
    for round in 1..=ROUNDS {
        for _ in 0..1 + random.below(4) {
            change(&live, &mut random);
        }
        let next = storage.path().join(round.to_string());
        // Nothing is synced before: the comparison sees to it.
        let new = reflink::clone_file(&path, &next, 0o400).unwrap();
        let found = mapping::changes(&base, &new).unwrap().unwrap();
        let used = mapping::in_use(&new).unwrap();
        let (mut was, mut is) = ([0; BLOCK as usize], [0; BLOCK as usize]);
        for at in (0..BLOCKS).map(|block| block * BLOCK) {
            base.read_exact_at(&mut was, at).unwrap();
            new.read_exact_at(&mut is, at).unwrap();
            let zeros = is.iter().all(|byte| *byte == 0);
            let (changed, discarded) = (within(&found.extents, at), within(&found.discarded, at));
            assert!(changed || discarded || was == is, "round {round}: the change at {at} is missing");
            assert!(!discarded || zeros, "round {round}: {at} is no hole");
            assert!(zeros || within(&used.extents, at), "round {round}: {at} is in use");
            unchanged += u64::from(was == is && !zeros);
            told += u64::from(was == is && !zeros && !changed);
        }
        base = new;
    }
    // Of what did not change, most is not read: all of it, where blocks are plain.
    assert!(told > unchanged / 4, "{told} of {unchanged} unchanged blocks were found");
    if !compressed {
        assert!(told * 10 >= unchanged * 9, "{told} of {unchanged} unchanged blocks were found");
    }
}

#[test]
fn no_changed_byte_is_missed() -> Result<()> {
    Lab::run(|lab| {
        compare_often(&Storage::new(lab, "xfs", 320 << 20, "")?, false);
        compare_often(&Storage::new(lab, "btrfs", 320 << 20, "")?, false);
        compare_often(&Storage::new(lab, "btrfs", 320 << 20, "compress-force=zstd")?, true);
        Ok(())
    })
}

#[test]
fn files_of_two_file_systems_are_not_compared() -> Result<()> {
    Lab::run(|lab| {
        let (one, two) =
            (Storage::new(lab, "xfs", 320 << 20, "")?, Storage::new(lab, "btrfs", 320 << 20, "")?);
        for storage in [&one, &two] {
            std::fs::write(storage.path().join("file"), "content").unwrap();
        }
        let open = |storage: &Storage| File::open(storage.path().join("file")).unwrap();
        assert_eq!(mapping::changes(&open(&one), &open(&two)).unwrap(), None);
        // More extents than the kernel is asked for at once.
        let path = one.path().join("many");
        let many = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
        for block in 0..1000 {
            many.write_all_at(&[1; BLOCK as usize], block * 2 * BLOCK).unwrap();
        }
        let used = mapping::in_use(&many).unwrap();
        assert_eq!(used.extents.len(), 1000);
        assert!(used.extents.iter().enumerate().all(|(n, extent)| extent.offset == n as u64 * 2 * BLOCK));
        Ok(())
    })
}
