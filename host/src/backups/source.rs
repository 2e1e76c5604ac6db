//! An open snapshot as a source of bytes.

use convoy_backup::{Extents, SameFile, Source, SourceExtent};
use convoy_driver_sdk::protocol::{
    self, Capability, CloseSnapshot, ListExtents, OpenSnapshot, OpenedSnapshot, SourceKind, SourceLocation,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use convoy_volumes::{CHANGE, Entry, Error, ManagedDriver, QUICK, Result, Volumes};
use futures::StreamExt;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many extents a driver is asked for at once.
const PAGE: u32 = 4096;

/// A snapshot that is open for reading, to be closed with [`OpenSource::close`].
pub(super) struct OpenSource {
    driver: Arc<ManagedDriver>,
    volume: Name,
    base: Option<Name>,
    opened: OpenedSnapshot,
}

/// In which shape a snapshot is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// What it will be, as far as that is known.
    pub(super) kind: Option<SourceKind>,
    /// Whether the driver has to be told, since unasked it hands over the other.
    pub(super) told: bool,
}

/// Finds out what a driver can hand over of what was asked for: `tree`, `block`, or nothing.
pub(super) fn shape(driver: &ManagedDriver, asked: &str) -> Result<Shape> {
    let asked = match asked {
        "" => None,
        asked => Some(asked.parse().map_err(|error: DriverError| Error::InvalidRequest(error.message))?),
    };
    let (tree, block) = (driver.can(Capability::ReadTree), driver.can(Capability::ReadBlock));
    let unsupported = |what| Error::Unsupported { driver: driver.name().clone(), what };
    let own = match (tree, block) {
        // Its failure is told by the call.
        (false, false) if driver.failure().is_some() => {
            return Ok(Shape { kind: asked, told: asked.is_some() });
        }
        (false, false) => return Err(unsupported("reading snapshots")),
        (true, true) => None,
        (true, false) => Some(SourceKind::Tree),
        (false, true) => Some(SourceKind::Block),
    };
    match (asked, own) {
        (None, own) => Ok(Shape { kind: own, told: false }),
        (Some(asked), Some(own)) if asked == own => Ok(Shape { kind: Some(own), told: false }),
        (Some(asked), _) if driver.can(Capability::ReadEither) => Ok(Shape { kind: Some(asked), told: true }),
        (Some(SourceKind::Tree), _) => Err(unsupported(
            "a backup as a tree: it hands snapshots over as block devices alone (leave --as tree out)",
        )),
        (Some(SourceKind::Block), _) => Err(unsupported(
            "a backup as a block device: it hands snapshots over as directory trees alone (leave --as block \
             out)",
        )),
    }
}

/// Has the driver hand a snapshot over, with what changed since `base` if it knows.
pub(super) async fn open(
    volumes: &Volumes,
    entry: &Entry,
    snapshot: &Name,
    shape: Shape,
    base: Option<&str>,
    call: &RequestContext,
) -> Result<OpenSource> {
    let driver = Arc::clone(&entry.driver);
    let volume = entry.volume.name.clone();
    let base = base
        .filter(|_| driver.can(Capability::ChangedExtents) && shape.kind != Some(SourceKind::Tree))
        .and_then(|base| Name::parse(base).ok());
    let guard = volumes.lock_to_snapshot(&volume, "snapshot open").await?;
    let request = OpenSnapshot::new(volume.clone(), snapshot.clone())
        .base(base.clone())
        .kind(shape.kind.filter(|_| shape.told));
    let opened = driver.change(request, &call.within(CHANGE), &guard).await?;
    drop(guard);
    let found = opened.location.kind();
    let open = OpenSource { driver, volume, base, opened };
    if let Some(kind) = shape.kind.filter(|kind| *kind != found) {
        let driver = open.driver.name().clone();
        open.close(volumes, call.request_id()).await;
        let text = format!("driver {driver} was to hand the snapshot over as {kind} and did so as {found}");
        return Err(DriverError::new(ErrorKind::Internal, text)
            .hint("it is a defect of the driver: report it to its author")
            .into());
    }
    Ok(open)
}

