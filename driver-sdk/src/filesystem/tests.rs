//! On real loop devices and the real kernel; run as root.

use super::*;
use crate::ErrorKind;
use crate::freeze::{Frozen, thaw};
use crate::mountinfo::MountTable;
use convoy_tests::Namespace;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A sparse file, its loop device and a mountpoint, all gone when dropped.
pub(super) struct Disk {
    pub(super) dir: tempfile::TempDir,
    pub(super) device: PathBuf,
}

impl Disk {
    pub(super) fn new(size: u64) -> Self {
        Self::with(|image| std::fs::File::create(image).unwrap().set_len(size).unwrap())
    }

    /// Another with the same bytes.
    pub(super) fn copy(&self) -> Self {
        std::fs::File::open(&self.device).unwrap().sync_all().unwrap();
        let original = self.dir.path().join("image");
        Self::with(|image| {
            let copy = Command::new("cp").arg("--sparse=always").arg(original).arg(image);
            copy.run(&Context::default()).unwrap();
        })
    }

    fn with(make: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        make(&image);
        std::fs::create_dir(dir.path().join("mnt")).unwrap();
        let losetup = Command::new("losetup").args(["--find", "--show"]).arg(&image);
        let device = losetup.run(&Context::default()).unwrap().text().trim().into();
        Self { dir, device }
    }

    pub(super) fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub(super) fn mount(&self, kind: FsKind) {
        let spec = Mount {
            source: self.device.clone(),
            target: self.mountpoint(),
            fs_type: kind.to_string(),
            options: "noatime".to_owned(),
            namespace: None,
        };
        mount(&spec, &Context::default()).unwrap();
    }

    pub(super) fn enlarge(&self, size: u64) {
        std::fs::File::options()
            .write(true)
            .open(self.dir.path().join("image"))
            .unwrap()
            .set_len(size)
            .unwrap();
        Command::new("losetup").arg("-c").arg(&self.device).run(&Context::default()).unwrap();
    }

    fn capacity(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.mountpoint()).unwrap();
        stat.f_blocks * stat.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = thaw(&self.mountpoint());
        let _ = unmount(&self.mountpoint(), None, &Context::default());
        let _ = Command::new("losetup").arg("-d").arg(&self.device).run(&Context::default());
    }
}

pub(super) const MIB: u64 = 1 << 20;

fn make_mount_grow(kind: FsKind, small: u64, large: u64) {
    let disk = Disk::new(small);
    let context = Context::default();
    assert_eq!(signature(&disk.device, &context).unwrap(), None);
    mkfs(kind, &disk.device, &context).unwrap();
    assert_eq!(signature(&disk.device, &context).unwrap().as_deref(), Some(kind.as_str()));
    assert_eq!(mkfs(kind, &disk.device, &context).unwrap_err().kind, ErrorKind::AlreadyExists);
    mkfs_anew(kind, &disk.device, &context).unwrap();

    disk.mount(kind);
    let table = MountTable::read().unwrap();
    let mounted = table.at(&disk.mountpoint()).unwrap();
    assert_eq!((mounted.fs_type.as_str(), &mounted.source), (kind.as_str(), &disk.device));
    assert!(mounted.options.iter().any(|option| option == "noatime"));
    let before = disk.capacity();
    disk.enlarge(large);
    let grown = grow(kind, &disk.device, Some(&disk.mountpoint()), &context);
    let may = rustix::thread::capabilities(None).unwrap().effective;
    if kind == FsKind::Ext4 && !may.contains(rustix::thread::CapabilitySet::SYS_RESOURCE) {
        // In a container, for example. It grows after it is unmounted.
        assert_eq!(grown.unwrap_err().kind, ErrorKind::PermissionDenied);
    } else {
        grown.unwrap();
        assert!(disk.capacity() > before + (large - small) / 2, "{before} {}", disk.capacity());
    }

    let file = std::fs::File::create(disk.mountpoint().join("file")).unwrap();
    let busy = unmount(&disk.mountpoint(), None, &context).unwrap_err();
    assert_eq!(busy.kind, ErrorKind::Busy, "{busy}");
    // Held for a moment, as by a program that is being started.
    let holder = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(file);
    });
    unmount(&disk.mountpoint(), None, &context).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    holder.join().unwrap();
    match kind {
        FsKind::Ext4 => {
            grow(kind, &disk.device, None, &context).unwrap();
            disk.mount(kind);
            assert!(disk.capacity() > before + (large - small) / 2, "{before} {}", disk.capacity());
        }
        _ => {
            assert_eq!(grow(kind, &disk.device, None, &context).unwrap_err().kind, ErrorKind::InvalidArgument)
        }
    }
}

