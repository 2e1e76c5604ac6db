//! What goes wrong, and what is left of it: nothing that is paid for, and nothing of another's.

use crate::world::{World, context, expect, hurried, name, options};
use convoy_cloud_lab::http::{Fault, Reply, Request};
use convoy_driver_cloud::Config;
use convoy_driver_digitalocean::provider::DigitalOceanCloud;
use convoy_driver_sdk::context::CancelFlag;
use convoy_driver_sdk::protocol::{CreateVolume, Health, ListVolumes, Open};
use convoy_driver_sdk::{Context, Driver, ErrorKind};
use serde_json::json;
use std::time::{Duration, Instant};

fn refusal(status: u16, message: &str) -> Fault {
    Fault::Answer(Reply::new(status, json!({"id": "x", "message": message}).to_string()))
}

fn is(line: &'static str) -> impl Fn(&Request) -> bool + Send + 'static {
    move |request| {
        let (method, end) = line.split_once(' ').unwrap();
        request.method == method && request.path.ends_with(end)
    }
}

#[test]
fn throttling_errors_and_lost_answers_do_not_show() {
    let world = World::new();
    let line = &world.cloud.server.line;
    let throttled =
        Reply::new(429, json!({"id": "too_many_requests", "message": "API rate limit exceeded"}).to_string());
    line.fail(0, 2, Fault::Answer(throttled.header("retry-after", 0)), |_| true);
    line.fail(0, 2, refusal(503, "try again"), is("GET volumes"));
    line.fail(0, 1, Fault::LoseRequest, is("GET volumes"));
    // Made, but nobody said so: found by its token, not made twice.
    line.fail(0, 1, Fault::LoseAnswer, is("POST /v2/volumes"));
    // Attached, but nobody said so.
    line.fail(0, 1, Fault::LoseAnswer, is("POST /actions"));
    world.create("data", &[]).unwrap();
    assert_eq!(world.cloud.names(), ["data"]);
    line.heal();
    line.fail(0, 1, Fault::LoseAnswer, is("POST /snapshots"));
    world.snapshot("data", "one").unwrap();
    assert_eq!(world.cloud.state().snapshots.len(), 1);
    line.fail(0, 1, Fault::LoseAnswer, is("POST /actions"));
    line.fail(0, 2, Fault::LoseAnswer, |request| request.method == "DELETE");
    world.delete("data", false).unwrap();
    assert!(world.cloud.state().volumes.is_empty() && world.cloud.state().snapshots.is_empty());
    assert_eq!(world.intents(), 0);
}

#[test]
fn a_used_up_rate_limit_is_waited_for_or_said() {
    let world = World::new();
    let line = &world.cloud.server.line;
    let used_up = |seconds: i64| {
        let reset = convoy_driver_sdk::Timestamp::now().unix() + seconds;
        let body = json!({"id": "too_many_requests", "message": "API rate limit exceeded"});
        let reply = Reply::new(429, body.to_string()).header("ratelimit-remaining", 0);
        Fault::Answer(reply.header("ratelimit-reset", reset))
    };
    line.fail(0, 1, used_up(2), is("GET volumes"));
    let begin = Instant::now();
    world.create("waits", &[]).unwrap();
    assert!(begin.elapsed() > Duration::from_secs(1), "{:?}", begin.elapsed());
    // Nobody waits for an hour.
    line.fail(0, 1, used_up(1800), is("GET volumes"));
    expect(world.create("asks", &[]), ErrorKind::Unavailable, "rate limit of the account");
    assert_eq!((world.cloud.names(), world.intents()), (vec!["waits".to_owned()], 0));
}

#[test]
fn a_volume_that_is_not_seen_at_once_is_waited_for() {
    let world = World::new();
    world.cloud.state().lag = Duration::from_millis(700);
    world.create("slow", &[]).unwrap();
    assert_eq!(world.intents(), 0);
}

#[test]
fn what_fails_is_undone() {
    let world = World::new();
    let line = &world.cloud.server.line;
    world.create("first", &[]).unwrap();
    let undone = |volume: &str, kind, words: &str| {
        expect(world.create(volume, &[]), kind, words);
        assert_eq!((world.cloud.names(), world.intents()), (vec!["first".to_owned()], 0), "{words}");
        line.heal();
    };
    world.cloud.state().attach_limit = 1;
    undone("no-room", ErrorKind::Exhausted, "cannot attach more volumes");
    world.cloud.state().attach_limit = 15;
    world.cloud.state().volume_limit = 1;
    undone("no-quota", ErrorKind::Exhausted, "capacity limit exceeded");
    world.cloud.state().volume_limit = 100;
    world.cloud.state().failing_actions = 1;
    undone("errored", ErrorKind::Unavailable, "failed");
    line.fail(0, 1, refusal(401, "Unable to authenticate you"), |_| true);
    undone("revoked", ErrorKind::PermissionDenied, "set DO_TOKEN");
    line.fail(0, 1, refusal(403, "You are missing the required permission"), is("POST /v2/volumes"));
    undone("scopes", ErrorKind::PermissionDenied, "block_storage");
    expect(world.create_sized("huge", 20_000 << 30), ErrorKind::InvalidArgument, "1 to 16384 GiB");
    expect(world.create("typed", &[("type", "gp3")]), ErrorKind::InvalidArgument, "\"type\"");
    expect(world.create("btrfs", &[("fs", "btrfs")]), ErrorKind::InvalidArgument, "ext4 or xfs");
    assert_eq!(world.intents(), 0);
}

#[test]
fn a_stuck_attach_ends_with_the_call_and_is_undone_later() {
    let mut world = World::new();
    world.cloud.state().action_time = None;
    let request = || CreateVolume::new(name("stuck")).options(options(&[]));
    let error = world.driver().create_volume(request(), &hurried(600)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded, "{error:?}");
    assert!(error.message.contains("and is remembered"), "{error}");
    assert_eq!((world.cloud.names().len(), world.intents()), (1, 1));
    world.cloud.state().unstick();
    world.cloud.state().action_time = Some(Duration::from_millis(20));
    world.reopen();
    assert_eq!((world.cloud.names().len(), world.intents()), (0, 0));

    // Cancelled while the kernel is slow to show the device.
    world.cloud.state().show_devices = false;
    let flag = CancelFlag::default();
    let cancelled = Context::new("test").with_cancel(flag.clone());
    std::thread::scope(|scope| {
        let call = scope.spawn(|| world.driver().create_volume(request(), &cancelled));
        std::thread::sleep(Duration::from_millis(500));
        flag.cancel();
        let error = call.join().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled);
        assert!(error.message.contains("the kernel to show"), "{error}");
    });
    assert_eq!((world.cloud.names().len(), world.intents()), (0, 0));
}

