use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn open(dir: &Path, boot: &str) -> Ledger {
    std::fs::create_dir_all(dir).unwrap();
    Ledger::read(LedgerDir::at(dir.to_owned(), false), boot).unwrap()
}

#[tokio::test]
async fn outlives_the_daemon_and_not_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mounts");
    let opened = open(&dir, "boot-1");
    opened.claim(&name("vol1"), "aaaa", Path::new("/m/vol1")).await.unwrap();
    assert_eq!(opened.join(&name("vol1"), "bbbb").await.unwrap(), Some("/m/vol1".into()));
    assert_eq!(opened.join(&name("vol2"), "bbbb").await.unwrap(), None);

    let again = open(&dir, "boot-1");
    assert_eq!(again.usage("vol1"), opened.usage("vol1"));
    assert!(!open(&dir, "boot-2").usage("vol1").is_used());
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "what is stale is removed");
}

#[tokio::test]
async fn damaged_files_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    for (file, content) in [("vol1.json", ""), ("vol2.json", "{\"volume\""), ("vol3.json.new", "{}")] {
        std::fs::write(dir.path().join(file), content).unwrap();
    }
    let good = open(dir.path(), "boot");
    good.claim(&name("vol4"), "aaaa", Path::new("/m")).await.unwrap();
    std::fs::copy(dir.path().join("vol4.json"), dir.path().join("vol5.json")).unwrap();
    assert_eq!(open(dir.path(), "boot").volumes(), [name("vol4")]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn what_cannot_be_written_did_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mounts");
    let ledger = open(&dir, "boot");
    std::fs::remove_dir(&dir).unwrap();
    let error = ledger.claim(&name("vol1"), "aaaa", Path::new("/m")).await.unwrap_err();
    assert!(matches!(error, Error::Ledger { .. }), "{error}");
    assert_eq!(ledger.usage("vol1"), Usage::default());
}

#[tokio::test]
async fn a_disk_that_takes_no_more_keeps_nothing_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mounts");
    let ledger = open(&dir, "boot");
    for user in ["aaaa", "bbbb"] {
        ledger.claim(&name("vol1"), user, Path::new("/m")).await.unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(ledger.leave_to_others(&name("vol1"), "aaaa").await.unwrap(), Release::StillUsed);
    assert_eq!(ledger.release(&name("vol1"), Some("bbbb")).await.unwrap(), Release::Last);
    ledger.forget(&name("vol1")).await.unwrap();
    assert_eq!(ledger.mountpoint("vol1"), None);
}

#[tokio::test]
async fn the_last_user_is_not_let_go_in_passing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), "boot");
    let vol = name("vol1");
    ledger.claim(&vol, "aaaa", Path::new("/m")).await.unwrap();
    ledger.claim(&vol, "bbbb", Path::new("/m")).await.unwrap();
    assert_eq!(ledger.leave_to_others(&vol, "aaaa").await.unwrap(), Release::StillUsed);
    assert_eq!(ledger.leave_to_others(&vol, "bbbb").await.unwrap(), Release::Last);
    assert!(ledger.usage("vol1").is_used());
    assert_eq!(ledger.release(&vol, Some("bbbb")).await.unwrap(), Release::Last);
    assert!(!ledger.usage("vol1").is_used() && ledger.usage("vol1").unmount_pending);
    ledger.forget(&vol).await.unwrap();
    assert_eq!(ledger.mountpoint("vol1"), None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_unmount_that_was_cut_off_is_still_to_be_done() {
    let dir = tempfile::tempdir().unwrap();
    let vol = name("vol.1");
    let ledger = open(dir.path(), "boot");
    ledger.claim(&vol, "aaaa", Path::new("/m")).await.unwrap();
    assert_eq!(ledger.release(&vol, Some("aaaa")).await.unwrap(), Release::Last);
    let again = open(dir.path(), "boot");
    assert_eq!(again.usage("vol.1"), ledger.usage("vol.1"));
    assert!(again.usage("vol.1").unmount_pending && !again.usage("vol.1").is_used());
    // Killed between the writing of the new claim and the removal of the old file.
    let old = std::fs::read(dir.path().join("vol.1.json.pending")).unwrap();
    again.claim(&vol, "bbbb", Path::new("/m")).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::write(dir.path().join("vol.1.json.pending"), old).unwrap();
    let last = open(dir.path(), "boot");
    assert_eq!(last.usage("vol.1"), again.usage("vol.1"));
    assert_eq!(last.release(&vol, None).await.unwrap(), Release::Last);
    last.forget(&vol).await.unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_disk_keeps_no_other_call_waiting() {
    let (begun, began) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let writing = tokio::spawn(async move {
        in_place(|| {
            begun.send(()).unwrap();
            ended.recv_timeout(std::time::Duration::from_secs(10))
        })
    });
    began.await.unwrap();
    // The only thread is at it, and still this goes on.
    tokio::spawn(async move { end.send(()) }).await.unwrap().unwrap();
    writing.await.unwrap().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Random mounts and unmounts of two volumes by three users, with the daemon killed anywhere: what was
    /// acknowledged is there after the restart, and nothing else.
    #[test]
    fn a_restart_finds_what_was_acknowledged(steps in prop::collection::vec((0u8..4, 0usize..2, 0usize..3), 0..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut ledger = open(dir.path(), "boot");
            let volumes = [name("vol1"), name("vol2")];
            let mut model: [Vec<&str>; 2] = [Vec::new(), Vec::new()];
            for (step, volume, user) in steps {
                let user = ["aa", "bb", "cc"][user];
                match step {
                    0 | 1 => {
                        if ledger.join(&volumes[volume], user).await.unwrap().is_none() {
                            ledger.claim(&volumes[volume], user, Path::new("/m")).await.unwrap();
                        }
                        model[volume].push(user);
                    }
                    2 => {
                        if ledger.release(&volumes[volume], Some(user)).await.unwrap() == Release::Last {
                            ledger.forget(&volumes[volume]).await.unwrap();
                        }
                        if let Some(at) = model[volume].iter().position(|held| *held == user) {
                            model[volume].remove(at);
                        }
                    }
                    _ => ledger = open(dir.path(), "boot"),
                }
                for (volume, model) in volumes.iter().zip(&model) {
                    let usage = ledger.usage(volume);
                    prop_assert_eq!(usage.users.values().sum::<u32>() as usize, model.len());
                    prop_assert_eq!(ledger.mountpoint(volume).is_some(), !model.is_empty());
                }
            }
            Ok(())
        })?;
    }
}
