//! An adversary on the host who is not root: a user who would run what root in a container put into a volume.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{Check, MountVolume, Severity, UnmountVolume};
use rustix::mount::UnmountFlags;

use crate::support::{Bed, Carrier, name, refused};

/// Everybody gets there. The directory for temporary files may be one of root's.
const OPEN: &str = "/var/tmp";

/// A user and group that are nobody's.
const STRANGER: u32 = 64_123;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What is mounted there, and below, is gone with this.
struct Unmounted(PathBuf);

impl Drop for Unmounted {
    fn drop(&mut self) {
        // What is mounted on something hides what is below that.
        let table = || MountTable::read().unwrap();
        while table()
            .under(&self.0)
            .any(|mount| rustix::mount::unmount(&mount.mountpoint, UnmountFlags::DETACH).is_ok())
        {}
    }
}

/// A bed that everybody enters, with a `vfs.path` that was there before.
fn open_bed(carrier: Carrier) -> (Bed, Unmounted) {
    let bed = Bed::on(carrier, Path::new(OPEN));
    fs::create_dir(bed.volumes()).unwrap();
    for dir in [bed.path(), &bed.volumes()] {
        mode(dir, 0o755);
    }
    let volumes = bed.volumes();
    (bed, Unmounted(volumes))
}

/// The user whom a stranger becomes who runs what root in a container left in a volume.
fn attack(volume: &Path) -> Option<u32> {
    let tool = volume.join("tool");
    fs::copy("/usr/bin/id", &tool).unwrap();
    mode(volume, 0o755);
    mode(&tool, 0o4755);
    assert_eq!(fs::metadata(&tool).unwrap().permissions().mode() & 0o7777, 0o4755, "the bits are data");
    let ran = Command::new(&tool).arg("-u").uid(STRANGER).gid(STRANGER).output();
    let user = String::from_utf8(ran.ok()?.stdout).unwrap();
    Some(user.trim().parse().unwrap())
}

pub(crate) fn a_directory_that_everybody_enters_is_mounted_on_itself(carrier: Carrier) {
    let (bed, _unmounted) = open_bed(carrier);
    // A disk that an administrator mounted for one volume.
    let disk = Unmounted(bed.volume("disk"));
    fs::create_dir(&disk.0).unwrap();
    rustix::mount::mount("none", &disk.0, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    assert_eq!(attack(&disk.0), Some(0), "without a driver, the attack succeeds");
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert!(opened.warnings.iter().any(|line| line.contains("nosuid,nodev")), "{:?}", opened.warnings);
    for volume in ["plain", "disk"] {
        client.create(volume).unwrap();
        let mounted = client.call(MountVolume::new(name(volume))).unwrap();
        assert_eq!(mounted.mountpoint, bed.volume(volume));
        assert_eq!(attack(&mounted.mountpoint), Some(STRANGER), "{volume}");
        client.call(UnmountVolume::new(name(volume))).unwrap();
    }
    // What moves directories works in it, and nothing is told.
    client.snapshot("plain", "snap").unwrap();
    let told = client.call(Check::new()).unwrap().findings;
    assert!(!told.iter().any(|finding| finding.severity == Severity::Error), "{told:?}");
    client.close();
    // Once is enough.
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    client.delete("plain", false).unwrap();
    client.close();
    assert_eq!(
        fs::metadata(bed.volumes()).unwrap().permissions().mode() & 0o777,
        0o755,
        "nobody's directory is changed"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let at = format!(" {} ", bed.volumes().display());
    assert_eq!(mounts.lines().filter(|line| line.contains(&at)).count(), 1);
}

pub(crate) fn what_is_open_later_is_told_with_a_way_out(carrier: Carrier) {
    let (bed, _unmounted) = open_bed(carrier);
    let client = bed.open();
    client.create("plain").unwrap();
    // As somebody may do at any time: the doctor tells.
    rustix::mount::unmount(bed.volumes(), UnmountFlags::DETACH).unwrap();
    let told = client.call(Check::new()).unwrap().findings;
    let finding = told.iter().find(|finding| finding.severity == Severity::Error).unwrap();
    let way_out = format!("`chmod 0700 {}`", bed.volumes().display());
    assert!(finding.hint.as_ref().unwrap().contains(&way_out), "{finding:?}");
    client.close();
    // The way out is one.
    mode(&bed.volumes(), 0o700);
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    assert_eq!(attack(&bed.volume("plain")), None, "a stranger does not get there");
    client.close();
    // So is a directory above that is closed, and one of root's group; one of another group is none.
    mode(&bed.volumes(), 0o755);
    for (dir_mode, group, sheltered) in [(0o700, 0, true), (0o710, 0, true), (0o710, STRANGER, false)] {
        mode(bed.path(), dir_mode);
        std::os::unix::fs::chown(bed.path(), None, Some(group)).unwrap();
        let (client, opened) = bed.open_with(bed.request()).unwrap();
        assert_eq!(opened.warnings.is_empty(), sheltered, "{dir_mode:o} {group}: {:?}", opened.warnings);
        client.close();
    }
}

pub(crate) fn what_lies_elsewhere_is_refused_where_everybody_enters(carrier: Carrier) {
    let bed = Bed::new(carrier);
    let elsewhere = tempfile::tempdir_in(OPEN).unwrap();
    mode(elsewhere.path(), 0o755);
    fs::create_dir(elsewhere.path().join("data")).unwrap();
    let client = bed.open();
    symlink(elsewhere.path().join("data"), bed.volume("linked")).unwrap();
    client.create("linked").unwrap();
    let error = refused(client.call(MountVolume::new(name("linked"))));
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.hint.unwrap().contains(&format!("`chmod 0700 {}`", elsewhere.path().display())));
    mode(elsewhere.path(), 0o700);
    client.call(MountVolume::new(name("linked"))).unwrap();
}