impl OpenSource {
    /// What a restore must be told again.
    pub(super) fn restore_options(&self) -> std::collections::BTreeMap<String, String> {
        self.opened.restore_options.clone()
    }

    /// The size of a device; `None` for a tree.
    pub(super) fn size(&self) -> Option<u64> {
        match self.opened.location {
            SourceLocation::Tree { .. } => None,
            SourceLocation::Block { size, .. } => Some(size),
        }
    }

    /// Where the bytes are.
    pub(super) fn source(&self, call: &RequestContext) -> Source {
        match &self.opened.location {
            SourceLocation::Tree { path, same_file, .. } => {
                let same = match same_file {
                    protocol::SameFile::ChangeTime => SameFile::ChangeTime,
                    protocol::SameFile::BirthTime => SameFile::BirthTime,
                };
                Source::Tree { path: path.clone(), same }
            }
            SourceLocation::Block { device, size, changed_only, .. } => {
                let extents = self.extents(call);
                let extents = match &self.base {
                    Some(base) if *changed_only => Extents::Changed { base: base.to_string(), extents },
                    _ => Extents::InUse(extents),
                };
                Source::Block { device: device.clone(), size: *size, extents }
            }
        }
    }

    fn extents(&self, call: &RequestContext) -> convoy_backup::ExtentStream {
        let pages = Pages {
            driver: Arc::clone(&self.driver),
            handle: self.opened.handle.clone(),
            call: call.clone(),
            from: Some(0),
            ready: VecDeque::new(),
        };
        futures::stream::unfold(pages, |mut pages| async move {
            let next = pages.next().await.transpose()?;
            Some((next, pages))
        })
        .boxed()
    }

    /// Tells the driver that reading is over.
    pub(super) async fn close(self, volumes: &Volumes, request_id: &str) {
        // Not the job's call: a cancelled job closes what it opened.
        let call = RequestContext::new(request_id).within(CHANGE);
        let handle = self.opened.handle;
        let closed = match volumes.lock_to_snapshot(&self.volume, "snapshot close").await {
            Ok(guard) => {
                self.driver.change(CloseSnapshot::new(handle), &call, &guard).await.map_err(Error::from)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = closed {
            tracing::warn!(volume = %self.volume, %error, "a snapshot stays open until its driver is \
                                                           started again");
        }
    }
}

/// The extents of an open snapshot, a page at a time.
struct Pages {
    driver: Arc<ManagedDriver>,
    handle: String,
    call: RequestContext,
    from: Option<u64>,
    ready: VecDeque<SourceExtent>,
}

impl Pages {
    async fn next(&mut self) -> std::result::Result<Option<SourceExtent>, String> {
        while self.ready.is_empty() {
            let Some(from) = self.from else { return Ok(None) };
            let request = ListExtents::new(self.handle.clone()).from(from).limit(Some(PAGE));
            let page = match self.driver.call(request, &self.call.within(QUICK)).await {
                Ok(page) => page,
                Err(error) => {
                    self.from = None;
                    return Err(error.to_string());
                }
            };
            if page.next.is_some_and(|next| next <= from) {
                self.from = None;
                return Err(format!("driver {} lists extents in circles", self.driver.name()));
            }
            self.from = page.next;
            let used = page.extents.iter().map(|extent| (extent, false));
            let discarded = page.discarded.iter().map(|extent| (extent, true));
            let mut all: Vec<SourceExtent> = used
                .chain(discarded)
                .map(|(extent, discarded)| SourceExtent {
                    offset: extent.offset,
                    length: extent.length,
                    discarded,
                })
                .collect();
            all.sort_by_key(|extent| extent.offset);
            self.ready = all.into();
        }
        Ok(self.ready.pop_front())
    }
}
