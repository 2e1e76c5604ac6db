//! `kill -9` in a storm of calls: what was acknowledged is there afterwards, what was not is whole or not
//! there.

use crate::harness::Daemon;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

/// What a worker knows of its volume: `None` while a call was not answered.
#[derive(Debug, Clone, Default, PartialEq)]
struct Known {
    exists: Option<bool>,
    mounted: Option<bool>,
    snapshot: Option<bool>,
}

const WORKERS: usize = 4;

/// Works on one volume until the daemon is killed.
fn work(daemon: &Daemon, name: &str, known: &Mutex<Known>) {
    let docker = |call: &str, body: String| {
        let answer = daemon.try_call("POST", &format!("/VolumeDriver.{call}"), &body, &[]).ok()?;
        assert!(!answer.body.contains("Err"), "{call} {name}: {}", answer.body);
        Some(())
    };
    let admin = |method: &str, path: &str, body: String| {
        let answer = daemon.try_call(method, path, &body, &[]).ok()?;
        assert_eq!(answer.status, 200, "{method} {path} {name}: {}", answer.body);
        Some(())
    };
    let set = |change: &dyn Fn(&mut Known)| change(&mut known.lock().unwrap());
    let volume = || format!("{{\"Name\":\"{name}\",\"ID\":\"container\"}}");
    let round = || -> Option<()> {
        set(&|known| known.exists = None);
        docker("Create", volume())?;
        set(&|known| known.exists = Some(true));
        set(&|known| known.mounted = None);
        docker("Mount", volume())?;
        set(&|known| known.mounted = Some(true));
        set(&|known| known.snapshot = None);
        admin(
            "POST",
            "/snapshots/create",
            format!("{{\"VolumeName\":\"{name}\",\"Name\":\"{name}-snap\"}}"),
        )?;
        set(&|known| known.snapshot = Some(true));
        set(&|known| known.snapshot = None);
        admin("DELETE", "/snapshots/", format!("{{\"SnapshotName\":\"{name}-snap\"}}"))?;
        set(&|known| known.snapshot = Some(false));
        set(&|known| known.mounted = None);
        docker("Unmount", volume())?;
        set(&|known| known.mounted = Some(false));
        set(&|known| known.exists = None);
        admin("DELETE", "/volumes/", format!("{{\"VolumeName\":\"{name}\"}}"))?;
        set(&|known| *known = Known { exists: Some(false), mounted: Some(false), snapshot: Some(false) });
        Some(())
    };
    while round().is_some() {}
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_unknown_left() {
    let mut daemon = Daemon::start();
    for kill in 0u64..8 {
        let known: BTreeMap<String, Mutex<Known>> =
            (0..WORKERS).map(|worker| (format!("vol{worker}"), Mutex::default())).collect();
        std::thread::scope(|scope| {
            for (name, known) in &known {
                let daemon = &daemon;
                scope.spawn(move || work(daemon, name, known));
            }
            // At another point of the storm each time.
            std::thread::sleep(Duration::from_millis(40 + kill * 37));
            let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        });
        daemon.kill();
        daemon.launch();
        let listed = daemon.docker("List", "");
        for (name, known) in known {
            let known = known.into_inner().unwrap();
            let exists = listed.contains(&format!("\"{name}\""));
            assert!(known.exists.is_none_or(|expected| expected == exists), "{name} {known:?} {listed}");
            if !exists {
                assert!(!daemon.volumes().join(&name).exists(), "{name}: left behind");
                continue;
            }
            let volume = daemon.call("GET", "/volumes/", &format!("{{\"VolumeName\":\"{name}\"}}")).body;
            let mounted = !volume.contains("\"MountPoint\": \"\"");
            assert!(known.mounted.is_none_or(|expected| expected == mounted), "{known:?} {volume}");
            let snapshot = volume.contains("-snap\"");
            assert!(known.snapshot.is_none_or(|expected| expected == snapshot), "{known:?} {volume}");
            // Every one of them can be used, and be got rid of.
            if mounted {
                daemon.docker("Unmount", &format!("{{\"Name\":\"{name}\",\"ID\":\"container\"}}"));
            }
            let deleted = daemon.call("DELETE", "/volumes/", &format!("{{\"VolumeName\":\"{name}\"}}"));
            assert_eq!(deleted.status, 200, "{deleted:?}");
        }
    }
    assert_eq!(daemon.docker("List", ""), "{}");
}
