//! What is done for every byte or every file, for `benches/hot.rs`, which sees only what is public. No part of
//! the interface.

use convoy_tree::{Kind, RelPath};
use fastcdc::v2020::FastCDC;

use crate::crypt::Crypt;
use crate::engine::large::cuts;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::{Encoder, PackId};
use crate::format::pack::PackBuilder;
use crate::format::segment::{Item, ItemKind, Segment};
use crate::memory::Memory;

/// Cuts `data` into chunks as a large file is cut; gives their lengths.
pub fn cut(data: &[u8]) -> Vec<usize> {
    let (least, average, most) = cuts(data.len() as u64);
    FastCDC::new(data, least, average, most).map(|chunk| chunk.length).collect()
}

/// Names, compresses and packs chunks of 1 MiB; gives the size of the pack in bytes.
///
/// # Errors
/// When there is no memory.
pub fn pack(data: &[u8]) -> BackupResult<usize> {
    let crypt = Crypt::default();
    let invalid = |error: &dyn std::fmt::Display| BackupError::Invalid(error.to_string());
    let mut encoder = Encoder::new(crypt.clone(), Some(1)).map_err(|error| invalid(&error))?;
    let mut pack = PackBuilder::new(PackId { run: 1, seq: 1 }, Vec::new());
    for chunk in data.chunks(1 << 20) {
        let id = crypt.hash(chunk);
        let (stored, encoding) = encoder.encode(&id, chunk).map_err(|error| invalid(&error))?;
        pack.add(id, u32::try_from(chunk.len()).unwrap_or(u32::MAX), &stored, encoding)?;
    }
    Ok(pack.finish(&crypt)?.len())
}

/// A part of a manifest with many files in it.
#[derive(Debug)]
pub struct Files(Segment);

impl Files {
    /// Makes up `count` files of a directory.
    ///
    /// # Errors
    /// When a name is no path.
    pub fn new(count: usize) -> BackupResult<Self> {
        let file = |number| {
            let path = RelPath::new(format!("directory/file-{number:08}").into_bytes());
            let path = path.map_err(|error| BackupError::Invalid(error.to_string()))?;
            Ok(Item { kind: ItemKind::Own(Kind::File), mode: 0o644, ..Item::continued(path, Vec::new()) })
        };
        Ok(Self(Segment::Tree((0..count).map(file).collect::<BackupResult<_>>()?)))
    }

    /// Writes it.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn write(&self) -> BackupResult<Vec<u8>> {
        self.0.to_bytes()
    }

    /// Reads what [`Files::write`] wrote.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn read(bytes: &[u8]) -> BackupResult<Self> {
        Segment::parse("hot", bytes, &mut Memory::new(1 << 30).charge()).map(Self)
    }
}
