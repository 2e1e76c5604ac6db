//! The end of a driver.

use super::contents::write_file;
use crate::check::{Outcome, ensure, fail, skip};
use crate::raw::{END, Raw};
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{DeleteVolume, UnmountVolume};
use convoy_driver_sdk::wire::CallContext;
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of what was unmounted.
const SETTLE: Duration = Duration::from_secs(5);

/// A process on the storage of the driver under test, which is stopped meanwhile.
fn alone(kit: &Subject) -> Outcome<Raw> {
    kit.stop();
    let Some(program) = kit.path() else { return skip("the driver has no file") };
    let mut raw = Raw::greeted(&program, &kit.work)?;
    raw.call(&kit.open, kit.options.limit)?
        .or_else(|error| fail(rules::DURABLE, format!("driver.open after a stop: {}", error.message)))?;
    Ok(raw)
}

pub(super) fn goodbye(kit: &Subject) -> Outcome {
    let outcome = alone(kit).and_then(|mut raw| {
        let request = kit.create_request(&kit.name("goodbye"));
        let context = CallContext::new("kit.goodbye".to_owned());
        let id = raw.send(&request, &context)?;
        raw.send_raw(r#"{"jsonrpc":"2.0","method":"goodbye","params":{}}"#)?;
        let until = Instant::now() + kit.options.limit;
        raw.answer(id, rules::GOODBYE, until)?.or_else(|error| {
            fail(
                rules::GOODBYE,
                format!(
                    "a call in flight at goodbye: expected it finished, found {}",
                    crate::check::in_words(&error)
                ),
            )
        })?;
        match raw.ended(END) {
            Some(status) if status.success() => Ok(request.name),
            Some(status) => {
                fail(rules::GOODBYE, format!("at goodbye: expected an exit with 0, found {status}"))
            }
            None => fail(
                rules::GOODBYE,
                format!("at goodbye: expected an exit, found it running {} s later", END.as_secs()),
            ),
        }
    });
    kit.restart()?;
    let name = outcome?;
    crate::check::done(rules::GOODBYE, "volume.get of what was finished at goodbye", kit.get(&name)).map(drop)
}

pub(super) fn hangup(kit: &Subject) -> Outcome {
    let outcome = alone(kit).and_then(|mut raw| {
        raw.hang_up();
        let ended = raw.ended(END).is_some();
        ensure(rules::HANGUP, ended, || {
            format!("its socket is closed: expected an exit, found it running {} s later", END.as_secs())
        })
    });
    kit.restart()?;
    outcome
}

pub(super) fn leaks(kit: &Subject) -> Outcome {
    // A volume that goes through everything, beside what other cases have left.
    let name = kit.create("leaks")?;
    let path = kit.mount(&name)?;
    write_file(&path)?;
    let _ = kit.call(UnmountVolume::new(name.clone()));
    let delete = DeleteVolume::new(name);
    crate::check::done(rules::DELETE, "volume.delete", kit.call(delete))?;
    let end = Instant::now() + SETTLE;
    loop {
        let leaked = kit.leaked();
        if leaked.is_empty() {
            return Ok(());
        }
        if Instant::now() > end {
            return fail(
                rules::LEAKS,
                format!("expected nothing beside what there was at the start, found {}", leaked.join(", ")),
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