#[test]
fn a_copy_of_an_xfs_is_mounted_without_its_uuid() {
    assert_eq!(FsKind::Ext4.mount_options("ro"), "ro");
    assert_eq!(FsKind::Xfs.mount_options(""), "nouuid");
    // What the user says comes last.
    assert_eq!(FsKind::Xfs.mount_options("ro,noatime"), "nouuid,ro,noatime");
}

#[test]
fn ext4() {
    make_mount_grow(FsKind::Ext4, 32 * MIB, 64 * MIB);
}

#[test]
fn xfs() {
    make_mount_grow(FsKind::Xfs, 320 * MIB, 512 * MIB);
}

#[test]
fn btrfs() {
    make_mount_grow(FsKind::Btrfs, 128 * MIB, 256 * MIB);
}

#[test]
fn a_new_ext4_is_empty_and_whole() {
    let (disk, context) = (Disk::new(32 * MIB), Context::default());
    mkfs(FsKind::Ext4, &disk.device, &context).unwrap();
    let check = |disk: &Disk| {
        let e2fsck = Command::new("e2fsck").args(["-f", "-n", "--"]).arg(&disk.device);
        e2fsck.run(&Context::default()).unwrap();
    };
    let files = |disk: &Disk| {
        disk.mount(FsKind::Ext4);
        let names = std::fs::read_dir(disk.mountpoint()).unwrap().map(|entry| entry.unwrap().file_name());
        let names: Vec<_> = names.collect();
        unmount(&disk.mountpoint(), None, &Context::default()).unwrap();
        names
    };
    check(&disk);
    assert!(files(&disk).is_empty());
    // Growing it checks it, which makes one.
    disk.enlarge(64 * MIB);
    grow(FsKind::Ext4, &disk.device, None, &context).unwrap();
    check(&disk);
    assert!(files(&disk).is_empty());
    // One that is there is somebody's.
    disk.mount(FsKind::Ext4);
    std::fs::create_dir(disk.mountpoint().join("lost+found")).unwrap();
    unmount(&disk.mountpoint(), None, &context).unwrap();
    disk.enlarge(96 * MIB);
    grow(FsKind::Ext4, &disk.device, None, &context).unwrap();
    assert_eq!(files(&disk), ["lost+found"]);
    // A device that cannot be opened is no success.
    assert!(ext4::remove_lost_and_found(&disk.dir.path().join("none"), &context).is_err());
}

#[test]
fn what_is_mounted_has_no_set_user_id_programs_and_no_devices_unless_asked() {
    let disk = Disk::new(32 * MIB);
    mkfs(FsKind::Ext4, &disk.device, &Context::default()).unwrap();
    let flags = |options: &str| {
        let spec = Mount {
            source: disk.device.clone(),
            target: disk.mountpoint(),
            fs_type: "ext4".to_owned(),
            options: options.to_owned(),
            namespace: None,
        };
        mount(&spec, &Context::default()).unwrap();
        let options = MountTable::read().unwrap().at(&disk.mountpoint()).unwrap().options.clone();
        unmount(&disk.mountpoint(), None, &Context::default()).unwrap();
        ["nosuid", "nodev"].map(|flag| options.iter().any(|option| option == flag))
    };
    assert_eq!(flags(""), [true, true]);
    assert_eq!(flags("noatime,suid"), [false, true]);
    assert_eq!(flags("suid,dev"), [false, false]);
}

#[test]
fn a_device_without_file_system_is_not_mounted() {
    let disk = Disk::new(8 * MIB);
    let spec = Mount {
        source: disk.device.clone(),
        target: disk.mountpoint(),
        fs_type: "ext4".to_owned(),
        ..Mount::default()
    };
    let error = mount(&spec, &Context::default()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DataLoss, "{error}");
    assert!(signature(&disk.dir.path().join("none"), &Context::default()).is_err());
}

#[test]
fn another_namespace_sees_the_mount_and_this_one_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let inside = Namespace::new().unwrap();
    let namespace = inside.path();
    let spec = Mount {
        source: "none".into(),
        target: dir.path().to_owned(),
        fs_type: "tmpfs".to_owned(),
        options: "size=1m".to_owned(),
        namespace: Some(namespace.clone()),
    };
    let result = mount(&spec, &Context::default());
    let there = MountTable::in_namespace(Some(&namespace)).map(|table| table.is_mounted(dir.path()));
    let cat = Command::new("grep").arg(dir.path()).arg("/proc/self/mountinfo").namespace(Some(&namespace));
    let listed = cat.run(&Context::default());
    let undone = unmount(dir.path(), Some(&namespace), &Context::default());
    drop(inside);
    result.unwrap();
    assert!(there.unwrap());
    assert!(!MountTable::read().unwrap().is_mounted(dir.path()));
    assert!(listed.unwrap().text().contains("tmpfs"));
    undone.unwrap();
}

