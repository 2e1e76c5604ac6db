//! The driver under the whole program, by both carriers.

use crate::cloud::Cloud;
use convoy_cloud_lab::daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_convoy-driver-digitalocean");

#[test]
fn backups_stay_and_leave_by_a_process() {
    daemon::backups_stay_and_leave::<Cloud>(&format!("process:{PROGRAM}")).unwrap();
}

#[test]
fn backups_stay_and_leave_by_a_library() {
    daemon::backups_stay_and_leave::<Cloud>(&format!("library:{}", daemon::library(PROGRAM))).unwrap();
}
