//! What users do every day, on each file system.

use super::bytes;
use super::check::{Failure, Step};
use super::lab::{Lab, MIB, Setup, capacity, expect, name, sh};
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::filesystem::FsKind;
use convoy_driver_sdk::protocol::{
    AbortRestore, CloneVolume, CloseSnapshot, CreateVolume, DeleteKept, DeleteVolume, FinishRestore,
    ListKept, MountVolume, PrepareRestore, PreparedRestore, ResizeVolume, RevertVolume, SourceKind,
    TargetLocation,
};
use convoy_tests::patience;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Small volumes: an XFS has at least 300 MiB, a btrfs that can grow 256.
pub(super) fn size(kind: FsKind) -> u64 {
    match kind {
        FsKind::Ext4 => 64 * MIB,
        FsKind::Xfs => 320 * MIB,
        FsKind::Btrfs => 256 * MIB,
    }
}

/// From create to delete.
pub(super) fn run(kind: FsKind) -> Step {
    let lab = Setup::default().with("dm.defaultvolumesize", "64M").open()?;
    ensure!(lab.opened.warnings.is_empty() && lab.opened.recovered.is_empty(), "{:?}", lab.opened);
    ensure_eq!(lab.describe()?.name.as_str(), "devicemapper");
    timed("volumes", || volumes(&lab, kind))?;
    let taken = timed("snapshots", || snapshots(&lab, kind))?;
    timed("restores", || restores(&lab, kind, &taken))?;
    timed("resizing", || resizing(&lab, kind))?;
    timed("refusals", || refusals(&lab, kind))?;
    timed("kept", || kept(&lab, kind))?;
    lab.leave()
}

fn timed<T>(what: &str, step: impl FnOnce() -> Step<T>) -> Step<T> {
    let started = Instant::now();
    let result = step();
    println!("{what}: {:.1} s", started.elapsed().as_secs_f32());
    result
}

fn volumes(lab: &Lab, kind: FsKind) -> Step {
    let started = Instant::now();
    let volume = lab.create("v1", size(kind), kind)?;
    println!("create: {:?}", started.elapsed());
    ensure_eq!(volume.info.get("DevID").map(String::as_str), Some("1"));
    ensure_eq!(volume.info.get("Device").map(String::as_str), Some("/dev/mapper/v1"));
    ensure_eq!(volume.info.get("Filesystem").map(String::as_str), Some(kind.as_str()));
    ensure_eq!((volume.size, volume.mountpoint), (size(kind), None));
    expect(lab.create("v1", size(kind), kind), ErrorKind::AlreadyExists)?;
    let mountpoint = lab.mount("v1")?;
    ensure_eq!(mountpoint, lab.root.join("mounts/v1"));
    ensure_eq!(lab.mount("v1")?, mountpoint);
    ensure_eq!(lab.get("v1")?.mountpoint, Some(mountpoint.clone()));
    ensure_eq!(sh(&format!("findmnt -no FSTYPE {}", mountpoint.display()))?, kind.as_str());
    expect(lab.delete("v1"), ErrorKind::InUse)?;
    let elsewhere = MountVolume::new(name("v1")).mountpoint(Some("/mnt".into()));
    expect(lab.call(elsewhere), ErrorKind::InUse)?;
    bytes::write(&mountpoint.join("first"), 1, 5 << 20)
}

