//! Who the driver says it is.

use crate::check::{Outcome, done, ensure, fail, in_words, io, name, refused, same, skip};
use crate::raw::Raw;
use crate::rules;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::{
    AbortRestore, Capability, Check, CloneVolume, CreateBackup, CreateSnapshot, Describe, Description, Info,
    ListExtents, ListKept, ListVolumes, MountVolume, OpenSnapshot, OptionSpec, PrepareRestore, Probe,
    ResizeVolume, RevertVolume, SourceKind,
};
use convoy_driver_sdk::{ErrorKind, Name};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);
/// How long an answer that should not come is waited for.
const AFTER: Duration = Duration::from_millis(500);
/// An option that no driver has.
const STRANGE: &str = "kit.no-such-option";
/// What must never be seen again.
const CANARY: &str = "kit-canary-7f3a9c";

fn program(kit: &Subject) -> Outcome<PathBuf> {
    kit.path().map_or_else(|| skip("the driver has no file"), Ok)
}

pub(super) fn hello(kit: &Subject) -> Outcome {
    let mut raw = io(rules::HELLO, "start the driver", Raw::start(&program(kit)?, &kit.work))?;
    let before = raw.call(&Probe::new(), SOON)?;
    ensure(rules::HELLO, before.is_err(), || {
        "driver.probe before hello: expected an error, found success".to_owned()
    })?;
    for (version, major) in [("1.1", true), ("1.2", true), ("1.3", true), ("1.999", true), ("999.0", false)] {
        let mut raw = io(rules::HELLO, "start the driver", Raw::start(&program(kit)?, &kit.work))?;
        let hello = json!({ "protocol": "convoy-driver", "version": version, "features": ["kit-feature"], "software": "kit" });
        let id = raw.send_value("hello", &hello)?;
        let answer = raw.answer(id, rules::HELLO, Instant::now() + SOON)?;
        match (answer, major) {
            (Ok(answer), true) => {
                let found = (&answer["protocol"], answer["version"].as_str().unwrap_or_default());
                ensure(rules::HELLO, found.0 == "convoy-driver" && found.1.starts_with("1."), || {
                    format!("hello {version}: expected convoy-driver and a version 1.x, found {answer}")
                })?;
            }
            (Err(error), false) => ensure(rules::HELLO, error.kind == ErrorKind::Unsupported, || {
                format!("hello {version}: expected unsupported, found {}", in_words(&error))
            })?,
            (Ok(_), false) => {
                return fail(rules::HELLO, format!("hello {version}: expected an error, found success"));
            }
            (Err(error), true) => {
                return fail(
                    rules::HELLO,
                    format!("hello {version}: expected success, found {}", in_words(&error)),
                );
            }
        }
    }
    Ok(())
}

pub(super) fn describe(kit: &Subject) -> Outcome {
    let program = program(kit)?;
    let mut raw = Raw::greeted(&program, &kit.work)?;
    let answer = raw.call(&Describe::new(), SOON)?.or_else(|error| {
        fail(
            rules::DESCRIBE,
            format!("driver.describe before driver.open: expected success, found {}", in_words(&error)),
        )
    })?;
    let description: Description = serde_json::from_value(answer)
        .or_else(|error| fail(rules::DESCRIBE, format!("driver.describe: {error}")))?;
    ensure(rules::DESCRIBE, description == *kit.handle().description(), || {
        format!("driver.describe twice: expected the same, found {description:?}")
    })?;
    let file = program
        .file_name()
        .and_then(|file| file.to_str())
        .and_then(|file| file.strip_prefix("convoy-driver-"));
    ensure(rules::DESCRIBE, file.is_none_or(|file| file == description.name.as_str()), || {
        format!("the file is that of {file:?}, the driver says it is {}", description.name)
    })?;
    let early = raw.call(&ListVolumes::default(), SOON)?;
    ensure(rules::DESCRIBE, early.is_err(), || {
        "volume.list before driver.open: expected an error, found success".to_owned()
    })
}

