//! The bytes of block snapshots, put together from their extents as a host does.

use crate::check::{Outcome, done, ensure, fail, io};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::protocol::{
    Extent, Extents, ListExtents, OpenSnapshot, OpenedSnapshot, SourceKind, SourceLocation,
};
use rustix::fs::{OFlags, SeekFrom};
use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Extents asked for at a time: few, so that there are pages.
const PAGE: u32 = 7;
/// Where buffers and offsets begin for what is read past the kernel's cache.
const ALIGNED: usize = 4096;
/// What most of a device is: compared with, at the speed of memory, it need not be written.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];
/// Bytes read at a time.
const PART: u64 = ZEROS.len() as u64;

pub(crate) trait Bytes {
    /// Fills a part of a buffer of [`each_part`].
    fn read(&self, part: &mut [u8], at: u64) -> std::io::Result<()>;
}

/// A block device, read past the kernel's cache where that can be: what is there is what counts, and a
/// gigabyte of zeros would fill the memory.
pub(crate) struct Device {
    cached: File,
    direct: Option<File>,
}

impl Device {
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let what = format_args!("open {}", path.display());
        let cached = io(rules::CAPABILITIES, what, File::open(path))?;
        let flags = OFlags::DIRECT.bits().cast_signed();
        let direct = File::options().read(true).custom_flags(flags).open(path).ok();
        Ok(Self { cached, direct })
    }
}

impl Bytes for Device {
    fn read(&self, part: &mut [u8], at: u64) -> std::io::Result<()> {
        let aligned = at.is_multiple_of(ALIGNED as u64) && part.len().is_multiple_of(ALIGNED);
        let direct = self.direct.as_ref().filter(|_| aligned).map(|file| file.read_exact_at(part, at));
        match direct {
            Some(Ok(())) => Ok(()),
            // The device may have blocks that are larger.
            _ => self.cached.read_exact_at(part, at),
        }
    }
}

/// A file of the kit with the bytes of a device; what is zero is not stored.
pub(crate) struct Image(File);

impl Image {
    fn new(path: &Path, size: u64) -> std::io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(size)?;
        Ok(Self(file))
    }

    pub(crate) fn lengthen(&self, size: u64) -> std::io::Result<()> {
        self.0.set_len(size)
    }
}

impl Bytes for Image {
    fn read(&self, part: &mut [u8], at: u64) -> std::io::Result<()> {
        let end = at + part.len() as u64;
        // ENXIO: there is none up to the end.
        let empty = match rustix::fs::seek(&self.0, SeekFrom::Data(at)) {
            Ok(data) => data >= end,
            Err(error) => error == rustix::io::Errno::NXIO,
        };
        if empty && end <= self.0.metadata()?.len() {
            part.fill(0);
            return Ok(());
        }
        self.0.read_exact_at(part, at)
    }
}

pub(crate) struct Source {
    pub(crate) handle: String,
    pub(crate) device: PathBuf,
    pub(crate) size: u64,
    pub(crate) changed_only: bool,
    pub(crate) restore_options: std::collections::BTreeMap<String, String>,
}

pub(crate) fn open(
    kit: &Subject,
    volume: &Name,
    snapshot: &Name,
    base: Option<&Name>,
) -> Outcome<OpenedSnapshot> {
    open_as(kit, volume, snapshot, base, None)
}

/// Opens a snapshot for reading in one of the two shapes.
pub(crate) fn open_as(
    kit: &Subject,
    volume: &Name,
    snapshot: &Name,
    base: Option<&Name>,
    kind: Option<SourceKind>,
) -> Outcome<OpenedSnapshot> {
    let request = OpenSnapshot::new(volume.clone(), snapshot.clone()).base(base.cloned()).kind(kind);
    let opened =
        done(rules::SNAPSHOT_OPEN, &format!("snapshot.open {snapshot} of {volume}"), kit.call(request))?;
    kit.reading(&opened.handle);
    Ok(opened)
}

impl Source {
    pub(crate) fn open(kit: &Subject, volume: &Name, snapshot: &Name, base: Option<&Name>) -> Outcome<Self> {
        let OpenedSnapshot { handle, location, restore_options, .. } = open(kit, volume, snapshot, base)?;
        let SourceLocation::Block { device, size, changed_only, .. } = location else {
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
            let request = ListExtents::new(self.handle.clone()).from(at).limit(Some(page));
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
                        "{what}: expected them sorted, apart and within {} bytes, found {extent:?} after \
                         {end}",
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

    /// Writes the extents over a file of the kit, and zeros over what was discarded.
    pub(crate) fn apply(&self, extents: &Extents, target: &Image) -> Outcome {
        self.write(extents, target, false)
    }

    /// A target that is empty reads as zeros already.
    fn write(&self, extents: &Extents, target: &Image, empty: bool) -> Outcome {
        let source = Device::open(&self.device)?;
        let what = format!("read {}", self.device.display());
        each_part(&extents.extents, |at, part| {
            io(rules::IN_USE_EXTENTS, &what, source.read(part, at))?;
            if empty && is_zero(part) {
                return Ok(());
            }
            io(rules::IN_USE_EXTENTS, "write the kit's copy", target.0.write_all_at(part, at))
        })?;
        each_part(&extents.discarded, |at, part| {
            io(rules::CHANGED, &what, source.read(part, at))?;
            ensure(rules::CHANGED, is_zero(part), || {
                format!("discarded bytes near {at}: expected zeros, found content")
            })?;
            io(rules::CHANGED, "write the kit's copy", target.0.write_all_at(part, at))
        })
    }

    /// The snapshot as a restore would make it of a full backup: a file of the kit.
    pub(crate) fn copy(&self, kit: &Subject, name: &str) -> Outcome<Image> {
        let image = Image::new(&kit.work.join(name), self.size);
        let image = io(rules::IN_USE_EXTENTS, "make the kit's copy", image)?;
        self.write(&self.checked_extents(kit)?, &image, true)?;
        Ok(image)
    }
}

pub(crate) fn is_zero(part: &[u8]) -> bool {
    ZEROS.get(..part.len()).is_some_and(|zeros| zeros == part)
}

/// Where [`Device`] can be read to.
struct Buffer {
    bytes: Vec<u8>,
    from: usize,
}

fn aligned() -> Buffer {
    let bytes = vec![0; ZEROS.len() + ALIGNED];
    let from = bytes.as_ptr().align_offset(ALIGNED).min(ALIGNED);
    Buffer { bytes, from }
}

impl Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..][..ZEROS.len()]
    }
}

pub(crate) fn each_part(extents: &[Extent], mut action: impl FnMut(u64, &mut [u8]) -> Outcome) -> Outcome {
    let mut buffer = aligned();
    let buffer = buffer.as_mut();
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

/// Where two differ first within some extents.
pub(crate) fn first_difference(
    one: &impl Bytes,
    two: &impl Bytes,
    within: &[Extent],
) -> Outcome<Option<u64>> {
    let mut found = None;
    let mut other = aligned();
    each_part(within, |at, part| {
        let other = &mut other.as_mut()[..part.len()];
        if found.is_none() {
            io(rules::CHANGED, "read what is compared", one.read(part, at))?;
            io(rules::CHANGED, "read what is compared", two.read(other, at))?;
            // Where they differ is looked for only if they do.
            let differ = || part.iter().zip(other.iter()).position(|(a, b)| a != b);
            found = if part == other { None } else { differ().map(|byte| at + byte as u64) };
        }
        Ok(())
    })?;
    Ok(found)
}
