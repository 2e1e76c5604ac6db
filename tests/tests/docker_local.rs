//! The local driver: what Docker has itself, protected where it is, with a real engine.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use convoy_tests::child::Child;
use convoy_tests::engine::{IMAGE, image};
use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Engine, Lab, Result, Setup, patience, programs, run, tree};
use serde_json::{Value, json};

/// How long convoy may take to see what changed at the engine: it asks every five seconds.
const SEEN: Duration = Duration::from_secs(60);

/// An engine, and a daemon with the drivers vfs and local.
fn both(lab: &Lab) -> Result<(Convoy, Engine)> {
    let setup = Setup::vfs(lab, Carrier::Builtin);
    let engine = Engine::start(lab, &setup.socket)?;
    let option = format!("local.docker=unix://{}", engine.socket().display());
    let convoy = setup.with(&["--drivers", "builtin:local", "--driver-opts", &option]).start()?;
    Ok((convoy, engine))
}

/// Runs a container of Docker's own, with a volume or a directory at `/data`.
fn shell(engine: &Engine, mount: &str, shell: &str) -> Result<String> {
    let mount = format!("{mount}:/data");
    engine.ok(&["run", "--rm", "--network", "none", "-v", &mount, IMAGE, "/bin/sh", "-c", shell])
}

/// Starts a container that goes on.
fn background(engine: &Engine, name: &str, mount: &str) -> Result<()> {
    let mount = format!("{mount}:/data");
    let words = ["run", "-d", "--network", "none", "--name", name, "-v", &mount, IMAGE, "/bin/sleep", "1000"];
    engine.ok(&words).map(drop)
}

fn place(engine: &Engine, volume: &str) -> Result<PathBuf> {
    engine.ok(&["volume", "inspect", "-f", "{{.Mountpoint}}", volume]).map(PathBuf::from)
}

fn path_of(convoy: &Convoy, volume: &str) -> Result<String> {
    let volume = convoy.inspect(volume)?;
    Ok(volume["DriverInfo"]["Path"].as_str().unwrap_or_default().to_owned())
}

/// Puts all kinds of things into a directory.
fn fill(place: &Path) -> Result<()> {
    let script = "echo x > f; chown 1234:2345 f; chmod 4751 f; setfattr -n user.k -v v f; ln f hard; \
        ln -s f sym; \
        ln -s /nowhere dangling; mkdir -m 2750 d; setfacl -d -m g:99:rwx d; mkfifo fifo; \
        mknod null c 1 3; mkdir -p deep/a/b; echo deep > deep/a/b/c; truncate -s 10M hole; \
        touch -d '2001-02-03 04:05:06.7 UTC' f d";
    run::capture(Command::new("sh").args(["-ec", script]).current_dir(place))?.ok().map(drop)
}

/// The time of the last access of everything in a tree, and of the last change of its metadata.
fn times(top: &Path) -> Result<BTreeMap<PathBuf, (i64, i64, i64, i64)>> {
    let mut found = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).during(|| format!("look at {}", path.display()))?;
        if meta.is_dir() {
            // Without a trace of ours.
            let dir = rustix::fs::openat(
                rustix::fs::CWD,
                &path,
                rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NOATIME | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            );
            let dir = dir.map_err(std::io::Error::from).during(|| format!("open {}", path.display()))?;
            let listing = rustix::fs::Dir::new(dir).map_err(std::io::Error::from);
            for entry in listing.during(|| format!("list {}", path.display()))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    left.push(path.join(name));
                }
            }
        }
        found.insert(path, (meta.atime(), meta.atime_nsec(), meta.ctime(), meta.ctime_nsec()));
    }
    Ok(found)
}

fn url(text: &str) -> String {
    text.replace("\\u0026", "&")
}

