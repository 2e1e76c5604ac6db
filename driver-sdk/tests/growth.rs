//! The SDK can grow: drivers that were written for it as it is compile against a newer one, unchanged.
//!
//! The newer one is made here of a copy of the sources. Every message gets a member, every open set a
//! variant.

// Helpers outside of test functions fail tests too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What the drivers are compiled with, and the drivers.
const CRATES: [&str; 4] = ["driver-sdk", "driver-sdk/tree", "examples/tmpfs", "examples/loop"];

/// What a newer SDK has more: a file, a text in it, and what follows the text then.
const ADDITIONS: &[(&str, &str, &str)] = &[
    // Every message that `messages!` defines, requests and replies alike.
    (
        "message.rs",
        "$($(#[serde(default)] $(#[$more_meta])* pub $more: $more_type,)*)?",
        "/** New. */ #[serde(default)] pub newer: Option<u32>,",
    ),
    ("message.rs", "Self { $($first,)*", "newer: None,"),
    ("protocol/driver.rs", "pub struct OptionSpec {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("protocol/driver.rs", "pub struct Description {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("protocol/driver.rs", "name: Name::from_static(name),", "newer: false,"),
    ("protocol/driver.rs", "pub struct Probed {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("protocol/driver.rs", "Self { healthy: true,", "newer: false,"),
    ("protocol/driver.rs", "Self { healthy: false,", "newer: false,"),
    ("protocol/driver.rs", "pub enum Capability {", "/** New. */ Newer,"),
    ("protocol/check.rs", "pub struct Finding {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("protocol/check.rs", "pub enum Severity {", "/** New. */ Newer,"),
    ("protocol/volume.rs", "pub enum Health {", "/** New. */ Newer,"),
    ("protocol/data.rs", "pub enum SameFile {", "/** New. */ Newer,"),
    ("protocol/data.rs", "Self::Tree { path, same_file", ", newer: false"),
    (
        "protocol/data.rs",
        "#[serde(default)]\n        same_file: SameFile,",
        "/** New. */ #[serde(default)] newer: bool,",
    ),
    ("context.rs", "pub struct Progress {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("context.rs", "Self { done,", "newer: false,"),
    ("filesystem/mount.rs", "pub struct Mount {", "/** New. */ pub newer: bool,"),
    ("filesystem/mount.rs", "Self { source, target, fs_type,", "newer: false,"),
    ("error.rs", "pub enum ErrorKind {", "/** New. */ Newer,"),
    ("error.rs", "pub struct DriverError {", "/** New. */ #[serde(default)] pub newer: bool,"),
    ("error.rs", "Self { kind,", "newer: false,"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes a file, unless it is so already: what did not change is not compiled again.
fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).ok().as_deref() != Some(text) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

/// Copies sources, as `change` makes them.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> String) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target, change);
        } else {
            write(&target, &change(&path, read(&path)));
        }
    }
}

/// Adds what a newer SDK has more. All of it must find its place: this list follows the sources.
fn grow(path: &Path, mut text: String) -> String {
    for (file, after, addition) in ADDITIONS {
        if path.ends_with(Path::new("driver-sdk/src").join(file)) {
            assert_eq!(text.matches(after).count(), 1, "{file}: {after}");
            text = text.replace(after, &format!("{after} {addition}"));
        }
    }
    text
}

/// A workspace of the SDK and the drivers alone, in a directory that stays from run to run.
fn workspace() -> PathBuf {
    let copied = Path::new(env!("CARGO_TARGET_TMPDIR")).join("growth");
    for name in CRATES {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        let manifest = manifest.split("[dev-dependencies]").next().unwrap();
        write(&copied.join(name).join("Cargo.toml"), manifest);
        copy(&root().join(name).join("src"), &copied.join(name).join("src"), &grow);
    }
    let manifest = read(&root().join("Cargo.toml"));
    let (_, shared) = manifest.split_once("[workspace.package]").unwrap();
    write(
        &copied.join("Cargo.toml"),
        &format!("[workspace]\nresolver = \"3\"\nmembers = {CRATES:?}\n\n[workspace.package]{shared}"),
    );
    std::fs::copy(root().join("Cargo.lock"), copied.join("Cargo.lock")).unwrap();
    copied
}

#[test]
fn drivers_compile_against_a_newer_sdk() {
    let build_dir = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["check", "--quiet", "--offline", "--workspace"]).current_dir(workspace());
    cargo.env_remove("CARGO_TARGET_DIR").arg("--config").arg(format!("build.build-dir={build_dir:?}"));
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