#[test]
fn another_droplets_volume_is_never_taken() {
    let mut world = World::new();
    let label = "convoy volume=theirs purpose=volume token=00 host=99";
    let id = world.cloud.add("theirs", 1, label, Some(99));
    expect(world.create("theirs", &[]), ErrorKind::InUse, "attached to droplet 99");
    expect(world.create("mine", &[("id", &id)]), ErrorKind::InUse, "never taken away by force");
    // A name that would be another volume's.
    world.cloud.add("cv-my-vol-1-5d7bbcb3d3a8", 1, "", None);
    let taken = convoy_driver_digitalocean::names::volume_name(&name("My_Vol"));
    world.cloud.add(&taken, 1, "convoy volume=Other purpose=volume", None);
    expect(world.create("My_Vol", &[]), ErrorKind::AlreadyExists, "which is the volume Other");
    // What another host has begun to restore into is not taken for a volume.
    world.cloud.add("half", 1, "convoy volume=half purpose=restore token=11 host=99", None);
    expect(world.create("half", &[]), ErrorKind::AlreadyExists, "may not have finished");

    // Ours, taken by another droplet meanwhile.
    world.create("moved", &[]).unwrap();
    let ours = world.get("moved").unwrap().info["ID"].clone();
    world.cloud.state().volumes.get_mut(&ours).unwrap().droplet = Some(99);
    let Health::Damaged(reason) = world.get("moved").unwrap().health else { panic!() };
    assert!(reason.contains("attached to droplet 99"), "{reason}");
    expect(world.delete("moved", false), ErrorKind::InUse, "attached to droplet 99");
    world.delete("moved", true).unwrap();
    assert_eq!(world.cloud.state().volumes[&ours].droplet, Some(99), "left alone");

    // Ours, deleted in the control panel.
    world.create("gone", &[]).unwrap();
    let ours = world.get("gone").unwrap().info["ID"].clone();
    world.cloud.state().volumes.remove(&ours);
    let Health::Damaged(reason) = world.get("gone").unwrap().health else { panic!() };
    assert!(reason.contains("no longer exists"), "{reason}");
    expect(world.mount("gone"), ErrorKind::DataLoss, "no longer exists");
    world.delete("gone", false).unwrap();
    world.reopen();
    assert_eq!(world.list().len(), 0);
}

