//! A hostile store cannot spend memory, nor time without end. Each test is an attack: what is in the store is
//! well-formed, with right checksums, and says too much. The engine has 48 MiB; what all of the process holds
//! at most is counted.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_truncation)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::forge::{self, CONTINUED, FILE, Forge, Ref, cbor, item, tree};
use common::{Store, device, meta};
use convoy_backup::{
    BackupError, BackupOptions, BackupResult, BackupSummary, Browse, Engine, EngineOptions, LabelChange,
    Progress, PruneOptions, RestoreOptions, RestoreSummary, Source, StatsOptions, Target, VerifyOptions,
    VerifySummary, Visit,
};
use tokio_util::sync::CancellationToken;

/// Counts what is allocated: a buffer counts with its whole size from the moment it is asked for.
struct Counter;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: everything is done by the system's allocator; this only counts.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        add(size);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static COUNTER: Counter = Counter;

/// What an operation with 48 MiB may take beside them: half as much for what the store says, about 20 MiB for
/// buffers, and the test.
const BOUND: usize = 110 << 20;

fn engine() -> Engine {
    let lock_wait = Duration::from_secs(20);
    Engine::new(EngineOptions { memory: 48 << 20, workers: 2, requests: 2, lock_wait, ..Default::default() })
}

struct Attack {
    store: Store,
    before: usize,
}

impl Attack {
    /// A store as `write` makes it. Memory is counted from its end.
    async fn new(write: impl FnOnce(&mut Forge)) -> Self {
        let store = Store::new().await;
        write(&mut Forge::new(store.dir.path()));
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        Self { store, before }
    }

    /// Fails if more memory was taken than there is.
    fn bounded(&self) {
        let most = MOST.load(Ordering::Relaxed) - self.before;
        assert!(most < BOUND, "{} MiB", most >> 20);
    }

    async fn restore_into(&self, target: Target) -> BackupResult<RestoreSummary> {
        let (store, options) = (self.store.store.clone(), RestoreOptions::default());
        let done = engine()
            .restore(store, "vol1", "b-1", target, &options, &Progress::new(), &CancellationToken::new())
            .await;
        self.bounded();
        done
    }

    async fn restore(&self) -> BackupResult<RestoreSummary> {
        let dir = tempfile::tempdir().unwrap();
        self.restore_into(Target::Tree { path: dir.path().to_owned() }).await
    }

    /// That a restore fails because of what the store says.
    async fn is_refused(&self) {
        let error = self.restore().await.unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. } | BackupError::Memory { .. }), "{error:?}");
        assert!(!error.to_string().contains("defect"), "{error}");
    }

    /// Opens the backup to look into it.
    async fn browse(&self) -> BackupResult<Arc<dyn Browse>> {
        let (store, cancel) = (self.store.store.clone(), CancellationToken::new());
        let done = engine().browse(store, "vol1", "b-1", &RestoreOptions::default(), &cancel).await;
        self.bounded();
        done
    }

    /// That an archive is refused by whoever looks into it, too.
    async fn is_not_looked_into(&self) {
        let error = self.browse().await.unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. } | BackupError::Memory { .. }), "{error:?}");
    }

    async fn verify(&self, read_data: u8) -> BackupResult<VerifySummary> {
        let options = VerifyOptions { read_data, ..VerifyOptions::default() };
        let (store, progress) = (self.store.store.clone(), Progress::new());
        let done = engine().verify(store, None, None, &options, &progress, &CancellationToken::new()).await;
        self.bounded();
        done
    }

    /// That the next backup works, whatever it finds of the others.
    async fn backup(&self, source: Source, options: &BackupOptions) -> BackupResult<BackupSummary> {
        let (store, progress) = (self.store.store.clone(), Progress::new());
        let done = engine()
            .backup(store, meta("vol1", "b-2"), source, options, &progress, &CancellationToken::new())
            .await;
        self.bounded();
        done
    }
}

fn tree_of(content: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    content.iter().for_each(|(name, data)| std::fs::write(dir.path().join(name), data).unwrap());
    dir
}

