//! What people do with Docker and a convoy volume, with a real engine.

use std::fs;

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Engine, Lab, Result, Setup, each_carrier, tree};

each_carrier!(
    volumes_are_created_listed_inspected_and_removed,
    run_creates_a_volume_on_the_fly,
    the_second_container_keeps_the_volume_when_the_first_stops,
    run_rm_and_rm_v_release_their_volumes,
    docker_cp_into_a_running_container_keeps_it_mounted,
    the_main_job,
    a_volume_created_by_convoy_is_used_by_docker,
);

/// A daemon and an engine that knows it.
fn both(lab: &Lab, carrier: Carrier) -> Result<(Convoy, Engine)> {
    let convoy = Setup::vfs(lab, carrier).start()?;
    let engine = Engine::start(lab, &convoy.setup().socket)?;
    Ok((convoy, engine))
}

/// The same, with a place for backups that Docker's users may restore from.
fn with_store(lab: &Lab, carrier: Carrier) -> Result<(Convoy, Engine, String)> {
    let store = format!("vfs://{}", lab.make("store")?.display());
    let settings = lab.path("destinations.toml");
    fs::write(&settings, format!("[destinations.{store:?}]\n")).during(|| "the settings".to_owned())?;
    let flags = ["--destinations", &*settings.to_string_lossy()];
    let convoy = Setup::vfs(lab, carrier).with(&flags).start()?;
    let engine = Engine::start(lab, &convoy.setup().socket)?;
    Ok((convoy, engine, store))
}

/// Whether convoy holds a volume mounted.
fn mounted(convoy: &Convoy, volume: &str) -> Result<bool> {
    Ok(!convoy.mount_point(volume)?.is_empty())
}

fn volumes_are_created_listed_inspected_and_removed(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        let create = ["volume", "create", "--driver", engine.plugin()];
        let plain = engine.ok(&[&create[..], &["plain"]].concat())?;
        assert_eq!(plain, "plain");
        engine.ok(&[&create[..], &["-o", "vm=true", "-o", "size=64M", "machine"]].concat())?;
        assert_eq!(engine.volumes()?, ["machine", "plain"]);
        let driver = engine.ok(&["volume", "inspect", "-f", "{{.Driver}} {{.Name}}", "plain"])?;
        assert_eq!(driver, format!("{} plain", engine.plugin()));
        let image = convoy.setup().volumes.join("machine/disk.img");
        let size = fs::metadata(&image).during(|| "the image of the VM".to_owned())?.len();
        assert_eq!(size, 64 << 20);

        // Docker's refusal carries convoy's words, and nothing is made.
        for (option, said) in
            [("size=ten", "ten"), ("size=99999999999999999999", "size"), ("bogus=1", "bogus")]
        {
            let refused = engine.run(&[&create[..], &["-o", option, "wrong"]].concat())?.refused()?;
            check(refused.contains(said), || format!("{option}: {refused}"))?;
        }
        assert_eq!(convoy.names()?, ["machine", "plain"]);

        engine.ok(&["volume", "rm", "plain", "machine"])?;
        assert!(engine.volumes()?.is_empty());
        assert!(convoy.names()?.is_empty());
        // Docker's remove keeps the data: somebody may have mistyped.
        assert!(image.exists());
        Ok(())
    })
}

fn run_creates_a_volume_on_the_fly(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        engine.shell("fresh", "echo hello > /data/greeting")?;
        assert_eq!(convoy.names()?, ["fresh"]);
        assert!(!mounted(&convoy, "fresh")?);
        assert_eq!(engine.shell("fresh", "cat /data/greeting")?, "hello");
        let file = convoy.setup().volumes.join("fresh/greeting");
        assert_eq!(fs::read_to_string(file).during(|| "the file on the host".to_owned())?, "hello\n");
        Ok(())
    })
}

fn the_second_container_keeps_the_volume_when_the_first_stops(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        engine.background("one", "shared", "echo from one > /data/one; exec sleep 1000")?;
        engine.background("two", "shared", "exec sleep 1000")?;
        engine.ok(&["kill", "one"])?;
        engine.ok(&["wait", "one"])?;
        assert!(mounted(&convoy, "shared")?, "unmounted under the second container");
        assert_eq!(
            engine.exec("two", "cat /data/one; echo from two > /data/two; cat /data/two")?,
            "from one\nfrom two"
        );
        let refused = convoy.refused(&["delete", "shared"])?;
        check(refused.contains("still mounted"), || refused.clone())?;
        engine.ok(&["kill", "two"])?;
        engine.ok(&["wait", "two"])?;
        assert!(!mounted(&convoy, "shared")?, "still mounted after the last container");
        engine.ok(&["start", "one"])?;
        assert!(mounted(&convoy, "shared")?);
        engine.ok(&["rm", "-f", "one", "two"])?;
        assert!(!mounted(&convoy, "shared")?);
        assert_eq!(convoy.ok(&["delete", "shared"])?, "");
        Ok(())
    })
}

