//! What holds of a call through every carrier.

use crate::support::{drivers, logged, open};
use convoy_driver_sdk::protocol::{GetVolume, Info, Open, Probe, ResizeVolume};
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::{DriverHealth, RequestContext};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Each body runs through the builtin, the library and the process.
macro_rules! through_every_carrier {
    ($($name:ident)*) => {
        through_every_carrier!(@ builtin "builtin:misbehaving" $($name)*);
        through_every_carrier!(@ library "library:misbehaving" $($name)*);
        through_every_carrier!(@ process "process:misbehaving" $($name)*);
    };
    (@ $carrier:ident $spec:literal $($name:ident)*) => {
        mod $carrier {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($spec).await;
            })*
        }
    };
}

through_every_carrier! {
    a_driver_must_be_opened_once
    replies_and_errors_keep_their_types
    a_panic_becomes_an_error_and_the_driver_goes_on
    a_slow_call_ends_at_its_deadline_and_keeps_what_it_holds
    a_call_ends_when_it_is_cancelled
    a_call_nobody_waits_for_is_cancelled
    progress_arrives_before_the_answer
    logs_arrive_with_their_level
    stray_output_breaks_nothing
    many_calls_run_at_once
    more_calls_than_run_at_once_all_have_their_time
    stopping_drains_and_closes
}

fn quick() -> RequestContext {
    RequestContext::new("quick").within(Duration::from_secs(20))
}

async fn a_driver_must_be_opened_once(spec: &str) {
    let driver = drivers().load(&spec.parse().unwrap()).await.unwrap();
    let early = driver.call(Info::new(), quick()).await.unwrap_err();
    assert_eq!(early.kind, ErrorKind::Unavailable);
    let root = tempfile::tempdir().unwrap();
    let request = Open::new(root.path().to_owned());
    driver.open(request.clone(), quick()).await.unwrap();
    assert_eq!(driver.open(request, quick()).await.unwrap_err().kind, ErrorKind::AlreadyExists);
    let status = driver.status();
    assert_eq!((status.name.as_str(), status.health, status.calls), ("misbehaving", DriverHealth::Ready, 0));
    assert_eq!(format!("{}:{}", status.carrier, status.name), spec);
}

async fn replies_and_errors_keep_their_types(spec: &str) {
    let opened = open(spec).await;
    let info = opened.driver.call(Info::new(), quick()).await.unwrap().info;
    assert_eq!(info["Root"], opened.root.path().display().to_string());
    let error = opened.create("refuse", 0, quick()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.retryable, error.hint.as_deref()),
        (ErrorKind::Exhausted, true, Some("make room"))
    );
    let name = Name::from_static("vol1");
    let error = opened.driver.call(ResizeVolume::new(name, 1), quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

async fn a_panic_becomes_an_error_and_the_driver_goes_on(spec: &str) {
    let opened = open(spec).await;
    let error = opened.create("panic", 0, quick()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.message.contains("volume.create: on purpose"), "{error}");
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert_eq!(opened.driver.status().restarts, 0);
}

async fn a_slow_call_ends_at_its_deadline_and_keeps_what_it_holds(spec: &str) {
    struct Lock(Arc<AtomicBool>);
    impl Drop for Lock {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let opened = open(spec).await;
    let released = Arc::new(AtomicBool::new(false));
    let options =
        RequestContext::new("slow").within(Duration::from_millis(100)).holding(Lock(Arc::clone(&released)));
    let begun = Instant::now();
    let error = opened.create("sleep", 1500, options).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    assert!(error.message.contains("driver misbehaving"), "{error}");
    assert!(begun.elapsed() < Duration::from_millis(1000));
    assert!(!released.load(Ordering::SeqCst), "the driver is still busy");
    assert_eq!(opened.driver.status().calls, 1);
    // Nobody else waits for it.
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert!(begun.elapsed() < Duration::from_millis(1400));
    while !released.load(Ordering::SeqCst) {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The late answer is nobody's.
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    assert_eq!(opened.driver.status().calls, 0);
}

async fn a_call_ends_when_it_is_cancelled(spec: &str) {
    let opened = open(spec).await;
    let cancel = CancellationToken::new();
    let later = cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        later.cancel();
    });
    let error = opened.create("obey", 0, quick().with_cancel(cancel)).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Cancelled, "the call was cancelled"));
    // The driver sees a deadline too, and says so itself.
    let error = opened
        .create("obey", 0, RequestContext::new("d").within(Duration::from_millis(50)))
        .await
        .unwrap_err();
    assert_eq!(error.message, "the deadline of the call has passed");
}

