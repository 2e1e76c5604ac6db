//! The driver under the whole program, by both carriers.

use crate::aws::{Aws, refusal};
use convoy_cloud_lab::daemon;
use convoy_cloud_lab::http::Request;

const PROGRAM: &str = env!("CARGO_BIN_EXE_convoy-driver-ebs");

#[test]
fn backups_stay_and_leave_by_a_process() {
    daemon::backups_stay_and_leave::<Aws>(&format!("process:{PROGRAM}")).unwrap();
}

#[test]
fn backups_stay_and_leave_by_a_library() {
    daemon::backups_stay_and_leave::<Aws>(&format!("library:{}", daemon::library(PROGRAM))).unwrap();
}

fn is_delete(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).starts_with("Action=DeleteVolume&")
}

fn doctor(driver: &str) {
    let refusal = refusal("UnauthorizedOperation", "You are not authorized");
    daemon::doctor::the_doctor_finds_what_was_lost::<Aws>(driver, refusal, is_delete).unwrap();
}

#[test]
fn the_doctor_finds_what_was_lost_by_a_process() {
    doctor(&format!("process:{PROGRAM}"));
}

#[test]
fn the_doctor_finds_what_was_lost_by_a_library() {
    doctor(&format!("library:{}", daemon::library(PROGRAM)));
}