/// A call for a volume that does not exist: a driver that does not declare the capability must not even look
/// for it.
pub(super) fn undeclared(kit: &Subject) -> Outcome {
    use Capability as C;
    let (volume, snapshot) = (kit.name("none"), Name::from_static("none"));
    let options = std::collections::BTreeMap::new;
    let mut tried = 0;
    let mut expect = |declared: bool, what: &str, answer: Result<(), convoy_driver_sdk::DriverError>| {
        if declared {
            return Ok(());
        }
        tried += 1;
        refused(rules::CAPABILITIES, what, &[ErrorKind::Unsupported], answer).map(drop)
    };
    let can = |any: &[C]| any.iter().any(|capability| kit.can(*capability));
    let create = CreateSnapshot::new(volume.clone(), snapshot.clone());
    expect(can(&[C::Snapshots]), "snapshot.create", kit.call(create).map(drop))?;
    let open = OpenSnapshot::new(volume.clone(), snapshot.clone());
    expect(can(&[C::ReadTree, C::ReadBlock]), "snapshot.open", kit.call(open).map(drop))?;
    let extents = ListExtents::new("none".to_owned());
    expect(can(&[C::ReadBlock]), "snapshot.extents", kit.call(extents).map(drop))?;
    for (capability, kind, what) in [
        (C::RestoreTree, SourceKind::Tree, "restore.prepare of a tree"),
        (C::RestoreBlock, SourceKind::Block, "restore.prepare of a block device"),
    ] {
        let prepare = PrepareRestore::new(volume.clone(), kind).size(kit.options.size).options(options());
        let answer = if can(&[capability]) { Ok(()) } else { kit.call(prepare).map(drop) };
        expect(can(&[capability]), what, answer)?;
    }
    let abort = AbortRestore::new("none".to_owned());
    let restores = can(&[C::RestoreTree, C::RestoreBlock]);
    expect(restores, "restore.abort", kit.call(abort).map(drop))?;
    let backup = CreateBackup::new(volume.clone(), snapshot.clone()).options(options());
    expect(can(&[C::NativeBackup]), "backup.create", kit.call(backup).map(drop))?;
    let resize = ResizeVolume::new(volume.clone(), 1 << 30);
    expect(can(&[C::ResizeOffline, C::ResizeOnline]), "volume.resize", kit.call(resize).map(drop))?;
    let clone = CloneVolume::new(kit.name("none"), volume.clone(), snapshot.clone()).options(options());
    expect(can(&[C::Clone]), "volume.clone", kit.call(clone).map(drop))?;
    let revert = RevertVolume::new(volume, snapshot);
    expect(can(&[C::Revert]), "volume.revert", kit.call(revert).map(drop))?;
    expect(can(&[C::Check]), "driver.check", kit.call(Check::new()).map(drop))?;
    let kept = ListKept::new();
    expect(can(&[C::Kept]), "kept.list", kit.call(kept).map(drop))?;
    if !can(&[C::MountAt]) {
        let name = kit.create("undeclared")?;
        let elsewhere = MountVolume::new(name).mountpoint(Some(kit.work.join("elsewhere")));
        expect(false, "volume.mount at a path of the caller's", kit.call(elsewhere).map(drop))?;
    }
    if tried == 0 { skip("the driver declares everything") } else { Ok(()) }
}

pub(super) fn options(kit: &Subject) -> Outcome {
    let Some(program) = kit.path().filter(|_| kit.is_process()) else {
        return skip("for processes: test the driver as one, too");
    };
    let mut raw = Raw::greeted(&program, &kit.work)?;
    let mut open = kit.open.clone();
    open.root = kit.work.join("refused");
    open.options.insert(STRANGE.to_owned(), "1".to_owned());
    let answer = raw.call(&open, SOON)?;
    let error = refused(
        rules::OPTIONS,
        &format!("driver.open with the option {STRANGE}"),
        &[ErrorKind::InvalidArgument],
        answer,
    )?;
    ensure(rules::OPTIONS, error.message.contains(STRANGE), || {
        format!(
            "driver.open: expected the name of the option {STRANGE} in the message, found {:?}",
            error.message
        )
    })
}

