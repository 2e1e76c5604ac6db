//! From a command of `convoy driver run` to calls of the driver.

use super::{refused, show};
use crate::args::{DriverCallCommand as Command, DriverSnapshotCommand as Snapshot};
use crate::error::{Failure, Result};
use crate::output::Output;
use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::protocol::{
    AbortRestore, Check, CloneVolume, CloseSnapshot, CreateSnapshot, CreateVolume, DeleteSnapshot,
    DeleteVolume, Extents, FinishRestore, GetSnapshot, GetVolume, Info, ListExtents, ListSnapshots,
    ListVolumes, ListedVolumes, MountVolume, Open, OpenSnapshot, Opened, OpenedSnapshot, PrepareRestore,
    PreparedRestore, Probe, Request, ResizeVolume, RevertVolume, SourceKind, SourceLocation, TargetLocation,
    UnmountVolume, Volume,
};
use convoy_driver_sdk::{Name, tree};
use convoy_drivers::{DriverHandle, RequestContext};
use serde::Serialize;
use std::io::{Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How many volumes, or extents, are asked for at once.
const PAGE: u32 = 1000;

pub(super) struct Calls<'a> {
    pub(super) driver: &'a DriverHandle,
    pub(super) timeout: Duration,
    pub(super) cancel: CancellationToken,
}

#[derive(Serialize)]
struct SnapshotReply {
    #[serde(flatten)]
    opened: OpenedSnapshot,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    extents: Option<Extents>,
}

