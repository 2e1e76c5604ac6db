//! The driver killed at random moments, in a storm of operations; then everything compared with what it had
//! acknowledged.

mod model;

pub(super) use model::{Model, Op, observe};

use super::bytes;
use super::check::{Failure, Step};
use super::lab::{Lab, MIB, Setup, name, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::DriverError;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{
    AbortRestore, CloneVolume, CloseSnapshot, FinishRestore, PrepareRestore, ResizeVolume, RevertVolume,
    SourceKind, TargetLocation,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How many volumes a thread of the storm plays with.
const VOLUMES: u64 = 3;
/// Threads of the storm.
const THREADS: u64 = 2;
/// Bytes of the file in a volume.
const CONTENT: usize = 300_000;

/// Names data and metadata device of a storm's pool, if they are not those of every scenario.
pub(super) const DEVICES_VARIABLE: &str = "CONVOY_VM_DEVICES";

/// Kills a storm `rounds` times.
pub(super) fn run(rounds: u64) -> Step {
    let root = Path::new("/run/convoy/devicemapper");
    let mut acknowledged = 0;
    for round in 0..rounds {
        let log = Path::new("/run/log");
        let mut storm = Command::new(std::env::current_exe()?)
            .args(["storm", &root.display().to_string(), &round.to_string()])
            .stdout(File::create(log)?)
            .stdin(Stdio::null())
            .spawn()?;
        // Some way into the storm, at a moment in step with nothing.
        let mut random = StdRng::seed_from_u64(round);
        let some = random.random_range(0..10);
        while done(&std::fs::read_to_string(log)?) < Some(some) {
            ensure!(storm.try_wait()?.is_none(), "the storm ended: {}", std::fs::read_to_string(log)?);
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        storm.kill()?;
        storm.wait()?;
        let text = std::fs::read_to_string(log)?;
        let (_lab, count) = verify(&Setup::default().at(root), &text)
            .map_err(|failure| Failure::new(format!("round {round}: {failure}\n{text}")))?;
        acknowledged += count;
    }
    println!("{rounds} kills, {acknowledged} acknowledged operations");
    let lab = Setup::default().at(root).open()?;
    for volume in lab.list()? {
        for snapshot in volume.snapshots {
            lab.delete_snapshot(&volume.name, &snapshot.name)?;
        }
    }
    lab.leave()
}

/// How many operations of a storm were acknowledged so far; `None` before it began.
pub(super) fn done(log: &str) -> Option<usize> {
    log.contains("storm begins").then(|| log.lines().filter(|line| line.starts_with("ok ")).count())
}

/// Opens the driver after a crash and compares it with what a storm's log says. Answers the driver, and how
/// many operations had been acknowledged.
pub(super) fn verify(setup: &Setup, log: &str) -> Step<(Lab, usize)> {
    verify_among(setup, log, &[])
}

/// The same where there are devices beside the pool and the volumes.
pub(super) fn verify_among(setup: &Setup, log: &str, others: &[&str]) -> Step<(Lab, usize)> {
    let expected = model::Expected::read(log)?;
    let lab = setup.open()?;
    ensure!(lab.opened.warnings.is_empty(), "{:?}", lab.opened);
    let found = observe(&lab)?;
    expected.check(&found)?;
    // Nothing unknown is left behind: not in the pool (there were no warnings), not active, not announced.
    let mut names: Vec<String> = found.volumes().map(str::to_owned).collect();
    names.push("convoy-pool".to_owned());
    names.extend(others.iter().map(|name| (*name).to_owned()));
    names.sort();
    let devices = sh("dmsetup ls | cut -f1 | LC_ALL=C sort")?;
    ensure_eq!(devices.lines().collect::<Vec<_>>(), names);
    let config = std::fs::read_to_string(lab.root.join("devicemapper.cfg"))?;
    ensure!(!config.contains("Pending"), "{config}");
    Ok((lab, expected.acknowledged()))
}

/// The process that is killed.
pub(super) fn storm(root: &Path, seed: u64) -> Step {
    let devices = std::env::var(DEVICES_VARIABLE).unwrap_or_default();
    let setup = match devices.split_once(' ') {
        Some((data, metadata)) => Setup::on(data, metadata),
        None => Setup::default(),
    };
    rage(&setup.at(root).open()?, seed)
}

/// Random operations, for ever; each is logged before it begins and when it was acknowledged.
pub(super) fn rage(lab: &Lab, seed: u64) -> Step {
    let model = observe(lab)?;
    println!("model {}", serde_json::to_string(&model)?);
    println!("storm begins");
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let mut model = model.clone();
                    move || one_thread(lab, thread, seed, &mut model)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| Failure::new("a thread of the storm panicked"))?
        })
    })
}

