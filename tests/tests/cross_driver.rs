//! Files go from a block volume into a directory and back: a backup of a snapshot's files, whatever the
//! driver keeps them on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use convoy_tests::error::{Context, Error, check};
use convoy_tests::{Blocks, Lab, Result, Storage, leaks, patience, run, tree};

/// What both kinds of file system say of a tree. XFS shows its ACLs under names of its own as well.
fn described(top: &Path) -> Result<String> {
    let mut text = String::new();
    for line in tree::describe(top)?.lines() {
        let (before, after) = line.split_once(" trusted.SGI_ACL_").unwrap_or((line, ""));
        let rest =
            [" user.", " same-as="].iter().find_map(|part| after.find(part)).map_or("", |at| &after[at..]);
        text.push_str(&format!("{before}{rest}\n"));
    }
    Ok(text)
}

/// Two trees are the same.
fn same(what: &str, found: &str, expected: &str) -> Result<()> {
    let only = |these: &str, those: &str| {
        let lines = these.lines().filter(|line| !those.lines().any(|other| other == *line));
        lines.take(5).collect::<Vec<_>>().join("\n")
    };
    check(found == expected, || {
        format!("{what}: found\n{}\nexpected\n{}", only(found, expected), only(expected, found))
    })
}

fn shell(place: &Path, script: &str) -> Result<()> {
    run::capture(Command::new("sh").args(["-ec", script]).current_dir(place))?.ok().map(|_| ())
}

/// What both kinds of volume can hold: owners, modes, times, attributes, lists, links, holes, devices.
const FILL: &str = "echo x > f; chown 12345:23456 f; chmod 4751 f; setfattr -n user.k -v v f; setfacl -m u:4321:rx f; \
    touch -d '2001-02-03 04:05:06.789012345 UTC' f; ln f hard; ln -s /nowhere/at/all sym; mkdir -m 2750 d; \
    setfacl -d -m g:99:rwx d; mkfifo -m 640 fifo; mknod cdev c 1 3; mkdir -p deep/a/b; truncate -s 8M hole; \
    for n in $(seq 300); do echo $n > deep/a/$n; done; head -c 12000000 /dev/urandom > big; \
    head -c 300000 /dev/urandom > same; touch -d '2020-02-20 20:20:20.20202 UTC' d deep; chmod 3771 .";
/// In place, its size and time as before: noticed all the same.
const CHANGE: &str = "printf changed | dd of=same conv=notrunc bs=1 seek=1000 2> /dev/null; touch -r f same; echo new > deep/new; rm hard";

/// The place where files of snapshots are handed over.
fn trees(world: &Blocks) -> PathBuf {
    world.convoy.setup().root.join("loop/trees")
}

/// Nothing is left of any reading.
fn nothing_is_open(world: &Blocks, storage: &Storage) -> Result<()> {
    let trees = trees(world);
    let mounted = leaks::mounts(&trees)?.len();
    let places = if trees.exists() { tree::names(&trees)? } else { Vec::new() };
    let left = places.len() + tree::names(&storage.path().join("work"))?.len();
    check(mounted == 0 && left == 0, || format!("{mounted} mounts and {left} places or images are left"))
}

