//! Stores as somebody would write them who means harm: an independent writer of docs/backup-format.md, which
//! says what it is told to say. Checksums, hashes and compression are right, so that readers go deep. Of
//! convoy it uses nothing; the fuzz targets use it, too.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::fs;
use std::path::{Path, PathBuf};

use minicbor::Encoder;

/// How a chunk is referred to. What is not true of it is.
#[derive(Debug, Clone, Copy)]
pub struct Ref {
    pub at: u64,
    pub id: [u8; 32],
    pub len: u32,
    /// Index into the table of packs.
    pub pack: u32,
    pub offset: u32,
    pub stored: u32,
    pub encoding: u8,
}

/// CBOR, written by hand.
pub type Cbor = Encoder<Vec<u8>>;

pub fn cbor(write: impl FnOnce(&mut Cbor)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

pub fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 3).unwrap()
}

/// `(run, seq, used)`.
pub fn packs(e: &mut Cbor, packs: &[(u64, u32, u64)]) {
    e.array(packs.len() as u64).unwrap();
    for (run, seq, used) in packs {
        e.array(3).unwrap().u64(*run).unwrap().u32(*seq).unwrap().u64(*used).unwrap();
    }
}

pub fn refs(e: &mut Cbor, refs: &[Ref]) {
    e.array(refs.len() as u64).unwrap();
    for r in refs {
        e.array(7).unwrap().u64(r.at).unwrap().bytes(&r.id).unwrap().u32(r.len).unwrap();
        e.u32(r.pack).unwrap().u32(r.offset).unwrap().u32(r.stored).unwrap().u8(r.encoding).unwrap();
    }
}

/// An item of a tree, with as many keys as it must have, and what `more` adds: so many keys.
pub fn item(e: &mut Cbor, path: &[u8], kind: u8, size: u64, keys: u64, more: impl FnOnce(&mut Cbor)) {
    e.map(7 + keys).unwrap().u8(0).unwrap().bytes(path).unwrap().u8(1).unwrap().u8(kind).unwrap();
    e.u8(2).unwrap().u16(0o755).unwrap().u8(3).unwrap().u32(0).unwrap().u8(4).unwrap().u32(0).unwrap();
    e.u8(5).unwrap().u64(size).unwrap().u8(6).unwrap().array(2).unwrap().i64(0).unwrap().u32(0).unwrap();
    more(e);
}

pub const FILE: u8 = 0;
pub const DIR: u8 = 1;
pub const CONTINUED: u8 = 8;

/// The root directory, and then these items.
pub fn tree(table: &[(u64, u32, u64)], count: u64, root: bool, items: impl FnOnce(&mut Cbor)) -> Vec<u8> {
    cbor(|e| {
        e.map(2).unwrap().u8(0).unwrap();
        packs(e, table);
        e.u8(1).unwrap().array(count + u64::from(root)).unwrap();
        if root {
            item(e, b"", DIR, 0, 0, |_| ());
        }
        items(e);
    })
}

/// A segment of a device.
pub fn blocks(table: &[(u64, u32, u64)], blocks: &[Ref]) -> Vec<u8> {
    cbor(|e| {
        e.map(2).unwrap().u8(0).unwrap();
        packs(e, table);
        e.u8(2).unwrap();
        refs(e, blocks);
    })
}

/// A volume `vol1` in a directory store.
#[derive(Debug)]
pub struct Forge {
    dir: PathBuf,
    /// The pack that is being filled, of run 1.
    seq: u32,
    bytes: Vec<u8>,
    index: Vec<Ref>,
}

impl Forge {
    pub fn new(store: &Path) -> Self {
        let dir = store.join("convoy-objectstore/volumes/vo/l1/vol1");
        let forge = Self { dir, seq: 0, bytes: b"CVYP\x01".to_vec(), index: Vec::new() };
        forge.put(
            "volume.cfg",
            br#"{"Name":"vol1","Driver":"vfs","Size":0,"CreatedTime":"Mon Nov 23 08:38:07 +0000 2026"}"#,
        );
        forge
    }

    /// Writes an object of the volume.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.dir.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Where an object of the volume is.
    pub fn path(&self, key: &str) -> PathBuf {
        self.dir.join(key)
    }

    /// Adds a chunk to the pack; `pack` of what it gives is 0.
    pub fn chunk(&mut self, plain: &[u8]) -> Ref {
        let packed = zstd(plain);
        let (stored, encoding) = if packed.len() < plain.len() { (&packed[..], 1) } else { (plain, 0) };
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(stored);
        let id = *blake3::hash(plain).as_bytes();
        let (len, stored) = (plain.len() as u32, stored.len() as u32);
        let chunk = Ref { at: 0, id, len, pack: 0, offset, stored, encoding };
        self.index.push(chunk);
        chunk
    }

    /// The pack that is being filled, as it is in tables.
    pub fn pack(&self) -> [(u64, u32, u64); 1] {
        [(1, self.seq, 1000)]
    }

