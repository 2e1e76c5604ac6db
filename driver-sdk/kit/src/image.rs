//! The bytes of block snapshots, put together from their extents as a host does.

use crate::check::{Outcome, done, ensure, fail, io};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{
    Extent, Extents, ListExtents, OpenSnapshot, OpenedSnapshot, SourceLocation,
};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Extents asked for at a time: few, so that there are pages.
const PAGE: u32 = 7;
/// Bytes compared at a time.
const PART: u64 = 1 << 20;

/// An open block snapshot.
pub(crate) struct Source {
    pub(crate) handle: String,
    pub(crate) device: PathBuf,
    pub(crate) size: u64,
    pub(crate) changed_only: bool,
    pub(crate) restore_options: std::collections::BTreeMap<String, String>,
}

/// Opens a snapshot for reading.
pub(crate) fn open(
    kit: &Subject,
    volume: &Name,
    snapshot: &Name,
    base: Option<&Name>,
) -> Outcome<OpenedSnapshot> {
    let request = OpenSnapshot { volume: volume.clone(), snapshot: snapshot.clone(), base: base.cloned() };
    let opened =
        done(rules::SNAPSHOT_OPEN, &format!("snapshot.open {snapshot} of {volume}"), kit.call(request))?;
    kit.reading(&opened.handle);
    Ok(opened)
}

impl Source {
    /// Opens a snapshot as a block device.
    pub(crate) fn open(kit: &Subject, volume: &Name, snapshot: &Name, base: Option<&Name>) -> Outcome<Self> {
        let OpenedSnapshot { handle, location, restore_options } = open(kit, volume, snapshot, base)?;
        let SourceLocation::Block { device, size, changed_only } = location else {
            return fail(
                rules::CAPABILITIES,
                "snapshot.open: expected a block device, as `read_block` says, found a tree",
            );
        };
        Ok(Self { handle, device, size, changed_only, restore_options })
    }

    /// All its extents, page by page, checked.
    pub(crate) fn extents(&self, kit: &Subject, page: u32) -> Outcome<Extents> {
        let mut all = Extents::default();
        let mut from = Some(0);
        while let Some(at) = from {
            let request = ListExtents { handle: self.handle.clone(), from: at, limit: Some(page) };
            let found = done(rules::EXTENTS, "snapshot.extents", kit.call(request))?;
            ensure(rules::EXTENTS, found.next.is_none_or(|next| next > at), || {
                format!("snapshot.extents from {at}: expected `next` beyond it, found {:?}", found.next)
            })?;
            all.extents.extend(found.extents);
            all.discarded.extend(found.discarded);
            from = found.next;
        }
        for (what, extents) in [("extents", &all.extents), ("discarded", &all.discarded)] {
            let mut end = 0;
            for extent in extents {
                let to = extent.offset.saturating_add(extent.length);
                ensure(rules::EXTENTS, extent.offset >= end && extent.length > 0 && to <= self.size, || {
                    format!(
                        "{what}: expected them sorted, apart and within {} bytes, found {extent:?} after {end}",
                        self.size
                    )
                })?;
                end = to;
            }
        }
        Ok(all)
    }

    /// The same extents must come in small pages and in one.
    pub(crate) fn checked_extents(&self, kit: &Subject) -> Outcome<Extents> {
        let (paged, whole) = (self.extents(kit, PAGE)?, self.extents(kit, u32::MAX)?);
        ensure(rules::EXTENTS, paged.extents == whole.extents && paged.discarded == whole.discarded, || {
            format!(
                "expected the same extents in pages of {PAGE} and in one, found {} and {}",
                paged.extents.len(),
                whole.extents.len()
            )
        })?;
        Ok(whole)
    }

    fn file(&self) -> Outcome<File> {
        io(rules::CAPABILITIES, format_args!("open {}", self.device.display()), File::open(&self.device))
    }

    /// Writes the extents over a file of the kit, and zeros over what was discarded.
    pub(crate) fn apply(&self, extents: &Extents, target: &File) -> Outcome {
        let source = self.file()?;
        let what = format!("read {}", self.device.display());
        each_part(&extents.extents, |at, part| {
            io(rules::IN_USE_EXTENTS, &what, source.read_exact_at(part, at))?;
            io(rules::IN_USE_EXTENTS, "write the kit's copy", target.write_all_at(part, at))
        })?;
        each_part(&extents.discarded, |at, part| {
            io(rules::CHANGED, &what, source.read_exact_at(part, at))?;
            ensure(rules::CHANGED, part.iter().all(|byte| *byte == 0), || {
                format!("discarded bytes near {at}: expected zeros, found content")
            })?;
            io(rules::CHANGED, "write the kit's copy", target.write_all_at(part, at))
        })
    }

    /// The snapshot as a restore would make it of a full backup: a file of the kit.
    pub(crate) fn copy(&self, kit: &Subject, name: &str) -> Outcome<File> {
        let path = kit.work.join(name);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path);
        let file = io(rules::IN_USE_EXTENTS, "make the kit's copy", file)?;
        io(rules::IN_USE_EXTENTS, "make the kit's copy", file.set_len(self.size))?;
        self.apply(&self.checked_extents(kit)?, &file)?;
        Ok(file)
    }
}

fn each_part(extents: &[Extent], mut action: impl FnMut(u64, &mut [u8]) -> Outcome) -> Outcome {
    let mut buffer = vec![0; usize::try_from(PART).unwrap_or(usize::MAX)];
    for extent in extents {
        let end = extent.offset + extent.length;
        let mut at = extent.offset;
        while at < end {
            let length = (end - at).min(PART);
            let part = &mut buffer[..usize::try_from(length).unwrap_or(usize::MAX)];
            action(at, part)?;
            at += length;
        }
    }
    Ok(())
}

/// Where two files differ first within some extents.
pub(crate) fn first_difference(one: &File, two: &File, within: &[Extent]) -> Outcome<Option<u64>> {
    let mut found = None;
    let mut other = vec![0; usize::try_from(PART).unwrap_or(usize::MAX)];
    each_part(within, |at, part| {
        let other = &mut other[..part.len()];
        if found.is_none() {
            io(rules::CHANGED, "read the kit's copy", one.read_exact_at(part, at))?;
            io(rules::CHANGED, "read the kit's copy", two.read_exact_at(other, at))?;
            found = part.iter().zip(other.iter()).position(|(a, b)| a != b).map(|byte| at + byte as u64);
        }
        Ok(())
    })?;
    Ok(found)
}
