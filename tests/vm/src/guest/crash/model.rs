//! What there must be: volumes, their sizes, snapshots and content.

use super::super::bytes;
use super::super::check::{Failure, Step};
use super::super::lab::{Lab, MIB, sh};
use super::CONTENT;
use crate::ensure;
use convoy_driver_sdk::protocol::{CloseSnapshot, Health};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Most snapshots of a volume.
const SNAPSHOTS: usize = 2;

/// An operation of the storm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    /// An empty volume.
    Create { volume: String, size: u64 },
    /// It and its snapshots.
    Delete { volume: String },
    /// Of what is in it.
    Snapshot { volume: String, snapshot: String },
    /// Deletes a snapshot.
    DeleteSnapshot { volume: String, snapshot: String },
    /// Grows a volume.
    Resize { volume: String, size: u64 },
    /// Another file in the place of the one before, made durable.
    Write { volume: String, seed: u64 },
    /// A new volume with the content of a snapshot.
    Restore { volume: String, from: String, snapshot: String },
    /// The same, of the pool's own blocks.
    Clone { volume: String, from: String, snapshot: String },
    /// What one of its snapshots holds.
    Revert { volume: String, snapshot: String },
    /// Begin a restore, and give it up.
    Abort { volume: String },
}

impl Op {
    fn volume(&self) -> &str {
        match self {
            Self::Create { volume, .. }
            | Self::Delete { volume }
            | Self::Snapshot { volume, .. }
            | Self::DeleteSnapshot { volume, .. }
            | Self::Resize { volume, .. }
            | Self::Write { volume, .. }
            | Self::Restore { volume, .. }
            | Self::Clone { volume, .. }
            | Self::Revert { volume, .. }
            | Self::Abort { volume } => volume,
        }
    }
}

/// A volume. Seeds are those of files that are there, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    size: u64,
    seeds: BTreeSet<u64>,
    snapshots: BTreeMap<String, Taken>,
}

/// A snapshot: what the volume was when it was taken, its size too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    size: u64,
    seeds: BTreeSet<u64>,
}

/// Every volume, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Model(BTreeMap<String, State>);

impl Model {
    /// The names of all volumes.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// An operation that can be carried out on this volume now.
    pub(crate) fn choose(&self, volume: &str, dice: u32, seed: u64) -> Option<Op> {
        let volume = volume.to_owned();
        let Some(state) = self.0.get(&volume) else {
            let mut own = self.0.iter().filter(|(name, _)| name[..2] == volume[..2]);
            let source = own.find(|(_, state)| !state.snapshots.is_empty());
            return Some(match (dice % 5, source) {
                (0, _) => Op::Abort { volume },
                (kind @ (1 | 2), Some((from, state))) => {
                    let (from, snapshot) = (from.clone(), state.snapshots.keys().next()?.clone());
                    if kind == 1 {
                        Op::Restore { volume, from, snapshot }
                    } else {
                        Op::Clone { volume, from, snapshot }
                    }
                }
                _ => Op::Create { volume, size: 32 * MIB },
            });
        };
        Some(match dice % 9 {
            0 => Op::Delete { volume },
            1 if state.size < 96 * MIB => Op::Resize { size: state.size + 16 * MIB, volume },
            2..=4 if state.snapshots.len() < SNAPSHOTS => {
                Op::Snapshot { volume, snapshot: format!("s{}", seed % 1000) }
            }
            2..=4 => Op::DeleteSnapshot { volume, snapshot: state.snapshots.keys().next()?.clone() },
            8 if !state.snapshots.is_empty() => {
                Op::Revert { volume, snapshot: state.snapshots.keys().next()?.clone() }
            }
            _ => Op::Write { volume, seed: seed % 1_000_000 },
        })
        .filter(|op| !matches!(op, Op::Snapshot { snapshot, .. } if state.snapshots.contains_key(snapshot)))
    }