/// Snapshots of a volume in use: whole, and told truthfully. Answers the checksum of the last one.
fn snapshots(lab: &Lab, kind: FsKind) -> Step<String> {
    let mountpoint = lab.root.join("mounts/v1");
    // Not synced: the snapshot must see to that.
    std::fs::write(mountpoint.join("unsynced"), bytes::noise(2, 3 << 20))?;
    let started = Instant::now();
    lab.snapshot("v1", "monday")?;
    println!("snapshot: {:?}", started.elapsed());
    expect(lab.snapshot("v1", "monday"), ErrorKind::AlreadyExists)?;
    expect(lab.snapshot("none", "monday"), ErrorKind::NotFound)?;

    std::fs::remove_file(mountpoint.join("first"))?;
    bytes::write(&mountpoint.join("second"), 3, 5 << 20)?;
    sh(&format!("sync; fstrim {}", mountpoint.display()))?;
    lab.snapshot("v1", "tuesday")?;
    bytes::write(&mountpoint.join("third"), 4, 1 << 20)?;

    let monday = lab.open_snapshot("v1", "monday", None)?;
    let before = bytes::check_extents(&monday, None)?;
    ensure!(std::fs::write(&monday.device, "x").is_err(), "a snapshot can be written to");
    expect(lab.delete_snapshot("v1", "monday"), ErrorKind::InUse)?;
    let tuesday = lab.open_snapshot("v1", "tuesday", Some("monday"))?;
    bytes::check_extents(&tuesday, Some(&before))?;
    ensure!(!tuesday.discarded.is_empty(), "what was trimmed is not told");
    let changed: u64 = tuesday.extents.iter().map(|extent| extent.length).sum();
    let in_use: u64 = monday.extents.iter().map(|extent| extent.length).sum();
    println!(
        "in use {} MiB, changed {} MiB, discarded {}",
        in_use / MIB,
        changed / MIB,
        tuesday.discarded.len()
    );
    // A base that is gone: everything in use, and it is said.
    let whole = lab.open_snapshot("v1", "tuesday", Some("sunday"))?;
    ensure_eq!(whole.device, tuesday.device);
    bytes::check_extents(&whole, None)?;
    let sum = bytes::checksum(&tuesday.device)?;

    // What the snapshot holds is a whole file system with everything that was written before it.
    let inside = Path::new("/run/inside");
    std::fs::create_dir_all(inside)?;
    let options = match kind {
        FsKind::Ext4 => "ro,noload",
        FsKind::Xfs => "ro,norecovery,nouuid",
        // Two of one id cannot be mounted: it is compared through a restore.
        FsKind::Btrfs => "",
    };
    if kind != FsKind::Btrfs {
        sh(&format!("mount -t {kind} -o {options} {} {}", monday.device.display(), inside.display()))?;
        let held = bytes::verify(&inside.join("first"), 1, 5 << 20)
            .and_then(|()| bytes::verify(&inside.join("unsynced"), 2, 3 << 20));
        sh(&format!("umount {}", inside.display()))?;
        held?;
    }
    for handle in [&monday.handle, &tuesday.handle, &whole.handle, &whole.handle] {
        lab.call(CloseSnapshot::new(handle.clone()))?;
    }
    ensure!(!tuesday.device.exists(), "the device of a closed snapshot is left");
    Ok(sum)
}

fn prepare(lab: &Lab, volume: &str, size: u64) -> Step<(String, PathBuf)> {
    let request = PrepareRestore::new(name(volume), SourceKind::Block).size(Some(size));
    let PreparedRestore { handle, location, .. } = lab.call(request)?;
    match location {
        TargetLocation::Block { device, size: given, .. } if given == size => Ok((handle, device)),
        other => Err(Failure::new(format!("expected a device of {size} bytes, found {other:?}"))),
    }
}