#[test]
fn volumes_of_docker_are_protected_and_come_back_on_an_empty_engine() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let (convoy, mut engine) = both(lab)?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        engine.ok(&["volume", "create", "--label", "of=people", "data"])?;
        let data = place(&engine, "data")?;
        fill(&data)?;
        // A name that was made a moment ago is known at once; the list follows.
        assert_eq!(path_of(&convoy, "data")?, data.display().to_string());
        patience::until("the volume in the list", SEEN, || {
            Ok(convoy.names()?.iter().any(|name| name == "data"))
        })?;
        // Before anything was read, which the first reader would leave a trace of.
        let before = times(&data)?;
        convoy.ok(&["snapshot", "create", "data", "--name", "monday"])?;
        let backup = url(&convoy.ok(&["backup", "create", "monday", "--dest", &store])?);
        assert_eq!(times(&data)?, before, "a snapshot or a backup left a trace in the volume");
        let whole = tree::describe(&data)?;

        // What did not change is shared with the snapshot before; files come back in their place.
        fs::remove_file(data.join("deep/a/b/c")).during(|| "remove a file".to_owned())?;
        convoy.ok(&["snapshot", "create", "data", "--name", "tuesday"])?;
        let snapshots = convoy.setup().root.join("local/snapshots/data");
        let inode = |snapshot: &str| {
            let path = snapshots.join(snapshot).join("tree/f");
            fs::metadata(&path).map(|meta| meta.ino()).during(|| format!("look at {}", path.display()))
        };
        assert_eq!(inode("monday")?, inode("tuesday")?);
        convoy.ok(&["restore", "monday", "--path", "deep/a/b/c", "--into", "data"])?;
        let content = fs::read_to_string(data.join("deep/a/b/c")).during(|| "read a file".to_owned())?;
        assert_eq!(content, "deep\n");
        convoy.ok(&["snapshot", "delete", "tuesday"])?;
        check(!snapshots.join("tuesday").exists(), || "the snapshot is still there".to_owned())?;
        convoy.ok(&["snapshot", "clone", "monday", "cloned"])?;
        assert_eq!(tree::describe(&place(&engine, "cloned")?)?, whole);

        // The engine loses everything.
        engine.stop()?;
        let root = engine.socket().with_file_name("data");
        fs::remove_dir_all(root.join("volumes")).during(|| "remove the data root".to_owned())?;
        run::capture(Command::new("rm").arg("-rf").arg(&root))?.ok()?;
        engine.start_again()?;
        engine.ok(&["import", &image(lab)?.to_string_lossy(), IMAGE])?;
        let gone = convoy.inspect("data")?.to_string();
        check(gone.contains("Docker has no such volume any more"), || gone.clone())?;
        // Its snapshots are there, and so is the backup.
        convoy.ok(&["snapshot", "clone", "monday", "again"])?;
        assert_eq!(tree::describe(&place(&engine, "again")?)?, whole);
        convoy.ok(&["delete", "data"])?;
        convoy.ok(&["create", "data", "--driver", "local", "--backup", &backup])?;
        assert_eq!(tree::describe(&place(&engine, "data")?)?, whole);
        assert_eq!(shell(&engine, "data", "cat /data/f /data/deep/a/b/c")?, "x\ndeep");
        // Nothing unfinished is left.
        let work = convoy.setup().root.join("local/work");
        let left = fs::read_dir(&work).during(|| format!("list {}", work.display()))?.count();
        assert_eq!(left, 0);
        Ok(())
    })
}

#[test]
fn a_volume_of_docker_is_put_back_in_place_while_its_containers_stand_still() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let setup = Setup::vfs(lab, Carrier::Builtin);
        let engine = Engine::start(lab, &setup.socket)?;
        let (socket, file) = (engine.socket().display().to_string(), lab.path("convoy.toml"));
        let settings = format!("[scheduling]\ndocker-socket = \"{socket}\"\n");
        fs::write(&file, settings).during(|| "write the settings".to_owned())?;
        let (option, config) = (format!("local.docker=unix://{socket}"), file.display().to_string());
        let words = ["--config", &config, "--drivers", "builtin:local", "--driver-opts", &option];
        let convoy = setup.with(&words).start()?;
        engine.ok(&["volume", "create", "data"])?;
        shell(&engine, "data", "echo first > /data/file")?;
        path_of(&convoy, "data")?;
        convoy.ok(&["snapshot", "create", "data", "--name", "monday"])?;
        background(&engine, "app", "data")?;
        shell(&engine, "data", "echo second > /data/file; echo more > /data/more")?;

        // Docker has mounted it without a word to convoy.
        let refused = convoy.refused(&["restore", "monday", "--in-place", "data"])?;
        check(refused.contains("app"), || refused.clone())?;
        assert_eq!(shell(&engine, "data", "cat /data/file")?, "second");
        let started = |name| engine.ok(&["inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", name]);
        let before = started("app")?;
        convoy.ok(&["restore", "monday", "--in-place", "data", "--stop"])?;
        assert_eq!(shell(&engine, "data", "cat /data/file; ls /data")?, "first\nfile");
        let after = started("app")?;
        check(after.starts_with("true ") && after != before, || format!("{before}, then {after}"))
    })
}