    /// Writes the pack with this index, and begins another.
    pub fn pack_with(&mut self, index: &[u8]) {
        let stored = zstd(index);
        let mut bytes = std::mem::replace(&mut self.bytes, b"CVYP\x01".to_vec());
        bytes.extend_from_slice(&stored);
        bytes.extend_from_slice(&(stored.len() as u32).to_le_bytes());
        bytes.extend_from_slice(blake3::hash(&stored).as_bytes());
        bytes.extend_from_slice(b"CVYE");
        self.put(&format!("packs/{:016x}/{:08x}.pack", 1, self.seq), &bytes);
        self.index.clear();
        self.seq += 1;
    }

    /// Writes the pack as it should be.
    pub fn finish_pack(&mut self) {
        let index = cbor(|e| {
            e.map(1).unwrap().u8(0).unwrap().array(self.index.len() as u64).unwrap();
            for r in &self.index {
                e.array(5).unwrap().bytes(&r.id).unwrap().u32(r.len).unwrap().u32(r.offset).unwrap();
                e.u32(r.stored).unwrap().u8(r.encoding).unwrap();
            }
        });
        self.pack_with(&index);
    }

    /// The object of a manifest: its table of packs and the rest, both as CBOR.
    pub fn manifest(table: &[u8], rest: &[u8]) -> Vec<u8> {
        let table = zstd(table);
        [b"CVYM\x01", &(table.len() as u32).to_le_bytes()[..], &table, &zstd(rest)].concat()
    }

    /// A table of packs.
    pub fn table(list: &[(u64, u32, u64)]) -> Vec<u8> {
        cbor(|e| {
            e.map(1).unwrap().u8(0).unwrap();
            packs(e, list);
        })
    }

    /// The rest of a root.
    pub fn root(backup: &str, kind: u8, size: u64, block: u32, segments: &[Ref]) -> Vec<u8> {
        cbor(|e| {
            e.map(7).unwrap().u8(0).unwrap().u8(kind).unwrap().u8(1).unwrap().str("vol1").unwrap();
            e.u8(2).unwrap().str(backup).unwrap().u8(3).unwrap().u64(size).unwrap();
            e.u8(4).unwrap().u32(block).unwrap().u8(5).unwrap().bool(true).unwrap().u8(6).unwrap();
            refs(e, segments);
        })
    }

    /// Writes a backup with this manifest; `more` is put into its record.
    pub fn backup(&self, backup: &str, kind: &str, run: u64, manifest: &[u8], more: &str) {
        self.put(&format!("manifests/{run:016x}.mft"), manifest);
        let hash = blake3::hash(manifest).to_hex();
        let record = format!(
            r#"{{"Name":"{backup}","Driver":"","VolumeName":"vol1","SnapshotName":"s","SnapshotCreatedAt":"Mon Nov 23 08:38:08 +0000 2026","CreatedTime":"Mon Nov 23 08:38:09 +0000 2026","FormatVersion":1,"DriverName":"vfs","Kind":"{kind}","Manifest":{{"Run":"{run:016x}","Size":{},"Blake3":"{hash}"}}{more}}}"#,
            manifest.len()
        );
        self.put(&format!("backups/backup_{backup}.cfg"), record.as_bytes());
    }

    /// Writes the pack, and a backup `b-1` of a tree of these segments, each given as its plain bytes.
    pub fn tree(&mut self, segments: &[Vec<u8>]) {
        let refs: Vec<Ref> =
            segments.iter().zip(0..).map(|(segment, at)| Ref { at, ..self.chunk(segment) }).collect();
        let table = Self::table(&self.pack());
        self.finish_pack();
        self.backup("b-1", "tree", 1, &Self::manifest(&table, &Self::root("b-1", 0, 0, 0, &refs)), "");
    }

    /// The same of a device of so many bytes, with blocks of so many.
    pub fn device(&mut self, size: u64, block: u32, segments: &[(u64, Vec<u8>)]) {
        let refs: Vec<Ref> =
            segments.iter().map(|(at, segment)| Ref { at: *at, ..self.chunk(segment) }).collect();
        let table = Self::table(&self.pack());
        self.finish_pack();
        let root = Self::root("b-1", 1, size, block, &refs);
        self.backup("b-1", "block", 1, &Self::manifest(&table, &root), "");
    }

    /// Says that chunks of a pack of run 1 are elsewhere.
    pub fn moves(&self, seq: u32, table: &[(u64, u32, u64)], chunks: &[Ref]) {
        let plain = cbor(|e| {
            e.map(2).unwrap().u8(0).unwrap();
            packs(e, table);
            e.u8(1).unwrap();
            refs(e, chunks);
        });
        let bytes = [b"CVYV\x01\x00", &zstd(&plain)[..]].concat();
        self.put(&format!("moves/{:016x}-{seq:08x}.idx", 1), &bytes);
    }

    /// Marks run 1 as one that has not finished: the next backup learns what is in its packs.
    pub fn mark(&self) {
        self.put("runs/0000000000000001.json", b"{}");
    }
}

/// A list written with a count, and elements that are all the same: it packs to nothing.
pub fn repeated(count: usize, element: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.array(count as u64).unwrap();
    let mut bytes = e.into_writer();
    bytes.extend_from_slice(&element.repeat(count));
    bytes
}
