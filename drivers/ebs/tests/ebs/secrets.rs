//! The secrets are nowhere but in the signatures they make.

use crate::aws::{SECRET_KEY, SESSION_TOKEN, refusal};
use crate::world::{World, context, hurried, name};
use convoy_cloud_lab::http::{Fault, Reply};
use convoy_driver_sdk::Driver;
use convoy_driver_sdk::protocol::{CreateBackup, CreateVolume, OpenSnapshot};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

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

fn secret_in(bytes: &[u8]) -> bool {
    [SECRET_KEY, SESSION_TOKEN]
        .iter()
        .any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

fn search(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            search(&entry.path(), found);
        } else if kind.is_file() && secret_in(&std::fs::read(entry.path()).unwrap()) {
            found.push(entry.path().display().to_string());
        }
    }
}

#[test]
fn no_secret_is_in_a_log_record_message_or_argument() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let world = World::new();
    let mut texts = vec![format!("{:?}", world.config(&[])), format!("{:?}", world.driver())];
    world.create("data", &[]).unwrap();
    world.mount("data").unwrap();
    world.snapshot("data", "one").unwrap();
    let request = CreateBackup { volume: name("data"), snapshot: name("one"), options: Default::default() };
    texts.push(format!("{:?}", world.driver().create_backup(request, &context())));
    let request = OpenSnapshot { volume: name("data"), snapshot: name("one"), base: None };
    texts.push(format!("{:?}", world.driver().open_snapshot(request, &context())));
    let line = &world.aws.server.line;
    for fault in [
        Fault::LoseRequest,
        Fault::Answer(Reply::new(500, "oops")),
        Fault::Answer(refusal("AuthFailure", "no")),
    ] {
        line.fail(0, 20, fault, |_| true);
        let request = CreateVolume { name: name("fails"), size: None, options: Default::default() };
        texts.push(format!("{:?}", world.driver().create_volume(request, &hurried(2000))));
        line.heal();
    }
    texts.push(format!("{:?}", world.driver().info(&context())));
    texts.push(String::from_utf8_lossy(&std::fs::read("/proc/self/cmdline").unwrap()).into_owned());
    assert!(texts.iter().all(|text| !secret_in(text.as_bytes())), "{texts:?}");

    let bytes = log.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&bytes);
    // Programs and their arguments are logged: this looks at them too.
    assert!(text.contains("mkfs.ext4") && text.contains("aws_smithy_runtime"), "the log is complete");
    assert!(!secret_in(&bytes));
    let mut found = Vec::new();
    search(&world.root(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}
