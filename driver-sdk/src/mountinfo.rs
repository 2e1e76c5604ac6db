//! The kernel's mount table, `/proc/<pid>/mountinfo`: the truth about what is mounted where.

use crate::DriverError;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Why the table could not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum MountinfoError {
    /// The file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A line is not as `proc_pid_mountinfo(5)` says.
    #[error("cannot understand the mount table: expected {expected} in {line:?}")]
    Malformed { expected: &'static str, line: String },
}

impl From<MountinfoError> for DriverError {
    fn from(error: MountinfoError) -> Self {
        match error {
            MountinfoError::Read { path, source } => {
                Self::io(format_args!("cannot read {}", path.display()), &source)
            }
            MountinfoError::Malformed { .. } => Self::new(crate::ErrorKind::Internal, error.to_string()),
        }
    }
}

/// A mount of the table, which is one line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's id of the mount.
    pub id: u64,
    /// The id of the mount it is mounted on.
    pub parent: u64,
    /// Major and minor number of the file system's device, as `stat` gives them for its files.
    pub device: (u32, u32),
    /// The directory of the file system that is seen there; not `/` for bind mounts and subvolumes.
    pub root: PathBuf,
    /// Where it is mounted, seen from the process's root directory.
    pub mountpoint: PathBuf,
    /// Options of this mount: `rw`, `noatime`.
    pub options: Vec<String>,
    /// `ext4`, `xfs`, `btrfs`, `nfs4`.
    pub fs_type: String,
    /// What was mounted: a device, or whatever the file system takes instead.
    pub source: PathBuf,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether nothing can be written through this mount.
    pub fn read_only(&self) -> bool {
        self.options.iter().chain(&self.super_options).any(|option| option == "ro")
    }
}

/// All mounts of one mount namespace, in the order they were made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    mounts: Vec<Mount>,
}

impl MountTable {
    /// The mounts this process sees.
    pub fn read() -> Result<Self, MountinfoError> {
        Self::read_file(Path::new("/proc/self/mountinfo"))
    }

    /// The mounts another process sees.
    ///
    /// # Errors
    /// [`MountinfoError`], also when there is no such process.
    pub fn of_process(pid: u32) -> Result<Self, MountinfoError> {
        Self::read_file(&PathBuf::from(format!("/proc/{pid}/mountinfo")))
    }

    /// The mounts in a namespace given as `/proc/<pid>/ns/mnt`; those of this process without one.
    pub fn in_namespace(namespace: Option<&Path>) -> Result<Self, MountinfoError> {
        match namespace.and_then(Path::parent).and_then(Path::parent) {
            Some(process) => Self::read_file(&process.join("mountinfo")),
            None => Self::read(),
        }
    }

    fn read_file(path: &Path) -> Result<Self, MountinfoError> {
        let bytes =
            std::fs::read(path).map_err(|source| MountinfoError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// [`MountinfoError::Malformed`] with the first line that is not as documented.
    pub fn parse(text: &[u8]) -> Result<Self, MountinfoError> {
        let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
        Ok(Self { mounts: lines.map(parse_line).collect::<Result<_, _>>()? })
    }

    /// All mounts, in the order they were made.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.mounts.iter()
    }

    /// What is seen at exactly this path: the last mounted of several.
    pub fn at(&self, mountpoint: &Path) -> Option<&Mount> {
        self.iter().rfind(|mount| mount.mountpoint == mountpoint)
    }

    /// Whether something is mounted at exactly this path.
    pub fn is_mounted(&self, mountpoint: &Path) -> bool {
        self.at(mountpoint).is_some()
    }

    /// The mount a path lies on, by the names alone: symbolic links are not followed.
    pub fn containing(&self, path: &Path) -> Option<&Mount> {
        path.ancestors().find_map(|ancestor| self.at(ancestor))
    }

    /// Every mount at this path or below it, the deepest last mounted first: the order to unmount in.
    pub fn under<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.iter().rev().filter(move |mount| mount.mountpoint.starts_with(path))
    }

    /// Every mount of this device, by its numbers.
    pub fn of_device(&self, major: u32, minor: u32) -> impl Iterator<Item = &Mount> {
        self.iter().filter(move |mount| mount.device == (major, minor))
    }

