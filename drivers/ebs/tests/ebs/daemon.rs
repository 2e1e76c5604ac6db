//! The driver under the whole program, by both carriers.

use crate::aws::Aws;
use convoy_cloud_lab::daemon;

const PROGRAM: &str = env!("CARGO_BIN_EXE_convoy-driver-ebs");

#[test]
fn backups_stay_and_leave_by_a_process() {
    daemon::backups_stay_and_leave::<Aws>(&format!("process:{PROGRAM}")).unwrap();
}

#[test]
fn backups_stay_and_leave_by_a_library() {
    daemon::backups_stay_and_leave::<Aws>(&format!("library:{}", daemon::library(PROGRAM))).unwrap();
}
