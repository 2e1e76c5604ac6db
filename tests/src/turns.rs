//! Turns of what there can be only once on a machine, whoever runs tests there.

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Context, Result};

/// The lock of the test that has its turn.
pub const LOCK: &str = "/run/lock/convoy-tests-engine";

/// Waits until no other process has an engine or a machine for tests; this one has its turn until it ends.
///
/// Every engine asks every plugin that has a spec on this machine, so that two test runs side by side would see
/// each other's volumes, which have the same names. And the machines of systemd-nspawn share a cgroup, in which
/// the systemd of each removes what that of another has made.
pub(crate) fn take() -> Result<()> {
    // Held while waiting: of two threads, the second finds what the first has locked.
    static TURN: Mutex<Option<File>> = Mutex::new(None);
    let mut turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if turn.is_some() {
        return Ok(());
    }
    let what = || format!("cannot lock {LOCK}");
    if let Some(directory) = Path::new(LOCK).parent() {
        fs::create_dir_all(directory).during(what)?;
    }
    let file = File::options().create(true).append(true).open(LOCK).during(what)?;
    file.lock().during(what)?;
    *turn = Some(file);
    Ok(())
}
