//! Everything there is to know about a directory tree, as text that can be compared.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};

use crate::error::{Context, Result};

/// Describes a tree, one entry a line: path, type, mode, owner, time in nanoseconds, what it holds (SHA-256
/// of a file, target of a link, number of a device), extended attributes (ACLs are among them), and which
/// entries are the same file. Sockets are listed like everything else. The time of the top directory is left
/// out: a volume that is mounted or adopted has its own.
///
/// # Errors
/// When something in the tree cannot be read.
pub fn describe(top: &Path) -> Result<String> {
    let mut paths = vec![PathBuf::new()];
    collect(top, Path::new(""), &mut paths)?;
    paths.sort();
    let mut first_names = BTreeMap::new();
    let mut text = String::new();
    for path in paths {
        let full = top.join(&path);
        let meta = fs::symlink_metadata(&full).during(|| format!("cannot look at {}", full.display()))?;
        let name = path.as_os_str().as_bytes().escape_ascii().to_string();
        let first = first_names.entry((meta.dev(), meta.ino())).or_insert_with(|| name.clone());
        let same = if meta.is_file() && *first != name { format!(" same-as={first}") } else { String::new() };
        let time = if name.is_empty() {
            String::new()
        } else {
            format!(" mtime={}.{:09}", meta.mtime(), meta.mtime_nsec())
        };
        text.push_str(&format!(
            "{name} {} mode={:o} owner={}:{}{time}{}{same}\n",
            contents(&full, &meta)?,
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid(),
            attributes(&full)?,
        ));
    }
    Ok(text)
}

/// The bytes a tree takes on disk.
///
/// # Errors
/// When something in the tree cannot be read.
pub fn allocated(top: &Path) -> Result<u64> {
    let mut paths = vec![PathBuf::new()];
    collect(top, Path::new(""), &mut paths)?;
    let mut seen = BTreeMap::new();
    for path in paths {
        let full = top.join(path);
        let meta = fs::symlink_metadata(&full).during(|| format!("cannot look at {}", full.display()))?;
        seen.insert(meta.ino(), meta.blocks() * 512);
    }
    Ok(seen.values().sum())
}

/// The names in a directory, sorted.
///
/// # Errors
/// When it cannot be read.
pub fn names(directory: &Path) -> Result<Vec<OsString>> {
    let what = || format!("cannot read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).during(what)? {
        names.push(entry.during(what)?.file_name());
    }
    names.sort();
    Ok(names)
}

fn collect(top: &Path, below: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for name in names(&top.join(below))? {
        let path = below.join(&name);
        let full = top.join(&path);
        let meta = fs::symlink_metadata(&full).during(|| format!("cannot look at {}", full.display()))?;
        paths.push(path.clone());
        if meta.is_dir() {
            collect(top, &path, paths)?;
        }
    }
    Ok(())
}

fn contents(path: &Path, meta: &Metadata) -> Result<String> {
    let kind = meta.file_type();
    let what = || format!("cannot read {}", path.display());
    Ok(if kind.is_dir() {
        "directory".to_owned()
    } else if kind.is_symlink() {
        format!("link to {}", fs::read_link(path).during(what)?.as_os_str().as_bytes().escape_ascii())
    } else if kind.is_file() {
        let mut hash = Sha256::new();
        io::copy(&mut File::open(path).during(what)?, &mut HashWriter(&mut hash)).during(what)?;
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("file of {} bytes {digest}", meta.len())
    } else if kind.is_fifo() {
        "fifo".to_owned()
    } else if kind.is_socket() {
        "socket".to_owned()
    } else if kind.is_char_device() {
        format!("character device {}", meta.rdev())
    } else {
        format!("block device {}", meta.rdev())
    })
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn attributes(path: &Path) -> Result<String> {
    let what = || format!("cannot read the attributes of {}", path.display());
    let mut list = vec![0_u8; 64 * 1024];
    let length = match llistxattr(path, &mut list[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => 0,
        Err(error) => return Err(error).during(what),
    };
    list.truncate(length);
    let mut names: Vec<_> = list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let mut text = String::new();
    for name in names {
        let mut value = vec![0_u8; 64 * 1024];
        let length = lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).during(what)?;
        value.truncate(length);
        text.push_str(&format!(" {}={}", name.escape_ascii(), value.escape_ascii()));
    }
    Ok(text)
}

/// A file name that is not UTF-8.
pub fn odd_name() -> OsString {
    OsString::from_vec(b"bad\xffutf\nnew line".to_vec())
}
