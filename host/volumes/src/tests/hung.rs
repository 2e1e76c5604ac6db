//! A driver whose storage hangs.

use super::fake::service;
use super::*;
use std::time::{Duration, Instant};

/// As good as no time.
const SOON: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_driver_that_hangs_is_asked_once_and_noticed_when_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    create(&volumes, "vol1").await.unwrap();
    let driver = Arc::clone(volumes.drivers.default_driver());
    let (mut events, mut said) = (volumes.events.listen(None).1, None);
    control.hold("driver.probe");
    control.hold("mount");
    for _ in 0..5 {
        volumes.probe(&driver, &mut said, SOON).await;
    }
    control.wait_for("driver.probe").await;
    assert_eq!(control.arrived("driver.probe"), 1, "each question would keep a thread");
    let silence = driver.silence().unwrap();
    assert!(silence.to_string().starts_with("driver fake has not answered for "), "{silence}");
    // Whoever comes now is not made to wait for ten minutes, and is told why.
    let began = Instant::now();
    let error = volumes.mount("vol1", "container", None, &call()).await.unwrap_err().full_text();
    assert!(began.elapsed() < CHANGE / 2, "{:?}", began.elapsed());
    assert!(error.contains("has not answered") && error.contains("without a restart"), "{error}");
    assert_eq!(volumes.find("vol1", &call()).await.unwrap().volume.name, name("vol1"));
    // Nor is it asked by those who look at it again and again.
    for _ in 0..3 {
        let status = driver.status(&call()).await;
        assert!(!status.healthy && status.message.contains("has not answered"), "{status:?}");
    }
    assert_eq!(control.arrived("driver.probe"), 1);
    // A name that is not known is not asked for in vain.
    assert!(matches!(volumes.find("vol2", &call()).await, Err(Error::VolumeNotFound(_))));

    control.let_go();
    volumes.probe(&driver, &mut said, QUICK).await;
    assert!(driver.silence().is_none() && driver.is_suspect(), "what became of its calls is to be found out");
    volumes.mount("vol1", "container", None, &call()).await.unwrap();
    let told: Vec<String> = std::iter::from_fn(|| events.try_recv().ok())
        .filter(|event| event.kind.starts_with("driver."))
        .map(|event| event.kind.clone())
        .collect();
    assert_eq!(told, ["driver.warning", "driver.healthy"]);
}

/// On a busy machine a probe is one of many calls that wait: as long as any of them is answered the driver is
/// not silent, and nobody's call is cut short.
#[tokio::test]
async fn a_driver_that_answers_anything_is_not_silent() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    let driver = Arc::clone(volumes.drivers.default_driver());
    control.hold("driver.probe");
    let patience = Duration::from_secs(2);
    let asked = Instant::now();
    driver.probe(patience).await.unwrap_err();
    assert!(driver.silence().is_some(), "it answered nothing");
    // What comes while it is silent is given a little time; what the driver answers within it shows that it
    // lives.
    create(&volumes, "vol1").await.unwrap();
    assert!(driver.silence().is_none());
    let mut number = 1;
    while asked.elapsed() < patience * 3 {
        number += 1;
        create(&volumes, &format!("vol{number}")).await.unwrap();
        assert!(driver.silence().is_none(), "it answered {number} calls");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Then nothing more is answered.
    control.hold("create");
    let waiting = tokio::spawn({
        let volumes = Arc::clone(&volumes);
        async move { create(&volumes, "last").await.map(drop) }
    });
    while driver.silence().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = driver.under_way();
    assert_eq!(
        told.iter().map(|call| call.method.as_str()).collect::<Vec<_>>(),
        ["driver.probe", "volume.create"]
    );
    assert_eq!(told[1].volume.as_deref(), Some("last"));
    assert!(told[0].age_ms >= 4000, "{told:?}");
    // Its call began while the driver lived: it has all of its time.
    assert!(!waiting.is_finished());
    control.let_go();
    waiting.await.unwrap().unwrap();
    assert!(driver.silence().is_none());
}

#[tokio::test]
async fn a_driver_that_takes_its_time_to_open_is_opened_once_and_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let (volumes, control) = service(dir.path()).await;
    control.put("vol1", None);
    let driver = Arc::clone(volumes.drivers.default_driver());
    volumes.refresh(&driver, &call()).await.unwrap();
    drop((volumes, driver));

    control.hold("open");
    let before = control.arrived("open");
    let (volumes, control) = fake::opening(dir.path(), SOON).await;
    let driver = Arc::clone(volumes.drivers.default_driver());
    assert!(driver.is_opening() && driver.may_open_yet());
    volumes.add_orphans(&driver, dir.path()).await;
    while control.arrived("open") == before {
        driver.open(SOON).await.unwrap_err();
    }
    for _ in 0..3 {
        driver.open(SOON).await.unwrap_err();
    }
    assert_eq!(control.arrived("open"), before + 1);
    let error = volumes.drivers.default_driver().failure().unwrap();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
    let mounting = tokio::spawn({
        let volumes = Arc::clone(&volumes);
        async move {
            volumes.index.put(volumes.drivers.default_driver(), fake::volume(&name("vol1")));
            volumes.mount("vol1", "container", None, &call()).await
        }
    });
    tokio::time::sleep(SOON).await;
    assert!(!mounting.is_finished(), "a container that starts with the machine waits");
    control.let_go();
    driver.open(QUICK).await.unwrap();
    mounting.await.unwrap().unwrap();
}
