//! What is backed up: the same bytes in every run.

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::bench::settle;
use convoy_tests::Result;
use convoy_tests::error::Context;

#[derive(Debug, Clone, Copy)]
pub(in crate::bench) enum Data {
    /// A file of random bytes and one of text, 512 MiB each.
    Large,
    /// 20,000 files of 2 to 35 KiB in 200 directories, every other of text.
    Small,
}

const LARGE: u64 = 512 << 20;
const SMALL: u64 = 20_000;
/// Stretches changed in each large file, and their bytes: together 1 %.
const STRETCHES: u64 = 5;
const STRETCH: usize = 1_073_742;

impl Data {
    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Large => "large",
            Self::Small => "small",
        }
    }

    pub(in crate::bench) fn what(self) -> &'static str {
        match self {
            Self::Large => "1 GiB in 2 files",
            Self::Small => "20,000 files",
        }
    }

    pub(in crate::bench) fn fill(self, place: &Path) -> Result<()> {
        let mut source = Source::new(1);
        match self {
            Self::Large => {
                for text in [false, true] {
                    let path = large(place, text);
                    let file = fs::File::create(&path).during(|| writing(&path))?;
                    let mut file = BufWriter::with_capacity(1 << 20, file);
                    for _ in 0..LARGE >> 20 {
                        file.write_all(&source.bytes(1 << 20, text)).during(|| writing(&path))?;
                    }
                    file.flush().during(|| writing(&path))?;
                }
            }
            Self::Small => {
                for number in 0..SMALL {
                    let path = small(place, number);
                    if number % 100 == 0
                        && let Some(directory) = path.parent()
                    {
                        fs::create_dir_all(directory).during(|| writing(directory))?;
                    }
                    let length = 2048 + source.below(33 << 10);
                    fs::write(&path, source.bytes(length, number % 2 == 1)).during(|| writing(&path))?;
                }
            }
        }
        settle();
        Ok(())
    }

    /// Changes 1 % of it, in stretches of 1 MiB or whole files. Gives the bytes changed.
    pub(super) fn change(self, place: &Path) -> Result<u64> {
        let mut source = Source::new(2);
        let mut changed = 0;
        match self {
            Self::Large => {
                for text in [false, true] {
                    let path = large(place, text);
                    let file = fs::File::options().write(true).open(&path).during(|| writing(&path))?;
                    for number in 0..STRETCHES {
                        let at = LARGE / STRETCHES * number + 7_654_321;
                        file.write_all_at(&source.bytes(STRETCH, text), at).during(|| writing(&path))?;
                        changed += STRETCH as u64;
                    }
                }
            }
            Self::Small => {
                for number in (0..SMALL).step_by(100) {
                    let path = small(place, number + number / 100 % 2);
                    let length = 2048 + source.below(33 << 10);
                    fs::write(&path, source.bytes(length, number / 100 % 2 == 1))
                        .during(|| writing(&path))?;
                    changed += length as u64;
                }
            }
        }
        Ok(changed)
    }
}

/// A million files of 200 bytes, a thousand to a directory.
pub(in crate::bench) fn million(place: &Path) -> Result<()> {
    let mut source = Source::new(3);
    for directory in 0..1000 {
        let directory = place.join(format!("directory{directory:03}"));
        fs::create_dir_all(&directory).during(|| writing(&directory))?;
        for number in 0..1000 {
            let path = directory.join(format!("file{number:03}"));
            fs::write(&path, source.bytes(200, true)).during(|| writing(&path))?;
        }
    }
    settle();
    Ok(())
}

fn large(place: &Path, text: bool) -> PathBuf {
    place.join(if text { "text" } else { "random" })
}

fn small(place: &Path, number: u64) -> PathBuf {
    place.join(format!("directory{}/file{number}", number / 100))
}

fn writing(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// Bytes that follow from a seed (xorshift).
pub(in crate::bench) struct Source {
    state: u64,
    words: Vec<String>,
}

impl Source {
    pub(in crate::bench) fn new(seed: u64) -> Self {
        let mut source = Self { state: 0x9e37_79b9_7f4a_7c15 ^ seed, words: Vec::new() };
        source.words = (0..4096).map(|_| source.word()).collect();
        source
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn word(&mut self) -> String {
        let length = 2 + self.below(8);
        (0..length).map(|_| char::from(b"etaoinshrdlucmfwyp"[self.below(18)])).chain([' ']).collect()
    }

    /// Random bytes, or words of which a few are frequent, as in any language.
    pub(in crate::bench) fn bytes(&mut self, count: usize, text: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 16);
        while bytes.len() < count {
            if text {
                let rarity = 1 + self.below(12);
                let word = self.below(1 << rarity);
                bytes.extend_from_slice(self.words[word].as_bytes());
            } else {
                bytes.extend_from_slice(&self.next().to_le_bytes());
            }
        }
        bytes.truncate(count);
        bytes
    }
}
