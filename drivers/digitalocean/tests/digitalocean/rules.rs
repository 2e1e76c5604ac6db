//! What holds for every cloud.

use crate::cloud::Cloud;
use convoy_cloud_lab::http::{Reply, Request};
use convoy_cloud_lab::{doctor, rules};

fn is_snapshot(request: &Request) -> bool {
    request.method == "POST" && request.path.ends_with("/snapshots")
}

fn is_create(request: &Request) -> bool {
    request.method == "POST" && request.path == "/v2/volumes"
}

fn is_attach(request: &Request) -> bool {
    request.method == "POST" && request.path.ends_with("/actions")
}

#[test]
fn what_is_there_is_not_formatted() {
    rules::what_is_there_is_not_formatted::<Cloud>();
}

#[test]
fn writers_are_held_still_when_asked() {
    rules::writers_are_held_still_when_asked::<Cloud>(is_snapshot);
}

#[test]
fn what_comes_into_sight_late_is_undone() {
    rules::what_comes_into_sight_late_is_undone::<Cloud>(is_create);
}

#[test]
fn several_at_once() {
    rules::several_at_once::<Cloud>();
}

#[test]
fn mounts_and_snapshots_do_not_undo_each_other() {
    rules::mounts_and_snapshots_do_not_undo_each_other::<Cloud>(is_snapshot, is_attach);
}

#[test]
fn a_clone_needs_neither_snapshot_nor_source() {
    rules::a_clone_needs_neither_snapshot_nor_source::<Cloud>();
}

#[test]
fn what_is_wrong_is_found_and_what_is_safe_is_repaired() {
    let refusal =
        Reply::new(403, r#"{"id":"forbidden","message":"You are missing the required permission"}"#);
    doctor::what_is_wrong_is_found_and_what_is_safe_is_repaired::<Cloud>(refusal);
}
