use super::*;
use proptest::prelude::*;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn open(dir: &Path, boot: &str) -> Ledger {
    Ledger::open(dir, boot).unwrap().ledger
}

#[tokio::test]
async fn outlives_the_daemon_and_not_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("mounts");
    let opened = Ledger::open(&dir, "boot-1").unwrap();
    assert!(opened.first);
    opened.ledger.claim(&name("vol1"), "aaaa", Path::new("/m/vol1")).await.unwrap();
    assert_eq!(opened.ledger.join(&name("vol1"), "bbbb").await.unwrap(), Some("/m/vol1".into()));
    assert_eq!(opened.ledger.join(&name("vol2"), "bbbb").await.unwrap(), None);

    let again = Ledger::open(&dir, "boot-1").unwrap();
    assert!(!again.first);
    assert_eq!(again.ledger.usage("vol1"), opened.ledger.usage("vol1"));
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
