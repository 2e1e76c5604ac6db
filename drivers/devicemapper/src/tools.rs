//! The programs of thin-provisioning-tools. They read the pool's metadata, always from a metadata snapshot or
//! of a pool that does not run.

use crate::delta::{self, Comparison};
use crate::dump;
use crate::error::{Error, Result};
use crate::pool::Pool;
use crate::state::ThinId;
use convoy_driver_sdk::command::{Command, CommandError};
use convoy_driver_sdk::mapping::Ranges;
use convoy_driver_sdk::{Context, DriverError, ErrorKind};
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Seek};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The Debian package of the tools.
pub const PACKAGE: &str = "thin-provisioning-tools";
/// How long to wait for a metadata snapshot that another program keeps.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(10);

/// How often a waiting reader looks whether its call is to go on.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// Loads the kernel's thin target.
///
/// # Errors
/// [`Error::Command`]: no `modprobe`, or no such module.
pub fn load_module(context: &Context) -> Result<()> {
    Command::new("modprobe").package("kmod").arg("dm-thin-pool").run(context)?;
    Ok(())
}

/// Checks the metadata of a pool that does not run, takes back blocks that a power cut left allocated to
/// nothing (a version before 1.0 takes back those of the metadata only), and clears the mark that asks for a
/// check. Without the tool, and when there is no time for it, the kernel's own checks must do.
///
/// # Errors
/// [`Error::Setup`] with `DataLoss` if the metadata is damaged.
pub fn thin_check(metadata: &Path, context: &Context) -> Result<()> {
    let check = |options: &[&str]| {
        let check = Command::new("thin_check").package(PACKAGE).accept(1);
        check.args(options).arg(metadata).run(context)
    };
    let plain = || check(&["-q", "--clear-needs-check-flag"]);
    // A version that does not know how to repair leaks also ends with 1: the plain check decides.
    let checked = check(&["-q", "--auto-repair", "--clear-needs-check-flag"])
        .and_then(|output| if output.code == 0 { Ok(output) } else { plain() });
    match checked {
        Ok(output) if output.code == 0 => Ok(()),
        Ok(output) => Err(damaged(metadata, &output.stderr)),
        Err(error @ (CommandError::NotInstalled { .. } | CommandError::Ended { .. })) => {
            tracing::warn!(%error, "the pool's metadata was not checked");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn damaged(metadata: &Path, said: &[u8]) -> Error {
    let at = metadata.display();
    Error::Setup {
        message: format!("the pool's metadata on {at} is damaged: {}", String::from_utf8_lossy(said).trim()),
        hint: format!(
            "copy the device, then `thin_repair -i {at} -o <another device>` and start with that as \
             dm.metadatadev"
        ),
        kind: ErrorKind::DataLoss,
    }
}

/// Checks the metadata of a pool that does not run, and changes nothing.
///
/// # Errors
/// [`Error::Setup`] with `DataLoss` if it is damaged; [`Error::Command`].
pub fn look_at_metadata(metadata: &Path, context: &Context) -> Result<()> {
    let check = Command::new("thin_check").package(PACKAGE).accept(1).arg("-q").arg(metadata);
    let output = check.run(context)?;
    if output.code == 0 { Ok(()) } else { Err(damaged(metadata, &output.stderr)) }
}

/// What of the tools is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Their version, if they are installed.
    pub version: Option<String>,
    /// Why changes since another snapshot are not asked of them; empty if they are.
    pub no_delta: String,
}

impl Tools {
    /// Asks the tools for their version.
    pub fn find(context: &Context) -> Self {
        match Command::new("thin_delta").package(PACKAGE).arg("-V").run(context) {
            Ok(output) => {
                let text = output.text();
                let version = text.split_whitespace().last().unwrap_or_default().to_owned();
                let no_delta = if trusted(&version) {
                    String::new()
                } else {
                    format!("thin_delta {version} is known to miss changed blocks")
                };
                Self { version: Some(version), no_delta }
            }
            Err(error) => Self { version: None, no_delta: error.to_string() },
        }
    }
}

/// Versions 1.0.0 to 1.0.5 join neighbouring blocks without looking where their data is, so that a changed
/// block in the midst of unchanged ones is not seen; those before 0.6.2 miss blocks at the end of a device.
fn trusted(version: &str) -> bool {
    let numbers: Vec<u32> = version.split(['.', '-']).map_while(|part| part.parse().ok()).collect();
    match numbers.as_slice() {
        [1, 0, patch, ..] => *patch >= 6,
        [0, minor, patch, ..] => (*minor, *patch) >= (6, 2),
        [major, ..] => *major >= 1,
        [] => false,
    }
}

/// Reads the metadata of a running pool. There is one metadata snapshot a pool, so one reader at a time.
#[derive(Debug, Default)]
pub struct MetadataReader {
    one: Mutex<()>,
}

impl MetadataReader {
    /// The ids of all thin devices of the pool.
    pub fn ids(&self, pool: &Pool, scratch: &Path, context: &Context) -> Result<BTreeSet<ThinId>> {
        Ok(self.mapped(pool, scratch, context)?.into_keys().collect())
    }

    /// The thin devices of the pool, each with how many blocks it maps, its own and shared ones.
    pub fn mapped(&self, pool: &Pool, scratch: &Path, context: &Context) -> Result<BTreeMap<ThinId, u64>> {
        let args = ["thin_ls", "--metadata-snap", "--no-headers", "-o", "DEV,MAPPED_BLOCKS"];
        let mut out = self.run(&args, pool, scratch, context)?;
        let text = std::io::read_to_string(&mut out).map_err(Error::io("read what thin_ls wrote"))?;
        text.lines().filter(|line| !line.trim().is_empty()).map(device_line).collect()
    }

    /// How many of the pool's `total` blocks for data thin devices map, each counted once.
    pub fn owned_blocks(&self, pool: &Pool, total: u64, scratch: &Path, context: &Context) -> Result<u64> {
        let out = self.run(&["thin_dump", "--metadata-snap"], pool, scratch, context)?;
        dump::mapped_blocks(BufReader::new(out), total)
    }

    /// Looks whether a metadata snapshot is kept that is no reader's of this driver, and with `release` lets
    /// it go; answers whether it did, or `None` when there is none.
    pub fn release_stale(&self, pool: &Pool, release: bool, context: &Context) -> Option<bool> {
        let _one = self.wait(context).ok()?;
        if !pool.status().is_ok_and(|status| status.metadata_snapshot) {
            return None;
        }
        Some(release && pool.release_metadata_snapshot().is_ok())
    }

    /// The blocks of a device that are in use or, with an older device to compare with, those that changed.
    /// The tool's answer goes through a nameless file in `scratch`, since it can be large.
    pub fn delta(
        &self,
        pool: &Pool,
        base: Option<ThinId>,
        id: ThinId,
        size: u64,
        scratch: &Path,
        context: &Context,
    ) -> Result<Ranges> {
        // Compared with itself, everything that is in use is the same: joined ranges, in one form for both
        // questions.
        let (left, wanted) = base.map_or((id, Comparison::InUse), |base| (base, Comparison::Changed));
        let (left, right) = (left.to_string(), id.to_string());
        let args = ["thin_delta", "--metadata-snap", "--snap1", &left, "--snap2", &right];
        let out = self.run(&args, pool, scratch, context)?;
        delta::parse(BufReader::new(out), wanted, pool.block_bytes(), size)
    }

    /// Waits for the reader before, as long as the call has time.
    fn wait(&self, context: &Context) -> Result<MutexGuard<'_, ()>> {
        loop {
            if let Some(guard) = self.one.try_lock_for(CHECK_EVERY) {
                return Ok(guard);
            }
            context.check()?;
        }
    }

    fn run(&self, args: &[&str], pool: &Pool, scratch: &Path, context: &Context) -> Result<File> {
        let _one = self.wait(context)?;
        let mut out = tempfile::tempfile_in(scratch)
            .map_err(Error::io(format_args!("make a temporary file in {}", scratch.display())))?;
        reserve(pool, context)?;
        // The shell only sets standard output, which the SDK would keep in memory, and becomes the tool.
        let target = format!("/proc/{}/fd/{}", std::process::id(), out.as_raw_fd());
        let command = Command::new("sh").package("dash").args(["-c", "exec \"$@\" > \"$0\"", &target]);
        let done = command.args(args).arg(pool.metadata()).run(context);
        let released = pool.release_metadata_snapshot();
        done?;
        released?;
        out.rewind().map_err(Error::io("read what a tool wrote"))?;
        Ok(out)
    }
}

/// A device's id and the number of blocks it maps.
fn device_line(line: &str) -> Result<(ThinId, u64)> {
    let mut words = line.split_whitespace();
    let found =
        (words.next().and_then(|id| id.parse().ok()), words.next().and_then(|blocks| blocks.parse().ok()));
    match (found, words.next()) {
        ((Some(id), Some(blocks)), None) => Ok((id, blocks)),
        _ => Err(Error::Output {
            tool: "thin_ls",
            reason: format!("expected a device id and a number of blocks, found {line:?}"),
        }),
    }
}

fn reserve(pool: &Pool, context: &Context) -> Result<()> {
    let deadline = Instant::now() + SNAPSHOT_WAIT;
    loop {
        match pool.reserve_metadata_snapshot() {
            Err(error) if error.is(nix::errno::Errno::EBUSY) && Instant::now() < deadline => {
                context.check()?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(error) if error.is(nix::errno::Errno::EBUSY) => {
                return Err(DriverError::busy(error.to_string())
                    .hint(
                        "another program keeps a metadata snapshot of the pool: wait for it, or release it \
                        with `dmsetup message <pool> 0 release_metadata_snap`",
                    )
                    .into());
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_thin_ls_is_understood_or_refused() {
        assert_eq!(device_line("  17   4096 ").unwrap(), (17, 4096));
        for bad in ["17", "x 1", "17 2M", "1 2 3"] {
            assert!(device_line(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_that_miss_changes_are_not_trusted() {
        for good in ["0.9.0", "0.6.2", "0.7.5", "1.0.6", "1.0.12", "1.1.0", "1.3.1", "2.0"] {
            assert!(trusted(good), "{good}");
        }
        for bad in ["1.0.0", "1.0.5", "0.6.1", "0.4.1", "", "none"] {
            assert!(!trusted(bad), "{bad}");
        }
    }
}
