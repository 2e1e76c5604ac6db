//! Hostile stores by the thousand: what is in one follows from bytes, which a fuzzer or a generator of random
//! numbers gives. All of it is well-formed or nearly so, with right checksums, and says what no writer would:
//! wrong lengths, counts, orders, circles. The fuzz target `stores` and the test `hostile_stores` use the
//! same.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::cast_possible_truncation, clippy::panic)]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use convoy_backup::{
    BackupMeta, BackupOptions, BackupResult, Engine, EngineOptions, Extents, Progress, PruneOptions,
    RestoreOptions, SameFile, Source, StatsOptions, Target, VerifyOptions,
};
use convoy_objectstore::{DirectoryStore, Fault, FaultStore, ObjectStore};
use tokio_util::sync::CancellationToken;

use super::forge::{self, Cbor, Forge, Ref, cbor, item};

/// Calls to the store that everything done to one may make together.
const STEPS: u64 = 20_000;

/// Chooses by bytes; the first of everything when they are used up.
#[derive(Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    /// Once in so many times.
    fn seldom(&mut self, times: u8) -> bool {
        self.below(times) == times - 1
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.byte()) % list.len()]
    }

    /// A number that somebody may not have thought of.
    fn number(&mut self) -> u64 {
        let near = u64::from(self.byte());
        self.of(&[
            near,
            near << 12,
            4 << 20,
            (4 << 20) + 1,
            1 << 31,
            u32::MAX.into(),
            1 << 40,
            1 << 62,
            u64::MAX,
        ])
    }

    fn number32(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    fn count(&mut self) -> usize {
        self.of(&[0, 1, 1, 1, 2, 3, 3, 5, 20, 300, 5000, 60_000])
    }

    /// A chunk as it is, or with something about it that is not true.
    fn distort(&mut self, chunk: Ref) -> Ref {
        match self.below(16) {
            10 => Ref { len: self.number32(), ..chunk },
            11 => Ref { stored: self.number32(), ..chunk },
            12 => Ref { offset: self.number32(), ..chunk },
            13 => Ref { pack: self.number32(), ..chunk },
            14 => Ref { encoding: self.byte(), ..chunk },
            15 => Ref { id: [self.byte(); 32], ..chunk },
            _ => chunk,
        }
    }

    /// References to some of these chunks: mostly one after the other.
    fn refs(&mut self, chunks: &[Ref]) -> Vec<Ref> {
        let (count, step) = (self.count(), self.of(&[0, 1, 1, 2]));
        let mut at = if self.seldom(6) { self.number() } else { 0 };
        let mut list = Vec::with_capacity(count);
        for n in 0..count {
            let chunk = if n < 20 { self.of(chunks) } else { chunks[n % chunks.len()] };
            let chunk = if n < 20 { self.distort(chunk) } else { chunk };
            list.push(Ref { at, ..chunk });
            at = at.wrapping_add(u64::from(chunk.len) * step);
        }
        list
    }

    fn path(&mut self, depth: u8) -> Vec<u8> {
        let mut path = Vec::new();
        for part in 0..=self.below(depth) {
            let part = if self.seldom(20) { b'.' } else { b'a' + part + self.below(3) };
            path.extend_from_slice(if path.is_empty() { &b""[..] } else { b"/" });
            path.push(part);
        }
        path
    }

    fn item(&mut self, e: &mut Cbor, chunks: &[Ref]) {
        let kind = self.of(&[0, 0, 0, 0, 1, 1, 2, 7, 8, 8, 5, 3, 99]);
        let path = if kind == forge::CONTINUED && !self.seldom(9) { Vec::new() } else { self.path(3) };
        let size = self.of(&[1, 3]);
        let size = if size == 1 { self.number() } else { 5 << 20 };
        let attributes = if self.seldom(5) { self.count() } else { 0 };
        item(e, &path, kind, size, 3, |e| {
            e.u8(7).unwrap().bytes(&self.path(4)).unwrap().u8(10).unwrap();
            let value = vec![self.byte(); usize::from(self.byte()) * if attributes < 9 { 400 } else { 0 }];
            e.array(attributes as u64).unwrap();
            for n in 0..attributes {
                e.array(2).unwrap().bytes(format!("user.{n}").as_bytes()).unwrap().bytes(&value).unwrap();
            }
            e.u8(11).unwrap();
            let list = if kind == 0 || kind == forge::CONTINUED { self.refs(chunks) } else { Vec::new() };
            forge::refs(e, &list);
        });
    }

    fn table(&mut self, forge: &Forge) -> Vec<(u64, u32, u64)> {
        let mut table = forge.pack().to_vec();
        for _ in 0..self.count().min(50) {
            table.push((self.of(&[1, 2]), u32::from(self.below(4)), self.number()));
        }
        if self.seldom(12) {
            table.extend((0..100_000).map(|seq| (3, seq, 1)));
        }
        table
    }

    fn segment(&mut self, forge: &Forge, chunks: &[Ref], tree: bool, first: bool) -> Vec<u8> {
        let mut table = self.table(forge);
        table.truncate(60_000);
        let mut bytes = if tree {
            let few = u64::from(self.below(6));
            let many = if self.seldom(8) { self.count() } else { 0 };
            forge::tree(&table, few + many as u64, first && !self.seldom(20), |e| {
                (0..few).for_each(|_| self.item(e, chunks));
                (0..many).for_each(|n| item(e, format!("many{n:09}").as_bytes(), forge::FILE, 0, 0, |_| ()));
            })
        } else {
            forge::blocks(&table, &self.refs(chunks))
        };
        if self.seldom(20) {
            let length = bytes.len();
            bytes.truncate(length - length / 3);
        }
        bytes
    }
}

