//! The driver under the whole program, by both carriers.

use crate::cloud::Cloud;
use convoy_cloud_lab::daemon;
use convoy_cloud_lab::http::{Reply, Request};

const PROGRAM: &str = env!("CARGO_BIN_EXE_convoy-driver-digitalocean");

#[test]
fn backups_stay_and_leave_by_a_process() {
    daemon::backups_stay_and_leave::<Cloud>(&format!("process:{PROGRAM}")).unwrap();
}

#[test]
fn backups_stay_and_leave_by_a_library() {
    daemon::backups_stay_and_leave::<Cloud>(&format!("library:{}", daemon::library(PROGRAM))).unwrap();
}

fn is_delete(request: &Request) -> bool {
    request.method == "DELETE" && request.path.starts_with("/v2/volumes/")
}

fn doctor(driver: &str) {
    let refusal =
        Reply::new(403, r#"{"id":"forbidden","message":"You are missing the required permission"}"#);
    daemon::doctor::the_doctor_finds_what_was_lost::<Cloud>(driver, refusal, is_delete).unwrap();
}

#[test]
fn the_doctor_finds_what_was_lost_by_a_process() {
    doctor(&format!("process:{PROGRAM}"));
}

#[test]
fn the_doctor_finds_what_was_lost_by_a_library() {
    doctor(&format!("library:{}", daemon::library(PROGRAM)));
}
