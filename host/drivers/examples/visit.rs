//! The host's side of the compatibility tests: goes through the life of volumes with a driver and prints what
//! came of each step, a JSON object a line: `visit SPEC ROOT`.
//!
//! A program made of this at each minor version of the protocol is kept in `tests/peers`, to meet newer
//! drivers.

use convoy_driver_sdk::protocol::{
    Capability, CloseSnapshot, CreateSnapshot, CreateVolume, DeleteSnapshot, DeleteVolume, FinishRestore,
    GetSnapshot, GetVolume, Info, ListSnapshots, ListVolumes, MountVolume, Open, OpenSnapshot,
    PrepareRestore, Probe, Request, ResizeVolume, SourceKind, SourceLocation, TargetLocation, UnmountVolume,
};
use convoy_driver_sdk::{DriverError, Name};
use convoy_drivers::{DriverHandle, Drivers, RequestContext, SearchPath};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().collect();
    let [_, spec, root] = words.as_slice() else { return Err("expected: visit SPEC ROOT".into()) };
    let driver = Drivers::new(SearchPath::only(&[])).load(&spec.parse()?).await?;
    let description = driver.description();
    println!(
        "{}",
        json!({"step": "describe", "ok": {"name": description.name, "protocol": description.protocol}})
    );
    let visit = Visit { driver: &driver };
    let open = Open::new(root.into());
    let opened = driver.open(open, options()).await.map(|opened| json!({"warnings": opened.warnings}));
    visit.tell("open", opened);
    let misbehaves = description.create_options.iter().any(|option| option.name == "do");
    if misbehaves {
        // Built drivers of earlier versions say that a volume is mounted in a directory that they do not
        // make.
        std::fs::create_dir_all(std::path::Path::new(root).join("alpha"))?;
    }
    visit.volumes().await?;
    if description.can(Capability::Snapshots) {
        visit.snapshots().await?;
    }
    if description.can(Capability::RestoreTree) {
        visit.restore().await?;
    }
    if misbehaves {
        visit.beside_calls().await?;
    }
    driver.stop(Duration::from_secs(10)).await;
    Ok(())
}

fn options() -> RequestContext {
    RequestContext::new("visit").within(Duration::from_secs(20))
}

struct Visit<'a> {
    driver: &'a DriverHandle,
}

impl Visit<'_> {
    fn tell(&self, step: &str, outcome: Result<Value, DriverError>) {
        let line = match outcome {
            Ok(reply) => json!({"step": step, "ok": reply}),
            Err(error) => json!({"step": step, "error": error}),
        };
        println!("{line}");
    }

    /// Makes a call and tells what came of it.
    async fn call<R: Request>(&self, request: R) -> Result<R::Reply, DriverError> {
        let reply = self.driver.call(request, options()).await;
        let outcome = match &reply {
            Ok(reply) => Ok(serde_json::to_value(reply).unwrap_or_default()),
            Err(error) => Err(error.clone()),
        };
        self.tell(R::METHOD, outcome);
        reply
    }

    async fn volumes(&self) -> Result<(), Failure> {
        let name = Name::parse("alpha")?;
        self.tell("info", self.driver.call(Info::new(), options()).await.map(|_| json!({})));
        self.tell("probe", self.driver.call(Probe::new(), options()).await.map(|_| json!({})));
        let create = CreateVolume::new(name.clone());
        self.call(create.clone()).await?;
        // What is refused is part of what is compared.
        let _ = self.call(create.clone()).await;
        let wrong = create.options([("colour".to_owned(), "red".to_owned())].into());
        let _ = self.call(wrong).await;
        self.call(MountVolume::new(name.clone())).await?;
        self.call(UnmountVolume::new(name.clone())).await?;
        let _ = self.call(ResizeVolume::new(name.clone(), 1 << 20)).await;
        self.call(ListVolumes::new().limit(Some(10))).await?;
        self.call(GetVolume::new(name.clone())).await?;
        let _ = self.call(GetVolume::new(Name::parse("missing")?)).await;
        Ok(())
    }

    async fn snapshots(&self) -> Result<(), Failure> {
        let (volume, snapshot) = (Name::parse("alpha")?, Name::parse("monday")?);
        let mounted = self.call(MountVolume::new(volume.clone())).await?;
        std::fs::write(mounted.mountpoint.join("file"), "content")?;
        let create = CreateSnapshot::new(volume.clone(), snapshot.clone());
        self.call(create.clone()).await?;
        let _ = self.call(create).await;
        self.call(GetSnapshot::new(volume.clone(), snapshot.clone())).await?;
        self.call(ListSnapshots::new(volume.clone())).await?;
        let open = OpenSnapshot::new(volume.clone(), snapshot.clone());
        // The handle differs from run to run.
        let opened = self.driver.call(open, options()).await?;
        let SourceLocation::Tree { path, .. } = &opened.location else {
            return Err("expected a tree".into());
        };
        let content = std::fs::read_to_string(path.join("file"))?;
        self.tell("read", Ok(json!({"location": opened.location, "content": content})));
        let delete = DeleteSnapshot::new(volume, snapshot);
        let _ = self.call(delete.clone()).await;
        self.call(CloseSnapshot::new(opened.handle)).await?;
        self.call(delete).await?;
        Ok(())
    }

    async fn restore(&self) -> Result<(), Failure> {
        let name = Name::parse("restored")?;
        let prepare = PrepareRestore::new(name.clone(), SourceKind::Tree);
        let prepared = self.driver.call(prepare, options()).await?;
        let TargetLocation::Tree { path, .. } = &prepared.location else {
            return Err("expected a tree".into());
        };
        write(path, "content")?;
        self.call(FinishRestore::new(prepared.handle)).await?;
        let mounted = self.call(MountVolume::new(name.clone())).await?;
        let content = std::fs::read_to_string(mounted.mountpoint.join("file"))?;
        self.tell("restored", Ok(json!({"content": content})));
        self.call(UnmountVolume::new(name.clone())).await?;
        self.call(DeleteVolume::new(name)).await?;
        Ok(())
    }

    /// Errors, progress and cancellation, with the driver of the tests.
    async fn beside_calls(&self) -> Result<(), Failure> {
        let doing = |what: &str| -> Result<CreateVolume, Failure> {
            let options = [("do".to_owned(), what.to_owned())].into();
            Ok(CreateVolume::new(Name::parse("beside")?).options(options))
        };
        for what in ["refuse", "panic", "log"] {
            let _ = self.call(doing(what)?).await;
        }
        let seen = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let watched = options().with_progress(move |progress| {
            count.fetch_add(usize::try_from(progress.done).unwrap_or_default(), Ordering::Relaxed);
        });
        self.driver.call(doing("progress")?, watched).await?;
        self.tell("progress", Ok(json!({"seen": seen.load(Ordering::Relaxed)})));
        let cancel = CancellationToken::new();
        let call = self.driver.call(doing("obey")?, options().with_cancel(cancel.clone()));
        let (reply, ()) = tokio::join!(call, async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            cancel.cancel();
        });
        self.tell("cancelled", reply.map(|_| json!({})));
        let slow = RequestContext::new("slow").within(Duration::from_millis(50));
        self.tell("too late", self.driver.call(doing("obey")?, slow).await.map(|_| json!({})));
        Ok(())
    }
}

fn write(directory: &Path, content: &str) -> std::io::Result<()> {
    std::fs::write(directory.join("file"), content)
}
