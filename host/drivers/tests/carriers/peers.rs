//! Hosts and drivers of earlier minor versions of the protocol, as they were built then: each meets its newer
//! counterpart, over both carriers, and goes through the same visit with the same outcome.
//!
//! `tests/peers/README.md` says what is kept and how it is made.

use crate::support::built;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Drivers that are kept as they were, each as a library and as a process.
const DRIVERS: [&str; 2] = ["vfs", "misbehaving"];
const CARRIERS: [&str; 2] = ["library", "process"];

/// The versions that are kept, with their directories.
fn kept() -> BTreeMap<String, PathBuf> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
    let entries = std::fs::read_dir(peers).unwrap().map(|entry| entry.unwrap().path());
    let version = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries.filter(|path| path.is_dir()).map(|path| (version(&path), path)).collect()
}

/// Unpacks what is kept of a version, as drivers are installed.
fn unpack(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let file = to.path().join(path.file_stem().unwrap());
        let bytes = zstd::decode_all(std::fs::File::open(&path).unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    to
}

fn file(dir: &Path, carrier: &str, driver: &str) -> PathBuf {
    dir.join(match carrier {
        "library" => format!("libconvoy_driver_{driver}.so"),
        _ => format!("convoy-driver-{driver}"),
    })
}

/// Where the driver of today is.
fn of_today(driver: &str) -> PathBuf {
    let [examples, programs] = built();
    if driver == "misbehaving" { examples } else { programs }
}

/// What a host says of its visit to a driver, without what may differ: versions, times, places and words for
/// people.
fn visit(host: &Path, dir: &Path, carrier: &str, driver: &str) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let path = file(dir, carrier, driver);
    let spec = format!("{carrier}:{}", path.display());
    let told = Command::new(host).arg(&spec).arg(root.path()).output().unwrap();
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{} with {spec}: {errors}", host.display());
    let mut lines = Vec::new();
    for line in String::from_utf8(told.stdout).unwrap().lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        forget(&mut line);
        lines.push(line.to_string());
    }
    assert!(lines.len() > 10, "{lines:#?}");
    lines
}

fn forget(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(members) => {
            for name in ["protocol", "created", "mountpoint", "path", "info", "message", "hint", "warnings"] {
                members.remove(name);
            }
            members.values_mut().for_each(forget);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(forget),
        _ => {}
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "the peers that are kept are built for x86_64")]
fn old_and_new_hosts_and_drivers_meet() {
    let new_host = built()[0].join("visit");
    for (version, packed) in kept() {
        let old = unpack(&packed);
        let old_host = old.path().join("visit");
        for driver in DRIVERS {
            for carrier in CARRIERS {
                let then = visit(&old_host, old.path(), carrier, driver);
                let today = of_today(driver);
                for (host, dir) in
                    [(&old_host, today.as_path()), (&new_host, old.path()), (&new_host, &today)]
                {
                    let met = visit(host, dir, carrier, driver);
                    assert_eq!(
                        met,
                        then,
                        "{version}: {} with {} as {carrier}",
                        host.display(),
                        dir.display()
                    );
                }
            }
        }
    }
}

#[test]
fn every_earlier_minor_version_is_kept() {
    let (major, minor) = convoy_driver_sdk::PROTOCOL_VERSION.split_once('.').unwrap();
    for earlier in 0..minor.parse::<u32>().unwrap() {
        assert!(kept().contains_key(&format!("{major}.{earlier}")), "no peers of {major}.{earlier}");
    }
}