#[test]
fn an_unreachable_cloud_hides_nothing_and_loses_nothing() {
    let mut world = World::new();
    world.create("data", &[]).unwrap();
    world.unmount("data").unwrap();
    let line = std::sync::Arc::clone(&world.cloud.server.line);
    line.fail(0, usize::MAX, Fault::LoseRequest, |_| true);
    std::thread::sleep(Duration::from_millis(2100));
    let listed = world.driver().list_volumes(ListVolumes::default(), &hurried(800)).unwrap();
    assert_eq!((listed.volumes.len(), listed.warnings.len()), (1, 1), "{listed:?}");
    assert_eq!(listed.volumes[0].size, 1 << 30);
    world.mount("data").unwrap();
    let request = CreateVolume::new(name("more")).options(options(&[]));
    let error = world.driver().create_volume(request, &hurried(800)).unwrap_err();
    assert!(matches!(error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded), "{error:?}");
    line.heal();

    // The answer of a making is lost, and then the cloud is away for a while: the volume is not forgotten.
    line.fail(0, 1, Fault::LoseAnswer, is("POST /v2/volumes"));
    line.fail(1, usize::MAX, Fault::LoseRequest, is("GET /v2/volumes"));
    let request = CreateVolume::new(name("lost")).options(options(&[]));
    world.driver().create_volume(request, &context()).unwrap_err();
    assert_eq!((world.cloud.names().len(), world.intents()), (2, 1));
    line.heal();
    let opened = world.reopen();
    assert!(opened.recovered[0].contains("made for lost"), "{opened:?}");
    assert_eq!((world.cloud.names(), world.intents()), (vec!["data".to_owned()], 0));
}

/// Lets changes of a directory through again.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn set(dir: std::path::PathBuf) -> Self {
        Self::run("+i", &dir);
        Self(dir)
    }

    fn run(flag: &str, dir: &std::path::Path) {
        let status = std::process::Command::new("chattr").arg(flag).arg(dir).status().unwrap();
        assert!(status.success(), "chattr {flag} {}", dir.display());
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        Self::run("-i", &self.0);
    }
}