fn restores(lab: &Lab, kind: FsKind, sum: &str) -> Step {
    let size = size(kind);
    let (handle, device) = prepare(lab, "r1", size)?;
    ensure!(
        lab.list()?.iter().all(|volume| volume.name.as_str() != "r1"),
        "a restore is seen before it is done"
    );
    ensure!(bytes::image(&device)?.iter().all(|byte| *byte == 0), "a new target is not zeros");
    let source = lab.open_snapshot("v1", "tuesday", None)?;
    bytes::copy_extents(&source, &device)?;
    lab.call(FinishRestore::new(handle.clone()))?;
    let again = lab.call(FinishRestore::new(handle.clone()))?;
    ensure_eq!(again.name.as_str(), "r1");
    // Finished: aborting what is no longer a restore changes nothing.
    lab.call(AbortRestore::new(handle))?;
    if kind != FsKind::Btrfs {
        ensure_eq!(bytes::checksum(Path::new("/dev/mapper/r1"))?, sum);
    }
    // Beside the volume it is a copy of.
    let mountpoint = lab.mount("r1")?;
    bytes::verify(&mountpoint.join("second"), 3, 5 << 20)?;
    bytes::verify(&mountpoint.join("unsynced"), 2, 3 << 20)?;
    ensure!(!mountpoint.join("third").exists(), "the restore holds what came after the snapshot");
    bytes::verify(&lab.root.join("mounts/v1/third"), 4, 1 << 20)?;
    lab.call(CloseSnapshot::new(source.handle))?;

    let used = lab.figure("PoolDataUsed")?;
    let (handle, device) = prepare(lab, "r2", size)?;
    std::fs::write(&device, vec![7; 8 << 20])?;
    lab.call(AbortRestore::new(handle.clone()))?;
    lab.call(AbortRestore::new(handle))?;
    // The four blocks that were written are free again; ext4's own threads may have taken one or two
    // meanwhile.
    let now = lab.figure("PoolDataUsed")?;
    ensure!(now < used + 8 * MIB, "an aborted restore keeps its blocks: {used} before, {now} after");
    expect(lab.get("r2"), ErrorKind::NotFound)?;
    // Files go into a file system that is made for them, and is gone with an abort.
    let tree = PrepareRestore::new(name("r3"), SourceKind::Tree)
        .size(Some(64 * MIB))
        .options([("fs".to_owned(), "ext4".to_owned())].into());
    let PreparedRestore { handle, location, .. } = lab.call(tree)?;
    let TargetLocation::Tree { path, .. } = location else {
        return Err(Failure::new(format!("expected a directory, found {location:?}")));
    };
    ensure_eq!(std::fs::read_dir(&path)?.count(), 0);
    bytes::write(&path.join("file"), 1, 1 << 20)?;
    lab.call(AbortRestore::new(handle))?;
    ensure!(!path.exists(), "{} is still there", path.display());
    let taken = PrepareRestore::new(name("r1"), SourceKind::Block);
    expect(lab.call(taken), ErrorKind::AlreadyExists)?;
    Ok(())
}

fn resizing(lab: &Lab, kind: FsKind) -> Step {
    let (small, large) = (size(kind), size(kind) + 64 * MIB);
    let mountpoint = lab.root.join("mounts/v1");
    let before = capacity(&mountpoint)?;
    let resize = |volume: &str, size| lab.call(ResizeVolume::new(name(volume), size));
    // Online, with a file open.
    let open = std::fs::File::open(mountpoint.join("third"))?;
    ensure_eq!(resize("v1", large)?.size, large);
    drop(open);
    let after = capacity(&mountpoint)?;
    ensure!(after > before + 40 * MIB, "the file system grew from {before} to {after} only");
    bytes::verify(&mountpoint.join("third"), 4, 1 << 20)?;
    resize("v1", large)?;
    expect(resize("v1", small), ErrorKind::InvalidArgument)?;
    // A snapshot keeps the size it was taken with.
    let source = lab.open_snapshot("v1", "monday", None)?;
    ensure_eq!(source.size, small);
    lab.call(CloseSnapshot::new(source.handle))?;
    lab.snapshot("v1", "wednesday")?;
    let source = lab.open_snapshot("v1", "wednesday", Some("tuesday"))?;
    ensure_eq!((source.size, source.changed_only), (large, true));
    lab.call(CloseSnapshot::new(source.handle))?;
    // Unmounted: the file system follows with the next mount.
    lab.unmount("r1")?;
    ensure_eq!(resize("r1", large)?.size, large);
    let mountpoint = lab.mount("r1")?;
    let after = capacity(&mountpoint)?;
    ensure!(after > before + 40 * MIB, "the unmounted file system grew from {before} to {after} only");
    bytes::verify(&mountpoint.join("second"), 3, 5 << 20)?;
    if kind != FsKind::Ext4 {
        return Ok(());
    }
    let confined = std::thread::scope(|scope| scope.spawn(|| without_the_right_to_grow(lab, large)).join());
    confined.unwrap_or_else(|_| Err(Failure::new("a thread of the test panicked".to_owned())))
}

/// As in a container without `CAP_SYS_RESOURCE`, which this thread gives up for itself and what it starts: a
/// mounted ext4 cannot grow; it is mounted again all the same, and grows when nobody has it mounted.
fn without_the_right_to_grow(lab: &Lab, now: u64) -> Step {
    let right = rustix::thread::CapabilitySet::SYS_RESOURCE;
    rustix::thread::remove_capability_from_bounding_set(right).map_err(std::io::Error::from)?;
    let mountpoint = lab.root.join("mounts/r1");
    let before = capacity(&mountpoint)?;
    let resize = ResizeVolume::new(name("r1"), now + 64 * MIB);
    expect(lab.call(resize), ErrorKind::PermissionDenied)?;
    ensure_eq!(lab.mount("r1")?, mountpoint);
    lab.unmount("r1")?;
    ensure_eq!(lab.mount("r1")?, mountpoint);
    let after = capacity(&mountpoint)?;
    ensure!(after > before + 40 * MIB, "the file system grew from {before} to {after} only");
    bytes::verify(&mountpoint.join("second"), 3, 5 << 20)
}

