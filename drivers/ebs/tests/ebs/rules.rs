//! What holds for every cloud.

use crate::aws::Aws;
use convoy_cloud_lab::http::Request;
use convoy_cloud_lab::{doctor, rules};

fn is_snapshot(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).starts_with("Action=CreateSnapshot&")
}

fn is_create(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).starts_with("Action=CreateVolume&")
}

fn is_attach(request: &Request) -> bool {
    String::from_utf8_lossy(&request.body).starts_with("Action=AttachVolume&")
}

#[test]
fn what_is_there_is_not_formatted() {
    rules::what_is_there_is_not_formatted::<Aws>();
}

#[test]
fn writers_are_held_still_when_asked() {
    rules::writers_are_held_still_when_asked::<Aws>(is_snapshot);
}

#[test]
fn what_comes_into_sight_late_is_undone() {
    rules::what_comes_into_sight_late_is_undone::<Aws>(is_create);
}

#[test]
fn several_at_once() {
    rules::several_at_once::<Aws>();
}

#[test]
fn mounts_and_snapshots_do_not_undo_each_other() {
    rules::mounts_and_snapshots_do_not_undo_each_other::<Aws>(is_snapshot, is_attach);
}

#[test]
fn a_clone_needs_neither_snapshot_nor_source() {
    rules::a_clone_needs_neither_snapshot_nor_source::<Aws>();
}

#[test]
fn what_is_wrong_is_found_and_what_is_safe_is_repaired() {
    let refusal = crate::aws::refusal("UnauthorizedOperation", "You are not authorized");
    doctor::what_is_wrong_is_found_and_what_is_safe_is_repaired::<Aws>(refusal);
}
