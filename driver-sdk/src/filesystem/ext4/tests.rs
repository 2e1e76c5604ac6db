//! On real loop devices and the real kernel; run as root.

use super::*;
use crate::filesystem::tests::{Disk, MIB};
use crate::filesystem::{grow, mkfs, mkfs_anew, unmount};
use std::time::Instant;

/// The size of an ext4, in blocks.
fn ext4_blocks(device: &Path) -> String {
    let told = Command::new("tune2fs").arg("-l").arg(device).run(&Context::default()).unwrap().text();
    told.lines().find_map(|line| line.strip_prefix("Block count:")).unwrap().trim().to_owned()
}

#[test]
fn growing_that_was_cut_off_is_finished_and_other_damage_left_to_a_person() {
    let (disk, context) = (Disk::new(32 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    disk.mount(FsKind::Ext4);
    std::fs::write(disk.mountpoint().join("file"), vec![7; 3 << 20]).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    // As resize2fs leaves it: the inode of reserved descriptors speaks of blocks that the superblock does not
    // know yet.
    let damage = || {
        let request = "set_inode_field <7> block[DIND] 99999";
        Command::new("debugfs").args(["-w", "-R", request]).arg(&disk.device).run(&context).unwrap();
    };
    damage();
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    Mark::Growing.write(&disk.device, &context).unwrap();
    disk.enlarge(64 * MIB);
    grow(FsKind::Ext4, &disk.device, None, &context).unwrap();
    assert_eq!(ext4_blocks(&disk.device), "65536");
    damage();
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "it was grown, and is damaged by something else: {error}");

    // Used since then: what is wrong now is nothing that resize2fs did.
    mkfs_anew(FsKind::Ext4, &disk.device, &context).unwrap();
    Mark::Growing.write(&disk.device, &context).unwrap();
    disk.mount(FsKind::Ext4);
    std::fs::write(disk.mountpoint().join("file"), "content").unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    damage();
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
}

const CHECK: &[&str] = &["e2fsck", "-f", "-p"];
const RESIZE: &[&str] = &["resize2fs"];
const REPAIR: &[&str] = &["e2fsck", "-f", "-y"];

/// Runs one of these on a device and kills it as it enters its `at`th `call`. Whether it was killed.
fn killed_at(call: &str, at: usize, program: &[&str], device: &Path) -> bool {
    killed_with("", call, at, program, device)
}

/// The same, with something to read on standard input.
fn killed_with(stdin: &str, call: &str, at: usize, program: &[&str], device: &Path) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    let mut strace = std::process::Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={at}")]);
    let mut input = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut input, stdin.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut input).unwrap();
    let ended = strace.args(program).arg(device).stdin(input).output().unwrap().status;
    // strace ends as what it traced.
    ended.signal() == Some(9) || ended.code() == Some(137)
}

/// An ext4 with a file, in a device that has grown, and the program that has to go on with it.
fn prepared(options: &[&str], program: &[&str], content: &[u8]) -> Disk {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    let run = |line: &[&str]| {
        let command = Command::new(line[0]).accept(1).args(&line[1..]).arg(&disk.device);
        command.run(&context).unwrap();
    };
    run(&[&["mkfs.ext4", "-q", "-F"], options].concat());
    disk.mount(FsKind::Ext4);
    std::fs::write(disk.mountpoint().join("file"), content).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    run(CHECK);
    disk.enlarge(64 * MIB);
    let mark = if program == CHECK { Mark::Checking } else { Mark::Growing };
    mark.write(&disk.device, &context).unwrap();
    if program == CHECK {
        // Not unmounted, so that there is something to write.
        run(&["debugfs", "-w", "-R", "set_super_value state 0"]);
    }
    if program == REPAIR {
        // There are fewer of fewer groups.
        let at = if options.contains(&"4096") { 5 } else { 20 };
        assert!(killed_at("pwrite64", at, RESIZE, &disk.device));
    }
    disk
}

#[test]
fn an_ext4_grows_over_kills_at_every_write() {
    // Without checksums, too, as it was made before there were any.
    grow_over_kills(&[&["-b", "1024"], &["-b", "1024", "-O", "^metadata_csum"]]);
}

/// It has no other superblock. It grows within its group, and to several.
#[test]
fn an_ext4_of_one_group_grows_over_kills_at_every_write() {
    grow_over_kills(&[&["-b", "4096"], &["-b", "4096", "-g", "8192"]]);
}

