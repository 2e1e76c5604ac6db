//! Many calls, and calls that end early.

use crate::check::{Outcome, ensure, fail, in_words, io, refused};
use crate::pattern;
use crate::rules::{self, Rule};
use crate::subject::{Subject, at_once};
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::protocol::Probe;
use std::time::{Duration, Instant};

/// Volumes used at once.
const MANY: usize = 8;
/// How long a create has to take for a look at another volume to be compared with it.
const LONG: Duration = Duration::from_millis(500);
/// After how many milliseconds calls are ended.
const TIMES: [u64; 5] = [0, 1, 5, 20, 100];
/// How soon a call ends after its deadline or its cancellation: commands it runs are given two seconds to
/// end.
const SOON: Duration = Duration::from_secs(6);

/// How much time a call is left that is to end early, from none to enough.
pub(super) fn times() -> impl Iterator<Item = Duration> {
    TIMES.into_iter().map(Duration::from_millis)
}

fn together(kit: &Subject, what: impl Fn(usize) -> Outcome + Sync) -> Outcome {
    let _ = kit;
    let what = &what;
    let all: Vec<_> = (0..MANY).map(|number| move || what(number)).collect();
    at_once(all).into_iter().try_for_each(|outcome| {
        outcome.unwrap_or_else(|| fail(rules::CONCURRENT, "a thread of the kit ended in a panic"))
    })
}

pub(super) fn concurrent(kit: &Subject) -> Outcome {
    together(kit, |number| {
        let name = kit.create("many")?;
        let path = kit.mount(&name)?;
        let content = pattern::noise(20_000, 100 + number as u64);
        io(rules::CONCURRENT, "write a file into the volume", std::fs::write(path.join("own"), &content))?;
        kit.names()?;
        if kit.can(convoy_driver_sdk::protocol::Capability::Snapshots) {
            kit.snapshot(&name, "many")?;
        }
        let found = io(rules::CONCURRENT, "read a file of the volume", std::fs::read(path.join("own")))?;
        ensure(rules::CONCURRENT, found == content, || {
            format!("the file of {name} has the content of another volume's")
        })?;
        kit.unmount(&name)?;
        crate::check::done(rules::CONCURRENT, "volume.delete", kit.delete(&name))
    })
}

/// While volumes are made and deleted, a probe and a look at another volume are answered in between.
pub(super) fn independent(kit: &Subject) -> Outcome {
    let watched = kit.create("watched")?;
    // The best of two: a disk that is busy for a moment is no measure.
    let mut work = Duration::MAX;
    for _ in 0..2 {
        let started = Instant::now();
        let alone = kit.create("alone")?;
        work = work.min(started.elapsed());
        crate::check::done(rules::DELETE, "volume.delete", kit.delete(&alone))?;
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    let (worked, (slowest, usual)) = std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let outcome = together(kit, |_| kit.create("busy").map(drop));
            done.store(true, std::sync::atomic::Ordering::Release);
            outcome
        });
        let mut slowest = Duration::ZERO;
        let (begun, mut rounds) = (Instant::now(), 0u32);
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let begun = Instant::now();
            let answered = kit.get(&watched).map(drop).and(kit.call(Probe::new()).map(drop));
            slowest = slowest.max(begun.elapsed());
            rounds += 1;
            if answered.is_err() {
                break;
            }
        }
        (
            busy.join().unwrap_or_else(|_| fail(rules::CONCURRENT, "a thread of the kit ended in a panic")),
            (slowest, begun.elapsed() / rounds.max(1)),
        )
    });
    worked?;
    crate::check::done(rules::CONCURRENT, "volume.get beside other calls", kit.get(&watched))?;
    // A driver with one lock for everything makes it wait for all of them.
    let limit = (work * 4).max(Duration::from_secs(2));
    // Where making one takes long, each look that waits for one takes about as long.
    let waits = work >= LONG && usual >= work;
    ensure(rules::CONCURRENT, slowest < limit && !waits, || {
        format!(
            "volume.get waited {usual:.2?}, and once {slowest:.2?}, while {MANY} others were made, each of \
             which takes {work:.2?} alone"
        )
    })
}

fn cut_short(kit: &Subject, rule: Rule, cancelled: bool) -> Outcome {
    let expected = if cancelled { ErrorKind::Cancelled } else { ErrorKind::DeadlineExceeded };
    for time in times() {
        let milliseconds = time.as_millis();
        let name = kit.name("short");
        let begun = Instant::now();
        let answer = kit.call_for(kit.create_request(&name), time, cancelled);
        let took = begun.elapsed();
        ensure(rule, took < time + SOON, || {
            format!(
                "volume.create, ended after {milliseconds} ms: expected an answer soon, found it {took:.1?} \
                 later"
            )
        })?;
        if answer.is_err() {
            refused(rule, &format!("volume.create, ended after {milliseconds} ms"), &[expected], answer)?;
        }
        kit.settle(rule)?;
        let ended = begun.elapsed();
        ensure(rule, ended < time + SOON, || {
            format!("volume.create goes on {ended:.1?} after it was to end after {milliseconds} ms")
        })?;
        // Undone or done: either way the name is of a whole volume, or free.
        whole_or_free(kit, &name, rule)?;
    }
    Ok(())
}

/// A volume that can be used, or a name that can be.
pub(super) fn whole_or_free(kit: &Subject, name: &convoy_driver_sdk::Name, rule: Rule) -> Outcome {
    match kit.get(name) {
        Ok(volume) => {
            ensure(rule, volume.health == convoy_driver_sdk::protocol::Health::Good, || {
                format!("the volume {name} is there and cannot be used: {:?}", volume.health)
            })?;
            ensure(rule, kit.names()?.contains(name), || {
                format!("the volume {name} is there and not listed")
            })?;
        }
        Err(error) if error.kind == ErrorKind::NotFound => {
            ensure(rule, !kit.names()?.contains(name), || {
                format!("the volume {name} is not there and listed")
            })?;
            crate::check::done(rule, "volume.create, repeated", kit.call(kit.create_request(name)))?;
        }
        Err(error) => {
            return fail(
                rule,
                format!("volume.get: expected the volume or not_found, found {}", in_words(&error)),
            );
        }
    }
    let path = kit.mount(name)?;
    let file = path.join("after");
    io(
        rule,
        "write a file into the volume",
        std::fs::write(&file, "x").and_then(|()| std::fs::remove_file(&file)),
    )?;
    kit.unmount(name)
}

pub(super) fn deadline(kit: &Subject) -> Outcome {
    cut_short(kit, rules::DEADLINE, false)
}

pub(super) fn cancel(kit: &Subject) -> Outcome {
    cut_short(kit, rules::CANCEL, true)
}
