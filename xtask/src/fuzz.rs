//! `cargo xtask fuzz`: runs the targets in `fuzz/` for a while.
//!
//! libFuzzer needs programs that count their branches. cargo-fuzz gets them from a nightly compiler; the
//! flags it passes for that are stable ones, but for the sanitizers, which find little in safe Rust. So the
//! stable compiler does.

use std::fs;
use std::process::Command;

use convoy_tests::Result;
use convoy_tests::error::Context;

use crate::cargo;
use crate::dependencies::status;

const TARGETS: [(&str, &[&str]); 9] = [
    (
        "bodies",
        &[
            r#"{"Name":"v1","DriverName":"vfs","Size":1024,"BackupURL":"vfs:///d?backup=b&volume=v","Options":{"a":"b"}}"#,
        ],
    ),
    (
        "records",
        &["10G", "Mon Nov 23 08:38:07 +0000 2026", "36 35 98:0 /m /p rw shared:1 - ext4 /dev/r rw\n"],
    ),
    ("urls", &["s3://bucket@region-1/path/", "vfs:///srv/b?backup=backup-1\\u0026volume=v"]),
    (
        "formats",
        &[
            "\0{\"Name\":\"b-1\",\"VolumeName\":\"v1\",\"SnapshotName\":\"s1\",\"SnapshotCreatedAt\":\"\",\"CreatedTime\":\"\",\"Blocks\":[]}",
        ],
    ),
    ("archives", &[]),
    (
        "frames",
        &[
            "\0{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n{\"jsonrpc\":\"2.0\",\"method\":\"log\",\"params\":{}}\n",
            "\x02{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"driver.describe\",\"params\":{\"request\":{},\"context\":{\"request_id\":\"a\"}}}\n{\"jsonrpc\":\"2.0\",\"method\":\"goodbye\",\"params\":{}}\n",
        ],
    ),
    (
        "settings",
        &["[[schedule]]\nname = \"n\"\ncron = \"@daily\"\nvolumes = [\"*\"]\nkind = \"backup\"\nkeep = \
             { daily = 7 }\n"],
    ),
    ("stores", &[]),
    ("messages", &["volume.create\n{\"name\":\"v1\",\"size\":1024}", "driver.describe\n{}"]),
];

/// What counts branches and compares; what cargo-fuzz passes, without a sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions";

/// How long each target runs in `cargo xtask ci`.
const SECONDS_IN_CI: u64 = 60;

/// Builds and runs every target for a minute, and says so where that is not possible.
pub(crate) fn run_in_ci() -> Result<()> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let there = Command::new(&compiler).arg("--version").output().is_ok_and(|said| said.status.success());
    if there {
        return run(SECONDS_IN_CI);
    }
    let compiler = compiler.to_string_lossy();
    eprintln!("\nSKIPPED: fuzzing. libFuzzer is C++, and {compiler} is not here: install g++, or set CXX.");
    Ok(())
}

/// Builds every target and runs each for so many `seconds`.
///
/// # Errors
/// When one does not compile, or finds something: where the input is, it says itself.
pub(crate) fn run(seconds: u64) -> Result<()> {
    let place = cargo::target().join("fuzz");
    let host = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // With a target, build scripts and macros are left without the flags.
    let mut build = cargo::command(&[
        "build",
        "--release",
        "--bins",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        &host,
    ]);
    status(build.env("CARGO_TARGET_DIR", &place).env("RUSTFLAGS", FLAGS))?;
    for (target, seeds) in TARGETS {
        let corpus = place.join("corpus").join(target);
        fs::create_dir_all(&corpus).during(|| format!("cannot make {}", corpus.display()))?;
        for (number, seed) in seeds.iter().enumerate() {
            let file = corpus.join(format!("seed{number}"));
            fs::write(&file, seed).during(|| format!("cannot write {}", file.display()))?;
        }
        let kept = cargo::root().join("fuzz/seeds").join(target);
        for file in fs::read_dir(kept).into_iter().flatten().flatten() {
            let copy = corpus.join(file.file_name());
            fs::copy(file.path(), &copy).during(|| format!("cannot write {}", copy.display()))?;
        }
        eprintln!("\n=== {target}, for {seconds} s");
        let mut fuzzer = Command::new(place.join(&host).join("release").join(target));
        fuzzer.arg(&corpus).arg(format!("-max_total_time={seconds}"));
        fuzzer.args(["-max_len=4096", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        // All that is done to a store takes longer than to read a message.
        fuzzer.arg(if target == "stores" { "-timeout=120" } else { "-timeout=10" });
        status(fuzzer.arg(format!("-artifact_prefix={}/{target}-", place.display())))?;
    }
    Ok(())
}
