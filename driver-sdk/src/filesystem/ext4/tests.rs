//! On real loop devices and the real kernel; run as root.

use super::*;
use crate::filesystem::tests::{Disk, MIB};
use crate::filesystem::{grow, mkfs, mkfs_anew, unmount};

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
    // As resize2fs leaves it: the inode of reserved descriptors speaks of blocks that the superblock does not know yet.
    let damage = || {
        let request = "set_inode_field <7> block[DIND] 99999";
        Command::new("debugfs").args(["-w", "-R", request]).arg(&disk.device).run(&context).unwrap();
    };
    damage();
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    say(GROWING, &disk.device).unwrap();
    disk.enlarge(64 * MIB);
    grow(FsKind::Ext4, &disk.device, None, &context).unwrap();
    assert_eq!(ext4_blocks(&disk.device), "65536");
    damage();
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "it was grown, and is damaged by something else: {error}");

    // Used since then: what is wrong now is nothing that resize2fs did.
    mkfs_anew(FsKind::Ext4, &disk.device, &context).unwrap();
    say(GROWING, &disk.device).unwrap();
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
    use std::os::unix::process::ExitStatusExt as _;
    let mut strace = std::process::Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:signal=KILL:when={at}")]);
    let ended = strace.args(program).arg(device).output().unwrap().status;
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
    run(&[&["mkfs.ext4", "-q", "-F", "-b", "1024"], options].concat());
    disk.mount(FsKind::Ext4);
    std::fs::write(disk.mountpoint().join("file"), content).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    run(CHECK);
    disk.enlarge(64 * MIB);
    say(if program == CHECK { CHECKING } else { GROWING }, &disk.device).unwrap();
    if program == CHECK {
        // Not unmounted, so that there is something to write.
        run(&["debugfs", "-w", "-R", "set_super_value state 0"]);
    }
    if program == REPAIR {
        assert!(killed_at("pwrite64", 20, RESIZE, &disk.device));
    }
    disk
}

#[test]
fn an_ext4_grows_over_kills_at_every_write() {
    let content: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let context = Context::default();
    // Without checksums, too, as it was made before there were any.
    for options in [&[][..], &["-O", "^metadata_csum"]] {
        for program in [CHECK, RESIZE, REPAIR] {
            let base = prepared(options, program, &content);
            // The superblock is written with `write`, tables and the other superblocks with `pwrite64`, many of them alike.
            for (call, step) in [("write", 1), ("pwrite64", 9)] {
                for at in (1..).step_by(step) {
                    let disk = base.copy();
                    if !killed_at(call, at, program, &disk.device) {
                        assert!(at > 1, "{program:?} does not {call}");
                        break;
                    }
                    let what = format!("{program:?} {options:?}, killed at {call} {at}");
                    assert!(is_growing(&disk.device), "{what}");
                    if at % 2 == 0 {
                        grow(FsKind::Ext4, &disk.device, None, &context)
                            .unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert!(!is_growing(&disk.device), "{what}");
                    }
                    disk.mount(FsKind::Ext4);
                    assert!(std::fs::read(disk.mountpoint().join("file")).unwrap() == content, "{what}");
                    unmount(&disk.mountpoint(), None, &context).unwrap();
                    assert!(!is_growing(&disk.device), "{what}");
                    Command::new("e2fsck").args(["-f", "-n"]).arg(&disk.device).run(&context).unwrap();
                    assert_eq!(ext4_blocks(&disk.device), "65536", "{what}");
                }
            }
        }
    }
}

#[test]
fn a_check_that_was_ended_stands_in_no_mounts_way() {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    let over = Context::default().with_deadline(Some(std::time::Instant::now()));
    assert_eq!(check(&disk.device, &over).unwrap_err().kind, ErrorKind::DeadlineExceeded);
    assert!(!is_growing(&disk.device));
    // What is being grown has to be repaired before that.
    say(GROWING, &disk.device).unwrap();
    check(&disk.device, &over).unwrap_err();
    assert!(is_growing(&disk.device));
    disk.mount(FsKind::Ext4);
    assert!(!is_growing(&disk.device));
}

#[test]
fn a_superblock_that_nobody_was_writing_is_left_to_a_person() {
    let (disk, context) = (Disk::new(16 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    let whole = Superblock::read(&disk.device).unwrap().unwrap();
    assert!(whole.is_whole() && whole.was_at(""));
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
    assert!(!is_growing(&disk.device));
    let error = grow(FsKind::Ext4, &disk.device, None, &context).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    let short = disk.dir.path().join("short");
    std::fs::write(&short, "short").unwrap();
    assert!(Superblock::read(&short).unwrap().is_none());
    assert!(Superblock::read(&disk.dir.path().join("none")).is_err());
}