fn refusals(lab: &Lab, kind: FsKind) -> Step {
    let create = |volume: &str| lab.create(volume, size(kind), kind);
    sh("dmsetup create stranger --table '0 2048 zero'")?;
    let error = expect(create("stranger"), ErrorKind::AlreadyExists)?;
    ensure!(error.message.contains("zero"), "{error}");
    ensure_eq!(sh("dmsetup table stranger")?, "0 2048 zero");
    sh("dmsetup remove stranger")?;
    expect(create("convoy-pool"), ErrorKind::InvalidArgument)?;
    expect(create("control"), ErrorKind::InvalidArgument)?;
    expect(create(&"v".repeat(128)), ErrorKind::InvalidArgument)?;
    let odd = CreateVolume::new(name("odd")).options([("fs".to_owned(), "ntfs".to_owned())].into());
    expect(lab.call(odd), ErrorKind::InvalidArgument)?;
    let unknown = CreateVolume::new(name("odd")).options([("type".to_owned(), "x".to_owned())].into());
    expect(lab.call(unknown), ErrorKind::InvalidArgument)?;
    // Too small for its file system: refused, and nothing of it is left.
    for kind in [FsKind::Xfs, FsKind::Btrfs] {
        expect(lab.create("tiny", 1, kind), ErrorKind::InvalidArgument)?;
    }
    // A program that fails half way: undone. The file systems that are mounted take blocks in their own time,
    // so they hold still.
    let others =
        format!("for at in $(findmnt -rno TARGET | grep '^{}/mounts/'); do fsfreeze", lab.root.display());
    sh(&format!("{others} -f $at; done"))?;
    let lacking = lab.figure("PoolDataUsed")?;
    sh(
        "mv /sbin/mkfs.ext4 /sbin/mkfs.ext4.away; printf '#!/bin/sh\ndd if=/dev/urandom of=\"$6\" bs=1M count=16; exit 1\n' > /sbin/mkfs.ext4; chmod +x /sbin/mkfs.ext4",
    )?;
    let failed = lab.create("tiny", 64 * MIB, FsKind::Ext4);
    sh("mv /sbin/mkfs.ext4.away /sbin/mkfs.ext4")?;
    expect(failed, ErrorKind::Internal)?;
    let used = lab.figure("PoolDataUsed")?;
    ensure!(used <= lacking, "a failed create keeps its blocks: {used} bytes, {lacking} before");
    sh(&format!("{others} -u $at; done"))?;
    ensure_eq!(sh("dmsetup ls | grep -c -e stranger -e tiny || true")?, "0");
    let missing = MountVolume::new(name("v2")).mountpoint(Some("/nonexistent".into()));
    create("v2")?;
    expect(lab.call(missing), ErrorKind::InvalidArgument)?;
    let somewhere = MountVolume::new(name("v2")).mountpoint(Some("/mnt".into()));
    ensure_eq!(lab.call(somewhere)?.mountpoint, Path::new("/mnt"));
    ensure_eq!(lab.get("v2")?.mountpoint, Some("/mnt".into()));
    let busy = std::fs::File::create("/mnt/open")?;
    expect(lab.unmount("v2"), ErrorKind::Busy)?;
    drop(busy);
    lab.unmount("v2")?;
    lab.unmount("v2")?;
    // Open, but not mounted: kept whole.
    let holder = std::fs::File::open("/dev/mapper/v2")?;
    expect(lab.delete("v2"), ErrorKind::InUse)?;
    ensure_eq!(lab.get("v2")?.health, convoy_driver_sdk::protocol::Health::Good);
    drop(holder);
    lab.delete("v2")?;
    expect(lab.delete("v2"), ErrorKind::NotFound)?;
    expect(lab.unmount("v2"), ErrorKind::NotFound)?;
    // A reader that holds the device when its snapshot is closed: the kernel removes it later.
    let source = lab.open_snapshot("v1", "monday", None)?;
    let reader = std::fs::File::open(&source.device)?;
    lab.call(CloseSnapshot::new(source.handle))?;
    lab.delete_snapshot("v1", "monday")?;
    ensure!(source.device.exists(), "a device in use is gone");
    drop(reader);
    let removed = || Step::Ok(sh("dmsetup ls | grep -c read || true")? == "0");
    patience::wait("a deferred removal", Duration::from_secs(60), removed)?;
    let stale = source.device;
    ensure!(lab.probe()?.healthy, "the pool is not well");
    ensure!(!stale.exists(), "{} is left", stale.display());
    Ok(())
}

