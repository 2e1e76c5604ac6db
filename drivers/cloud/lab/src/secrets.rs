//! Looks for secrets where none may be.

#![allow(clippy::unwrap_used)]

use crate::http::{Fault, Reply};
use crate::world::{Cloud, World, context, hurried, name};
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{CreateBackup, CreateVolume, OpenSnapshot};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tracing_subscriber::filter::LevelFilter;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Uses a driver in every way, with what goes wrong, and looks for secrets in its log, its messages, its
/// files and this process's arguments. These words must be in the log, which shows that it is complete.
///
/// The one log of the process is taken: this is for a test that is alone in its process.
pub fn nowhere<C: Cloud>(secrets: &[&str], refusal: Reply, logged: &[&str])
where
    C::Provider: std::fmt::Debug,
{
    let secret_in = |bytes: &[u8]| {
        secrets.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
    };
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let world = World::<C>::new();
    let mut texts = vec![format!("{:?}", world.config(&[])), format!("{:?}", world.driver)];
    world.create("data", &[]).unwrap();
    world.mount("data").unwrap();
    world.snapshot("data", "one").unwrap();
    let (volume, snapshot) = (name("data"), name("one"));
    let request = CreateBackup::new(volume.clone(), snapshot.clone());
    texts.push(format!("{:?}", world.driver().create_backup(request, &context())));
    let request = OpenSnapshot::new(volume, snapshot);
    texts.push(format!("{:?}", world.driver().open_snapshot(request, &context())));
    for fault in [Fault::LoseRequest, Fault::Answer(Reply::new(500, "oops")), Fault::Answer(refusal)] {
        world.cloud.line().fail(0, 20, fault, |_| true);
        let request = CreateVolume::new(name("fails"));
        texts.push(format!("{:?}", world.driver().create_volume(request, &hurried(2000))));
        world.cloud.line().heal();
    }
    texts.push(format!("{:?}", world.driver().info(&context())));
    texts.push(String::from_utf8_lossy(&std::fs::read("/proc/self/cmdline").unwrap()).into_owned());
    assert!(texts.iter().all(|text| !secret_in(text.as_bytes())), "{texts:?}");

    let bytes = log.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes);
    // Programs and their arguments are logged: this looks at them too.
    assert!(
        text.contains("mkfs.ext4") && logged.iter().all(|words| text.contains(words)),
        "an incomplete log"
    );
    assert!(!secret_in(&bytes));
    let mut found = Vec::new();
    search(&world.root(), &secret_in, &mut found);
    assert_eq!(found, Vec::<String>::new());
}

fn search(dir: &Path, secret_in: &dyn Fn(&[u8]) -> bool, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), secret_in, found);
        } else if kind.is_file() && secret_in(&std::fs::read(entry.path()).unwrap()) {
            found.push(entry.path().display().to_string());
        }
    }
}
