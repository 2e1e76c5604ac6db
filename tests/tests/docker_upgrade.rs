//! A new program in the place of the old one, while a container uses a volume.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_tests::engine::COUNT;
use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Engine, Lab, Result, Setup, patience, programs};

/// Puts a program in the place of the one that may be running there, as a package manager does.
fn install(from: &Path, to: &Path, version: &str) -> Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new).during(|| format!("cannot copy {}", from.display()))?;
    // What follows the program in its file makes it another one, and is never read.
    let mut file = fs::File::options().append(true).open(&new).during(|| format!("{}", new.display()))?;
    std::io::Write::write_all(&mut file, version.as_bytes()).during(|| format!("{}", new.display()))?;
    drop(file);
    fs::rename(&new, to).during(|| format!("cannot replace {}", to.display()))
}

fn counts_on(engine: &Engine) -> Result<()> {
    let before = engine.exec("box", "cat /data/count")?;
    patience::until("the next number", Duration::from_secs(60), || {
        Ok(engine.exec("box", "cat /data/count")? != before)
    })
}

mod upgrade {
    #[test]
    fn with_the_driver_inside() -> super::Result<()> {
        super::a_new_program_takes_over_while_a_container_writes(super::Carrier::Builtin)
    }

    #[test]
    fn with_the_driver_beside_it() -> super::Result<()> {
        super::a_new_program_takes_over_while_a_container_writes(super::Carrier::Process)
    }
}

fn a_new_program_takes_over_while_a_container_writes(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let bin = lab.make("bin")?;
        let built = programs::directory()?;
        let both: Vec<(PathBuf, PathBuf)> =
            ["convoy", "convoy-driver-vfs"].map(|name| (built.join(name), bin.join(name))).into();
        let install_all = |version: &str| both.iter().try_for_each(|(from, to)| install(from, to, version));
        install_all("the old one")?;
        let mut setup = Setup::vfs(lab, carrier).with(&["--driver-path", &bin.display().to_string()]);
        setup.program = Some(bin.join("convoy"));
        let mut convoy = setup.start()?;
        let engine = Engine::start(lab, &setup.socket)?;
        engine.background("box", "counted", COUNT)?;
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "idle"])?;
        convoy.ok(&["snapshot", "create", "idle", "--name", "before"])?;

        install_all("the new one")?;
        let running =
            || fs::read_link(format!("/proc/{}/exe", convoy.id())).during(|| "the program".to_owned());
        let old = running()?;
        check(old.to_string_lossy().ends_with("(deleted)"), || format!("still {}", old.display()))?;
        // The old one works on until it is told to go.
        assert_eq!(engine.shell("idle", "echo by-old > /data/file; cat /data/file")?, "by-old");
        counts_on(&engine)?;

        convoy.stop()?;
        counts_on(&engine)?;
        // It was written by an earlier version, which the new one goes on from.
        let format = setup.root.join("format.json");
        let earlier = "{\"Format\":1,\"WrittenBy\":\"0.5.99\"}";
        fs::write(&format, earlier).during(|| "the format of the root".to_owned())?;
        convoy.start_again()?;
        let new = fs::read_link(format!("/proc/{}/exe", convoy.id())).during(|| "the program".to_owned())?;
        check(new == bin.join("convoy"), || format!("not the new one: {}", new.display()))?;
        let now = fs::read_to_string(&format).during(|| "the format of the root".to_owned())?;
        check(!now.contains("0.5.99"), || format!("the root still says {now}"))?;

        counts_on(&engine)?;
        check(!convoy.mount_point("counted")?.is_empty(), || "the mount was forgotten".to_owned())?;
        let refused = convoy.refused(&["delete", "counted"])?;
        check(refused.contains("still mounted"), || refused.clone())?;
        assert_eq!(engine.shell("idle", "cat /data/file")?, "by-old");
        engine.ok(&["rm", "-f", "box"])?;
        assert_eq!(convoy.mount_point("counted")?, "", "its last user left");
        convoy.ok(&["snapshot", "delete", "before"])?;
        engine.ok(&["volume", "rm", "counted", "idle"])?;
        assert!(convoy.names()?.is_empty());
        Ok(())
    })
}