fn files_move(fs: &str, size: &str) -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--driver", "loop", "--size", size, "--opt", &format!("fs={fs}")])?;
        let place = world.mount("db")?;
        shell(&place, FILL)?;
        // Files that changed in the two whole seconds before that of a snapshot, or in that, are read again
        // for the next.
        thread::sleep(Duration::from_millis(3100));
        // In use, and not frozen: there is a journal to be replayed.
        world.snapshot("db", "monday")?;
        let monday = (world.back_up("monday", &["--as", "tree"])?, described(&place)?);
        let full = world.stored()?;
        shell(&place, CHANGE)?;
        world.snapshot("db", "tuesday")?;
        let tuesday = (world.back_up("tuesday", &["--as", "tree"])?, described(&place)?);
        let added = world.stored()? - full;
        // Files that are as they were are not read.
        let log = fs::read_to_string(&world.convoy.setup().log).during(|| "the log".to_owned())?;
        let read = log.lines().rev().find_map(|line| line.split(" read=").nth(1));
        let read = read.and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        check(read.is_some_and(|bytes| bytes < 1_000_000), || format!("{read:?} bytes were read"))?;
        check(full > 12_000_000 && added < 1_000_000, || format!("{full} bytes, then {added}"))?;
        // Backups of blocks and of files in turn, each on its own kind: a change of 400 KB each time.
        shell(&place, "head -c 400000 /dev/urandom > more")?;
        world.snapshot("db", "wednesday")?;
        let blocks = (world.back_up("wednesday", &["--as", "block"])?, described(&place)?);
        shell(&place, "head -c 400000 /dev/urandom > yet-more")?;
        world.snapshot("db", "thursday")?;
        let before = world.stored()?;
        let thursday = (world.back_up("thursday", &["--as", "tree"])?, described(&place)?);
        let more_blocks = (world.back_up("thursday", &["--as", "block"])?, thursday.1.clone());
        let added = world.stored()? - before;
        check(added < 4_000_000, || format!("{added} bytes for a change of 400,000, twice"))?;
        convoy.ok(&["umount", "db"])?;
        nothing_is_open(&world, &storage)?;
        convoy.ok(&["delete", "db"])?;

        for (number, (url, expected)) in [&monday, &tuesday, &thursday].into_iter().enumerate() {
            let (directory, device) = (format!("directory{number}"), format!("device{number}"));
            convoy.ok(&["create", &directory, "--driver", "vfs", "--backup", url])?;
            let found = described(&convoy.setup().volumes.join(&directory))?;
            same("in a directory", &found, expected)?;
            // And from there into a device again.
            world.snapshot(&directory, &format!("of-{directory}"))?;
            let again = world.back_up(&format!("of-{directory}"), &["--as", "tree"])?;
            convoy.ok(&["create", &device, "--driver", "loop", "--size", size, "--backup", &again])?;
            let found = world.describe(&device, described)?;
            same("on a device again", &found, expected)?;
        }
        // With no driver named it is the one that the backup was made with.
        convoy.ok(&["create", "same-kind", "--size", size, "--backup", &tuesday.0])?;
        let info = convoy.inspect("same-kind")?;
        let kind = info.pointer("/DriverInfo/FileSystem").and_then(|text| text.as_str());
        check(kind == Some(fs), || format!("{info}"))?;
        same("with no driver named", &world.describe("same-kind", described)?, &tuesday.1)?;
        for (number, (url, expected)) in [&blocks, &more_blocks].into_iter().enumerate() {
            let name = format!("blocks{number}");
            convoy.ok(&["create", &name, "--backup", url])?;
            same(&name, &world.describe(&name, described)?, expected)?;
        }
        let verified = convoy.ok(&["backup", "verify", &world.destination, "--read-data"])?;
        check(verified.contains("\"Problems\": []"), || verified.clone())
    })
}

#[test]
fn files_move_between_ext4_and_directories() -> Result<()> {
    files_move("ext4", "128M")
}

#[test]
fn files_move_between_xfs_and_directories() -> Result<()> {
    files_move("xfs", "300M")
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "files", "--driver", "vfs"])?;
        convoy.ok(&["create", "db", "--driver", "loop", "--size", "16M"])?;
        for volume in ["files", "db"] {
            world.snapshot(volume, &format!("of-{volume}"))?;
        }
        let refused = |snapshot: &str, more: &[&str], says: &str| {
            let text = convoy.refused(&world.backing_up(snapshot, more))?;
            check(text.contains(says), || format!("{says:?} is not in: {text}"))
        };
        refused("of-files", &["--as", "block"], "driver vfs does not support a backup as a block device")?;
        refused("of-db", &["--as", "tree", "--format", "v0"], "convoy 0.5 restores only")?;
        refused("of-db", &["--as", "files"], "tree, block")?;
        let listed = convoy.refused(&["backup", "list", &world.destination])?;
        check(listed.contains("there never were"), || listed.clone())?;
        // More than fits is told, and leaves nothing behind.
        shell(&convoy.setup().volumes.join("files"), "head -c 20000000 /dev/urandom > much")?;
        world.snapshot("files", "much")?;
        let url = world.back_up("much", &["--as", "tree"])?;
        let full =
            convoy.refused(&["create", "small", "--driver", "loop", "--size", "16M", "--backup", &url])?;
        check(full.to_lowercase().contains("no space"), || full.clone())?;
        check(!convoy.names()?.contains(&"small".to_owned()), || "it is there".to_owned())?;
        nothing_is_open(&world, &storage)
    })
}