/// `made`: with which options.
fn grow_over_kills(made: &[&[&str]]) {
    let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let context = Context::default();
    for options in made {
        for program in [CHECK, RESIZE, REPAIR] {
            let base = prepared(options, program, &content);
            // The superblock is written with `write`, tables and the other superblocks with `pwrite64`, many
            // of them alike.
            for (call, step) in [("write", 1), ("pwrite64", 23)] {
                for at in (1..).step_by(step) {
                    let disk = base.copy();
                    if !killed_at(call, at, program, &disk.device) {
                        assert!(at > 1, "{program:?} does not {call}");
                        break;
                    }
                    let what = format!("{program:?} {options:?}, killed at {call} {at}");
                    assert!(is_unfinished(&disk.device), "{what}");
                    if at % 2 == 0 {
                        grow(FsKind::Ext4, &disk.device, None, &context)
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert!(!is_unfinished(&disk.device), "{what}");
                    }
                    disk.mount(FsKind::Ext4);
                    assert!(std::fs::read(disk.mountpoint().join("file")).unwrap() == content, "{what}");
                    unmount(&disk.mountpoint(), None, &context).unwrap();
                    assert!(!is_unfinished(&disk.device), "{what}");
                    Command::new("e2fsck").args(["-f", "-n"]).arg(&disk.device).run(&context).unwrap();
                    let blocks = if options.contains(&"4096") { "16384" } else { "65536" };
                    assert_eq!(ext4_blocks(&disk.device), blocks, "{what}");
                }
            }
        }
    }
}

