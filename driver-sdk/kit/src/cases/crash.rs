//! `kill -9` in the midst of calls. The host's own supervisor starts the process again and opens the driver.

use super::calls::whole_or_free;
use super::copies::equals;
use super::snapshots::names as snapshot_names;
use crate::cases::contents::{fill_volume, filled, keeps_file, write_file};
use crate::check::{Outcome, done, ensure, fail, io, not_found, same, skip};
use crate::pattern;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{Capability, MountVolume, ResizeVolume, UnmountVolume};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use std::time::{Duration, Instant};

mod snapshots;
mod tidy;

pub(super) use snapshots::{backup, clone, reading, restore, revert, snapshot, snapshot_delete};
pub(super) use tidy::tidy;

/// Kills the process and waits for the next one.
fn kill(kit: &Subject) -> Outcome {
    let pid = kit.pid();
    kit.kill()?;
    kit.recover(pid)
}

/// Makes a call and kills the process after so long; gives what the call answered, if it did.
fn kill_after<T: Send>(
    kit: &Subject,
    delay: Duration,
    call: impl FnOnce() -> Result<T, DriverError> + Send,
) -> Outcome<Option<T>> {
    let pid = kit.pid();
    let answer = std::thread::scope(|scope| {
        let calling = scope.spawn(call);
        std::thread::sleep(delay);
        let killed = kit.kill();
        killed.and_then(|()| {
            calling.join().or_else(|_| fail(rules::WHOLE, "a thread of the kit ended in a panic"))
        })
    })?;
    kit.recover(pid)?;
    match answer {
        Ok(answer) => Ok(Some(answer)),
        // Killed before it was sent, it was made to the next process, which does not know the handles of the
        // first.
        Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::NotFound) => Ok(None),
        // It was refused before the kill.
        Err(error) => fail(
            rules::WHOLE,
            format!(
                "a call that was killed: expected success or unavailable, found {}",
                crate::check::in_words(&error)
            ),
        ),
    }
}

/// The moments to kill at: from the first instant of a call to its end, as it takes undisturbed.
fn moments(kit: &Subject, whole: Duration) -> impl Iterator<Item = Duration> {
    let kills = kit.options.kills.max(1);
    (0..kills).map(move |number| whole * number / kills + Duration::from_micros(200))
}

/// How long something takes undisturbed.
fn timed<T>(action: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Duration)> {
    let started = Instant::now();
    Ok((action()?, started.elapsed()))
}

pub(super) fn durable(kit: &Subject) -> Outcome {
    let mut volumes = Vec::new();
    for _ in 0..3 {
        // Each is killed at the instant it is acknowledged.
        let name = kit.create("durable")?;
        kill(kit)?;
        volumes.push(name);
    }
    for name in &volumes {
        done(rules::DURABLE, "volume.get of what was acknowledged before a kill", kit.get(name))?;
    }
    let path = kit.mount(&volumes[0])?;
    let expected = fill_volume(&path, 4)?;
    if kit.can(Capability::Snapshots) {
        kit.snapshot(&volumes[0], "durable")?;
    }
    done(rules::DELETE, "volume.delete", kit.delete(&volumes[1]))?;
    kill(kit)?;
    not_found(rules::DURABLE, "volume.get of what was deleted before a kill", kit.get(&volumes[1]))?;
    if kit.can(Capability::Snapshots) {
        let names = snapshot_names(kit, &volumes[0])?;
        same(rules::DURABLE, "the snapshots after a kill", &vec![Name::from_static("durable")], &names)?;
    }
    equals(kit, &volumes[0], &expected, rules::DURABLE, "the files after a kill of the driver")?;
    kit.unmount(&volumes[0])
}

pub(super) fn create(kit: &Subject) -> Outcome {
    let (_, whole) = timed(|| kit.create("crash"))?;
    for delay in moments(kit, whole) {
        let name = kit.name("crash");
        let request = kit.create_request(&name);
        let answered = kill_after(kit, delay, || kit.call(request))?;
        if answered.is_some() {
            done(rules::DURABLE, "volume.get of what was acknowledged before a kill", kit.get(&name))?;
        }
        whole_or_free(kit, &name, rules::WHOLE)?;
    }
    Ok(())
}