async fn a_call_nobody_waits_for_is_cancelled(spec: &str) {
    let opened = open(spec).await;
    let waited = tokio::time::timeout(Duration::from_millis(50), opened.create("obey", 0, quick())).await;
    assert!(waited.is_err());
    let begun = Instant::now();
    while opened.driver.status().calls > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the call goes on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn progress_arrives_before_the_answer(spec: &str) {
    let opened = open(spec).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let options =
        quick().with_progress(move |progress| sink.lock().unwrap().push((progress.done, progress.total)));
    opened.create("progress", 0, options).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [(1, Some(3)), (2, Some(3)), (3, Some(3))]);
}

async fn logs_arrive_with_their_level(spec: &str) {
    let opened = open(spec).await;
    opened.create("log", 0, RequestContext::new("call-77")).await.unwrap();
    let error = logged(|record| record.is("logged an error")).await;
    assert_eq!(error.level, tracing::Level::ERROR);
    assert_eq!(logged(|record| record.is("logged a warning")).await.level, tracing::Level::WARN);
    assert_eq!(logged(|record| record.is("logged an info")).await.level, tracing::Level::INFO);
    if !spec.starts_with("builtin") {
        let error =
            logged(|record| record.is("logged an error") && record.fields.contains_key("driver")).await;
        assert_eq!(error.fields["driver"], "misbehaving");
        assert!(error.fields["request_id"].starts_with("call-77"), "{error:?}");
        assert_eq!(error.fields["fields"], r#"{"volume":"vol1"}"#);
        assert!(error.fields["origin"].contains("driver"), "{error:?}");
    }
}

async fn stray_output_breaks_nothing(spec: &str) {
    let opened = open(spec).await;
    opened.create("print", 0, quick()).await.unwrap();
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    if spec.starts_with("process") {
        let line = logged(|record| record.is("a stray line on standard output")).await;
        assert_eq!(line.fields["driver"], "misbehaving");
        logged(|record| record.is("a stray line on standard error")).await;
    }
}

async fn many_calls_run_at_once(spec: &str) {
    let opened = open(spec).await;
    let begun = Instant::now();
    let slow: Vec<_> = (0..32)
        .map(|_| {
            let driver = opened.driver.clone();
            tokio::spawn(async move { driver.call(crate::support::doing("sleep", 300), quick()).await })
        })
        .collect();
    let quick_calls: Vec<_> = (0..200)
        .map(|number| {
            let driver = opened.driver.clone();
            tokio::spawn(async move {
                let name = Name::parse(format!("vol{number}")).unwrap();
                assert_eq!(driver.call(GetVolume::new(name.clone()), quick()).await.unwrap().name, name);
            })
        })
        .collect();
    for call in slow {
        call.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "one after the other: {:?}", begun.elapsed());
    for call in quick_calls {
        call.await.unwrap();
    }
}

/// A machine that is short of time makes calls wait for each other: the last of these wait for longer than a
/// call may take, and none fails. A probe does not wait with them.
async fn more_calls_than_run_at_once_all_have_their_time(spec: &str) {
    let opened = open(spec).await;
    let calls: Vec<_> = (0..250)
        .map(|_| {
            let driver = opened.driver.clone();
            let options = RequestContext::new("one of many").within(Duration::from_secs(6));
            tokio::spawn(async move { driver.call(crate::support::doing("sleep", 2000), options).await })
        })
        .collect();
    while opened.driver.status().calls < 250 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    opened.driver.call(Probe::new(), quick()).await.unwrap();
    let waiting = opened.driver.under_way().iter().filter(|call| call.waiting).count();
    assert!(waiting > 0, "the probe was answered after {:?}, when nothing waited any more", begun.elapsed());
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() > Duration::from_secs(7), "they did not wait: {:?}", begun.elapsed());
}

async fn stopping_drains_and_closes(spec: &str) {
    let opened = open(spec).await;
    let driver = opened.driver.clone();
    let running =
        tokio::spawn(async move { driver.call(crate::support::doing("sleep", 300), quick()).await });
    while opened.driver.status().calls == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The call is on its way into the driver; give it the time to arrive.
    tokio::time::sleep(Duration::from_millis(100)).await;
    opened.driver.stop(Duration::from_secs(10)).await;
    running.await.unwrap().unwrap();
    assert!(opened.root.path().join("closed").exists());
    assert_eq!(opened.driver.status().health, DriverHealth::Stopped);
    let error = opened.driver.call(Probe::new(), quick()).await.unwrap_err();
    assert!(!error.retryable && error.message.contains("was stopped"), "{error}");
    opened.driver.stop(Duration::from_secs(1)).await;
}
