//! What root in a container can leave in its volume, and what a start finds of it: it costs that volume, and
//! no start.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use convoy_driver_sdk::protocol::{Check, Finding, RevertVolume};
use rustix::fs::{CWD, IFlags, Mode, OFlags};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{Bed, Carrier, Client, builtin, name};

/// The place of the bed, for a child.
const PLACE: &str = "CONVOY_TEST_HOSTILE";

/// On a disk: file systems in memory have no flags.
fn bed(carrier: Carrier) -> Bed {
    Bed::on(carrier, Path::new(env!("CARGO_TARGET_TMPDIR")))
}

/// Directories inside each other; in each sixteenth a file.
fn chain(root: &Path, levels: usize, name: &str) {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut at: OwnedFd = rustix::fs::openat(CWD, root, flags, Mode::empty()).unwrap();
    for level in 0..levels {
        if level.is_multiple_of(16) {
            let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&at, "file", create, Mode::RUSR).unwrap();
        }
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, flags, Mode::empty()).unwrap();
    }
}

/// What a check says but for the room of the machine.
fn check(client: &Client, repair: bool) -> Vec<Finding> {
    let mut findings = client.call(Check::new().repair(repair)).unwrap().findings;
    findings.retain(|finding| !finding.message.ends_with("are free"));
    findings
}

