//! What goes wrong, and what is left of it: nothing that is paid for, and nothing of another's.

use crate::aws::{ZONE, refusal};
use crate::world::{World, context, expect, hurried, name, options};
use convoy_cloud_lab::http::{Fault, Request};
use convoy_driver_sdk::protocol::{CreateVolume, DeleteBackup, Health, ListVolumes, ResizeVolume};
use convoy_driver_sdk::{Driver, ErrorKind};
use std::time::{Duration, Instant};

fn is(action: &'static str) -> impl Fn(&Request) -> bool + Send + 'static {
    let start = format!("Action={action}&");
    move |request| String::from_utf8_lossy(&request.body).starts_with(&start)
}

#[test]
fn throttling_lost_answers_and_late_sight_do_not_show() {
    let world = World::new();
    let line = &world.cloud.server.line;
    line.fail(
        0,
        1,
        Fault::Answer(refusal("RequestLimitExceeded", "Request limit exceeded.")),
        is("CreateVolume"),
    );
    line.fail(0, 1, Fault::Answer(refusal("InternalError", "an internal error")), is("DescribeVolumes"));
    for action in
        ["CreateVolume", "AttachVolume", "DescribeVolumes", "DetachVolume", "DeleteVolume", "DeleteSnapshot"]
    {
        line.fail(0, 1, Fault::LoseAnswer, is(action));
    }
    world.cloud.state().lag = Duration::from_millis(700);
    world.create("data", &[]).unwrap();
    assert_eq!(world.left().0, 1, "made once");
    // A snapshot request is not repeated blindly: what it made is found by its token.
    line.fail(
        0,
        1,
        Fault::Answer(refusal("RequestLimitExceeded", "Request limit exceeded.")),
        is("CreateSnapshot"),
    );
    line.fail(0, 1, Fault::LoseAnswer, is("CreateSnapshot"));
    world.snapshot("data", "one").unwrap();
    assert_eq!(world.left().1, 1, "taken once");
    line.fail(0, 1, Fault::LoseAnswer, is("ModifyVolume"));
    let resize = ResizeVolume::new(name("data"), 2 << 30);
    world.driver().resize_volume(resize, &context()).unwrap();
    world.delete("data", false).unwrap();
    assert_eq!(world.left(), (0, 0, 0));
}

#[test]
fn what_fails_is_undone() {
    let mut world = World::new();
    let line = std::sync::Arc::clone(&world.cloud.server.line);
    world.create("first", &[]).unwrap();
    let undone = |world: &World, volume: &str, kind, words: &str| {
        expect(world.create(volume, &[]), kind, words);
        assert_eq!(world.left(), (1, 0, 0), "{words}");
        world.cloud.server.line.heal();
    };
    world.cloud.state().attach_limit = 1;
    undone(&world, "no-room", ErrorKind::Exhausted, "AttachmentLimitExceeded");
    world.cloud.state().attach_limit = 27;
    line.fail(0, 1, Fault::Answer(refusal("VolumeLimitExceeded", "too many")), is("CreateVolume"));
    undone(&world, "no-quota", ErrorKind::Exhausted, "raise the limit");
    line.fail(
        0,
        1,
        Fault::Answer(refusal("UnauthorizedOperation", "You are not authorized")),
        is("AttachVolume"),
    );
    undone(&world, "no-right", ErrorKind::PermissionDenied, "must allow ec2:AttachVolume");
    line.fail(0, 1, Fault::Answer(refusal("MaxIOPSLimitExceeded", "too many IOPS")), is("CreateVolume"));
    undone(&world, "no-iops", ErrorKind::Exhausted, "MaxIOPSLimitExceeded");

    // An attachment that gets stuck is begun anew; one that is stuck for ever is given up.
    let mut config = world.config(&[]);
    config.own.patience = Duration::from_millis(500);
    world.driver = None;
    world.driver = Some(world.open_with(config).unwrap().0);
    world.cloud.state().stuck = 1;
    world.create("stuck-once", &[]).unwrap();
    world.delete("stuck-once", false).unwrap();
    world.cloud.state().stuck = 2;
    undone(&world, "stuck", ErrorKind::Busy, "stuck, twice");

    // The kernel does not show it before the call's time is over.
    world.cloud.state().show_devices = false;
    let request = CreateVolume::new(name("unseen")).options(options(&[]));
    let error = world.driver().create_volume(request, &hurried(1500)).unwrap_err();
    assert!(error.message.contains("the kernel to show"), "{error}");
    assert_eq!(world.left(), (1, 0, 0));
    world.cloud.state().show_devices = true;

    for (pairs, words) in [
        (&[("type", "gp9")][..], "gp3, gp2"),
        (&[("type", "io1")], "at least 4 GiB"),
        (&[("iops", "abc")], "abc"),
        (&[("fs", "btrfs")], "ext4 or xfs"),
        (&[("id", "vol-1"), ("backup", "ebs://us-east-1/snap-1")], "found both"),
        (&[("backup", "ebs://us-east-1")], "ebs://<region>/<snapshot id>"),
        (&[("copy", "perhaps")], "true or false"),
    ] {
        expect(world.create("bad", pairs), ErrorKind::InvalidArgument, words);
    }
    expect(world.create("bad", &[("backup", "ebs://us-east-1/snap-1")]), ErrorKind::NotFound, "no backup");
    assert_eq!(world.left(), (1, 0, 0));
}

#[test]
fn nothing_of_another_instance_is_taken() {
    let world = World::new();
    let other = world.cloud.other_instance.clone();
    let theirs = world.cloud.add(ZONE, 1, &[("ConvoyVolumeName", "theirs")], Some(&other));
    expect(world.create("theirs", &[]), ErrorKind::InUse, &format!("attached to {other}"));
    expect(world.create("mine", &[("id", &theirs)]), ErrorKind::InUse, "never taken away by force");
    // In another zone: cannot be attached, and is not mistaken for one of here.
    let far = world.cloud.add("us-east-1b", 1, &[("ConvoyVolumeName", "far")], None);
    expect(world.create("mine", &[("id", &far)]), ErrorKind::InvalidArgument, "is in the zone us-east-1b");
    // Two of one name: it must be said which.
    for _ in 0..2 {
        world.cloud.add(ZONE, 1, &[("ConvoyVolumeName", "twice")], None);
    }
    expect(world.create("twice", &[]), ErrorKind::AlreadyExists, "more than one");
    let half = [("ConvoyVolumeName", "half"), ("ConvoyPurpose", "restore"), ("ConvoyHost", "i-9")];
    world.cloud.add(ZONE, 1, &half, None);
    expect(world.create("half", &[]), ErrorKind::AlreadyExists, "i-9 began to restore");
    // Empty and not of our making: never formatted.
    let blank = world.cloud.add(ZONE, 1, &[("ConvoyVolumeName", "blank")], None);
    expect(world.create("blank", &[]), ErrorKind::InvalidArgument, "run mkfs on it by hand");
    assert!(world.cloud.state().volumes[&blank].attached.is_none(), "detached again");
    expect(
        world.driver().delete_backup(DeleteBackup::new("ebs://us-east-1/snap-77".to_owned()), &context()),
        ErrorKind::NotFound,
        "no backup",
    );
    assert_eq!(world.left(), (6, 0, 0));

    // Another instance's volume, and one that was deleted behind our back.
    world.create("gone", &[]).unwrap();
    let id = world.get("gone").unwrap().info["EBSVolumeID"].clone();
    let mut state = world.cloud.state();
    let device = state.volumes[&id].attached.clone().unwrap().1;
    let instance = state.instance.clone();
    state.ask(
        "us-east-1",
        &format!(
            "Action=DetachVolume&Version=2016-11-15&VolumeId={id}&InstanceId={instance}&Device={device}"
        ),
    );
    state.ask("us-east-1", &format!("Action=DeleteVolume&Version=2016-11-15&VolumeId={id}"));
    state.volumes.remove(&id);
    drop(state);
    let Health::Damaged(reason) = world.get("gone").unwrap().health else { panic!() };
    assert!(reason.contains("no longer exists"), "{reason}");
    expect(world.mount("gone"), ErrorKind::DataLoss, "no longer exists");
    world.delete("gone", false).unwrap();
}

#[test]
fn an_unreachable_cloud_hides_nothing_and_loses_nothing() {
    let mut world = World::new();
    world.create("data", &[]).unwrap();
    world.cloud.server.line.fail(0, usize::MAX, Fault::LoseRequest, |_| true);
    std::thread::sleep(Duration::from_millis(2100));
    let listed = world.driver().list_volumes(ListVolumes::default(), &hurried(800)).unwrap();
    assert_eq!((listed.volumes.len(), listed.warnings.len()), (1, 1), "{listed:?}");
    assert_eq!(listed.volumes[0].size, 1 << 30);
    world.mount("data").unwrap();
    world.cloud.server.line.heal();

    // Made, but the call's time is over before anybody says so: remembered, and undone by the next life.
    world.cloud.server.line.fail(0, 1, Fault::LoseAnswer, is("CreateVolume"));
    world.cloud.server.line.fail(0, usize::MAX, Fault::LoseRequest, is("CreateVolume"));
    world.cloud.server.line.fail(1, usize::MAX, Fault::LoseRequest, is("DescribeVolumes"));
    let request = CreateVolume::new(name("lost")).options(options(&[]));
    let begin = Instant::now();
    world.driver().create_volume(request, &hurried(2000)).unwrap_err();
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    world.cloud.server.line.heal();
    world.reopen();
    assert_eq!(world.left(), (1, 0, 0));
}