pub(super) fn delete(kit: &Subject) -> Outcome {
    let (name, _) = filled(kit, "crash")?;
    let (_, whole) = timed(|| done(rules::DELETE, "volume.delete", kit.delete(&name)))?;
    for delay in moments(kit, whole) {
        let (name, files) = filled(kit, "crash")?;
        let answered = kill_after(kit, delay, || kit.delete(&name))?;
        match kit.get(&name) {
            Ok(_) => {
                ensure(rules::DURABLE, answered.is_none(), || {
                    format!("{name} was deleted and is there after a kill")
                })?;
                // As it was, with all its files.
                equals(kit, &name, &files, rules::WHOLE, "a volume whose volume.delete was killed")?;
                kit.unmount(&name)?;
                done(rules::WHOLE, "volume.delete, repeated", kit.delete(&name))?;
            }
            answer => not_found(rules::WHOLE, "volume.get after a killed volume.delete", answer)?,
        }
        whole_or_free(kit, &name, rules::WHOLE)?;
    }
    Ok(())
}

pub(super) fn mount(kit: &Subject) -> Outcome {
    let name = kit.create("crash")?;
    let (path, whole) = timed(|| kit.mount(&name))?;
    io(
        rules::MOUNT,
        "write a file into the volume",
        std::fs::write(path.join("file"), "content").and_then(|()| pattern::sync(&path)),
    )?;
    kit.unmount(&name)?;
    for delay in moments(kit, whole) {
        kill_after(kit, delay, || kit.call(MountVolume::new(name.clone())))?;
        keeps_file(kit, &name, rules::WHOLE, "a file after a killed volume.mount")?;
    }
    Ok(())
}

pub(super) fn unmount(kit: &Subject) -> Outcome {
    let name = kit.create("crash")?;
    let path = kit.mount(&name)?;
    write_file(&path)?;
    let (_, whole) = timed(|| kit.unmount(&name))?;
    for delay in moments(kit, whole) {
        kit.mount(&name)?;
        kill_after(kit, delay, || kit.call(UnmountVolume::new(name.clone())))?;
        kit.unmount(&name)?;
        keeps_file(kit, &name, rules::WHOLE, "a file after a killed volume.unmount")?;
    }
    Ok(())
}

pub(super) fn resize(kit: &Subject) -> Outcome {
    let (name, files) = filled(kit, "crash")?;
    let size = |name: &Name| done(rules::GET, "volume.get", kit.get(name)).map(|volume| volume.size);
    let resize = |size| kit.call(ResizeVolume::new(name.clone(), size));
    let step = 16 << 20;
    let first = size(&name)? + step;
    let (_, whole) = timed(|| done(rules::RESIZE, "volume.resize", resize(first)))?;
    for delay in moments(kit, whole) {
        let before = size(&name)?;
        let wanted = before + step;
        kill_after(kit, delay, || resize(wanted))?;
        let found = size(&name)?;
        ensure(rules::WHOLE, found == before || found >= wanted, || {
            format!("after a killed volume.resize: expected {before} or {wanted} bytes, found {found}")
        })?;
        done(rules::WHOLE, "volume.resize, repeated", resize(wanted))?;
        equals(kit, &name, &files, rules::WHOLE, "the files after a killed volume.resize")?;
        let path = kit.mount(&name)?;
        let capacity = io(rules::RESIZE, "look at the file system", pattern::capacity(&path))?;
        ensure(rules::WHOLE, capacity > before / 2, || {
            format!("expected a file system of about {wanted} bytes, found {capacity}")
        })?;
        kit.unmount(&name)?;
    }
    Ok(())
}

pub(super) fn open(kit: &Subject) -> Outcome {
    let (name, files) = filled(kit, "crash")?;
    // The process that the kit speaks to itself, on the same storage: the supervised one is stopped
    // meanwhile.
    kit.stop();
    let Some(program) = kit.path() else { return skip("the driver has no file") };
    let request = kit.open.clone();
    // The start of the program is not part of the call.
    let mut raw = crate::raw::Raw::greeted(&program, &kit.work)?;
    let (_, whole) = timed(|| {
        raw.call(&request, kit.options.limit)?
            .or_else(|error| fail(rules::WHOLE, format!("driver.open: {}", error.message)))
    })?;
    drop(raw);
    for delay in moments(kit, whole) {
        let mut raw = crate::raw::Raw::greeted(&program, &kit.work)?;
        raw.send(&request, &convoy_driver_sdk::wire::CallContext::default())?;
        std::thread::sleep(delay);
        raw.kill();
    }
    kit.restart()?;
    equals(kit, &name, &files, rules::WHOLE, "the files after driver.open was killed")?;
    kit.unmount(&name)
}
