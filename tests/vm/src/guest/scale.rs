//! A thousand volumes with ten thousand snapshots in one pool: an operation costs what it costs among ten.
//! And snapshots of large volumes, which are a matter of metadata.

use super::check::{Failure, Step};
use super::lab::{Lab, MIB, Setup, name, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_devicemapper::state::{PoolConfig, SnapshotRecord, ThinId, VolumeRecord};
use convoy_driver_sdk::Timestamp;
use convoy_driver_sdk::filesystem::FsKind;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// All volumes at the end, each with so many snapshots.
const VOLUMES: usize = 1000;
const SNAPSHOTS: usize = 10;
/// Volumes that the driver makes at each end; the others are made by writing records and metadata.
const MEASURED: usize = 10;
/// Bytes of a block of this pool.
const POOL_BLOCK: u64 = 64 << 10;

/// What the driver read and wrote, and how often, as the kernel counts for this process and its children.
#[derive(Debug, Clone, Copy, Default)]
struct Io {
    bytes_read: u64,
    bytes_written: u64,
    reads: u64,
    writes: u64,
}

impl Io {
    fn now() -> Step<Self> {
        let text = std::fs::read_to_string("/proc/self/io")?;
        let figure = |key: &str| -> Step<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            Ok(line.ok_or_else(|| Failure::new(format!("no {key} in {text}")))?.trim().parse()?)
        };
        Ok(Self {
            bytes_read: figure("rchar:")?,
            bytes_written: figure("wchar:")?,
            reads: figure("syscr:")?,
            writes: figure("syscw:")?,
        })
    }

    fn since(before: Self) -> Step<Self> {
        let now = Self::now()?;
        Ok(Self {
            bytes_read: now.bytes_read - before.bytes_read,
            bytes_written: now.bytes_written - before.bytes_written,
            reads: now.reads - before.reads,
            writes: now.writes - before.writes,
        })
    }

    /// No more than among few: a scan of records would be thousands of reads and a megabyte. Ids and names
    /// have more digits at the end; waiting for a program takes a read now and then.
    fn is_flat(self, first: Self) -> bool {
        self.reads <= first.reads * 2
            && self.writes <= first.writes + first.writes / 10
            && self.bytes_read <= first.bytes_read + first.bytes_read / 4
            && self.bytes_written <= first.bytes_written + first.bytes_written / 4
    }
}

/// What a kind of operation cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    io: Io,
    median: Duration,
}