#[test]
fn a_bind_mount_is_protected_where_it_is() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let (convoy, engine) = both(lab)?;
        let store = format!("vfs://{}", lab.make("store")?.display());
        let dir = lab.make("srv/app data")?;
        fill(&dir)?;
        background(&engine, "app", &dir.display().to_string())?;
        let named = |names: Vec<String>| names.into_iter().find(|name| name.contains("app_data"));
        patience::until("the bind mount in the list", SEEN, || Ok(named(convoy.names()?).is_some()))?;
        let name = named(convoy.names()?).unwrap_or_default();
        check(name.starts_with("bind-"), || name.clone())?;
        assert_eq!(path_of(&convoy, &name)?, dir.display().to_string());
        let shown = convoy.inspect(&name)?;
        assert_eq!(shown["DriverInfo"]["Containers"], json!("app"));
        let before = times(&dir)?;
        convoy.ok(&["snapshot", "create", &name, "--name", "monday"])?;
        let backup = url(&convoy.ok(&["backup", "create", "monday", "--dest", &store])?);
        assert_eq!(times(&dir)?, before, "a snapshot or a backup left a trace in the directory");
        let whole = tree::describe(&dir)?;
        fs::remove_file(dir.join("f")).during(|| "remove a file".to_owned())?;
        convoy.ok(&["restore", "monday", "--path", "f", "--into", &name])?;
        let content = fs::read_to_string(dir.join("f")).during(|| "read a file".to_owned())?;
        assert_eq!(content, "x\n");
        // It becomes a volume of Docker's, or a directory of vfs.
        convoy.ok(&["create", "moved", "--driver", "local", "--backup", &backup])?;
        assert_eq!(tree::describe(&place(&engine, "moved")?)?, whole);
        convoy.ok(&["create", "vfs1", "--driver", "vfs", "--backup", &backup])?;
        assert_eq!(tree::describe(&convoy.setup().volumes.join("vfs1"))?, whole);

        let refused = convoy.refused(&["delete", &name])?;
        check(refused.contains("is a directory of this host"), || refused.clone())?;
        // Without a container it is known by its snapshot.
        engine.ok(&["rm", "-f", "app"])?;
        assert_eq!(path_of(&convoy, &name)?, dir.display().to_string());
        convoy.ok(&["delete", "--reference", &name])?;
        check(!convoy.names()?.contains(&name), || "it is not forgotten".to_owned())?;
        convoy.ok(&["create", &name, "--driver", "local"])?;
        let list = convoy.ok(&["snapshot", "list"])?;
        check(list.contains("monday"), || list.clone())?;
        convoy.ok(&["snapshot", "delete", "monday"])?;
        patience::until("the end of the bind mount", SEEN, || Ok(!convoy.names()?.contains(&name)))?;
        check(dir.join("f").exists(), || "the directory is gone".to_owned())
    })
}

#[test]
fn docker_is_not_told_of_what_it_has_itself() -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab)?;
        shell(&engine, "data", "echo x > /data/x")?;
        let data = place(&engine, "data")?;
        patience::until("the volume in the list", SEEN, || {
            Ok(convoy.names()?.iter().any(|name| name == "data"))
        })?;
        convoy.ok(&["create", "ours"])?;
        let ask = |call: &str, body: Value| -> Result<String> {
            let answer =
                convoy.connect()?.ask("POST", &format!("/VolumeDriver.{call}"), &body.to_string())?;
            answer.ok()
        };
        let name = || json!({ "Name": "data" });
        let listed = ask("List", json!({}))?;
        check(listed.contains("ours") && !listed.contains("data"), || listed.clone())?;
        for call in ["Get", "Path"] {
            let answer = ask(call, name())?;
            check(answer.contains("find volume"), || format!("{call}: {answer}"))?;
        }
        let mounted = ask("Mount", json!({ "Name": "data", "ID": "1" }))?;
        check(mounted.contains("find volume") && !mounted.contains("Mountpoint"), || mounted.clone())?;
        for call in ["Unmount", "Remove"] {
            let answer = ask(call, json!({ "Name": "data", "ID": "1" }))?;
            check(answer == "{}\n" || answer == "{}", || format!("{call}: {answer}"))?;
        }
        check(data.join("x").exists(), || "Remove at the plugin socket deleted a volume".to_owned())?;
        let taken = ask("Create", name())?;
        check(taken.contains("the name data is taken by a volume that driver local lists"), || {
            taken.clone()
        })?;
        let asked = ask("Create", json!({ "Name": "new1", "Opts": { "driver": "local" } }))?;
        check(asked.contains("makes volumes of Docker itself"), || asked.clone())?;

        // Docker's users go on as before, with both.
        assert_eq!(engine.volumes()?, ["ours"]);
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "other"])?;
        let refused =
            engine.run(&["volume", "create", "--driver", engine.plugin(), "-o", "driver=local", "x1"])?;
        let refused = refused.refused()?;
        check(refused.contains("makes volumes of Docker itself"), || refused.clone())?;
        // A name that Docker gave up is free at once.
        engine.ok(&["volume", "rm", "data"])?;
        engine.ok(&["volume", "create", "--driver", engine.plugin(), "data"])?;
        assert_eq!(engine.volumes()?, ["data", "other", "ours"]);
        check(path_of(&convoy, "data")?.starts_with(&convoy.setup().volumes.display().to_string()), || {
            "data is not a volume of vfs".to_owned()
        })
    })
}

