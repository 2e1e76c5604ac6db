//! The driver through its protocol. Each test runs through every carrier.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "suite/check.rs"]
mod check;
#[path = "../../../driver-sdk/tree/tests/common/mod.rs"]
mod compare;
#[path = "suite/crash.rs"]
mod crash;
#[path = "suite/filesystems.rs"]
mod filesystems;
#[path = "suite/hostile_container.rs"]
mod hostile_container;
#[path = "suite/legacy.rs"]
mod legacy;
#[path = "suite/quotas.rs"]
mod quotas;
#[path = "suite/restore.rs"]
mod restore;
#[path = "suite/shelter.rs"]
mod shelter;
#[path = "suite/snapshots.rs"]
mod snapshots;
#[path = "suite/speed.rs"]
mod speed;
mod support;
#[path = "suite/thaw.rs"]
mod thaw;
#[path = "suite/volumes.rs"]
mod volumes;

/// One test per carrier and function.
macro_rules! battery {
    ($($module:ident: $($test:ident),* $(,)?;)*) => {
        battery!(@through builtin: $($module: $($test),*;)*);
        battery!(@through library: $($module: $($test),*;)*);
        battery!(@through process: $($module: $($test),*;)*);
    };
    (@through $carrier:ident: $($module:ident: $($test:ident),*;)*) => {
        mod $carrier {
            $(mod $module {
                $(#[test]
                fn $test() {
                    crate::$module::$test(crate::support::$carrier);
                })*
            })*
        }
    };
}

battery! {
    volumes:
        a_volume_lives_and_dies, options_shape_the_directory, bad_input_changes_nothing,
        names_do_not_meet_our_own, kept_data_comes_back, an_image_has_a_size, images_are_not_followed_out,
        something_mounted_inside_is_not_deleted, damage_hides_nothing, missing_data_is_said,
        listing_in_pages_and_generations, settings_are_kept_and_not_overridden, two_hosts_see_each_other,
        one_of_many_creators_wins, a_full_disk_is_an_error_and_nothing_else,
        a_read_only_place_still_serves_what_it_has;
    snapshots:
        a_snapshot_is_frozen_and_whole, the_unchanged_costs_nothing, snapshots_come_and_go,
        what_is_read_is_not_deleted, a_stopped_snapshot_leaves_nothing, volumes_take_their_snapshots_along;
    restore:
        a_restore_becomes_a_volume, a_restore_goes_over_nothing, an_aborted_restore_leaves_nothing,
        images_keep_their_flag_and_size;
    thaw:
        a_clone_is_whole_and_independent, a_clone_of_what_is_not_there_makes_nothing,
        images_are_cloned_and_go_back_with_their_size, a_volume_goes_back_and_forth,
        what_is_used_does_not_go_back;
    shelter:
        a_directory_that_everybody_enters_is_mounted_on_itself, what_is_open_later_is_told_with_a_way_out,
        what_lies_elsewhere_is_refused_where_everybody_enters;
    check:
        what_is_well_is_not_told, what_is_wrong_is_told_and_what_is_safe_repaired;
    hostile_container:
        settling_that_ends_the_process_three_times_costs_that_volume,
        what_cannot_be_removed_is_told_with_its_size_and_tried_once,
        immutable_volumes_are_deleted_and_go_back, what_a_deleted_volume_had_does_not_come_back,
        a_directory_that_no_record_speaks_of_stops_no_snapshot;
    legacy:
        what_0_5_left_is_taken_over, its_snapshots_are_read_and_deleted, a_hostile_archive_stays_inside,
        what_0_5_had_mounted_is_in_use;
}
