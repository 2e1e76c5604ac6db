//! A container that is root in its volume and exchanges what is in it for links while the daemon works on it.

use crate::harness::Daemon;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// What is in files of the host, and in no volume.
const HOSTS: &[u8] = b"only root on the host may read this";
/// Rounds of a snapshot, a backup, a clone, a restore and four deletions.
const ROUNDS: usize = 10;
const PAIRS: usize = 6;

/// Programs in a container that exchange directories and files for links to the host's, until this is
/// dropped.
struct Exchanges {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<usize>>,
}

impl Exchanges {
    fn start(volume: &Path, outside: &Path) -> Self {
        for number in 0..PAIRS {
            let dir = volume.join(format!("dir{number}"));
            std::fs::create_dir_all(dir.join("inner")).unwrap();
            std::fs::write(dir.join("file"), "the volume's").unwrap();
            std::fs::write(dir.join("inner/file"), "the volume's").unwrap();
            symlink(outside, volume.join(format!("link{number}"))).unwrap();
            std::fs::write(volume.join(format!("file{number}")), "the volume's").unwrap();
            symlink(outside.join("file"), volume.join(format!("filelink{number}"))).unwrap();
        }
        let stop = Arc::<AtomicBool>::default();
        let exchange = |one: &'static str, other: &'static str| {
            let (volume, stop) = (volume.to_owned(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    for number in 0..PAIRS {
                        let [one, other] = [one, other].map(|name| volume.join(format!("{name}{number}")));
                        let done = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
                        count += usize::from(done.is_ok());
                    }
                }
                count
            })
        };
        let threads = vec![exchange("dir", "link"), exchange("file", "filelink")];
        Self { stop, threads }
    }

    /// How many there were.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).map(|thread| thread.join().unwrap()).sum()
    }
}

impl Drop for Exchanges {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Every file below a directory, with its content; links are not followed.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return found };
    for path in entries.flatten().map(|entry| entry.path()) {
        match std::fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => found.extend(files(&path)),
            Ok(meta) if meta.is_file() => {
                found.push((path.clone(), std::fs::read(&path).unwrap_or_default()))
            }
            _ => {}
        }
    }
    found
}

#[test]
fn what_a_container_exchanges_for_links_leads_nowhere() {
    let daemon = Daemon::start();
    let (outside, store) = (daemon.dir.path().join("outside"), daemon.dir.path().join("store"));
    std::fs::create_dir_all(outside.join("inner")).unwrap();
    std::fs::create_dir(&store).unwrap();
    for file in ["file", "inner/file"] {
        std::fs::write(outside.join(file), HOSTS).unwrap();
    }
    let before = files(&outside);
    let ok = |arguments: &[&str]| {
        let output = daemon.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().replace("\\u0026", "&")
    };
    ok(&["create", "vol1"]);
    let volume = daemon.volumes().join("vol1");
    let exchanges = Exchanges::start(&volume, &outside);
    let dest = format!("vfs://{}/", store.display());
    for round in 0..ROUNDS {
        let [snapshot, clone, restored] = ["snap", "clone", "restored"].map(|name| format!("{name}{round}"));
        ok(&["snapshot", "create", "vol1", "--name", &snapshot]);
        let url = ok(&["backup", "create", &snapshot, "--dest", &dest]);
        ok(&["snapshot", "clone", &snapshot, &clone]);
        ok(&["create", &restored, "--backup", &url]);
        for made in [&clone, &restored] {
            let leaked: Vec<_> = files(&daemon.volumes().join(made))
                .into_iter()
                .filter(|(_, content)| content.as_slice() == HOSTS)
                .collect();
            assert!(leaked.is_empty(), "{leaked:?}");
        }
        // Parts come back into the volume while it goes on.
        for (source, existing) in [(&snapshot, "replace"), (&url, "rename"), (&snapshot, "keep")] {
            let words = ["restore", source, "--into", "vol1", "--existing", existing, "--output", "json"];
            let ended = daemon.cli(&words).status.code();
            assert!(matches!(ended, Some(0 | 1 | 3)), "{words:?}: {ended:?}");
        }
        ok(&["delete", &clone]);
        ok(&["delete", &restored]);
        ok(&["backup", "delete", &url]);
        ok(&["snapshot", "delete", &snapshot]);
    }
    // Nor does the removal of the volume itself.
    ok(&["delete", "vol1"]);
    assert!(exchanges.end() > ROUNDS, "nothing was exchanged meanwhile");
    assert_eq!(files(&outside), before);
    let kept: Vec<_> = [daemon.volumes(), daemon.root()]
        .iter()
        .flat_map(|dir| files(dir))
        .filter(|(_, content)| content.as_slice() == HOSTS)
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}