/// Between any two of the marks, and where a mark was cut off.
#[test]
fn a_mark_is_written_over_kills_at_every_write() {
    let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 241) as u8).collect();
    let debugfs = [&["debugfs"], &DEBUGFS[..]].concat();
    for options in [&["-b", "1024"][..], &["-b", "1024", "-O", "^metadata_csum"]] {
        let base = prepared(options, RESIZE, &content);
        for (from, to) in [
            (None, Mark::Checking),
            (Some(Mark::Checking), Mark::Growing),
            (Some(Mark::Growing), Mark::Growing),
            (Some(Mark::Growing), Mark::Done),
        ] {
            for call in ["write", "pwrite64"] {
                for at in 1.. {
                    let (disk, context) = (base.copy(), Context::default());
                    match from {
                        Some(mark) => mark.write(&disk.device, &context).unwrap(),
                        // As it was mounted last.
                        None => {
                            let tune2fs = Command::new("tune2fs").args(["-M", "/C:/is/a/path"]);
                            tune2fs.arg(&disk.device).run(&context).unwrap();
                        }
                    }
                    if from == Some(to) {
                        // Its time of writing alone, so that the checksum is wrong.
                        let file = File::options().write(true).open(&disk.device).unwrap();
                        std::os::unix::fs::FileExt::write_all_at(&file, &[1, 2], 1024 + 0x30).unwrap();
                    }
                    let commands = to.commands(read(&disk.device).unwrap().written());
                    if !killed_with(&commands, call, at, &debugfs, &disk.device) {
                        break;
                    }
                    let what = format!("{from:?} to {to:?}, {options:?}, killed at {call} {at}");
                    disk.mount(FsKind::Ext4);
                    assert!(std::fs::read(disk.mountpoint().join("file")).unwrap() == content, "{what}");
                    unmount(&disk.mountpoint(), None, &context).unwrap();
                    assert!(!is_unfinished(&disk.device), "{what}");
                    Command::new("e2fsck").args(["-f", "-n"]).arg(&disk.device).run(&context).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_check_that_could_not_begin_stands_in_no_mounts_way() {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    let over = Context::default().with_deadline(Some(std::time::Instant::now()));
    assert_eq!(grow_unmounted(&disk.device, &over).unwrap_err().kind, ErrorKind::DeadlineExceeded);
    disk.mount(FsKind::Ext4);
    assert!(!is_unfinished(&disk.device));
    unmount(&disk.mountpoint(), None, &context).unwrap();
    // What is being grown has to be repaired before that.
    Mark::Growing.write(&disk.device, &context).unwrap();
    grow_unmounted(&disk.device, &over).unwrap_err();
    assert!(is_unfinished(&disk.device));
    disk.mount(FsKind::Ext4);
    assert!(!is_unfinished(&disk.device));
}

/// Not a test of its own: the driver that the next one kills.
#[test]
fn grows_the_device_that_it_is_told() {
    if let Some(device) = std::env::var_os("CONVOY_TEST_GROW") {
        grow(FsKind::Ext4, Path::new(&device), None, &Context::default()).unwrap();
    }
}

#[test]
fn growing_goes_on_when_the_driver_is_killed_and_the_next_life_waits() {
    let (disk, context) = (Disk::new(32 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    disk.mount(FsKind::Ext4);
    std::fs::write(disk.mountpoint().join("file"), vec![7; 3 << 20]).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    disk.enlarge(64 * MIB);
    // A resize2fs that waits before it begins, and says what it does. Its writing must not end it either.
    let [programs, started, go, ended] =
        ["programs", "started", "go", "ended"].map(|name| disk.dir.path().join(name));
    std::fs::create_dir(&programs).unwrap();
    let script = format!(
        "#!/bin/sh\necho $$ > {0}/new; mv {0}/new {1}\nwhile [ -e {1} -a ! -e {2} ]; do sleep 0.01; \
         done\necho goes on\n\
         PATH=${{PATH#*:}} resize2fs \"$@\" && touch {3}\n",
        programs.display(),
        started.display(),
        go.display(),
        ended.display()
    );
    let path = programs.join("resize2fs");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let search = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut driver = std::process::Command::new(std::env::current_exe().unwrap());
    driver.args(["--exact", "filesystem::ext4::tests::grows_the_device_that_it_is_told"]);
    let mut driver = driver.env("PATH", search).env("CONVOY_TEST_GROW", &disk.device).spawn().unwrap();
    while !started.exists() {
        assert!(driver.try_wait().unwrap().is_none(), "it ended before its time");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    driver.kill().unwrap();
    driver.wait().unwrap();

    // The next life: neither grows nor mounts meanwhile, and says why.
    let soon = Instant::now() + std::time::Duration::from_millis(300);
    let error = grow_unmounted(&disk.device, &Context::default().with_deadline(Some(soon))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded, "{error}");
    assert!(error.message.contains("since before"), "{error}");
    std::fs::write(&go, "").unwrap();
    disk.mount(FsKind::Ext4);
    assert!(ended.exists(), "it was ended, or was not waited for");
    assert!(std::fs::read(disk.mountpoint().join("file")).unwrap() == vec![7; 3 << 20]);
    unmount(&disk.mountpoint(), None, &context).unwrap();
    assert_eq!(ext4_blocks(&disk.device), "65536");
    Command::new("e2fsck").args(["-f", "-n"]).arg(&disk.device).run(&context).unwrap();
}

#[test]
fn a_call_that_ends_first_leaves_what_it_began_running() {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    let lock = lock(&disk.device, &context).unwrap();
    let done = disk.dir.path().join("done");
    let script = format!("sleep 1; touch {}", done.display());
    let slow = Command::new("sh").args(["-c", &script]).outlives(&lock);
    drop(lock);
    let soon = Context::default().with_deadline(Some(Instant::now() + std::time::Duration::from_millis(100)));
    let error = slow.run(&soon).unwrap_err();
    assert!(matches!(error, CommandError::GoesOn { .. }), "{error}");
    assert!(!done.exists());
    // The command has the lock open, too.
    drop(slow);
    super::lock(&disk.device, &context).unwrap();
    assert!(done.exists());
}

#[test]
fn a_superblock_that_nobody_was_writing_is_left_to_a_person() {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    let whole = Superblock::read(&disk.device).unwrap().unwrap();
    assert!(whole.is_whole() && whole.last_mounted() == b"");
    // The volume's name, which says nothing about blocks.
    let file = std::fs::File::options().write(true).open(&disk.device).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", 1024 + 0x78).unwrap();
    drop(file);
    assert!(!Superblock::read(&disk.device).unwrap().unwrap().is_whole());
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    assert!(error.message.contains("checksum"), "{error}");
    assert!(!Superblock::read(&disk.device).unwrap().unwrap().is_whole(), "it was touched");
}

#[test]
fn what_is_no_ext4_has_no_superblock() {
    let (disk, context) = (Disk::new(320 * MIB), Context::default());
    assert!(Superblock::read(&disk.device).unwrap().is_none());
    mkfs(FsKind::Xfs, &disk.device, &context).unwrap();
    assert!(Superblock::read(&disk.device).unwrap().is_none());
    assert!(!is_unfinished(&disk.device));
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    let short = disk.dir.path().join("short");
    std::fs::write(&short, "short").unwrap();
    assert!(Superblock::read(&short).unwrap().is_none());
    assert!(Superblock::read(&disk.dir.path().join("none")).is_err());
}