#[test]
fn volumes_are_made_and_deleted_with_docker_and_others_only_forgotten() -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab)?;
        convoy.ok(&["create", "made", "--driver", "local"])?;
        let label = engine.ok(&["volume", "inspect", "-f", "{{index .Labels \"convoy.driver\"}}", "made"])?;
        assert_eq!(label, "local");
        let refused = convoy.refused(&["create", "made", "--driver", "local"])?;
        check(refused.contains("already exists"), || refused.clone())?;
        // Also a container that is stopped keeps it.
        engine.ok(&[
            "create",
            "--network",
            "none",
            "--name",
            "stopped",
            "-v",
            "made:/data",
            IMAGE,
            "/bin/true",
        ])?;
        convoy.ok(&["snapshot", "create", "made", "--name", "snap1"])?;
        let refused = convoy.refused(&["delete", "made"])?;
        check(refused.contains("containers use volume made: stopped"), || refused.clone())?;
        engine.ok(&["rm", "stopped"])?;
        convoy.ok(&["delete", "made"])?;
        engine.run(&["volume", "inspect", "made"])?.refused()?;
        check(!convoy.setup().root.join("local/snapshots/made").exists(), || {
            "snapshots are left".to_owned()
        })?;

        shell(&engine, "dockers", "echo x > /data/x")?;
        convoy.ok(&["snapshot", "create", "dockers", "--name", "snap2"])?;
        let refused = convoy.refused(&["delete", "dockers"])?;
        check(refused.contains("docker volume rm dockers"), || refused.clone())?;
        convoy.ok(&["delete", "--reference", "dockers"])?;
        check(!convoy.names()?.iter().any(|name| name == "dockers"), || "it is not forgotten".to_owned())?;
        assert_eq!(shell(&engine, "dockers", "cat /data/x")?, "x");
        convoy.ok(&["create", "dockers", "--driver", "local"])?;
        let list = convoy.ok(&["snapshot", "list"])?;
        check(list.contains("snap2"), || list.clone())?;

        // What Docker removes behind convoy's back leaves its snapshots.
        engine.ok(&["volume", "rm", "dockers"])?;
        let gone = convoy.inspect("dockers")?.to_string();
        check(gone.contains("Docker has no such volume any more"), || gone.clone())?;
        let refused = convoy.refused(&["snapshot", "create", "dockers", "--name", "snap3"])?;
        check(refused.contains("only its snapshots are left"), || refused.clone())?;
        convoy.ok(&["delete", "dockers"])?;
        check(convoy.names()?.is_empty(), || "something is left".to_owned())
    })
}

#[test]
fn what_is_no_data_is_told_and_left_alone() -> Result<()> {
    Lab::run(|lab| {
        let (convoy, engine) = both(lab)?;
        let dir = lab.make("real")?;
        let link = lab.path("link");
        symlink(&dir, &link).during(|| "make a link".to_owned())?;
        let file = lab.path("file");
        fs::write(&file, "x").during(|| "make a file".to_owned())?;
        let options = ["-o", "type=nfs", "-o", "o=addr=127.0.0.1,password=secret", "-o", "device=:/nowhere"];
        engine.ok(&[&["volume", "create"][..], &options, &["nfs"]].concat())?;
        let device = format!("device={}", dir.display());
        engine.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"])?;
        let root = convoy.setup().root.display().to_string();
        let mounts = ["/proc", "/sys", "/etc", &root, &link.to_string_lossy(), &file.to_string_lossy()]
            .map(|path| format!("{path}:{path}2:ro"));
        let mut words = vec!["create", "--network", "none", "--name", "many"];
        for mount in &mounts {
            words.extend(["-v", mount]);
        }
        words.extend([IMAGE, "/bin/true"]);
        engine.ok(&words)?;
        assert_eq!(path_of(&convoy, "bound")?, dir.display().to_string());
        patience::until("the volume in the list", SEEN, || Ok(convoy.names()? == ["bound"]))?;
        let told = convoy.run(&["doctor", "--output", "json"])?;
        for (what, why) in [
            ("volume nfs", "of type"),
            ("bind mount /proc", "directory of the system as a whole"),
            ("bind mount /etc", "directory of the system as a whole"),
            (&*format!("bind mount {root}"), "convoy's own directory"),
            (&*format!("bind mount {}", link.display()), "symbolic link"),
            (&*format!("bind mount {}", file.display()), "it is a file"),
        ] {
            let said = told.stdout.contains(&format!("\"{what}\"")) && told.stdout.contains(why);
            check(said, || format!("{what}, {why}: {}", told.stdout))?;
        }
        check(!told.stdout.contains("secret"), || "a password is told".to_owned())
    })
}

