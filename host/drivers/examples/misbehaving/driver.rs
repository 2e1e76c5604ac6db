//! A driver that does what the option `do` of a create says: for tests of the host.

#![allow(unsafe_code, reason = "a test does by hand what the product must withstand")]

use convoy_driver_sdk::context::Progress;
use convoy_driver_sdk::protocol::{
    Capability, CreateVolume, DeleteVolume, Description, GetVolume, ListVolumes, ListedVolumes, MountVolume,
    Mounted, Open, Opened, OptionSpec, UnmountVolume, Volume,
};
use convoy_driver_sdk::{Context, Driver, DriverError, Name, Result, Timestamp};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The driver that misbehaves as it is told.
pub(crate) struct Misbehaving {
    root: PathBuf,
}

fn volume(name: Name, info: BTreeMap<String, String>) -> Volume {
    let (created, snapshots) = (Timestamp::from_unix(0), Vec::new());
    Volume::new(name, 0, created).info(info).snapshots(snapshots)
}

fn write_to_socket(bytes: &[u8]) -> Result<()> {
    use std::os::fd::BorrowedFd;
    // SAFETY: the SDK keeps the socket open as long as the process runs.
    let socket = unsafe { BorrowedFd::borrow_raw(3) };
    rustix::io::write(socket, bytes)
        .map(drop)
        .map_err(|error| DriverError::io("write to the socket", &error.into()))
}

impl Misbehaving {
    fn kept(&self, name: &Name) -> PathBuf {
        self.root.join(format!("kept-{name}"))
    }

    fn keep(&self, name: &Name) -> Result<()> {
        std::fs::File::create_new(self.kept(name)).map_err(|error| DriverError::io("keep", &error))?;
        self.note(&format!("+{name}"))
    }

    fn note(&self, effect: &str) -> Result<()> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(self.root.join("effects"));
        let written = file.and_then(|mut file| file.write_all(format!("{effect}\n").as_bytes()));
        written.map_err(|error| DriverError::io("write an effect", &error))
    }
}

impl Driver for Misbehaving {
    fn describe() -> Description {
        // What it cannot do: its methods are those of the trait, which refuse.
        let lies = std::env::var("MISBEHAVING_MODE").as_deref() == Ok("lies");
        let capabilities = [Capability::Snapshots, Capability::ReadTree, Capability::Sized];
        Description::new("misbehaving", "1.0", "does what no driver should")
            .capabilities(capabilities.into_iter().filter(|_| lies).collect())
            .create_options(vec![OptionSpec::new("do", "what to do"), OptionSpec::new("ms", "for how long")])
    }

    fn open(request: Open, _: &Context) -> Result<(Self, Opened)> {
        if request.root.join("crash").exists() {
            std::process::exit(7);
        }
        let recovered = vec![format!("process {}", std::process::id())];
        Ok((Self { root: request.root }, Opened::new().recovered(recovered)))
    }

    fn info(&self, _: &Context) -> Result<BTreeMap<String, String>> {
        let environment = std::env::vars().map(|(name, _)| name).collect::<Vec<_>>().join(" ");
        Ok(BTreeMap::from([
            ("Root".to_owned(), self.root.display().to_string()),
            ("Pid".to_owned(), std::process::id().to_string()),
            ("Environment".to_owned(), environment),
        ]))
    }

    fn close(&self, _: &Context) -> Result<()> {
        std::fs::write(self.root.join("closed"), "").map_err(|error| DriverError::io("write closed", &error))
    }

    fn create_volume(&self, request: CreateVolume, context: &Context) -> Result<Volume> {
        let CreateVolume { name, options, .. } = request;
        let ms = options.get("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
        let mut info = BTreeMap::new();
        match options.get("do").map(String::as_str) {
            Some("panic") => assert!(name.is_empty(), "on purpose"),
            Some("abort") => std::process::abort(),
            Some("sleep") => std::thread::sleep(Duration::from_millis(ms)),
            Some("obey") => loop {
                context.check()?;
                std::thread::sleep(Duration::from_millis(2));
            },
            Some("log") => {
                tracing::error!(volume = name.as_str(), "logged an error");
                tracing::warn!("logged a warning");
                tracing::info!(size = 7u64, "logged an info");
                tracing::debug!("logged a debug");
            }
            Some("progress") => (1..=3).for_each(|done| {
                context.progress(Progress::new(done, "files").total(Some(3)));
            }),
            Some("print") => {
                println!("a stray line on standard output");
                eprintln!("a stray line on standard error");
            }
            // A volume that is really there: a file, and a line in `effects` whenever one is made or deleted.
            Some("keep") => self.keep(&name)?,
            Some("leak") => std::mem::forget(std::fs::File::open("/dev/null")),
            // Into the socket of the process, between the messages.
            Some("garbage") => write_to_socket(b"this is no message\n")?,
            Some("huge") => drop(info.insert("huge".to_owned(), "x".repeat(65 << 20))),
            Some("refuse") => {
                return Err(DriverError::exhausted("no room for it").retryable(true).hint("make room"));
            }
            _ => {}
        }
        Ok(volume(name, info))
    }

    fn delete_volume(&self, request: DeleteVolume, _: &Context) -> Result<()> {
        match std::fs::remove_file(self.kept(&request.name)) {
            Ok(()) => self.note(&format!("-{}", request.name)),
            // Of those that are not kept there are as many as are asked for.
            Err(_) => Ok(()),
        }
    }

    fn mount_volume(&self, request: MountVolume, _: &Context) -> Result<Mounted> {
        Ok(Mounted::new(self.root.join(request.name.as_str())))
    }

    fn unmount_volume(&self, _: UnmountVolume, _: &Context) -> Result<()> {
        Ok(())
    }

    /// As many volumes as are asked for.
    fn list_volumes(&self, request: ListVolumes, _: &Context) -> Result<ListedVolumes> {
        let names = (0..request.limit.unwrap_or(0)).map(|number| Name::parse(format!("volume-{number:06}")));
        let info =
            BTreeMap::from([("Path".to_owned(), "/var/lib/somewhere/volumes/of/this/driver".to_owned())]);
        let volumes = names.map(|name| Ok(volume(name?, info.clone()))).collect::<Result<_>>()?;
        Ok(ListedVolumes::new(volumes))
    }

    fn get_volume(&self, request: GetVolume, _: &Context) -> Result<Volume> {
        Ok(volume(request.name, BTreeMap::new()))
    }
}