#[test]
fn what_cannot_be_settled_at_a_start_costs_no_other_volume() {
    let mut world = World::new();
    world.create("good", &[]).unwrap();
    world.unmount("good").unwrap();
    let line = std::sync::Arc::clone(&world.cloud.server.line);
    for volume in ["lost", "stuck"] {
        line.fail(0, 1, Fault::LoseAnswer, is("POST /v2/volumes"));
        line.fail(1, usize::MAX, Fault::LoseRequest, is("GET /v2/volumes"));
        let request = CreateVolume::new(name(volume)).options(options(&[]));
        world.driver().create_volume(request, &hurried(2000)).unwrap_err();
        line.heal();
    }
    let intents = world.root().join("intents");
    std::fs::write(intents.join("0123456789abcdef0123456789abcdef.json"), "{}").unwrap();
    std::fs::write(world.root().join("digitalocean_volume_wreck.json"), "{").unwrap();
    let id = |world: &World, volume: &str| {
        let state = world.cloud.state();
        state.volumes.iter().find(|(_, there)| there.name == volume).map(|(id, _)| id.clone())
    };
    let stuck = id(&world, "stuck").unwrap();
    line.fail(0, usize::MAX, refusal(403, "not yours"), move |request| {
        request.method == "DELETE" && request.path.ends_with(&stuck)
    });
    let opened = world.reopen();
    let told = opened.warnings.join("\n");
    assert!(told.contains("an operation on stuck is not undone yet"), "{told}");
    assert!(told.contains("0123456789abcdef0123456789abcdef"), "{told}");
    assert!(told.contains("wreck"), "{told}");
    assert!(opened.recovered.iter().any(|line| line.contains("made for lost")), "{opened:?}");
    assert_eq!((id(&world, "lost"), id(&world, "stuck").is_some()), (None, true));
    world.mount("good").unwrap();
    world.unmount("good").unwrap();
    line.heal();

    // What is settled cannot be noted: that keeps nothing from being used.
    let held = Immutable::set(intents);
    let told = world.reopen().warnings.join("\n");
    assert!(told.contains("cannot"), "{told}");
    assert_eq!(id(&world, "stuck"), None);
    world.mount("good").unwrap();
    world.unmount("good").unwrap();
    drop(held);
    world.age_intents();
    world.reopen();
    assert_eq!(world.intents(), 1, "the one that nobody can read");
    assert_eq!(world.list().len(), 2, "good and the wreck");
}

#[test]
fn a_slow_call_delays_no_other_volume() {
    let world = World::new();
    world.create("quick", &[]).unwrap();
    world.cloud.state().show_devices = false;
    std::thread::scope(|scope| {
        let request = CreateVolume::new(name("slow")).options(options(&[]));
        let slow = scope.spawn(|| world.driver().create_volume(request, &hurried(1500)));
        std::thread::sleep(Duration::from_millis(300));
        let begin = Instant::now();
        world.mount("quick").unwrap();
        world.get("quick").unwrap();
        world.unmount("quick").unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        slow.join().unwrap().unwrap_err();
    });
}

#[test]
fn bad_options_are_refused_by_name() {
    let world = World::new();
    let read = |pairs: &[(&str, &str)]| {
        let mut all = options(&[("do.tokenfile", world.scratch.path().join("token").to_str().unwrap())]);
        all.extend(options(pairs));
        Config::read::<DigitalOceanCloud>(&Open::new(world.root()).options(all))
    };
    read(&[]).unwrap();
    expect(read(&[("do.size", "1")]), ErrorKind::InvalidArgument, "do.defaultvolumesize");
    expect(read(&[("do.defaultvolumesize", "1GB")]), ErrorKind::InvalidArgument, "1GB");
    expect(read(&[("do.endpoint", "api.example")]), ErrorKind::InvalidArgument, "do.endpoint");
    expect(read(&[("do.droplet", "1")]), ErrorKind::InvalidArgument, "do.region together");
    expect(read(&[("do.tags", "a b")]), ErrorKind::InvalidArgument, "do.tags");
    expect(read(&[("do.tokenfile", "/nonexistent")]), ErrorKind::NotFound, "/nonexistent");
    world.cloud.metadata.line.fail(0, 1, Fault::Answer(Reply::new(404, "not found")), |_| true);
    expect(world.open_with(world.config(&[])), ErrorKind::Unavailable, "which droplet this is");
}