fn source(dir: &tempfile::TempDir) -> Source {
    common::tree(dir.path())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_is_stored_in_4_gib() {
    let attack = Attack::new(|forge| {
        let chunk = Ref { stored: u32::MAX - 5, offset: 5, ..forge.chunk(b"data") };
        let table = forge.pack();
        let segment = tree(&table, 1, true, |e| {
            item(e, b"f", FILE, 4, 1, |e| forge::refs(e.u8(11).unwrap(), &[chunk]))
        });
        forge.tree(&[segment]);
        // There are as many bytes: a sparse file costs nothing.
        let pack = forge.path("packs/0000000000000001/00000000.pack");
        std::fs::OpenOptions::new().write(true).open(pack).unwrap().set_len(u32::MAX.into()).unwrap();
    })
    .await;
    attack.is_refused().await;
    assert_eq!(attack.verify(100).await.unwrap().faults.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_a_quarter_of_a_million_items() {
    let attack = Attack::new(|forge| {
        let small = cbor(|e| item(e, b"f", FILE, 0, 0, |_| ()));
        let segment = cbor(|e| {
            e.map(2).unwrap().u8(0).unwrap().array(0).unwrap().u8(1).unwrap();
        });
        forge.tree(&[[segment, forge::repeated((4 << 20) / small.len() - 1, &small)].concat()]);
    })
    .await;
    attack.is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_a_million_attributes() {
    let attack = Attack::new(|forge| {
        let attribute = cbor(|e| {
            e.array(2).unwrap().bytes(b"").unwrap().bytes(b"").unwrap();
        });
        let head = tree(&[], 1, true, |e| {
            item(e, b"f", FILE, 0, 1, |e| {
                e.u8(10).unwrap();
            })
        });
        forge.tree(&[[head, forge::repeated(1_390_000, &attribute)].concat()]);
    })
    .await;
    attack.is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_that_wait_with_megabytes_of_attributes() {
    let attack = Attack::new(|forge| {
        let chunk = forge.chunk(b"x");
        let table = forge.pack();
        let value = vec![7; 3 << 20];
        let segment = |n: u32| {
            let name = format!("f{n:04}").into_bytes();
            tree(&table, 1, n == 0, |e| {
                item(e, &name, FILE, 1, 2, |e| {
                    e.u8(10).unwrap().array(1).unwrap().array(2).unwrap().bytes(b"user.a").unwrap();
                    e.bytes(&value).unwrap().u8(11).unwrap();
                    forge::refs(e, &[chunk]);
                });
            })
        };
        // One after the other: together they would be what is not to be in memory.
        let refs: Vec<Ref> = (0..200).map(|n| Ref { at: n.into(), ..forge.chunk(&segment(n)) }).collect();
        let list = Forge::table(&table);
        forge.finish_pack();
        forge.backup("b-1", "tree", 1, &Forge::manifest(&list, &Forge::root("b-1", 0, 0, 0, &refs)), "");
    })
    .await;
    // No file system takes such an attribute.
    assert!(attack.restore().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_continued_without_end() {
    let file = tree_of(&[("f", b"data")]);
    let attack = Attack::new(|forge| {
        let chunk = forge.chunk(b"d");
        let table = forge.pack();
        let head = tree(&table, 1, true, |e| item(e, b"f", FILE, 4, 0, |_| ()));
        // Three times 80,000 references, each of one byte further on.
        let more = |n: u64| {
            let refs: Vec<Ref> = (0..80_000).map(|at| Ref { at: n * 80_000 + at, ..chunk }).collect();
            tree(&table, 1, false, |e| {
                item(e, b"", CONTINUED, 0, 1, |e| forge::refs(e.u8(11).unwrap(), &refs))
            })
        };
        let mut refs = vec![forge.chunk(&head)];
        (0..3).for_each(|n| refs.push(Ref { at: n + 1, ..forge.chunk(&more(n)) }));
        let list = Forge::table(&table);
        forge.finish_pack();
        forge.backup("b-1", "tree", 1, &Forge::manifest(&list, &Forge::root("b-1", 0, 0, 0, &refs)), "");
    })
    .await;
    attack.is_refused().await;
    // The file is as large as that now, so that nothing is beyond its end.
    std::fs::OpenOptions::new().write(true).open(file.path().join("f")).unwrap().set_len(4 << 20).unwrap();
    let error = attack.backup(source(&file), &BackupOptions::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::Damaged { .. }), "{error:?}");
    let options = BackupOptions { recheck: true, ..BackupOptions::default() };
    attack.backup(source(&file), &options).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_has_a_file_in_a_million_parts() {
    let dir = tree_of(&[]);
    std::fs::File::create(dir.path().join("f")).unwrap().set_len(4 << 20).unwrap();
    let attack = Attack::new(|forge| {
        let chunk = forge.chunk(b"d");
        let table = forge.pack();
        let head = tree(&table, 1, true, |e| item(e, b"f", FILE, 4 << 20, 0, |_| ()));
        let more = |n: u64| {
            let refs: Vec<Ref> = (0..80_000).map(|at| Ref { at: n * 80_000 + at, ..chunk }).collect();
            tree(&table, 1, false, |e| {
                item(e, b"", CONTINUED, 0, 1, |e| forge::refs(e.u8(11).unwrap(), &refs))
            })
        };
        let mut refs = vec![forge.chunk(&head)];
        (0..12).for_each(|n| refs.push(Ref { at: n + 1, ..forge.chunk(&more(n)) }));
        let list = Forge::table(&table);
        forge.finish_pack();
        forge.backup("b-1", "tree", 1, &Forge::manifest(&list, &Forge::root("b-1", 0, 0, 0, &refs)), "");
    })
    .await;
    // It is read again as a whole.
    attack.backup(source(&dir), &BackupOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_three_million_packs() {
    let attack = Attack::new(|forge| {
        let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
        forge.finish_pack();
        let one = cbor(|e| {
            e.array(3).unwrap().u64(1).unwrap().u32(0).unwrap().u64(9).unwrap();
        });
        let table = [&[0xa1, 0x00][..], &forge::repeated(3_000_000, &one)].concat();
        let root = Forge::root("b-1", 0, 0, 0, &[segment]);
        forge.backup("b-1", "tree", 1, &Forge::manifest(&table, &root), "");
    })
    .await;
    // It may be that large: it is read without being in memory.
    attack.restore().await.unwrap();
    assert!(attack.verify(100).await.unwrap().faults.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_a_million_packs_that_must_all_be_remembered() {
    let attack = Attack::new(|forge| {
        let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
        forge.finish_pack();
        let many: Vec<_> = (0..1_000_000).map(|n| (1, n, 9)).collect();
        let root = Forge::root("b-1", 0, 0, 0, &[segment]);
        forge.backup("b-1", "tree", 1, &Forge::manifest(&Forge::table(&many), &root), "");
    })
    .await;
    let (store, options) = (attack.store.store.clone(), PruneOptions::default());
    let error = engine()
        .prune(store, Some("vol1"), &options, &Progress::new(), &CancellationToken::new())
        .await
        .unwrap_err();
    attack.bounded();
    assert!(matches!(error, BackupError::Memory { .. }), "{error:?}");
    assert!(error.to_string().contains("--memory"), "{error}");
    let (store, options) = (attack.store.store.clone(), StatsOptions::default());
    let counted = engine().stats(store, None, &options, &Progress::new(), &CancellationToken::new()).await;
    attack.bounded();
    assert!(matches!(counted, Err(BackupError::Memory { .. })), "{counted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_packs_and_chunks_are_counted() {
    let attack = Attack::new(|forge| {
        for pack in 0..20_u8 {
            for chunk in 0..200_u8 {
                forge.chunk(&[pack, chunk]);
            }
            forge.finish_pack();
        }
        let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
        let table = Forge::table(&forge.pack());
        forge.finish_pack();
        let root = Forge::root("b-1", 0, 0, 0, &[segment]);
        forge.backup("b-1", "tree", 1, &Forge::manifest(&table, &root), "");
    })
    .await;
    let (store, options) = (attack.store.store.clone(), StatsOptions::default());
    let counted = engine().stats(store, None, &options, &Progress::new(), &CancellationToken::new()).await;
    attack.bounded();
    let counted = counted.unwrap();
    assert_eq!((counted.fault_count, counted.volumes[0].packs), (0, 21), "{counted:?}");
    assert_eq!(counted.volumes[0].chunks.unwrap().distinct, 4001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_names_one_segment_a_million_times() {
    let dir = tree_of(&[("f", b"data")]);
    for step in [0, 1] {
        let attack = Attack::new(|forge| {
            let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
            let table = Forge::table(&forge.pack());
            forge.finish_pack();
            let refs: Vec<Ref> = (0..100_000).map(|n| Ref { at: n * step, ..segment }).collect();
            let root = Forge::root("b-1", 0, 0, 0, &refs);
            forge.backup("b-1", "tree", 1, &Forge::manifest(&table, &root), "");
        })
        .await;
        attack.is_refused().await;
        assert_eq!(attack.verify(0).await.unwrap().faults.len(), 1);
        // A backup that cannot be built on is passed over.
        assert_eq!(attack.backup(source(&dir), &BackupOptions::default()).await.unwrap().parent, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_unpacks_to_a_quarter_of_a_gibibyte() {
    let attack = Attack::new(|forge| {
        let table = Forge::table(&forge.pack());
        let root = vec![0x80; 250 << 20];
        forge.backup("b-1", "tree", 1, &Forge::manifest(&table, &root), "");
    })
    .await;
    attack.is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_wants_a_window_of_128_mib() {
    let attack = Attack::new(|forge| {
        let plain = Forge::table(&[(1, 0, 9)]);
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 19).unwrap();
        encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(27)).unwrap();
        encoder.write_all(&plain).unwrap();
        let table = encoder.finish().unwrap();
        let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
        forge.finish_pack();
        let root = forge::zstd(&Forge::root("b-1", 0, 0, 0, &[segment]));
        let bytes = [b"CVYM\x01", &(table.len() as u32).to_le_bytes()[..], &table, &root].concat();
        forge.backup("b-1", "tree", 1, &bytes, "");
    })
    .await;
    // zstd takes its memory itself, past what is counted here.
    let error = attack.restore().await.unwrap_err();
    assert!(matches!(&error, BackupError::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_within_lists_without_a_length() {
    let attack = Attack::new(|forge| {
        // An unknown key, to be passed over: two million levels of it.
        let head = cbor(|e| {
            e.map(3)
                .unwrap()
                .u8(0)
                .unwrap()
                .array(0)
                .unwrap()
                .u8(1)
                .unwrap()
                .array(0)
                .unwrap()
                .u8(9)
                .unwrap();
        });
        forge.tree(&[[head, [0x82, 0x9f].repeat(2_000_000)].concat()]);
    })
    .await;
    attack.is_refused().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_of_millions_of_chunks() {
    let attack = Attack::new(|forge| {
        forge.tree(&[tree(&[], 0, true, |_| ())]);
        for seq in 0..20 {
            let chunk = Ref { at: 0, id: [0; 32], len: 1, pack: 0, offset: 5, stored: 1, encoding: 0 };
            let id = |n: u32| *blake3::hash(&n.to_le_bytes()).as_bytes();
            let chunks: Vec<Ref> = (0..20_000).map(|n| Ref { id: id(n + seq * 20_000), ..chunk }).collect();
            forge.moves(seq, &[(1, 0, 0)], &chunks);
        }
    })
    .await;
    attack.is_refused().await;
    let faults = attack.verify(0).await.unwrap().faults;
    assert!(faults.len() == 1 && faults[0].what.contains("--memory"), "{faults:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_of_an_unfinished_run_that_lists_a_million_chunks() {
    let dir = tree_of(&[("f", b"data")]);
    let attack = Attack::new(|forge| {
        let mut entries = Vec::new();
        for n in 0..1_200_000_u32 {
            let id = *blake3::hash(&n.to_le_bytes()).as_bytes();
            entries.extend(cbor(|e| {
                e.array(5).unwrap().bytes(&id).unwrap().u32(1).unwrap().u32(5).unwrap().u32(1).unwrap();
                e.u8(0).unwrap();
            }));
        }
        let head = cbor(|e| {
            e.map(1).unwrap().u8(0).unwrap().array(1_200_000).unwrap();
        });
        forge.pack_with(&[head, entries].concat());
        forge.mark();
    })
    .await;
    attack.backup(source(&dir), &BackupOptions::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_says_what_no_reader_would_take() {
    // The next backup must not take such a chunk for its own: it could not be restored.
    let data = vec![b'x'; 1000];
    let dir = tree_of(&[("f", &data)]);
    let attack = Attack::new(|forge| {
        let index = cbor(|e| {
            e.map(1).unwrap().u8(0).unwrap().array(1).unwrap().array(5).unwrap();
            e.bytes(blake3::hash(&data).as_bytes()).unwrap().u32(u32::MAX).unwrap().u32(5).unwrap();
            e.u32(u32::MAX - 5).unwrap().u8(0).unwrap();
        });
        forge.pack_with(&index);
        forge.mark();
    })
    .await;
    attack.backup(source(&dir), &BackupOptions::default()).await.unwrap();
    let back = common::restore_tree(&attack.store.store, "vol1", "b-2").await;
    assert_eq!(std::fs::read(back.path().join("f")).unwrap(), data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_with_blocks_of_a_byte_or_of_4_gib() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![3; 1 << 20]).unwrap();
    for block in [1, 4096, u32::MAX] {
        let attack = Attack::new(|forge| {
            let segment = forge::blocks(&forge.pack(), &[]);
            forge.device(1 << 20, block, &[(0, segment)]);
        })
        .await;
        attack.backup(device(file.path()), &BackupOptions::default()).await.unwrap();
        let verified = attack.verify(100).await.unwrap();
        assert!(verified.faults.iter().all(|fault| fault.backup == "b-1"), "{verified:?}");
        let bytes = common::restore_device(&attack.store.store, "vol1", "b-2", 1 << 20).await;
        assert_eq!(bytes, vec![3; 1 << 20]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_with_too_much_in_them() {
    let many = (0..2000).map(|n| format!(r#""{n}":"""#)).collect::<Vec<_>>().join(",");
    let long = "x".repeat(100 << 10);
    let huge = "x".repeat(3 << 20);
    for more in [
        format!(r#","Options":{{{many}}}"#),
        format!(r#","Options":{{"mode":"{long}"}}"#),
        format!(r#","KeyId":"{long}""#),
        format!(r#","Unknown":"{huge}""#),
    ] {
        let attack = Attack::new(|forge| {
            let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
            let table = Forge::table(&forge.pack());
            forge.finish_pack();
            let root = Forge::root("b-1", 0, 0, 0, &[segment]);
            forge.backup("b-1", "tree", 1, &Forge::manifest(&table, &root), &more);
        })
        .await;
        attack.is_refused().await;
        let listed = engine().list(attack.store.store.clone(), Some("vol1")).await.unwrap();
        assert_eq!((listed.backups.len(), listed.unreadable.len()), (0, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_0_5_with_millions_of_blocks() {
    let attack = Attack::new(|forge| {
        let block = r#"{"Offset":0,"BlockChecksum":""},"#.repeat(2_000_000);
        let record = format!(
            r#"{{"Name":"b-1","Driver":"","VolumeName":"vol1","SnapshotName":"s","SnapshotCreatedAt":"","CreatedTime":"","SingleFile":{{"FilePath":""}},"Blocks":[{}]}}"#,
            block.trim_end_matches(',')
        );
        forge.put("backups/backup_b-1.cfg", record.as_bytes());
    })
    .await;
    let listed = engine().list(attack.store.store.clone(), Some("vol1")).await.unwrap();
    attack.bounded();
    let (_, _, error) = &listed.unreadable[0];
    assert!(matches!(error, BackupError::Memory { .. }), "{error:?}");
    assert_eq!(attack.verify(100).await.unwrap().faults.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_with_a_million_tags_or_members() {
    let tags = r#""k":"v","#.repeat(1_000_000);
    let tags = format!(r#","Labels":{{"Tags":{{{}}}}}"#, tags.trim_end_matches(','));
    let members = r#","x":0"#.repeat(1_000_000);
    for more in [tags, members] {
        let attack = Attack::new(|forge| {
            let record = format!(
                r#"{{"Name":"b-1","Driver":"","VolumeName":"vol1","SnapshotName":"s","SnapshotCreatedAt":"","CreatedTime":"","SingleFile":{{"FilePath":""}}{more}}}"#
            );
            forge.put("backups/backup_b-1.cfg", record.as_bytes());
        })
        .await;
        let store = || attack.store.store.clone();
        let change = LabelChange { note: Some("mine".to_owned()), ..LabelChange::default() };
        let labelled =
            engine().label(store(), "vol1", "b-1", &change, None, Default::default()).await.unwrap_err();
        assert!(matches!(labelled, BackupError::Damaged { .. } | BackupError::Memory { .. }), "{labelled:?}");
        let _ = engine().list(store(), Some("vol1")).await;
        engine().delete(store(), "vol1", "b-1").await.unwrap();
        attack.bounded();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_backups_than_a_list_has_memory_for() {
    let attack = Attack::new(|forge| {
        let value = "x".repeat(55 << 10);
        let segment = forge.chunk(&tree(&[], 0, true, |_| ()));
        let table = Forge::table(&forge.pack());
        forge.finish_pack();
        for n in 0..1500 {
            let name = format!("b-{n}");
            let root = Forge::root(&name, 0, 0, 0, &[segment]);
            let more = format!(r#","Options":{{"mode":"{value}"}}"#);
            forge.backup(&name, "tree", 1, &Forge::manifest(&table, &root), &more);
        }
    })
    .await;
    let error = engine().list(attack.store.store.clone(), None).await.unwrap_err();
    attack.bounded();
    assert!(matches!(error, BackupError::Memory { .. }), "{error:?}");
}

/// Writes a backup of 0.5 of a directory with this archive.
fn archive(forge: &Forge, tar: &[u8]) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
    gzip.write_all(tar).unwrap();
    forge.put("BackupFiles/b-1.bak", &gzip.finish().unwrap());
    record_of_archive(forge);
}

fn record_of_archive(forge: &Forge) {
    let file = "convoy-objectstore/volumes/vo/l1/vol1/BackupFiles/b-1.bak";
    let record = format!(
        r#"{{"Name":"b-1","Driver":"","VolumeName":"vol1","SnapshotName":"s","SnapshotCreatedAt":"","CreatedTime":"","SingleFile":{{"FilePath":"{file}"}}}}"#
    );
    forge.put("backups/backup_b-1.cfg", record.as_bytes());
}

fn header(kind: u8, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_path("f").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_with_headers_of_hundreds_of_megabytes() {
    // A long name, a long link, attributes.
    for kind in [b'L', b'K', b'x'] {
        let attack = Attack::new(|forge| {
            let mut long = header(kind, 200 << 20);
            long.set_cksum();
            let mut tar = long.as_bytes().to_vec();
            tar.resize(tar.len() + (200 << 20), b'a');
            archive(forge, &tar);
        })
        .await;
        attack.is_refused().await;
        attack.is_not_looked_into().await;
        assert_eq!(attack.verify(100).await.unwrap().faults.len(), 1, "{}", char::from(kind));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_with_a_sparse_map_without_end_or_holes_without_end() {
    let attack = Attack::new(|forge| {
        let mut sparse = header(b'S', 0);
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.isextended[0] = 1;
        sparse.set_cksum();
        let mut tar = sparse.as_bytes().to_vec();
        // Extents of no bytes, each further on.
        let mut at = 0_u64;
        for _ in 0..100_000 {
            let mut more = tar::GnuExtSparseHeader::new();
            for extent in &mut more.sparse {
                at += 1;
                extent.offset.copy_from_slice(format!("{at:011o}\0").as_bytes());
                extent.numbytes.copy_from_slice(b"00000000000\0");
            }
            more.isextended[0] = 1;
            tar.extend_from_slice(more.as_bytes());
        }
        archive(forge, &tar);
    })
    .await;
    attack.is_refused().await;
    attack.is_not_looked_into().await;
    let attack = Attack::new(|forge| {
        let mut sparse = header(b'S', 0);
        let size = 1_u64 << 62;
        let number = |field: &mut [u8; 12]| {
            // As GNU writes what has more than 33 bits.
            field.fill(0);
            field[0] = 0x80;
            field[4..].copy_from_slice(&size.to_be_bytes());
        };
        let gnu = sparse.as_gnu_mut().unwrap();
        number(&mut gnu.realsize);
        number(&mut gnu.sparse[0].offset);
        gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        sparse.set_cksum();
        archive(forge, &[sparse.as_bytes(), &[0; 1024][..]].concat());
    })
    .await;
    attack.is_refused().await;
    attack.is_not_looked_into().await;
    assert_eq!(attack.verify(100).await.unwrap().faults.len(), 1);
}

/// As many entries as there is no memory for at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_very_many_entries_is_looked_into_in_bounded_memory() {
    const MANY: usize = 200_000;
    let attack = Attack::new(|forge| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for number in 0..MANY {
            let mut file = header(b'0', 0);
            // In no order.
            file.set_path(format!("f{:08x}", (number as u32).wrapping_mul(2_654_435_761))).unwrap();
            file.set_cksum();
            gzip.write_all(file.as_bytes()).unwrap();
        }
        forge.put("BackupFiles/b-1.bak", &gzip.finish().unwrap());
        record_of_archive(forge);
    })
    .await;
    let browse = attack.browse().await.unwrap();
    let mut seen = 0;
    tokio::task::block_in_place(|| {
        let each = &mut |_| {
            seen += 1;
            Ok(ControlFlow::Continue(Visit::Continue))
        };
        browse.walk(&convoy_tree::RelPath::root(), each).unwrap();
    });
    assert_eq!(seen, MANY + 1);
    attack.bounded();
}
