//! What the kernel holds for a driver: mounts, loop devices, device-mapper devices, open files, children.

use convoy_driver_sdk::mountinfo::MountTable;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is held at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    things: BTreeSet<String>,
    /// Open files of the driver's process, without its sockets; of this program for a library.
    files: usize,
    /// How many sockets the kit itself has open.
    sockets: usize,
}

/// Open files that a driver may gain for good: a lock, a cached directory.
const FILES: usize = 4;
/// Sockets that it may gain for good: connections to its storage, one for each of the calls that the kit
/// makes at once.
const SOCKETS: usize = 12;

impl Resources {
    /// Looks at what lies in these directories or on these devices, and at a process: others on this machine
    /// have mounts and devices of their own.
    pub(crate) fn look(places: &[PathBuf], pid: Option<i32>) -> Self {
        let within = |path: &Path| places.iter().any(|place| path.starts_with(place));
        let mut things = BTreeSet::new();
        for mount in
            MountTable::read().iter().flat_map(MountTable::iter).filter(|mount| within(&mount.mountpoint))
        {
            things.insert(format!("the mount {}", mount.mountpoint.display()));
        }
        for name in blocks() {
            let read =
                |file: &str| std::fs::read_to_string(Path::new("/sys/block").join(&name).join(file)).ok();
            if let Some(file) = read("loop/backing_file")
                && within(Path::new(file.trim_end()))
            {
                things.insert(format!("the loop device /dev/{name} of {}", file.trim_end()));
            }
            if let Some(device) = read("dm/name")
                && stands_on(&name, places)
            {
                things.insert(format!("the device-mapper device {}", device.trim_end()));
            }
        }
        if let Some(pid) = pid {
            things.extend(children(pid).into_iter().map(|child| format!("the process {child}")));
        }
        let open = pid.map_or_else(|| "/proc/self/fd".to_owned(), |pid| format!("/proc/{pid}/fd"));
        let is_socket = |file: &std::fs::DirEntry| {
            std::fs::read_link(file.path())
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
        };
        let (sockets, files): (Vec<_>, Vec<_>) =
            std::fs::read_dir(open).into_iter().flatten().flatten().partition(is_socket);
        Self { things, files: files.len(), sockets: sockets.len() }
    }

    /// What there is now and was not before.
    pub(crate) fn since(&self, before: &Self) -> Vec<String> {
        let mut more: Vec<String> = self.things.difference(&before.things).cloned().collect();
        if self.files > before.files + FILES {
            more.push(format!("{} open files, {} before", self.files, before.files));
        }
        if self.sockets > before.sockets + SOCKETS {
            more.push(format!("{} sockets, {} before", self.sockets, before.sockets));
        }
        more
    }
}

fn blocks() -> Vec<String> {
    let listed = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    listed.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether a block device is made of one of these devices, or of a file in one of these directories.
fn stands_on(name: &str, places: &[PathBuf]) -> bool {
    let slaves = Path::new("/sys/block").join(name).join("slaves");
    let below = std::fs::read_dir(slaves).into_iter().flatten().flatten();
    below.map(|entry| entry.file_name().to_string_lossy().into_owned()).any(|below| {
        let file = std::fs::read_to_string(Path::new("/sys/block").join(&below).join("loop/backing_file"));
        let is_place = |place: &PathBuf| {
            file.as_ref().is_ok_and(|file| Path::new(file.trim_end()).starts_with(place))
                || place.canonicalize().is_ok_and(|real| real == Path::new("/dev").join(&below))
        };
        places.iter().any(is_place) || stands_on(&below, places)
    })
}

/// The living children of a process, by their command lines.
fn children(pid: i32) -> Vec<String> {
    let listed = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|child| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        // After the name in parentheses: the state, and the parent.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        if parent != pid.to_string() || state == "Z" {
            return None;
        }
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        Some(format!("{child} ({})", String::from_utf8_lossy(&line).replace('\0', " ").trim()))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_and_open_files_are_seen() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = Resources::look(&[], Some(own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let files: Vec<_> = (0..=FILES).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let sockets: Vec<_> =
            (0..=SOCKETS).map(|_| std::os::unix::net::UnixDatagram::unbound().unwrap()).collect();
        // A child that has just been started has no command line yet.
        let mut more = Resources::look(&[], Some(own)).since(&before);
        while more.iter().any(|thing| thing.ends_with("()")) {
            std::thread::sleep(std::time::Duration::from_millis(5));
            more = Resources::look(&[], Some(own)).since(&before);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(more.iter().any(|thing| thing.contains("sleep 60")), "{more:?}");
        assert!(more.iter().any(|thing| thing.contains("open files")), "{more:?}");
        assert!(more.iter().any(|thing| thing.contains("sockets")), "{more:?}");
        drop((files, sockets));
        assert_eq!(Resources::look(&[], Some(own)).since(&before), [""; 0]);
    }
}