fn one_thread(lab: &Lab, thread: u64, seed: u64, model: &mut Model) -> Step {
    let mut random = StdRng::seed_from_u64(seed * 1000 + thread);
    loop {
        let volume = format!("t{thread}v{}", random.random_range(0..VOLUMES));
        let Some(op) = model.choose(&volume, random.random(), random.random()) else { continue };
        println!("op {thread} {}", serde_json::to_string(&op)?);
        match carry_out(lab, &op) {
            Ok(()) => {
                model.apply(&op);
                println!("ok {thread}");
            }
            Err(error) => return Err(Failure::new(format!("{op:?}: {error}"))),
        }
    }
}

fn carry_out(lab: &Lab, op: &Op) -> Step {
    match op {
        Op::Create { volume, size } => drop(lab.create(volume, *size, FsKind::Ext4)?),
        Op::Delete { volume } => lab.delete(volume)?,
        Op::Snapshot { volume, snapshot } => lab.snapshot(volume, snapshot)?,
        Op::DeleteSnapshot { volume, snapshot } => lab.delete_snapshot(volume, snapshot)?,
        Op::Resize { volume, size } => drop(lab.call(ResizeVolume::new(name(volume), *size))?),
        Op::Write { volume, seed } => {
            let dir = lab.mount(volume)?;
            let new = format!("data-{seed}");
            bytes::write(&dir.join(&new), *seed, CONTENT)?;
            for entry in std::fs::read_dir(&dir)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("data-") && *entry.file_name() != *new {
                    std::fs::remove_file(entry.path())?;
                }
            }
            File::open(&dir)?.sync_all()?;
            lab.unmount(volume)?;
        }
        Op::Restore { volume, from, snapshot } => {
            let source = lab.open_snapshot(from, snapshot, None)?;
            let restored = restore(lab, volume, &source);
            lab.call(CloseSnapshot::new(source.handle.clone()))?;
            restored?;
        }
        Op::Clone { volume, from, snapshot } => {
            let (name, source, snapshot) = (name(volume), name(from), name(snapshot));
            lab.call(CloneVolume::new(name, source, snapshot))?;
        }
        Op::Revert { volume, snapshot } => {
            lab.call(RevertVolume::new(name(volume), name(snapshot)))?;
        }
        Op::Abort { volume } => {
            let (handle, device) = target(lab, volume, 32 * MIB)?;
            std::fs::write(device, vec![1; 1 << 20])?;
            lab.call(AbortRestore::new(handle))?;
        }
    }
    Ok(())
}

fn restore(lab: &Lab, volume: &str, source: &super::lab::Source) -> Step {
    let (handle, device) = target(lab, volume, source.size)?;
    bytes::copy_extents(source, &device)?;
    lab.call(FinishRestore::new(handle))?;
    Ok(())
}

fn target(lab: &Lab, volume: &str, size: u64) -> Step<(String, std::path::PathBuf)> {
    let request = PrepareRestore::new(name(volume), SourceKind::Block).size(Some(size));
    let prepared = lab.call(request)?;
    match prepared.location {
        TargetLocation::Block { device, .. } => Ok((prepared.handle, device)),
        TargetLocation::Tree { path, .. } => Err(DriverError::unsupported(path.display()).into()),
    }
}
