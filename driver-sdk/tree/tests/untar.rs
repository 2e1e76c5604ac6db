//! Unpacking archives made by the system's tar, and hostile ones.

#![cfg(feature = "tar")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::Path;
use std::process::Command;

use common::assert_same;
use convoy_tree::{TreeError, TreeResult, TreeWriter, unpack_tar};
use tempfile::TempDir;

fn unpack(archive: &[u8], to: &Path) -> TreeResult<u64> {
    fs::create_dir(to).unwrap();
    let writer = TreeWriter::new(to).unwrap();
    let count = unpack_tar(archive, &writer, &|| true)?;
    writer.finish()?;
    Ok(count)
}

fn tar(dir: &Path, format: &[&str]) -> Vec<u8> {
    let out = Command::new("tar").args(format).args(["-c", "-C"]).arg(dir).arg(".").output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn what_tar_packs_is_unpacked() {
    let dir = TempDir::new().unwrap();
    let from = dir.path().join("from");
    fs::create_dir_all(from.join("sub").join("d".repeat(200))).unwrap();
    fs::write(from.join("sub/file"), b"contents").unwrap();
    std::os::unix::fs::chown(from.join("sub/file"), Some(1001), Some(70_000)).unwrap();
    fs::hard_link(from.join("sub/file"), from.join("linked")).unwrap();
    symlink("x".repeat(300), from.join("sub/link")).unwrap();
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    sparse.write_all_at(b"end", (3 << 20) - 3).unwrap();
    rustix::fs::lsetxattr(from.join("linked"), "user.a", b"b", rustix::fs::XattrFlags::empty()).unwrap();
    let pax = tar(&from, &["--format=pax", "--xattrs"]);
    assert!(unpack(&pax, &dir.path().join("pax")).unwrap() > 5);
    assert_same(&from, &dir.path().join("pax"));
    unpack(&tar(&from, &["--format=gnu", "--sparse"]), &dir.path().join("gnu")).unwrap();
    let gnu = fs::metadata(dir.path().join("gnu/sub/file")).unwrap();
    assert_eq!((gnu.uid(), gnu.gid(), gnu.nlink()), (1001, 70_000, 2));
    assert_eq!(fs::read(from.join("sparse")).unwrap(), fs::read(dir.path().join("gnu/sparse")).unwrap());
    assert!(fs::metadata(dir.path().join("gnu/sparse")).unwrap().blocks() < 64);
}

fn hostile(make: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    make(&mut builder);
    builder.into_inner().unwrap()
}

fn add(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &[u8], link: &str, data: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    if !link.is_empty() {
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    builder.append(&header, data).unwrap();
}

#[test]
fn hostile_archives_do_not_get_out() {
    use tar::EntryType as T;
    let dir = TempDir::new().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), b"x").unwrap();
    let outside_text = outside.to_str().unwrap();
    let absolute = format!("{outside_text}/absolute");
    let archives = [
        hostile(|b| add(b, T::Regular, b"../outside/new", "", b"evil")),
        hostile(|b| add(b, T::Regular, b"a/../../outside/new", "", b"evil")),
        hostile(|b| add(b, T::Regular, absolute.as_bytes(), "", b"evil")),
        hostile(|b| {
            add(b, T::Symlink, b"door", outside_text, b"");
            add(b, T::Regular, b"door/new", "", b"evil");
        }),
        hostile(|b| {
            add(b, T::Symlink, b"door", outside_text, b"");
            add(b, T::Link, b"mine", "door/precious", b"");
        }),
        hostile(|b| add(b, T::Link, b"mine", "../outside/precious", b"")),
        hostile(|b| {
            add(b, T::Symlink, b"door", &format!("{outside_text}/precious"), b"");
            add(b, T::Regular, b"door", "", b"evil");
        }),
    ];
    for (number, archive) in archives.iter().enumerate() {
        let error = unpack(archive, &dir.path().join(number.to_string())).unwrap_err();
        assert!(matches!(error, TreeError::Path(_) | TreeError::Io { .. }), "{number}: {error}");
    }
    assert_eq!(fs::read(outside.join("precious")).unwrap(), b"x");
    assert_eq!(fs::metadata(outside.join("precious")).unwrap().nlink(), 1);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_cut_archive_is_an_error() {
    let dir = TempDir::new().unwrap();
    let whole = hostile(|b| add(b, tar::EntryType::Regular, b"file", "", &[1; 100_000]));
    for (name, bytes) in [("cut", &whole[..50_000]), ("empty", &[][..]), ("noise", &[42; 4096][..])] {
        let error = unpack(bytes, &dir.path().join(name)).unwrap_err();
        assert!(matches!(error, TreeError::Archive(_)), "{name}: {error}");
    }
}
