//! Drivers on a real kernel: devicemapper, and vfs on NFS and with quotas of projects. Every test boots a machine: `cargo xtask test` runs some at once, as does
//! `cargo nextest run -p convoy-vm-tests --features vm`.

// The helpers are parts of tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use convoy_vm_tests::vm::{Outcome, Vm};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const GUEST: &str = env!("CARGO_BIN_EXE_convoy-vm-guest");
const MIB: u64 = 1 << 20;

/// Sparse disks in a directory of their own, gone with it.
struct Disks {
    dir: TempDir,
    images: Vec<PathBuf>,
}

impl Disks {
    fn new(sizes_mib: &[u64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = sizes_mib
            .iter()
            .enumerate()
            .map(|(number, mib)| {
                let path = dir.path().join(format!("disk{number}"));
                std::fs::File::create(&path).unwrap().set_len(mib * MIB).unwrap();
                path
            })
            .collect();
        Self { dir, images }
    }

    fn vm(&self) -> Vm {
        self.images.iter().fold(Vm::default(), |vm, image| vm.disk(image))
    }
}

/// Runs a scenario; it must pass.
fn pass(vm: Vm, args: &[&str]) -> Outcome {
    let outcome = vm.run(Path::new(GUEST), args).unwrap_or_else(|error| panic!("{error}"));
    println!("{}{:.1} s in all", outcome.output, outcome.elapsed.as_secs_f32());
    assert_eq!(outcome.status, 0, "see above");
    outcome
}

#[test]
fn everyday_on_ext4() {
    pass(Disks::new(&[512, 64]).vm(), &["everyday", "ext4"]);
}

#[test]
fn everyday_on_xfs() {
    pass(Disks::new(&[1536, 64]).vm(), &["everyday", "xfs"]);
}

#[test]
fn everyday_on_btrfs() {
    pass(Disks::new(&[1024, 64]).vm(), &["everyday", "btrfs"]);
}

#[test]
fn everyday_with_udev() {
    pass(Disks::new(&[512, 64]).vm().udev(), &["udev"]);
}

#[test]
fn volumes_in_another_mount_namespace() {
    pass(Disks::new(&[1024, 64]).vm(), &["namespace"]);
}

#[test]
fn through_both_carriers() {
    pass(Disks::new(&[512, 64]).vm(), &["carriers"]);
}

#[test]
fn the_rules_of_the_protocol() {
    pass(Disks::new(&[1024, 64]).vm(), &["kit"]);
}

#[test]
fn disks_and_loop_files_are_prepared() {
    pass(Disks::new(&[512, 64]).vm(), &["prepare"]);
}

#[test]
fn the_state_and_pool_of_0_5_are_taken_over() {
    pass(Disks::new(&[512, 64]).vm(), &["takeover"]);
}

#[test]
fn a_reboot_brings_everything_back() {
    let disks = Disks::new(&[1024, 64, 64]);
    pass(disks.vm(), &["before-reboot"]);
    pass(disks.vm(), &["after-reboot"]);
}

#[test]
fn what_a_crash_leaves_is_settled_and_strangers_are_left_alone() {
    pass(Disks::new(&[192, 16, 16]).vm(), &["recovery"]);
}

#[test]
fn a_full_pool_warns_refuses_grows_and_goes_on() {
    pass(Disks::new(&[]).vm(), &["full"]);
}

#[test]
fn failing_devices_are_told_and_survived() {
    pass(Disks::new(&[512, 64, 64]).vm(), &["failing"]);
}

#[test]
fn behind_the_daemon() {
    pass(Disks::new(&[1024, 64]).vm().limit(Duration::from_secs(540)), &["service"]);
}

#[test]
fn under_containers() {
    pass(Disks::new(&[1024, 64]).vm(), &["docker"]);
}

#[test]
fn a_thousand_volumes_with_ten_thousand_snapshots() {
    pass(Disks::new(&[512, 128]).vm(), &["scale"]);
}

/// Many cuts in one life of the machine: a disk that drops what is written to it.
#[test]
fn a_disk_that_loses_writes_costs_nothing_that_was_acknowledged() {
    pass(Disks::new(&[1024]).vm(), &["cuts", "3"]);
}

#[test]
fn a_killed_driver_loses_nothing_it_acknowledged() {
    pass(Disks::new(&[1024, 64]).vm(), &["crash", "6"]);
}

#[test]
fn two_hosts_share_volumes_on_nfs() {
    pass(Disks::new(&[128]).vm(), &["nfs"]);
}

#[test]
fn sizes_of_directories_are_enforced_on_ext4() {
    pass(Disks::new(&[256]).vm().limit(Duration::from_secs(540)), &["quotas", "ext4"]);
}

#[test]
fn sizes_of_directories_are_enforced_on_xfs() {
    pass(Disks::new(&[512]).vm().limit(Duration::from_secs(540)), &["quotas", "xfs"]);
}

#[test]
fn a_server_that_hangs_costs_only_its_own_volumes() {
    pass(Disks::new(&[128, 512, 64]).vm().limit(Duration::from_secs(540)), &["hung"]);
}

#[test]
fn a_clock_that_jumps_breaks_nothing() {
    pass(Disks::new(&[]).vm(), &["clock"]);
}

/// The power goes at random moments of a storm; every next boot finds what had been acknowledged.
#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let disks = Disks::new(&[1024, 64, 64]);
    let share = disks.dir.path().join("share");
    std::fs::create_dir(&share).unwrap();
    let vm = || disks.vm().share(&share).variable("CONVOY_VM_SHARE", &share.display().to_string());
    let mut cut = Duration::from_millis(300);
    for seed in 1..=4u32 {
        let running = vm().start(Path::new(GUEST), &["power", &seed.to_string()]).unwrap();
        let begun = Instant::now();
        while !running.output().contains("storm begins") {
            assert!(!running.output().contains("FAILED"), "{}", running.output());
            assert!(begun.elapsed() < Duration::from_secs(120), "no storm: {}", running.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(cut);
        // Between a third of a second and five, never in step with anything.
        cut = (cut * 17 / 10 + Duration::from_millis(137)).min(Duration::from_secs(5));
        let log = running.cut_power();
        println!("cut {seed}: {} operations", log.lines().filter(|line| line.starts_with("ok ")).count());
        std::fs::write(share.join("log"), log).unwrap();
    }
    pass(vm(), &["power", "0"]);
}

#[test]
fn a_machine_that_is_stuck_says_what_it_is_busy_with() {
    let vm = Vm::default().limit(Duration::from_secs(30));
    let error = vm.run(Path::new("/bin/busybox"), &["sleep", "1234"]).unwrap_err().to_string();
    assert!(error.contains("sleep 1234") && error.contains("nanosleep"), "{error}");
}