    /// Every mount whose source is spelt so.
    pub fn of_source<'a>(&'a self, source: &'a Path) -> impl Iterator<Item = &'a Mount> {
        self.iter().filter(move |mount| mount.source == source)
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Result<Mount, MountinfoError> {
    let malformed =
        |expected| MountinfoError::Malformed { expected, line: String::from_utf8_lossy(line).into_owned() };
    let mut fields = line.split(|b| *b == b' ');
    let mut next = |expected| fields.next().ok_or_else(|| malformed(expected));
    let id = number(next("a mount id")?).ok_or_else(|| malformed("a mount id"))?;
    let parent = number(next("a parent id")?).ok_or_else(|| malformed("a parent id"))?;
    let device = device(next("device numbers")?).ok_or_else(|| malformed("device numbers"))?;
    let root = path(next("a root")?);
    let mountpoint = path(next("a mountpoint")?);
    let options = options(next("mount options")?);
    // Optional fields, any number of them.
    while next("a separator (-)")? != b"-" {}
    let fs_type = text(&unescape(next("a file system type")?));
    // The kernel writes an empty source as nothing between two spaces.
    let source = path(next("a source")?);
    let super_options = self::options(next("file system options")?);
    Ok(Mount { id, parent, device, root, mountpoint, options, fs_type, source, super_options })
}

fn number<N: std::str::FromStr>(field: &[u8]) -> Option<N> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn device(field: &[u8]) -> Option<(u32, u32)> {
    let (major, minor) = std::str::from_utf8(field).ok()?.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn options(field: &[u8]) -> Vec<String> {
    // Split first: a comma of a value is escaped by those file systems that allow it.
    field.split(|b| *b == b',').map(|option| text(&unescape(option))).collect()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(bytes: &[u8]) -> String {
    std::ffi::OsStr::from_bytes(bytes).to_string_lossy().into_owned()
}

/// The kernel writes space, tab, newline, backslash and number sign as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match (first, octal(tail)) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

fn octal(tail: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(tail.get(..3)?).ok()?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'7')) {
        return None;
    }
    u8::from_str_radix(digits, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro\n\
        40 22 0:35 / /srv/with\\040space rw shared:9 master:2 - tmpfs tmpfs rw,size=1024k\n\
        41 22 0:36 / /srv/x ro,noatime - nfs4 host:/export rw,vers=4.2\n\
        42 41 8:2 /sub /srv/x rw - btrfs /dev/sdb rw,subvol=/sub\n\
        43 22 0:37 / /srv/x/deep rw - tmpfs  rw\n";

    #[test]
    fn finds_what_is_mounted_where() {
        let table = MountTable::parse(TABLE).unwrap();
        assert_eq!(table.at(Path::new("/srv/with space")).unwrap().fs_type, "tmpfs");
        let top = table.at(Path::new("/srv/x")).unwrap();
        assert_eq!((top.id, top.device, top.root.as_path()), (42, (8, 2), Path::new("/sub")));
        assert!(!top.read_only());
        assert_eq!(table.containing(Path::new("/srv/y/z")).unwrap().id, 22);
        assert_eq!(table.of_source(Path::new("host:/export")).map(|m| m.id).collect::<Vec<_>>(), [41]);
        assert_eq!(table.of_device(8, 1).count(), 1);
        let order: Vec<_> = table.under(Path::new("/srv/x")).map(|mount| mount.id).collect();
        assert_eq!(order, [43, 42, 41]);
        assert!(!table.is_mounted(Path::new("/srv")));
    }

    #[test]
    fn reads_the_tables_of_this_machine() {
        let own = MountTable::read().unwrap();
        assert!(own.is_mounted(Path::new("/proc")));
        assert_eq!(MountTable::of_process(std::process::id()).unwrap(), own);
        assert_eq!(MountTable::in_namespace(Some(Path::new("/proc/self/ns/mnt"))).unwrap(), own);
    }

    #[test]
    fn says_what_it_misses() {
        for (line, expected) in [
            ("x 1 8:1 / / rw - ext4 /dev/sda rw", "a mount id"),
            ("1 1 8 / / rw - ext4 /dev/sda rw", "device numbers"),
            ("1 1 8:1 / / rw shared:1", "a separator (-)"),
            ("1 1 8:1 / / rw - ext4", "a source"),
        ] {
            let error = MountTable::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    /// As the kernel does (`seq_path` with `" \t\n\\#"`).
    fn escape(path: &[u8]) -> Vec<u8> {
        path.iter()
            .flat_map(|b| match b {
                b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{b:03o}").into_bytes(),
                other => vec![*other],
            })
            .collect()
    }

    proptest! {
        #[test]
        fn any_path_comes_back(path in proptest::collection::vec(1u8.., 1..64)) {
            let mut line = b"40 22 0:35 / ".to_vec();
            line.extend(escape(&path));
            line.extend(b" rw - tmpfs ");
            line.extend(escape(&path));
            line.extend(b" rw\n");
            let table = MountTable::parse(&line).unwrap();
            let mount = table.iter().next().unwrap();
            prop_assert_eq!(mount.mountpoint.as_os_str().as_bytes(), path.as_slice());
            prop_assert_eq!(mount.source.as_os_str().as_bytes(), path.as_slice());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = MountTable::parse(&bytes);
            prop_assert!(unescape(&bytes).len() <= bytes.len());
        }
    }
}