fn run_rm_and_rm_v_release_their_volumes(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        engine.shell("kept", "true")?;
        // A volume without a name gets a long one from Docker and goes with its container.
        let nameless =
            ["run", "--rm", "--network", "none", "--volume-driver", engine.plugin(), "-v", "/data"];
        engine.ok(&[&nameless[..], &["convoy-busybox", "/bin/sh", "-c", "echo x > /data/x"]].concat())?;
        assert_eq!(convoy.names()?, ["kept"]);
        let words =
            ["run", "--network", "none", "--name", "box", "--volume-driver", engine.plugin(), "-v", "/data"];
        engine.ok(&[&words[..], &["convoy-busybox", "/bin/true"]].concat())?;
        assert_eq!(convoy.names()?.len(), 2);
        engine.ok(&["rm", "-v", "box"])?;
        assert_eq!(convoy.names()?, ["kept"]);
        assert!(!mounted(&convoy, "kept")?);
        Ok(())
    })
}

fn docker_cp_into_a_running_container_keeps_it_mounted(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        engine.background("box", "copied", "exec sleep 1000")?;
        let file = lab.path("from-outside");
        fs::write(&file, "outside").during(|| "a file to copy".to_owned())?;
        engine.ok(&["cp", &file.to_string_lossy(), "box:/data/inside"])?;
        assert!(mounted(&convoy, "copied")?, "docker cp ended the mount of the running container");
        assert_eq!(engine.exec("box", "cat /data/inside && echo more > /data/more")?, "outside");
        engine.ok(&["cp", "box:/data/more", &lab.path("more").to_string_lossy()])?;
        assert!(mounted(&convoy, "copied")?);
        engine.ok(&["rm", "-f", "box"])?;
        assert!(!mounted(&convoy, "copied")?);
        Ok(())
    })
}

fn the_main_job(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine, store) = with_store(lab, carrier)?;
        let write = "echo monday > /data/day; mkdir -m 750 /data/dir; dd if=/dev/urandom of=/data/dir/big bs=1M count=3; \
                     sha256sum /data/dir/big";
        let sum = engine.shell("source", write)?;
        assert_eq!(convoy.ok(&["snapshot", "create", "source", "--name", "first"])?, "first");
        // What comes after the snapshot is not in it.
        engine.shell("source", "echo tuesday > /data/day; rm -r /data/dir")?;
        let backup = convoy.ok(&["backup", "create", "first", "--dest", &store])?;
        assert!(backup.contains("\\u0026volume=source"), "{backup}");

        // By the command line, and by Docker alone.
        assert_eq!(convoy.ok(&["create", "target", "--backup", &backup])?, "target");
        let option = format!("backup={backup}");
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "-o", &option, "target2"])?;
        for target in ["target", "target2"] {
            let read = "cat /data/day; stat -c %a /data/dir; sha256sum /data/dir/big";
            assert_eq!(engine.shell(target, read)?, format!("monday\n750\n{sum}"));
        }
        let volumes = &convoy.setup().volumes;
        let first = tree::describe(&volumes.join("target"))?;
        assert_eq!(first, tree::describe(&volumes.join("target2"))?);
        assert_eq!(engine.shell("source", "cat /data/day")?, "tuesday");
        Ok(())
    })
}

fn a_volume_created_by_convoy_is_used_by_docker(carrier: Carrier) -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab, carrier)?;
        convoy.ok(&["create", "ours"])?;
        assert_eq!(engine.volumes()?, ["ours"]);
        engine.shell("ours", "echo x > /data/x")?;
        // The mount of a person and that of a container are two: the volume is released when both are gone.
        let place = convoy.ok(&["mount", "ours"])?;
        assert!(!place.is_empty());
        engine.shell("ours", "cat /data/x")?;
        assert!(mounted(&convoy, "ours")?, "the container's end took the person's mount");
        convoy.ok(&["umount", "ours"])?;
        assert!(!mounted(&convoy, "ours")?);
        Ok(())
    })
}