/// Waits until the files of a snapshot are mounted.
fn until_mounted(trees: &Path) -> Result<()> {
    patience::until("a snapshot to be mounted", Duration::from_secs(60), || {
        Ok(!leaks::mounts(trees)?.is_empty())
    })
}

/// The process of the driver.
fn driver_of(daemon: u32) -> Result<u32> {
    let what = || "the processes".to_owned();
    for entry in fs::read_dir("/proc").during(what)? {
        let path = entry.during(what)?.path();
        let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
        // After the name, which ends with the last parenthesis: state, then parent.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
        if parent == Some(daemon.to_string().as_str()) && command.contains("convoy-driver-loop") {
            let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            return id.ok_or_else(|| Error::Unexpected(path.display().to_string()));
        }
    }
    Err(Error::Unexpected("the driver has no process".to_owned()))
}

#[test]
fn nothing_stays_mounted_after_a_kill() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let mut world = Blocks::start(lab, &storage)?;
        world.convoy.ok(&["create", "db", "--driver", "loop", "--size", "128M"])?;
        let place = world.mount("db")?;
        // Slow to compress: a backup takes long enough to be killed in its midst.
        shell(&place, "for n in $(seq 40); do seq $n 7 2000000 | head -c 1500000 > $n; done")?;
        let expected = described(&place)?;
        world.snapshot("db", "snap")?;
        let trees = trees(&world);
        let slowly = |world: &Blocks| -> Result<Command> {
            let words = world.backing_up("snap", &["--as", "tree", "--compression", "19"]);
            world.convoy.setup().client(&words)
        };
        for _ in 0..2 {
            let mut asked = slowly(&world)?;
            thread::scope(|scope| {
                let asked = scope.spawn(move || run::capture(&mut asked));
                let killed = until_mounted(&trees).and_then(|()| world.convoy.kill());
                let answer = asked.join().map_err(|_| Error::Unexpected("a panic".to_owned()))??;
                killed?;
                check(answer.ok().is_err(), || "the backup was done before the kill".to_owned())
            })?;
            world.convoy.start_again()?;
            nothing_is_open(&world, &storage)?;
        }
        // The driver alone is killed, and comes back while the daemon still reads: what is mounted stays
        // until it is read.
        let mut asked = slowly(&world)?;
        let answer = thread::scope(|scope| {
            let asked = scope.spawn(move || run::capture(&mut asked));
            let killed = until_mounted(&trees).and_then(|()| {
                // Whose snapshot it is nobody said.
                let jobs = world.convoy.ok(&["jobs"])?;
                check(jobs.contains("\"Volume\": \"db\""), || jobs.clone())?;
                let driver = driver_of(world.convoy.id())?;
                run::capture(Command::new("kill").args(["-9", &driver.to_string()]))?.ok().map(drop)
            });
            let answer = asked.join().map_err(|_| Error::Unexpected("a panic".to_owned()))?;
            killed.and(answer)
        })?;
        if let Ok(url) = answer.ok() {
            world.convoy.ok(&["create", "survived", "--driver", "vfs", "--backup", url.trim()])?;
            let found = described(&world.convoy.setup().volumes.join("survived"))?;
            same("a backup that was acknowledged", &found, &expected)?;
        }
        nothing_is_open(&world, &storage)?;
        let url = world.back_up("snap", &["--as", "tree"])?;
        world.convoy.ok(&["create", "copy", "--driver", "vfs", "--backup", &url])?;
        let found = described(&world.convoy.setup().volumes.join("copy"))?;
        same("after kills", &found, &expected)?;
        world.convoy.ok(&["snapshot", "delete", "snap"])?;
        world.convoy.ok(&["umount", "db"])?;
        world.convoy.ok(&["delete", "db"])?;
        nothing_is_open(&world, &storage)
    })
}