fn measure(count: usize, mut step: impl FnMut(usize) -> Step) -> Step<Cost> {
    let before = Io::now()?;
    let mut times = Vec::new();
    for number in 0..count {
        let started = Instant::now();
        step(number)?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(Cost { io: Io::since(before)?, median: times.get(count / 2).copied().unwrap_or_default() })
}

/// The operations that must stay flat, on volumes of this prefix.
fn operations(lab: &Lab, prefix: &str) -> Step<[(&'static str, Cost); 4]> {
    let volume = |number: usize| format!("{prefix}{}", number % MEASURED);
    let snapshot = |number: usize| format!("s{}", number / MEASURED);
    let create = measure(MEASURED, |number| {
        lab.create(&volume(number), 16 * MIB, FsKind::Ext4)?;
        Ok(())
    })?;
    let take = measure(MEASURED * SNAPSHOTS, |number| Ok(lab.snapshot(&volume(number), &snapshot(number))?))?;
    if prefix == "last" {
        ensure_eq!(lab.list()?.len(), VOLUMES);
    }
    let drop =
        measure(MEASURED * SNAPSHOTS, |number| Ok(lab.delete_snapshot(&volume(number), &snapshot(number))?))?;
    let delete = measure(MEASURED, |number| Ok(lab.delete(&volume(number))?))?;
    Ok([("create", create), ("snapshot", take), ("delete a snapshot", drop), ("delete", delete)])
}

pub(super) fn run() -> Step {
    let setup = Setup::default().with("dm.thinpoolblocksize", "128");
    let lab = setup.open()?;
    large(&lab)?;
    let first = operations(&lab, "first")?;
    let root = lab.root.clone();
    drop(lab);
    sh("dmsetup remove convoy-pool")?;
    fill(&root, VOLUMES - MEASURED)?;

    let started = Instant::now();
    let lab = setup.open()?;
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    println!("{} volumes were there after {:.1} s", VOLUMES - MEASURED, started.elapsed().as_secs_f32());
    let last = operations(&lab, "last")?;
    for ((what, first), (_, last)) in first.into_iter().zip(last) {
        println!(
            "{what}: {:?} among {MEASURED} volumes, {:?} among {VOLUMES} (ratio {:.2}); {:?} and {:?}",
            first.median,
            last.median,
            last.median.as_secs_f64() / first.median.as_secs_f64(),
            first.io,
            last.io
        );
        ensure!(last.io.is_flat(first.io), "{what}: {:?} at first, at last {:?}", first.io, last.io);
    }
    Ok(())
}

/// Records and pool metadata of so many volumes with their snapshots, as the driver would have left them.
fn fill(root: &std::path::Path, volumes: usize) -> Step {
    let mut config = PoolConfig::load(root)?.ok_or_else(|| Failure::new("no configuration"))?;
    let (mut id, created_time) = (config.last_dev_id, Timestamp::now());
    let blocks = sh("blockdev --getsize64 /dev/vda")?.parse::<u64>()? / POOL_BLOCK;
    let mut xml = format!(
        "<superblock uuid=\"\" time=\"1\" transaction=\"0\" version=\"2\" data_block_size=\"{}\" nr_data_blocks=\"{blocks}\">\n",
        POOL_BLOCK / 512
    );
    let mut thin = || -> Step<ThinId> {
        id += 1;
        writeln!(
            xml,
            "<device dev_id=\"{id}\" mapped_blocks=\"0\" transaction=\"0\" creation_time=\"0\" snap_time=\"1\"></device>"
        )?;
        Ok(id)
    };
    for number in 0..volumes {
        let name_of_volume = name(&format!("v{number:04}"));
        let dev_id = thin()?;
        let mut snapshots = BTreeMap::new();
        for snapshot in 0..SNAPSHOTS {
            let name = name(&format!("s{snapshot}"));
            let record = SnapshotRecord {
                name: name.clone(),
                created_time,
                dev_id: thin()?,
                activated: false,
                size: None,
            };
            snapshots.insert(name, record);
        }
        let mut record = VolumeRecord::new(name_of_volume.clone(), dev_id, 16 * MIB, FsKind::Ext4, false);
        record.snapshots = snapshots;
        let file = root.join(format!("devicemapper_volume_{name_of_volume}.json"));
        std::fs::write(file, serde_json::to_vec(&record)?)?;
    }
    xml.push_str("</superblock>\n");
    config.last_dev_id = id;
    config.save(root)?;
    std::fs::write("/run/metadata.xml", xml)?;
    sh("thin_restore -q -i /run/metadata.xml -o /dev/vdb")?;
    Ok(())
}

/// Sectors read and written of a disk so far, from the kernel's statistics.
fn sectors(disk: &str) -> Step<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/sys/block/{disk}/stat"))?;
    let fields: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match fields.as_slice() {
        [_, _, read, _, _, _, written, ..] => Ok((*read, *written)),
        _ => Err(Failure::new(format!("{disk}: {text}"))),
    }
}

/// A snapshot of a volume of 100 GiB reads and writes no data, and no more metadata than that of a small one.
fn large(lab: &Lab) -> Step {
    let mut written = Vec::new();
    for (volume, size) in [("small", 64 * MIB), ("large", 100 << 30)] {
        lab.create(volume, size, FsKind::Ext4)?;
        // Once before, so that both are shared when it is measured.
        lab.snapshot(volume, "once")?;
        sh("sync")?;
        let (data, metadata, started) = (sectors("vda")?, sectors("vdb")?, Instant::now());
        lab.snapshot(volume, "again")?;
        let elapsed = started.elapsed();
        let (data_now, metadata_now) = (sectors("vda")?, sectors("vdb")?);
        let bytes = (metadata_now.1 - metadata.1) * 512;
        println!(
            "snapshot of {} MiB: {elapsed:?}; {} bytes of data, {bytes} bytes of metadata written",
            size / MIB,
            (data_now.0 - data.0 + data_now.1 - data.1) * 512
        );
        ensure_eq!(data_now, data);
        written.push(bytes);
    }
    ensure!(written.iter().all(|bytes| *bytes <= 128 << 10), "{written:?} bytes of metadata were written");
    for volume in ["small", "large"] {
        lab.delete(volume)?;
    }
    Ok(())
}