#[test]
fn it_waits_for_an_engine_and_says_so() -> Result<()> {
    Lab::run(|lab| {
        let (mut convoy, mut engine) = both(lab)?;
        engine.ok(&["volume", "create", "data"])?;
        path_of(&convoy, "data")?;
        convoy.stop()?;
        engine.stop()?;
        convoy.start_again()?;
        let told = convoy.run(&["doctor", "--output", "json"])?.stdout;
        check(told.contains("cannot ask Docker at"), || told.clone())?;
        convoy.ok(&["create", "other"])?;
        engine.start_again()?;
        patience::until("the volume in the list", SEEN, || Ok(convoy.names()? == ["data", "other"]))
    })
}

#[test]
fn the_driver_keeps_the_rules_of_the_protocol() -> Result<()> {
    Lab::run(|lab| {
        // Docker asks its plugins for volumes: one that is there answers at once.
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let engine = Engine::start(lab, &convoy.setup().socket)?;
        let bin = programs::directory()?;
        let mut command = Command::new(programs::convoy()?);
        command
            .args(["driver", "test", "process:local", "--kills", "2", "--output", "table", "--option"])
            .arg(format!("local.docker=unix://{}", engine.socket().display()))
            .arg("--work")
            .arg(lab.make("kit")?)
            .arg("--driver-path")
            .arg(&bin);
        // Longer than other commands may take.
        let tested = command.output().during(|| "run the kit".to_owned())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        println!("{}", text(&tested.stdout));
        check(tested.status.success(), || format!("{}{}", text(&tested.stdout), text(&tested.stderr)))
    })
}

#[test]
fn podman_answers_the_same_questions() -> Result<()> {
    Lab::run_on_disk(|lab| {
        let socket = lab.path("podman.sock");
        let podman = |words: &[&str]| {
            let mut command = Command::new("podman");
            command.arg("--root").arg(lab.path("pod")).arg("--runroot").arg(lab.path("podrun"));
            command.args(["--storage-driver", "vfs"]).args(words);
            command
        };
        let address = format!("unix://{}", socket.display());
        let mut service = podman(&["system", "service", "--time", "0", &address]);
        lab.origin().mark(&mut service);
        let mut service = Child::start(&mut service, &lab.path("podman.log"))?;
        patience::until("Podman's socket", SEEN, || Ok(UnixStream::connect(&socket).is_ok()))?;
        let option = format!("local.docker={address}");
        let flags = ["--drivers", "builtin:local", "--driver-opts", &option];
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&flags).start()?;
        run::capture(&mut podman(&["volume", "create", "data"]))?.ok()?;
        let place = |volume: &str| -> Result<PathBuf> {
            let words = ["volume", "inspect", "--format", "{{.Mountpoint}}", volume];
            run::capture(&mut podman(&words))?.ok().map(PathBuf::from)
        };
        let data = place("data")?;
        fill(&data)?;
        assert_eq!(path_of(&convoy, "data")?, data.display().to_string());
        convoy.ok(&["snapshot", "create", "data", "--name", "monday"])?;
        let whole = tree::describe(&data)?;
        convoy.ok(&["snapshot", "clone", "monday", "copy"])?;
        assert_eq!(tree::describe(&place("copy")?)?, whole);
        convoy.ok(&["delete", "copy"])?;
        let refused = convoy.refused(&["delete", "data"])?;
        check(refused.contains("docker volume rm data"), || refused.clone())?;
        service.stop().map(drop)
    })
}