fn waits_for(what: &str, done: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(300);
    while !done() {
        assert!(Instant::now() < give_up, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What is under way or was set aside.
fn left(bed: &Bed, dir: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(bed.config().join(dir)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Runs one of the ignored tests here as a process of its own, with the program before it if there is one.
fn child(bed: &Bed, test: &str, before: &[&str]) -> std::process::Output {
    fs::write(bed.path().join("open.json"), serde_json::to_vec(&bed.request()).unwrap()).unwrap();
    let exe = std::env::current_exe().unwrap();
    let words: Vec<_> = before.iter().map(PathBuf::from).chain([exe]).collect();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", &format!("hostile_container::{test}"), "--ignored"]);
    command.env(PLACE, bed.path()).output().unwrap()
}

/// In a child: the driver, opened where the parent has said.
fn opened() -> Option<Client> {
    let place = PathBuf::from(std::env::var_os(PLACE)?);
    let open = serde_json::from_slice(&fs::read(place.join("open.json")).unwrap()).unwrap();
    let client = builtin();
    client.open(open).unwrap();
    Some(client)
}

/// 4,000 directories with long names took 5 GiB in a snapshot once, and what was left of a delete of 6,000
/// ended each start in a cgroup of one GiB.
#[test]
fn a_very_deep_volume_is_snapshotted_reverted_and_deleted_in_256_mebibytes() {
    let bed = bed(builtin);
    let client = bed.open();
    client.create("deep").unwrap();
    client.close();
    chain(&bed.volume("deep"), 4000, &"d".repeat(255));
    let deleted = bed.config().join("work/host-1-1/volume.0-1.deleted/data");
    fs::create_dir_all(&deleted).unwrap();
    chain(&deleted, 6000, &"d".repeat(255));
    let out = child(&bed, "little_memory", &[]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    assert_eq!(bed.volume_dirs(), Vec::<String>::new());
    assert!(left(&bed, "work").is_empty() && left(&bed, "aside").is_empty(), "{:?}", bed.own_files());
}

#[test]
#[ignore = "run by another test, as a process of its own"]
fn little_memory() {
    let most = Some(256 << 20);
    setrlimit(Resource::Data, Rlimit { current: most, maximum: most }).unwrap();
    let Some(client) = opened() else { return };
    client.snapshot("deep", "one").unwrap();
    client.call(RevertVolume::new(name("deep"), name("one"))).unwrap();
    client.delete("deep", false).unwrap();
    let work = PathBuf::from(std::env::var_os(PLACE).unwrap()).join("volumes/config/work");
    waits_for("removing what was deleted", || {
        let homes = fs::read_dir(&work).unwrap().map(|home| fs::read_dir(home.unwrap().path()).unwrap());
        homes.flatten().all(|entry| !entry.unwrap().file_name().to_string_lossy().starts_with("trash."))
    });
    client.close();
}

#[test]
#[ignore = "run by another test, as a process to kill"]
fn only_open() {
    drop(opened());
}

#[test]
fn a_removal_that_ends_the_process_three_times_is_set_aside_and_told() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let bed = bed(builtin);
    let client = bed.open();
    client.create("other").unwrap();
    client.close();
    let data = bed.config().join("work/host-1-1/volume.0-1.web/data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("sub/file"), "0123456789").unwrap();
    let kill = "inject=unlinkat:signal=KILL";
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat", "-e", kill];
    for _ in 0..3 {
        assert!(!child(&bed, "only_open", &strace).status.success());
    }
    // Where nothing kills it the fourth start would remove it: it does not even try.
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert!(opened.warnings.iter().any(|line| line.contains("was set aside")), "{:?}", opened.warnings);
    client.get("other").unwrap();
    let told = check(&client, false);
    assert_eq!(told.len(), 1, "{told:#?}");
    let finding = &told[0];
    assert!(finding.message.starts_with("10 bytes of what was deleted"), "{finding:#?}");
    assert!(finding.repairable && finding.subject == "volume web", "{finding:#?}");
    client.close();
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    assert!(check(&client, true)[0].repaired);
    assert_eq!(check(&client, false), []);
    assert_eq!(left(&bed, "aside"), Vec::<PathBuf>::new());
}

pub(crate) fn settling_that_ends_the_process_three_times_costs_that_volume(carrier: Carrier) {
    let bed = bed(carrier);
    let client = bed.open();
    for volume in ["web", "other"] {
        client.create(volume).unwrap();
        fs::write(bed.volume(volume).join("file"), volume).unwrap();
    }
    client.close();
    // Both were being deleted; while the first was put back three processes ended.
    let record = fs::read_to_string(bed.config().join("vfs_volume_web.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let web = format!("volume.0-{}.web", record["Incarnation"].as_str().unwrap());
    let abandoned = bed.config().join("work/host-1-1");
    fs::create_dir_all(abandoned.join(&web)).unwrap();
    fs::rename(bed.volume("web"), abandoned.join(&web).join("data")).unwrap();
    let count = |deaths: u32| fs::write(abandoned.join("settling"), format!("{deaths} {web}")).unwrap();
    count(3);
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert!(opened.warnings.iter().any(|line| line.contains("was set aside")), "{:?}", opened.warnings);
    assert_eq!(fs::read(bed.volume("other").join("file")).unwrap(), b"other");
    let told = check(&client, true);
    let aside = told.iter().find(|one| one.message.contains("/aside/")).unwrap();
    assert!(aside.message.starts_with("3 bytes are at") && !aside.repaired, "{aside:#?}");
    // It may be all there is of the volume: no repair removes it.
    let [kept] = &left(&bed, "aside")[..] else { panic!("{told:#?}") };
    assert_eq!(fs::read(kept.join("data/file")).unwrap(), b"web");
    client.close();
    // After fewer it is put back.
    fs::create_dir_all(abandoned.join(&web)).unwrap();
    fs::rename(kept.join("data"), abandoned.join(&web).join("data")).unwrap();
    count(2);
    let (_client, opened) = bed.open_with(bed.request()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    assert_eq!(fs::read(bed.volume("web").join("file")).unwrap(), b"web");
}

pub(crate) fn what_cannot_be_removed_is_told_with_its_size_and_tried_once(carrier: Carrier) {
    let bed = bed(carrier);
    // Something that no flag explains: in use as a mount point.
    let data = bed.config().join("work/host-1-1/trash.0.0.web/data");
    // Root's alone, or the driver would shelter it with a mount that has what is mounted here once more.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data.join("used")).unwrap();
    fs::write(data.join("file"), "gone").unwrap();
    fs::create_dir_all(bed.path().join("empty")).unwrap();
    rustix::mount::mount_bind(bed.path().join("empty"), data.join("used")).unwrap();
    let client = bed.open();
    waits_for("setting aside", || left(&bed, "aside").len() == 1);
    client.close();
    let client = bed.open();
    let [aside] = &left(&bed, "aside")[..] else { panic!("it is nested, or moved again") };
    assert!(!aside.join("data/file").exists() && aside.join("data/used").exists());
    let told = check(&client, true);
    let [finding] = &told[..] else { panic!("{told:#?}") };
    let expected = ["bytes of what was deleted", "mount point", aside.to_str().unwrap()];
    assert!(expected.iter().all(|text| finding.message.contains(text)), "{finding:#?}");
    assert!(!finding.repaired && finding.hint.is_some(), "{finding:#?}");
    rustix::mount::unmount(aside.join("data/used"), rustix::mount::UnmountFlags::DETACH).unwrap();
    let told = check(&client, true);
    assert!(told[0].repaired, "{told:#?}");
    assert_eq!(left(&bed, "aside"), Vec::<PathBuf>::new());
}

fn set_flags(path: &Path, flags: IFlags) {
    let file = fs::File::open(path).unwrap();
    let now = rustix::fs::ioctl_getflags(&file).unwrap();
    rustix::fs::ioctl_setflags(&file, now | flags).unwrap();
}

pub(crate) fn immutable_volumes_are_deleted_and_go_back(carrier: Carrier) {
    let bed = bed(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    let lock = |volume: &Path| {
        fs::create_dir(volume.join("log")).unwrap();
        for file in ["fixed", "log/append"] {
            fs::write(volume.join(file), "data").unwrap();
        }
        set_flags(&volume.join("fixed"), IFlags::IMMUTABLE);
        set_flags(&volume.join("log/append"), IFlags::APPEND);
        set_flags(&volume.join("log"), IFlags::APPEND);
        set_flags(volume, IFlags::IMMUTABLE);
    };
    client.snapshot("vol1", "empty").unwrap();
    lock(&bed.volume("vol1"));
    client.call(RevertVolume::new(name("vol1"), name("empty"))).unwrap();
    assert_eq!(fs::read_dir(bed.volume("vol1")).unwrap().count(), 0);
    lock(&bed.volume("vol1"));
    client.delete("vol1", false).unwrap();
    assert!(!bed.volume("vol1").exists());
    client.close();
    assert_eq!(bed.own_files(), ["lock", "snapshots", "work"]);
}

/// `delete`, `create` and a crash before what was deleted is gone.
pub(crate) fn what_a_deleted_volume_had_does_not_come_back(carrier: Carrier) {
    let bed = bed(carrier);
    let client = bed.open();
    client.create("again").unwrap();
    client.snapshot("again", "weekly").unwrap();
    let record = fs::read_to_string(bed.config().join("vfs_volume_again.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let incarnation = record["Incarnation"].as_str().unwrap();
    let old = bed.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::rename(bed.config().join("snapshots/again"), old.join("snapshots")).unwrap();
    client.delete("again", false).unwrap();
    client.create("again").unwrap();
    client.close();
    // As this convoy leaves it, and as earlier ones did.
    for parcel in [format!("volume.0-{incarnation}.again"), "volume.1.again".to_owned()] {
        let abandoned = bed.config().join("work/host-1-1");
        fs::create_dir_all(&abandoned).unwrap();
        let copied = Command::new("cp").arg("-a").arg(&old).arg(abandoned.join(parcel)).status().unwrap();
        assert!(copied.success());
        let client = bed.open();
        assert!(!bed.config().join("snapshots/again").exists());
        assert_eq!(client.get("again").unwrap().snapshots, []);
        client.snapshot("again", "weekly").unwrap();
        client.drop_snapshot("again", "weekly").unwrap();
        client.close();
    }
}

pub(crate) fn a_directory_that_no_record_speaks_of_stops_no_snapshot(carrier: Carrier) {
    let bed = bed(carrier);
    let client = bed.open();
    client.create("vol1").unwrap();
    fs::write(bed.volume("vol1").join("file"), "new").unwrap();
    let stray = bed.config().join("snapshots/vol1/weekly");
    fs::create_dir_all(stray.join("tree")).unwrap();
    fs::write(stray.join("tree/file"), "dear to somebody").unwrap();
    client.snapshot("vol1", "weekly").unwrap();
    assert_eq!(fs::read(stray.join("tree/file")).unwrap(), b"new");
    let told = check(&client, true);
    let [finding] = &told[..] else { panic!("{told:#?}") };
    assert!(finding.message.contains("no record speaks of it") && !finding.repaired, "{finding:#?}");
    let [aside] = &left(&bed, "aside")[..] else { panic!("{told:#?}") };
    assert_eq!(fs::read(aside.join("tree/file")).unwrap(), b"dear to somebody");
}
