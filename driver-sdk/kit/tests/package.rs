//! What an author without a checkout gets: crates that can be published, and no more of them than a driver
//! needs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Command;

/// The SDK, the kit, and the crates of this repository that they need.
const CRATES: [&str; 4] = ["convoy-tree", "convoy-driver-sdk", "convoy-drivers", "convoy-driver-kit"];

fn cargo(words: &[&str]) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let ran = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "cargo {words:?}: {said}");
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn the_crates_for_authors_can_be_published() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().to_str().unwrap();
    let packages = CRATES.map(|name| ["--package", name]).concat();
    let package = ["package", "--offline", "--allow-dirty", "--no-verify", "--target-dir", target];
    cargo(&[&package[..], &packages].concat());
    for name in CRATES {
        let file = dir.path().join("package").join(format!("{name}-{}.crate", env!("CARGO_PKG_VERSION")));
        assert!(file.is_file(), "{}", file.display());
    }
    let files = cargo(&["package", "--offline", "--allow-dirty", "--list", "--package", "convoy-driver-sdk"]);
    assert!(files.lines().any(|file| file == "schema/1.3.json"), "{files}");
    let metadata = cargo(&["metadata", "--offline", "--no-deps", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        if CRATES.contains(&package["name"].as_str().unwrap()) {
            for key in ["repository", "license", "description", "rust_version"] {
                assert!(package[key].is_string(), "{} has no {key}", package["name"]);
            }
        }
    }
}

/// `convoy driver new` asks for one carrier: the traits of the other's crates would fill every page of
/// documentation.
#[test]
fn a_process_needs_nothing_of_libraries() {
    let tree =
        ["tree", "--offline", "--package", "convoy-driver-sdk", "--edges", "normal", "--prefix", "none"];
    let process = cargo(&[&tree[..], &["--no-default-features", "--features", "process"]].concat());
    assert!(process.contains("jsonrpsee-types") && !process.contains("abi_stable"), "{process}");
    let library = cargo(&[&tree[..], &["--no-default-features", "--features", "library"]].concat());
    assert!(library.contains("abi_stable"), "{library}");
}