    /// What an acknowledged operation changed.
    pub(crate) fn apply(&mut self, op: &Op) {
        let volume = op.volume().to_owned();
        match op {
            Op::Create { size, .. } => drop(self.0.insert(volume, State { size: *size, ..State::default() })),
            Op::Delete { .. } => drop(self.0.remove(&volume)),
            Op::Restore { from, snapshot, .. } | Op::Clone { from, snapshot, .. } => {
                let taken = self.0.get(from).and_then(|state| state.snapshots.get(snapshot).cloned());
                let Taken { size, seeds } = taken.unwrap_or_default();
                let state = State { size, seeds, ..State::default() };
                self.0.insert(volume, state);
            }
            Op::Abort { .. } => {}
            Op::Snapshot { .. }
            | Op::DeleteSnapshot { .. }
            | Op::Resize { .. }
            | Op::Revert { .. }
            | Op::Write { .. } => {
                if let Some(state) = self.0.get_mut(&volume) {
                    match op {
                        Op::Snapshot { snapshot, .. } => {
                            let taken = Taken { size: state.size, seeds: state.seeds.clone() };
                            state.snapshots.insert(snapshot.clone(), taken);
                        }
                        Op::DeleteSnapshot { snapshot, .. } => drop(state.snapshots.remove(snapshot)),
                        Op::Resize { size, .. } => state.size = *size,
                        Op::Revert { snapshot, .. } => {
                            let taken = state.snapshots.get(snapshot).cloned().unwrap_or_default();
                            (state.size, state.seeds) = (taken.size, taken.seeds);
                        }
                        Op::Write { seed, .. } => state.seeds = [*seed].into(),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// What a log says there must be: after all that was acknowledged, and what was going on then.
#[derive(Debug)]
pub(super) struct Expected {
    model: Model,
    going_on: BTreeMap<u64, Op>,
    acknowledged: usize,
}

impl Expected {
    /// Reads a log; its last line may be cut off.
    pub(super) fn read(log: &str) -> Step<Self> {
        let mut expected = Self { model: Model::default(), going_on: BTreeMap::new(), acknowledged: 0 };
        let whole = log.rfind('\n').map_or("", |end| &log[..end]);
        for line in whole.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("model"), Some(json), None) => expected.model = serde_json::from_str(json)?,
                (Some("op"), Some(thread), Some(json)) => {
                    expected.going_on.insert(thread.parse()?, serde_json::from_str(json)?);
                }
                (Some("ok"), Some(thread), None) => {
                    if let Some(op) = expected.going_on.remove(&thread.parse()?) {
                        expected.model.apply(&op);
                        expected.acknowledged += 1;
                    }
                }
                _ if line.contains("FAILED") => {
                    return Err(Failure::new(format!("the storm itself: {line}")));
                }
                _ => {}
            }
        }
        Ok(expected)
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged
    }

    /// Every volume is as it was acknowledged; one that was being changed is as before or as after.
    pub(super) fn check(&self, found: &Model) -> Step {
        let names: BTreeSet<&String> = self.model.0.keys().chain(found.0.keys()).collect();
        for name in names {
            let (before, is) = (self.model.0.get(name), found.0.get(name));
            let op = self.going_on.values().find(|op| op.volume() == name);
            let mut changed = self.model.clone();
            if let Some(op) = op {
                changed.apply(op);
            }
            let after = changed.0.get(name);
            let writing = matches!(op, Some(Op::Write { .. }));
            let same = |wanted: Option<&State>| match (wanted, is) {
                // While a file takes the place of another, either may be there, or both.
                (Some(wanted), Some(is)) if writing => {
                    (wanted.size, &wanted.snapshots) == (is.size, &is.snapshots)
                        && (wanted.seeds.is_empty() || !wanted.seeds.is_disjoint(&is.seeds))
                }
                (wanted, is) => wanted == is,
            };
            ensure!(
                same(before) || same(after),
                "{name} is {is:?}; it was {before:?}, and {op:?} was going on, which makes {after:?}"
            );
        }
        Ok(())
    }
}

/// What there is, by looking at all of it.
pub(crate) fn observe(lab: &Lab) -> Step<Model> {
    let mut model = Model::default();
    for volume in lab.list()? {
        ensure!(volume.health == Health::Good, "{volume:?}");
        let mountpoint = lab.mount(&volume.name)?;
        let mut state = State { size: volume.size, seeds: seeds(&mountpoint)?, ..State::default() };
        lab.unmount(&volume.name)?;
        for snapshot in &volume.snapshots {
            let source = lab.open_snapshot(&volume.name, &snapshot.name, None)?;
            let inside = Path::new("/run/inside");
            std::fs::create_dir_all(inside)?;
            sh(&format!("mount -t ext4 -o ro,noload {} {}", source.device.display(), inside.display()))?;
            let found = seeds(inside);
            sh(&format!("umount {}", inside.display()))?;
            lab.call(CloseSnapshot::new(source.handle))?;
            ensure!(
                snapshot.info.get("Size") == Some(&source.size.to_string()),
                "{snapshot:?} has {}",
                source.size
            );
            state.snapshots.insert(snapshot.name.to_string(), Taken { size: source.size, seeds: found? });
        }
        model.0.insert(volume.name.to_string(), state);
    }
    Ok(model)
}

/// The seeds of the files that are whole.
fn seeds(dir: &Path) -> Step<BTreeSet<u64>> {
    let mut seeds = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some(seed) = file.strip_prefix("data-") {
            let seed = seed.parse()?;
            if bytes::verify(&entry.path(), seed, CONTENT).is_ok() {
                seeds.insert(seed);
            }
        }
    }
    Ok(seeds)
}
