//! A driver that strangers could have written, beside the first one, with a real engine: real mounts.

use convoy_tests::error::check;
use convoy_tests::{Carrier, Engine, Lab, Result, Setup, each_carrier, leaks};

each_carrier!(a_driver_of_others_serves_containers, what_a_driver_cannot_do_is_said);

/// Both drivers, tmpfs the default one.
fn two_drivers(lab: &Lab, carrier: Carrier) -> Setup {
    Setup::bare(lab).with(&["--drivers", &carrier.driver("tmpfs"), "--drivers", &carrier.driver("vfs")])
}

fn a_driver_of_others_serves_containers(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = two_drivers(lab, carrier).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        let create = ["volume", "create", "--driver", engine.plugin(), "-o"];
        engine.ok(&[&create[..], &["size=8M", "memory"]].concat())?;
        engine.ok(&[&create[..], &["driver=vfs", "disk"]].concat())?;
        assert_eq!(leaks::mounts(lab.directory())?.iter().filter(|at| at.ends_with("memory")).count(), 1);

        engine.background("box", "memory", "echo kept > /data/kept; exec sleep 1000")?;
        let size = engine.exec("box", "stat -f -c '%b %S' /data")?;
        let [blocks, bytes] = size.split(' ').collect::<Vec<_>>()[..] else { return check(false, || size) };
        let size = blocks.parse::<u64>().unwrap_or(0) * bytes.parse::<u64>().unwrap_or(0);
        assert_eq!(size, 8 << 20);
        convoy.kill()?;
        engine.exec("box", "cat /data/kept")?;
        convoy.start_again()?;
        engine.ok(&["rm", "-f", "box"])?;
        assert_eq!(engine.shell("memory", "cat /data/kept")?, "kept");
        assert_eq!(engine.shell("disk", "echo disk > /data/x; cat /data/x")?, "disk");
        assert_eq!(convoy.names()?, ["disk", "memory"]);

        let refused = convoy.refused(&["create", "memory", "--driver", "vfs"])?;
        check(refused.contains("already exists"), || refused.clone())?;
        convoy.ok(&["delete", "memory", "disk"])?;
        assert!(leaks::mounts(lab.directory())?.iter().all(|at| !at.ends_with("memory")));
        Ok(())
    })
}

fn what_a_driver_cannot_do_is_said(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let convoy = two_drivers(lab, carrier).start()?;
        convoy.ok(&["create", "memory", "--size", "4M"])?;
        for words in [
            &["snapshot", "create", "memory", "--name", "snap"][..],
            &["create", "other", "--size", "0x4"],
            &["create", "other", "--iops", "many"],
            &["mount", "memory", "--mountpoint", "/mnt"],
        ] {
            let refused = convoy.refused(words)?;
            check(refused.contains("Error"), || format!("{words:?}: {refused}"))?;
            assert_eq!(convoy.names()?, ["memory"]);
        }
        convoy.ok(&["delete", "memory"])?;
        Ok(())
    })
}