#[test]
fn a_frozen_file_system_holds_writers_and_thaws_by_itself() {
    let disk = Disk::new(32 * MIB);
    mkfs(FsKind::Ext4, &disk.device, &Context::default()).unwrap();
    disk.mount(FsKind::Ext4);
    let path = disk.mountpoint();
    let write = || {
        let path = path.join("file");
        std::thread::spawn(move || std::fs::write(path, "x").unwrap())
    };

    let frozen = Frozen::freeze(&path, Duration::from_secs(30)).unwrap();
    assert_eq!(Frozen::freeze(&path, Duration::from_secs(1)).unwrap_err().kind, ErrorKind::Busy);
    let writer = write();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!writer.is_finished());
    frozen.thaw().unwrap();
    writer.join().unwrap();

    let frozen = Frozen::freeze(&path, Duration::from_millis(50)).unwrap();
    write().join().unwrap();
    assert_eq!(frozen.thaw().unwrap_err().kind, ErrorKind::Busy);
    thaw(&path).unwrap();
}

#[test]
fn what_is_unmounted_here_and_not_elsewhere_is_on_the_disk_and_in_use() {
    let disk = Disk::new(32 * MIB);
    mkfs(FsKind::Ext4, &disk.device, &Context::default()).unwrap();
    wait_until_unused(&disk.device, &Context::default()).unwrap();
    disk.mount(FsKind::Ext4);
    let elsewhere = Namespace::new().unwrap();
    let content: Vec<u8> = (0..MIB).flat_map(|number| number.to_le_bytes()).take(4 << 20).collect();
    std::fs::write(disk.mountpoint().join("file"), &content).unwrap();
    unmount(&disk.mountpoint(), None, &Context::default()).unwrap();

    let soon = || Context::default().with_deadline(Some(Instant::now() + Duration::from_secs(1)));
    for refused in [wait_until_unused(&disk.device, &soon()), grow(FsKind::Ext4, &disk.device, None, &soon())]
    {
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InUse, "{error}");
        assert!(error.message.contains(&disk.device.display().to_string()), "{error}");
    }
    // What a power cut would leave: the image, less what the kernel has not written yet.
    let copy = disk.dir.path().join("copy");
    std::fs::copy(disk.dir.path().join("image"), &copy).unwrap();
    let debugfs = Command::new("debugfs").args(["-R", "cat /file"]).arg(&copy);
    // The journal has the inode; e2fsck replays it, as a mount does.
    Command::new("e2fsck").accept(1).args(["-p", "--"]).arg(&copy).run(&Context::default()).unwrap();
    assert_eq!(debugfs.run(&Context::default()).unwrap().stdout, content[..]);

    let waiting = std::thread::spawn({
        let device = disk.device.clone();
        move || wait_until_unused(&device, &Context::default())
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(elsewhere);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_directory_is_mounted_at_another() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    for path in [&source, &target] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(source.join("file"), "content").unwrap();
    let mut spec =
        Mount { source, target: target.clone(), options: "bind,ro,nosuid".to_owned(), ..Mount::default() };
    mount(&spec, &Context::default()).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), "content");
    let refused = std::fs::write(target.join("file"), "other").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    unmount(&target, None, &Context::default()).unwrap();
    spec.options = "bind".to_owned();
    mount(&spec, &Context::default()).unwrap();
    std::fs::write(target.join("file"), "other").unwrap();
    unmount(&target, None, &Context::default()).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("source/file")).unwrap(), "other");
}

/// What the kernel does not mount alone goes by `mount`, whose words are told.
#[test]
fn network_file_systems_are_mounted_by_their_programs() {
    let dir = tempfile::tempdir().unwrap();
    for fs_type in ["nfs", "fuse.convoy-no-such-program"] {
        let spec = Mount {
            source: "127.0.0.1:/nothing".into(),
            target: dir.path().to_owned(),
            fs_type: fs_type.to_owned(),
            options: "soft,timeo=1,retry=0,port=1".to_owned(),
            namespace: None,
        };
        let context = Context::new("mount").with_deadline(Some(Instant::now() + Duration::from_secs(60)));
        let error = mount(&spec, &context).unwrap_err();
        assert!(
            error.message.contains(&format!("mount -t {fs_type} -o nosuid,nodev,soft,timeo=1")),
            "{error}"
        );
    }
}
