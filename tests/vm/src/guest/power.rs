//! Power cuts: the machine itself goes, in the midst of a storm. The next one finds disks as they were at
//! that moment, and the log that reached the outside.

use super::check::Step;
use super::crash;
use super::lab::Setup;
use super::reboot::state_disk;
use std::path::Path;

/// Where the host puts the log of the life before, below the directory it shares.
const SHARE_VARIABLE: &str = "CONVOY_VM_SHARE";

/// Blocks of the pool that a power cut may cost.
pub(super) const LOST: u64 = 8;

/// How often the test cuts the power, at most.
const CUTS: u64 = 4;

/// Compares with the life before, then storms until the power goes; seed 0 leaves instead.
pub(super) fn run(seed: u64) -> Step {
    state_disk()?;
    let setup = Setup::default().at("/run/state/devicemapper");
    let share = std::env::var_os(SHARE_VARIABLE).unwrap_or_default();
    let lab = match std::fs::read_to_string(Path::new(&share).join("log")) {
        Ok(log) => {
            let (lab, acknowledged) = crash::verify(&setup, &log)?;
            println!("verified {acknowledged}");
            lab
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => setup.open()?,
        Err(error) => return Err(error.into()),
    };
    if seed == 0 {
        return lab.leave_but_for(CUTS * LOST, &["convoy-pool"]);
    }
    crash::rage(&lab, seed)
}