impl Calls<'_> {
    pub(super) async fn open(&self, request: Open) -> convoy_driver_sdk::Result<Opened> {
        self.driver.open(request, self.options()).await
    }

    fn options(&self) -> RequestContext {
        RequestContext::new("run")
            .within(self.timeout)
            .with_cancel(self.cancel.clone())
            .with_progress(|progress| eprintln!("{}", in_words(&progress)))
    }

    async fn call<R: Request>(&self, request: R) -> Result<R::Reply> {
        self.driver.call(request, self.options()).await.map_err(|error| refused(R::METHOD, error))
    }

    async fn show<R: Request<Reply: Serialize>>(&self, request: R, output: &mut Output) -> Result<()> {
        show::reply(output, &self.call(request).await?)
    }

    /// Carries out a command and shows the reply.
    pub(super) async fn make(&self, command: &Command, output: &mut Output) -> Result<()> {
        match command {
            Command::Describe => show::reply(output, self.driver.description()),
            Command::Info => self.show(Info::new(), output).await,
            Command::Probe => self.show(Probe::new(), output).await,
            Command::Create { name, size, options } => {
                let options = options.iter().cloned().collect();
                let size = size.filter(|size| *size > 0);
                self.show(CreateVolume::new(parse(name)?).size(size).options(options), output).await
            }
            Command::Delete { name, reference } => {
                let request = DeleteVolume::new(parse(name)?).reference_only(*reference);
                self.show(request, output).await
            }
            Command::Mount { name, mountpoint } => {
                let mountpoint = mountpoint.as_deref().map(std::path::absolute).transpose()?;
                self.show(MountVolume::new(parse(name)?).mountpoint(mountpoint), output).await
            }
            Command::Umount { name } => self.show(UnmountVolume::new(parse(name)?), output).await,
            Command::Resize { name, size } => self.show(ResizeVolume::new(parse(name)?, *size), output).await,
            Command::Clone { source, snapshot, name, size } => {
                let (name, source, snapshot) = (parse(name)?, parse(source)?, parse(snapshot)?);
                let size = size.filter(|size| *size > 0);
                let request = CloneVolume::new(name, source, snapshot).size(size);
                self.show(request, output).await
            }
            Command::Revert { name, snapshot } => {
                let request = RevertVolume::new(parse(name)?, parse(snapshot)?);
                self.show(request, output).await
            }
            Command::Restore { name, from, size, options } => {
                let kind = if from.is_dir() { SourceKind::Tree } else { SourceKind::Block };
                let size = match (*size, kind) {
                    (Some(size), _) if size > 0 => Some(size),
                    (_, SourceKind::Block) => Some(std::fs::File::open(from)?.seek(SeekFrom::End(0))?),
                    (_, SourceKind::Tree) => None,
                };
                let options = options.iter().cloned().collect();
                let request = PrepareRestore::new(parse(name)?, kind).size(size).options(options);
                show::reply(output, &self.restore(request, from).await?)
            }
            Command::Check { repair } => self.show(Check::new().repair(*repair), output).await,
            Command::List => show::volumes(output, &self.list().await?),
            Command::Inspect { name } => self.show(GetVolume::new(parse(name)?), output).await,
            Command::Snapshot(command) => self.snapshot(command, output).await,
        }
    }

    /// Fills what the driver prepares, and makes a volume of it.
    async fn restore(&self, request: PrepareRestore, from: &Path) -> Result<Volume> {
        let PreparedRestore { handle, location, .. } = self.call(request).await?;
        let from = from.to_owned();
        let filled = tokio::task::spawn_blocking(move || fill(&from, &location)).await;
        let filled = filled.map_err(|error| Failure::Other { message: error.to_string(), hint: None });
        if let Err(error) = filled.flatten() {
            self.call(AbortRestore::new(handle)).await?;
            return Err(error);
        }
        self.call(FinishRestore::new(handle)).await
    }

    async fn snapshot(&self, command: &Snapshot, output: &mut Output) -> Result<()> {
        match command {
            Snapshot::Create { volume, snapshot } => {
                let (volume, snapshot) = (parse(volume)?, parse(snapshot)?);
                self.show(CreateSnapshot::new(volume, snapshot), output).await
            }
            Snapshot::Delete { volume, snapshot } => {
                let (volume, snapshot) = (parse(volume)?, parse(snapshot)?);
                self.show(DeleteSnapshot::new(volume, snapshot), output).await
            }
            Snapshot::List { volume } => self.show(ListSnapshots::new(parse(volume)?), output).await,
            Snapshot::Inspect { volume, snapshot } => {
                let (volume, snapshot) = (parse(volume)?, parse(snapshot)?);
                self.show(GetSnapshot::new(volume, snapshot), output).await
            }
            Snapshot::Read { volume, snapshot, base, kind } => {
                let base = base.as_deref().map(parse).transpose()?;
                let kind = kind.map(Into::into);
                let request = OpenSnapshot::new(parse(volume)?, parse(snapshot)?).base(base).kind(kind);
                let opened = self.call(request).await?;
                let handle = opened.handle.clone();
                let read = self.read(opened).await;
                self.call(CloseSnapshot::new(handle)).await?;
                show::reply(output, &read?)
            }
        }
    }

    async fn list(&self) -> Result<ListedVolumes> {
        let mut all = ListedVolumes::default();
        loop {
            let after = all.volumes.last().map(|volume| volume.name.clone());
            let request = ListVolumes::new().after(after).limit(Some(PAGE));
            let page = self.call(request).await?;
            let end = !page.more || page.volumes.is_empty();
            all.volumes.extend(page.volumes);
            all.warnings.extend(page.warnings);
            if end {
                return Ok(all);
            }
        }
    }

    async fn read(&self, opened: OpenedSnapshot) -> Result<SnapshotReply> {
        if !matches!(opened.location, SourceLocation::Block { .. }) {
            return Ok(SnapshotReply { opened, extents: None });
        }
        let (mut all, mut from) = (Extents::default(), Some(0));
        while let Some(at) = from {
            let request = ListExtents::new(opened.handle.clone()).from(at).limit(Some(PAGE));
            let page = self.call(request).await?;
            all.extents.extend(page.extents);
            all.discarded.extend(page.discarded);
            from = page.next.filter(|next| *next > at);
        }
        Ok(SnapshotReply { opened, extents: Some(all) })
    }
}

/// Copies a directory or an image to where a restore goes.
fn fill(from: &Path, to: &TargetLocation) -> Result<()> {
    match to {
        TargetLocation::Tree { path, .. } => {
            let copied = tree::copy_tree(from, path, &tree::CopyOptions::default());
            copied.map(drop).map_err(|error| refused("restore", error.into()))
        }
        TargetLocation::Block { device, .. } => {
            let mut target = std::fs::File::options().write(true).open(device)?;
            std::io::copy(&mut std::fs::File::open(from)?, &mut target)?;
            Ok(target.sync_all()?)
        }
    }
}

fn parse(text: impl AsRef<str>) -> Result<Name> {
    // It says which.
    Name::parse(text.as_ref()).map_err(|error| Failure::Other { message: error.to_string(), hint: None })
}

fn in_words(progress: &Progress) -> String {
    let total = progress.total.map(|total| format!(" of {total}")).unwrap_or_default();
    let note = progress.note.as_deref().map(|note| format!(": {note}")).unwrap_or_default();
    format!("{}{total} {}{note}", progress.done, progress.unit)
}
