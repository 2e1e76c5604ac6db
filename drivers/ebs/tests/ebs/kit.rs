//! The conformance kit, through both carriers.

use crate::aws::Aws;
use convoy_cloud_lab::daemon;
use convoy_cloud_lab::kit::{Part, the_kit_passes};

const PROGRAM: &str = env!("CARGO_BIN_EXE_convoy-driver-ebs");

#[test]
fn the_kit_passes_by_a_process() {
    the_kit_passes::<Aws>(&format!("process:{PROGRAM}"), "ext4", Part::Calls, 36).unwrap();
}

#[test]
fn the_kit_passes_while_the_process_is_killed() {
    the_kit_passes::<Aws>(&format!("process:{PROGRAM}"), "ext4", Part::Kills, 15).unwrap();
}

#[test]
fn the_kit_passes_by_a_library() {
    let library = format!("library:{}", daemon::library(PROGRAM));
    the_kit_passes::<Aws>(&library, "xfs", Part::Carrier, 27).unwrap();
}
