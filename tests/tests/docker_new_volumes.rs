//! A new volume is empty: Docker fills it with the files that the image has there, and databases set
//! themselves up.

use std::path::PathBuf;
use std::process::Command;

use convoy_tests::engine::IMAGE;
use convoy_tests::error::check;
use convoy_tests::run::capture;
use convoy_tests::{Blocks, Carrier, Engine, Lab, Result, Setup, Storage};

/// An image with files where the volume comes.
const SEEDED: &str = "convoy-seeded";

/// Makes the image with data in it.
fn seed(engine: &Engine) -> Result<()> {
    let files = "mkdir -p /data/dir && echo from the image > /data/dir/seed && chmod 700 /data/dir";
    engine.ok(&["run", "--network", "none", "--name", "seed", IMAGE, "/bin/sh", "-c", files])?;
    engine.ok(&["commit", "seed", SEEDED]).map(drop)
}

/// What a container of that image finds in a volume at `/data`.
fn found(engine: &Engine, volume: &str) -> Result<String> {
    let mount = format!("{volume}:/data");
    let words = ["run", "--rm", "--network", "none", "-v", &mount, SEEDED, "/bin/sh", "-c"];
    engine.ok(&[&words[..], &["ls -A /data; cat /data/dir/seed; stat -c %a /data/dir"]].concat())
}

#[test]
fn a_new_volume_takes_the_files_of_the_image() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let engine = Engine::start(lab, &world.convoy.setup().socket)?;
        seed(&engine)?;
        for (volume, options) in [
            ("ext4", &["-o", "fs=ext4", "-o", "size=64M"][..]),
            ("xfs", &["-o", "fs=xfs", "-o", "size=320M"]),
            ("vfs", &["-o", "driver=vfs"]),
        ] {
            let create = ["volume", "create", "--driver", engine.plugin()];
            engine.ok(&[&create[..], options, &[volume]].concat())?;
            assert_eq!(found(&engine, volume)?, "dir\nfrom the image\n700", "{volume}");
        }
        // Grown before it was used, which checks it.
        world.convoy.ok(&["create", "grown", "--size", "64M"])?;
        world.convoy.ok(&["resize", "grown", "96M"])?;
        assert_eq!(found(&engine, "grown")?, "dir\nfrom the image\n700");
        Ok(())
    })
}

/// PostgreSQL's own, where this machine has one.
fn initdb() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/initdb")).find(|path| path.is_file())
}

#[test]
fn postgresql_sets_itself_up_in_a_new_volume() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        world.convoy.ok(&["create", "pg", "--size", "256M", "--opt", "fs=ext4"])?;
        let place = world.mount("pg")?;
        // What initdb asks of the directory: it refuses one with anything in it.
        let files = capture(Command::new("ls").arg("-A").arg(&place))?.ok()?;
        check(files.is_empty(), || format!("a new volume has {files}"))?;
        if let Some(initdb) = initdb() {
            // As a container has it: in a mount namespace of its own, and not as root.
            let within = "chown nobody \"$1\" && mount --bind \"$1\" /mnt && exec setpriv --reuid nobody \
                          --regid nogroup --clear-groups \"$2\" -D /mnt -U postgres -A trust --no-sync --locale C";
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-ec", within, "sh"]).arg(&place).arg(initdb);
            capture(&mut command)?.ok()?;
            check(place.join("PG_VERSION").is_file(), || "initdb made no database".to_owned())?;
        }
        world.convoy.ok(&["umount", "pg"]).map(drop)
    })
}

/// The volumes of vfs, whose directory nobody else enters, serve containers that are not root.
#[test]
fn a_program_that_is_not_root_uses_its_volume() -> Result<()> {
    Lab::run(|lab| {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        let options = ["-o", "uid=1000", "-o", "mode=0750", "mine"];
        engine.ok(&[&["volume", "create", "--driver", engine.plugin()][..], &options].concat())?;
        let words = engine.words(
            &["--rm", "--user", "1000"],
            "mine:/data",
            "echo mine > /data/f; cat /data/f; id -u",
        );
        assert_eq!(engine.ok(&words)?, "mine\n1000");
        Ok(())
    })
}
