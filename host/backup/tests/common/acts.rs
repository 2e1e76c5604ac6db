//! Any tree: what is done to one, at random.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::path::Path;

use proptest::prelude::*;

use super::noise;

/// A thing to do to a tree.
#[derive(Debug, Clone)]
pub enum Act {
    Write { name: usize, seed: u64, len: usize, hole: usize },
    Append { name: usize, seed: u64, len: usize },
    Remove { name: usize },
    Link { from: usize, to: usize },
    Symlink { name: usize, target: Vec<u8> },
    Fifo { name: usize },
    Mode { name: usize, mode: u32, uid: u32 },
    Attribute { name: usize, value: Vec<u8> },
    Rename { from: usize, to: usize },
}

pub fn act() -> impl Strategy<Value = Act> {
    let name = 0..12usize;
    let len = prop_oneof![4 => 0..5000usize, 1 => 250_000..300_000usize, 1 => 900_000..1_500_000usize];
    prop_oneof![
        6 => (name.clone(), 0..5u64, len.clone(), prop_oneof![3 => Just(0usize), 1 => 0..3_000_000usize])
            .prop_map(|(name, seed, len, hole)| Act::Write { name, seed, len, hole }),
        2 => (name.clone(), 0..5u64, len).prop_map(|(name, seed, len)| Act::Append { name, seed, len }),
        2 => name.clone().prop_map(|name| Act::Remove { name }),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Act::Link { from, to }),
        1 => (name.clone(), prop::collection::vec(1u8.., 1..40)).prop_map(|(name, target)| Act::Symlink { name, target }),
        1 => name.clone().prop_map(|name| Act::Fifo { name }),
        1 => (name.clone(), 0..0o10000u32, 0..5u32).prop_map(|(name, mode, uid)| Act::Mode { name, mode, uid }),
        1 => (name.clone(), prop::collection::vec(any::<u8>(), 0..100)).prop_map(|(name, value)| Act::Attribute { name, value }),
        1 => (name.clone(), name).prop_map(|(from, to)| Act::Rename { from, to }),
    ]
}

fn path(root: &Path, name: usize) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let names: [&[u8]; 12] = [
        b"a",
        b"b",
        b"d/a",
        b"d/b",
        b"d/e/a",
        b"d-e",
        b"d/e/\xff\xfe",
        b"new\nline",
        b"z",
        b"d.e/x",
        b"d/e/z",
        b"0",
    ];
    root.join(std::ffi::OsStr::from_bytes(names[name]))
}

/// Does it; what cannot be done is not done.
pub fn perform(root: &Path, act: &Act) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    match act {
        Act::Write { name, seed, len, hole } => {
            let _ = std::fs::remove_file(path(root, *name));
            let file = std::fs::File::create(path(root, *name))?;
            file.write_all_at(&noise(*len, *seed), *hole as u64)
        }
        Act::Append { name, seed, len } => {
            use std::io::Write;
            let meta = std::fs::symlink_metadata(path(root, *name))?;
            if !meta.is_file() {
                return Ok(());
            }
            std::fs::OpenOptions::new().append(true).open(path(root, *name))?.write_all(&noise(*len, *seed))
        }
        Act::Remove { name } => std::fs::remove_file(path(root, *name)),
        Act::Link { from, to } => std::fs::hard_link(path(root, *from), path(root, *to)),
        Act::Symlink { name, target } => {
            use std::os::unix::ffi::OsStrExt;
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path(root, *name))
        }
        Act::Fifo { name } => Ok(rustix::fs::mknodat(
            rustix::fs::CWD,
            path(root, *name),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )?),
        Act::Mode { name, mode, uid } => {
            if std::fs::symlink_metadata(path(root, *name))?.is_symlink() {
                return Ok(());
            }
            std::os::unix::fs::chown(path(root, *name), Some(*uid), Some(*uid))?;
            std::fs::set_permissions(path(root, *name), std::os::unix::fs::PermissionsExt::from_mode(*mode))
        }
        Act::Attribute { name, value } => {
            Ok(rustix::fs::lsetxattr(path(root, *name), "trusted.p", value, rustix::fs::XattrFlags::empty())?)
        }
        Act::Rename { from, to } => std::fs::rename(path(root, *from), path(root, *to)),
    }
}