/// A delete by reference keeps the data, and a create of that name brings it back.
fn kept(lab: &Lab, kind: FsKind) -> Step {
    lab.unmount("r1")?;
    lab.call(DeleteVolume::new(name("r1")).reference_only(true))?;
    expect(lab.get("r1"), ErrorKind::NotFound)?;
    ensure!(!Path::new("/dev/mapper/r1").exists(), "a forgotten volume is still active");
    let listed = || Step::Ok(lab.call(ListKept::new().sizes(true))?.kept);
    let told = listed()?;
    ensure_eq!(told.len(), 1);
    ensure!(*told[0].name == *"r1" && told[0].size >= Some(size(kind)), "kept: {told:?}");
    let taken = PrepareRestore::new(name("r1"), SourceKind::Block);
    expect(lab.call(taken), ErrorKind::AlreadyExists)?;
    expect(lab.create("r1", size(kind), kind), ErrorKind::AlreadyExists)?;
    lab.call(CreateVolume::new(name("r1")))?;
    ensure_eq!(listed()?, []);
    expect(lab.call(DeleteKept::new(name("r1"))), ErrorKind::NotFound)?;
    let mountpoint = lab.mount("r1")?;
    bytes::verify(&mountpoint.join("second"), 3, 5 << 20)?;

    // Deleted, it is gone from the pool, and its name is free.
    lab.create("kept", size(kind), kind)?;
    lab.snapshot("kept", "kept-snap")?;
    lab.call(DeleteVolume::new(name("kept")).reference_only(true))?;
    lab.call(DeleteKept::new(name("kept")))?;
    expect(lab.call(DeleteKept::new(name("kept"))), ErrorKind::NotFound)?;
    ensure_eq!(listed()?, []);
    lab.create("kept", size(kind), kind)?;
    lab.delete("kept")?;
    Ok(())
}

/// The same with udev: links are udev's, and nobody waits for a cookie that nobody clears.
pub(super) fn with_udev() -> Step {
    run(FsKind::Ext4)?;
    let lab = Setup::default().open()?;
    lab.create("v1", 64 * MIB, FsKind::Ext4)?;
    ensure!(Path::new("/dev/mapper/v1").is_symlink(), "udev made no link");
    let uuid = sh("blkid -p -s UUID -o value /dev/mapper/v1")?;
    sh("udevadm settle")?;
    ensure_eq!(sh(&format!("readlink -f /dev/disk/by-uuid/{uuid}"))?, sh("readlink -f /dev/mapper/v1")?);
    lab.snapshot("v1", "s1")?;
    let source = lab.open_snapshot("v1", "s1", None)?;
    sh("udevadm settle")?;
    // The snapshot has the same UUID: it must not take the volume's link.
    ensure_eq!(sh(&format!("readlink -f /dev/disk/by-uuid/{uuid}"))?, sh("readlink -f /dev/mapper/v1")?);
    lab.call(CloseSnapshot::new(source.handle))?;
    // Another device under the same name, and another of the same content: both have their links.
    let device = sh("readlink -f /dev/mapper/v1")?;
    lab.call(RevertVolume::new(name("v1"), name("s1")))?;
    let (source, snapshot) = (name("v1"), name("s1"));
    lab.call(CloneVolume::new(name("v2"), source, snapshot))?;
    sh("udevadm settle")?;
    println!("{device}, now {}", sh("readlink -f /dev/mapper/v1 /dev/mapper/v2 | tr '\\n' ' '")?);
    for volume in ["v1", "v2"] {
        ensure!(Path::new("/dev/mapper").join(volume).is_symlink(), "udev made no link of {volume}");
        lab.mount(volume)?;
    }
    lab.leave()
}
