//! Messages between host and driver that are lost, repeated, late or cut: whatever happens, the host and the
//! other drivers go on, what was acknowledged is there, and nothing was done twice.

use crate::support::{Opened, built, drivers, open};
use convoy_driver_sdk::protocol::{CreateVolume, DeleteVolume, Open, Probe};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::{DriverHandle, DriverHealth, RequestContext};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// Lines in either direction before the first call: hello, describe, open.
const INTRODUCTION: usize = 3;
/// How long a call may take here.
const PATIENCE: Duration = Duration::from_millis(300);

/// The test driver behind the proxy, which follows the plan.
async fn behind(plan: &Value) -> Opened {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("plan");
    std::fs::write(&file, plan.to_string()).unwrap();
    let script = root.path().join("convoy-driver-misbehaving");
    let dir = &built()[0];
    let (proxy, driver) = (dir.join("faulty"), dir.join("convoy-driver-misbehaving"));
    let text = format!("#!/bin/sh\nexec {} {} {}\n", proxy.display(), file.display(), driver.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let driver = drivers().load(&format!("process:{}", script.display()).parse().unwrap()).await.unwrap();
    let open = Open::new(root.path().to_owned());
    driver.open(open, RequestContext::new("open").within(Duration::from_secs(20))).await.unwrap();
    Opened { driver, root }
}

fn call() -> RequestContext {
    RequestContext::new("faulty").within(PATIENCE)
}

fn fault(to: &str, at: usize, fault: &Value) -> Value {
    json!({"to": to, "at": at + INTRODUCTION, "fault": fault})
}

fn keep(name: &str) -> CreateVolume {
    let options = [("do".to_owned(), "keep".to_owned())].into();
    CreateVolume::new(Name::parse(name).unwrap()).options(options)
}

fn delete(name: &str) -> DeleteVolume {
    DeleteVolume::new(Name::parse(name).unwrap())
}

fn effects(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(root.join("effects")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// An error of the wire, and not of the driver.
fn is_of_the_wire(error: &DriverError) -> bool {
    let known = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
    assert!(!known || error.retryable && error.message.contains("driver misbehaving"), "{error:?}");
    known
}

/// Until the driver answers again.
async fn well(driver: &DriverHandle) {
    let begun = Instant::now();
    while driver.call(Probe::new(), call()).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", driver.status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_twice_is_carried_out_once() {
    // The first delete comes again behind the create that follows it.
    let plan = json!({"lives": [[
        fault("driver", 0, &json!("duplicate")),
        fault("driver", 1, &json!("duplicate_late")),
    ]]});
    let opened = behind(&plan).await;
    opened.driver.call(keep("vol1"), call()).await.unwrap();
    opened.driver.call(delete("vol1"), call()).await.unwrap();
    opened.driver.call(keep("vol1"), call()).await.unwrap();
    well(&opened.driver).await;
    assert_eq!(effects(opened.root.path()), ["+vol1", "-vol1", "+vol1"]);
    assert_eq!(opened.driver.status().restarts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_comes_twice_costs_the_process_and_nothing_else() {
    let opened = behind(&json!({"lives": [[fault("host", 0, &json!("duplicate"))]]})).await;
    opened.driver.call(keep("vol1"), call()).await.unwrap();
    well(&opened.driver).await;
    assert_eq!(effects(opened.root.path()), ["+vol1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_ends_at_the_deadline_and_what_is_cut_at_once() {
    for (to, how) in [("driver", json!("drop")), ("host", json!("drop")), ("driver", json!({"truncate": 20}))]
    {
        let opened = behind(&json!({"lives": [[fault(to, 0, &how)]]})).await;
        let error = opened.driver.call(keep("vol1"), call()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded, "{to} {how}: {error}");
        assert!(error.message.contains("driver misbehaving: volume.create"), "{error}");
        opened.driver.call(Probe::new(), call()).await.unwrap();
        assert_eq!(opened.driver.status().restarts, 0, "{to} {how}");
    }
    for (to, how) in
        [("host", json!({"truncate": 20})), ("host", json!({"cut": 20})), ("driver", json!({"cut": 20}))]
    {
        let opened = behind(&json!({"lives": [[fault(to, 0, &how)]]})).await;
        let begun = Instant::now();
        let slow = RequestContext::new("slow").within(Duration::from_secs(20));
        let error = opened.driver.call(keep("vol1"), slow).await.unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::Unavailable, true), "{to} {how}: {error}");
        assert!(
            error.message.contains("driver misbehaving") && error.message.contains("try again"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
        well(&opened.driver).await;
        assert_eq!(opened.driver.status().restarts, 1, "{to} {how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_fails_is_tried_again() {
    let hello = json!([{"to": "host", "at": 0, "fault": {"truncate": 5}}]);
    let open = json!([{"to": "host", "at": 2, "fault": {"cut": 9}}]);
    let opened = behind(&json!({"lives": [[fault("host", 0, &json!({"cut": 1}))], hello, open]})).await;
    opened.driver.call(keep("vol1"), call()).await.unwrap_err();
    well(&opened.driver).await;
    let status = opened.driver.status();
    assert_eq!((status.restarts, status.health), (3, DriverHealth::Ready));
}

fn plans() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        Just(json!("drop")),
        Just(json!("duplicate")),
        Just(json!("duplicate_late")),
        (1..120u64).prop_map(|ms| json!({"delay": ms})),
        (0..150usize).prop_map(|bytes| json!({"truncate": bytes})),
        (0..150usize).prop_map(|bytes| json!({"cut": bytes})),
    ];
    let one = (prop_oneof![Just("driver"), Just("host")], 0..25usize, kind)
        .prop_map(|(to, at, kind)| fault(to, at, &kind));
    // Fewer lives with faults than ends in a row after which a driver is given up.
    let lives = proptest::collection::vec(proptest::collection::vec(one, 0..4), 1..4);
    lives.prop_map(|lives| json!({ "lives": lives }))
}

/// What is known of one volume.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    There,
    Gone,
    /// The last call was not acknowledged.
    Either,
}

/// Makes and deletes volumes, calls that failed again as a user would, and checks what came of it.
async fn storm(plan: Value) {
    let opened = behind(&plan).await;
    let mut calls = 0;
    let mut known = Vec::new();
    for number in 0..8 {
        let name = format!("vol{number}");
        let mut state = Known::Gone;
        let mut creates = 0;
        for round in 0..3 {
            // An attempt, and another if that failed.
            for _ in 0..2 {
                calls += 1;
                let (wanted, outcome) = if round % 2 == 0 {
                    creates += 1;
                    (Known::There, opened.driver.call(keep(&name), call()).await.map(drop))
                } else {
                    (Known::Gone, opened.driver.call(delete(&name), call()).await.map(drop))
                };
                match outcome {
                    Ok(()) => state = wanted,
                    Err(error) if error.kind == ErrorKind::AlreadyExists => {
                        assert_ne!(state, Known::Gone, "{name} was acknowledged to be gone: {plan}");
                        state = Known::There;
                    }
                    Err(error) => {
                        assert!(is_of_the_wire(&error), "{error:?}: {plan}");
                        state = Known::Either;
                        continue;
                    }
                }
                break;
            }
        }
        known.push((name, state, creates));
    }
    well(&opened.driver).await;
    let effects = effects(opened.root.path());
    for (name, state, creates) in known {
        let there = opened.root.path().join(format!("kept-{name}")).exists();
        match state {
            Known::There => assert!(there, "{name} was acknowledged and is lost: {effects:?}, {plan}"),
            Known::Gone => assert!(!there, "{name} was deleted and is there: {effects:?}, {plan}"),
            Known::Either => {}
        }
        let made = effects.iter().filter(|line| **line == format!("+{name}")).count();
        assert!(made <= creates, "{name} was made {made} times by {creates} calls: {plan}");
    }
    assert!(calls >= 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_on_the_wire_nothing_is_lost_or_done_twice() {
    let other = open("process:misbehaving").await;
    let served = tokio::spawn({
        let driver = other.driver.clone();
        async move {
            loop {
                let quick = RequestContext::new("other").within(Duration::from_secs(5));
                driver.call(Probe::new(), quick).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let mut runner = TestRunner::default();
    let storms: Vec<_> =
        (0..24).map(|_| tokio::spawn(storm(plans().new_tree(&mut runner).unwrap().current()))).collect();
    for storm in storms {
        storm.await.unwrap();
    }
    assert!(!served.is_finished(), "another driver was not served: {:?}", served.await);
    served.abort();
    assert_eq!(other.driver.status().restarts, 0);
}