pub(super) fn newer(kit: &Subject) -> Outcome {
    let mut raw = Raw::greeted(&program(kit)?, &kit.work)?;
    raw.send_raw(r#"{"jsonrpc":"2.0","method":"of_a_newer_minor","params":{"a":1}}"#)?;
    // Each call of a raw session has members that no version has.
    raw.call(&Describe::new(), SOON)?.or_else(|error| {
        fail(
            rules::NEWER,
            format!(
                "driver.describe with a member that is not known: expected success, found {}",
                in_words(&error)
            ),
        )
    })?;
    let context = json!({ "request_id": "kit.newer" });
    let id = raw.send_value("volume.of_a_newer_minor", &json!({ "request": {}, "context": context }))?;
    let answer = raw.answer(id, rules::NEWER, Instant::now() + SOON)?;
    match answer {
        Err(error) if error.kind == ErrorKind::Unsupported => Ok(()),
        Err(error) => fail(
            rules::NEWER,
            format!("a method that is not known: expected unsupported, found {}", name(error.kind)),
        ),
        Ok(_) => fail(rules::NEWER, "a method that is not known: expected unsupported, found success"),
    }
}

/// What a daemon asks every few seconds.
pub(super) fn state(kit: &Subject) -> Outcome {
    kit.create("state")?;
    done(rules::ANSWERS, "driver.info", kit.call(Info::new()))?;
    let probed = done(rules::PROBE, "driver.probe", kit.call(Probe::new()))?;
    ensure(rules::PROBE, probed.healthy, || {
        format!("driver.probe after a volume was made: expected healthy, found {:?}", probed.message)
    })
}

pub(super) fn repeated(kit: &Subject) -> Outcome {
    let mut raw = Raw::greeted(&program(kit)?, &kit.work)?;
    let describe = json!({ "request": {}, "context": { "request_id": "kit.repeated" } });
    let id = raw.send_value("driver.describe", &describe)?;
    let again = json!({ "jsonrpc": "2.0", "id": id, "method": "driver.describe", "params": describe });
    raw.send_raw(&again.to_string())?;
    let mut answers = 0;
    let last = raw.send_value("driver.describe", &describe)?;
    let until = Instant::now() + SOON;
    let mut ended = false;
    // Calls run at the same time: the repeated one has a moment after the last to be answered.
    while let Some(message) = raw
        .message(rules::ONCE, if ended { Instant::now() + AFTER } else { until })
        .or_else(|stop| if ended { Ok(None) } else { Err(stop) })?
    {
        answers += u32::from(message["id"] == id);
        ended |= message["id"] == last;
    }
    same(rules::ONCE, "answers to a request that came twice", &1, &answers)
}

pub(super) fn secrets(kit: &Subject) -> Outcome {
    let description = kit.handle().description().clone();
    let secret = |options: &[OptionSpec]| -> Vec<String> {
        options.iter().filter(|option| option.secret).map(|option| option.name.clone()).collect()
    };
    let mut raw = Raw::greeted(&program(kit)?, &kit.work)?;
    let mut open = kit.open.clone();
    open.root = kit.work.join("secrets");
    for option in secret(&description.options) {
        open.options.insert(option, CANARY.to_owned());
    }
    // It may well be refused: what counts is what is said about it.
    let opened = raw.call(&open, kit.options.limit)?;
    if opened.is_ok() {
        let mut create = kit.create_request(&kit.name("secret"));
        for option in secret(&description.create_options) {
            create.options.insert(option, CANARY.to_owned());
        }
        let _ = raw.call(&create, kit.options.limit)?;
        let _ = raw.call(&convoy_driver_sdk::protocol::Info::new(), SOON)?;
        let _ = raw.call(&ListVolumes::default(), SOON)?;
        let delete = convoy_driver_sdk::protocol::DeleteVolume::new(create.name);
        let _ = raw.call(&delete, kit.options.limit)?;
    }
    raw.send_raw(r#"{"jsonrpc":"2.0","method":"goodbye","params":{}}"#)?;
    raw.ended(crate::raw::END);
    for (what, text) in [("a message", raw.received.clone()), ("its output", raw.written())] {
        ensure(rules::SECRETS, !text.contains(CANARY), || {
            format!("the value of a secret option is in {what} of the driver")
        })?;
    }
    Ok(())
}