/// Writes a hostile store.
pub fn write(choices: &mut Choices<'_>, store: &Path) {
    let mut forge = Forge::new(store);
    let chunks: Vec<Ref> = (0..=choices.below(3))
        .map(|n| {
            let size = choices.of(&[1, 50, 4096, 200_000, 1 << 20, 4 << 20, (4 << 20) + 1]);
            forge.chunk(&vec![n + 1; size])
        })
        .collect();
    for number in 0..=choices.below(3) {
        let (name, tree) = (format!("b-{number}"), !choices.seldom(3));
        let count = 1 + u64::from(choices.below(4));
        let mut segments = Vec::new();
        for n in 0..count {
            let segment = choices.segment(&forge, &chunks, tree, n == 0);
            // What is larger than a chunk can be is another attack, which the chunks above are.
            let at = if choices.seldom(12) { choices.number() } else { n << 20 };
            let chunk = forge.chunk(&segment);
            segments.push(Ref { at, ..choices.distort(chunk) });
        }
        if choices.seldom(10) {
            let last = segments[0];
            segments.extend((0..30_000).map(|n| Ref { at: (1 << 30) + n, ..last }));
        }
        let table = Forge::table(&choices.table(&forge));
        let (size, block) = if tree { (0, 0) } else { (8 << 20, 1 << 20) };
        let size = if choices.seldom(8) { choices.number() } else { size };
        let block = if choices.seldom(5) { choices.number32() } else { block };
        let mut root = Forge::root(&name, u8::from(!tree), size, block, &segments);
        if choices.seldom(20) {
            root.extend_from_slice(&vec![0; 30 << 20]);
        }
        let options = if choices.seldom(6) { choices.count() } else { 0 };
        let options: Vec<_> = (0..options).map(|n| format!(r#""o{n}":"{n}""#)).collect();
        let more = format!(r#","Options":{{{}}}"#, options.join(","));
        let kind = if choices.seldom(12) { "block" } else { "tree" };
        let kind = if tree { kind } else { "block" };
        forge.backup(&name, kind, u64::from(number) + 1, &Forge::manifest(&table, &root), &more);
    }
    forge.finish_pack();
    if choices.seldom(3) {
        // A second pack, whose index says what it likes.
        let (count, far) = (choices.count(), choices.number32());
        let entries = cbor(|e| {
            e.map(1).unwrap().u8(0).unwrap().array(count as u64).unwrap();
            for n in 0..count {
                e.array(5).unwrap().bytes(blake3::hash(&n.to_le_bytes()).as_bytes()).unwrap();
                e.u32(choices.of(&[1, 100])).unwrap().u32(5).unwrap().u32(far).unwrap().u8(0).unwrap();
            }
        });
        forge.pack_with(&entries);
    }
    for seq in 0..choices.below(4) {
        // Also in circles.
        let table: Vec<_> = (0..3).map(|_| (1, u32::from(choices.below(4)), 0)).collect();
        let list: Vec<_> =
            chunks.iter().map(|chunk| Ref { pack: choices.below(3).into(), ..*chunk }).collect();
        let list: Vec<_> = list.into_iter().map(|chunk| choices.distort(chunk)).collect();
        forge.moves(seq.into(), &table, &list);
    }
    if choices.seldom(2) {
        forge.mark();
    }
    for n in 0..choices.below(4) {
        let config =
            r#"{"Name":"vol1","Driver":"vfs","Size":5,"CreatedTime":"Mon Nov 23 08:38:07 +0000 2026"}"#;
        forge.put(&format!("incarnations/{n:016x}.json"), config.as_bytes());
    }
    if choices.seldom(3) {
        old(choices, &forge);
    }
}

/// Backups of 0.5.
fn old(choices: &mut Choices<'_>, forge: &Forge) {
    let begin =
        r#""Driver":"","VolumeName":"vol1","SnapshotName":"s","SnapshotCreatedAt":"","CreatedTime":"""#;
    let blocks: Vec<_> = (0..choices.count())
        .map(|n| {
            let at = if n < 9 { choices.number() } else { n as u64 * (2 << 20) };
            let checksum =
                if choices.below(3) == 0 { "ab".repeat(32) } else { "x".repeat(choices.byte().into()) };
            format!(r#"{{"Offset":{at},"BlockChecksum":"{checksum}"}}"#)
        })
        .collect();
    let record = format!(
        r#"{{"Name":"old-1",{begin},"Blocks":[{}],"SingleFile":{{"FilePath":""}}}}"#,
        blocks.join(",")
    );
    forge.put("backups/backup_old-1.cfg", record.as_bytes());
    forge.put(&format!("blocks/ab/ab/{}.blk", "ab".repeat(32)), &[0x1f, 0x8b, 8, 0, choices.byte()]);
    let mut tar = Vec::new();
    for _ in 0..choices.below(5) {
        let mut header = [0_u8; 512];
        let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        field(0, &format!("f{}", choices.below(3)));
        field(100, "0000644");
        field(108, "0000000");
        field(116, "0000000");
        let size = choices.of(&[0, 5, 600, 40 << 20, 0o77_777_777_777_u64]);
        field(124, &format!("{size:011o}"));
        field(136, "00000000000");
        field(148, "        ");
        field(156, choices.of(&["0", "5", "L", "K", "x", "g", "S", "1", "2"]));
        field(157, "f0");
        field(257, "ustar  ");
        header[482] = choices.below(2);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar.extend_from_slice(&header);
        tar.resize(tar.len() + (size.min(41 << 20) as usize).next_multiple_of(512), choices.of(b"a0\0"));
    }
    tar.resize(tar.len() + 1024, 0);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    gzip.write_all(&tar).unwrap();
    forge.put("BackupFiles/old-2.bak", &gzip.finish().unwrap());
    let file = "convoy-objectstore/volumes/vo/l1/vol1/BackupFiles/old-2.bak";
    let record = format!(r#"{{"Name":"old-2",{begin},"SingleFile":{{"FilePath":"{file}"}}}}"#);
    forge.put("backups/backup_old-2.cfg", record.as_bytes());
}

/// Does to a store all that is done to one. Whatever comes of it, it ends.
///
/// # Panics
/// When it takes too many steps, or when the engine had a defect.
pub async fn use_it(dir: &Path, work: &Path) {
    let inner = DirectoryStore::open(dir).await.unwrap();
    let store = FaultStore::new(inner, |call| (call.number >= STEPS).then_some(Fault::Refuse));
    let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let engine = Engine::new(EngineOptions {
        memory: 64 << 20,
        workers: 2,
        requests: 2,
        lock_wait: Duration::from_secs(30),
        ..EngineOptions::default()
    });
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let source = work.join("source");
    std::fs::create_dir_all(&source).unwrap();
    for (name, size) in [("a", 5 << 20), ("b", 1), ("c", 200_000)] {
        std::fs::write(source.join(name), vec![1; size]).unwrap();
    }
    let device = work.join("device");
    let mut names = Vec::new();
    if let Ok(listed) = no_defect(engine.list(shared.clone(), None).await) {
        names.extend(listed.backups.into_iter().map(|backup| backup.backup));
    }
    for read_data in [0, 100] {
        let options = VerifyOptions { read_data, ..VerifyOptions::default() };
        let verified = engine.verify(shared.clone(), None, None, &options, &progress, &cancel).await;
        if let Ok(summary) = no_defect(verified) {
            assert!(summary.faults.iter().all(|fault| !fault.what.contains("defect")), "{summary:?}");
        }
    }
    for name in &names {
        let target = work.join("target");
        std::fs::create_dir(&target).unwrap();
        std::fs::File::create(&device).unwrap().set_len(16 << 20).unwrap();
        for target in [
            Target::Tree { path: target.clone() },
            Target::Block { device: device.clone(), size: 16 << 20, zeroed: false },
        ] {
            let options = RestoreOptions::default();
            let _ = no_defect(
                engine.restore(shared.clone(), "vol1", name, target, &options, &progress, &cancel).await,
            );
        }
        std::fs::remove_dir_all(&target).unwrap();
    }
    for (backup, block, recheck) in
        [("n-1", false, false), ("n-2", true, false), ("n-3", false, true), ("n-4", false, false)]
    {
        let source = if block {
            Source::Block { device: device.clone(), size: 16 << 20, extents: Extents::All }
        } else {
            Source::Tree { path: source.clone(), same: SameFile::BirthTime }
        };
        let meta = BackupMeta { backup: backup.into(), volume: "vol1".into(), ..BackupMeta::default() };
        let options = BackupOptions { recheck, ..BackupOptions::default() };
        if block {
            std::fs::File::create(&device).unwrap().set_len(16 << 20).unwrap();
        }
        let _ = no_defect(engine.backup(shared.clone(), meta, source, &options, &progress, &cancel).await);
    }
    let _ = no_defect(engine.stats(shared.clone(), None, &StatsOptions::default(), &progress, &cancel).await);
    for dry_run in [true, false] {
        let options = PruneOptions { dry_run, ..PruneOptions::default() };
        let _ = no_defect(engine.prune(shared.clone(), None, &options, &progress, &cancel).await);
    }
    for name in &names {
        let _ = no_defect(engine.delete(shared.clone(), "vol1", name).await);
    }
    assert!(store.calls() < STEPS, "{} calls", store.calls());
}

/// That what went wrong is told as what it is.
fn no_defect<T>(result: BackupResult<T>) -> BackupResult<T> {
    if let Err(error) = &result {
        assert!(!error.to_string().contains("defect"), "{error}");
    }
    result
}
