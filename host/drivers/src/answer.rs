//! What an answer of a driver must be, checked in one place for every carrier: a driver is not believed.
//!
//! The rules are those of `docs/driver-protocol.md`. What breaks one is an error of its call, which names the
//! driver, the method and the rule; nothing of the answer goes any further.

mod texts;

use convoy_driver_sdk::protocol::{
    BackupInfo, Check, CloneVolume, CreateBackup, CreateSnapshot, CreateVolume, Describe, Description,
    Extent, Finding, FinishRestore, GetSnapshot, GetVolume, Health, Info, InspectBackup, ListBackups,
    ListExtents, ListKept, ListSnapshots, ListVolumes, MountVolume, Open, OpenSnapshot, OptionSpec,
    PrepareRestore, Probe, Request, ResizeVolume, RevertVolume, Snapshot, SourceKind, SourceLocation,
    TargetLocation, Volume,
};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use serde::Deserialize;
use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Component, Path};
use texts::Texts;

/// The longest name of an option, version, generation or handle, in bytes.
const MAX_WORD: usize = 1024;
/// The longest text for a person, value of an info, URL or default, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// The longest path, in bytes: what the kernel takes.
const MAX_PATH: usize = 4096;
/// The most entries of an info or of options, and the most lines, findings or options of an answer.
const MAX_ENTRIES: usize = 10_000;
/// The largest size, and the largest end of an extent, in bytes.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BrokenRule {
    rule: &'static str,
    text: String,
}

pub(crate) type RuleCheck = Result<(), BrokenRule>;

/// What errors of broken rules say before the rule.
const BROKE: &str = " broke the driver protocol (";

/// The rule that an answer broke, if that is why a call failed: `R14`.
pub fn broken_rule(error: &DriverError) -> Option<&str> {
    let (_, rest) = error.message.split_once(BROKE).filter(|_| error.kind == ErrorKind::Internal)?;
    Some(rest.split_once(')')?.0)
}

impl BrokenRule {
    pub(crate) fn error(&self, driver: &Name, method: &str) -> DriverError {
        let Self { rule, text } = self;
        let text =
            format!("driver {driver} broke the driver protocol ({rule}) in its answer to {method}: {text}");
        DriverError::internal(text)
            .hint("this is a defect of the driver: report it to its author with the log")
    }
}

fn broken<T>(rule: &'static str, text: impl Into<String>) -> Result<T, BrokenRule> {
    Err(BrokenRule { rule, text: text.into() })
}

fn ensure(rule: &'static str, good: bool, text: impl FnOnce() -> String) -> RuleCheck {
    if good { Ok(()) } else { broken(rule, text()) }
}

pub(crate) fn read<R: Request>(request: &R, answer: &[u8]) -> Result<R::Reply, BrokenRule> {
    let first = answer.iter().find(|byte| !byte.is_ascii_whitespace());
    ensure("R46", first == Some(&b'{'), || {
        let start = String::from_utf8_lossy(answer.get(..40).unwrap_or(answer));
        format!("expected a JSON object, found {start}")
    })?;
    let reply: R::Reply = serde_json::from_slice(answer)
        .map_err(|error| BrokenRule { rule: "R46", text: format!("it cannot be read: {error}") })?;
    check::<R>(request, &reply)?;
    // Members that no rule above names. No text is longer than the answer that it is in.
    if answer.len() > MAX_TEXT {
        serde_json::from_slice::<Texts<MAX_TEXT>>(answer)
            .map_err(|error| BrokenRule { rule: "R46", text: error.to_string() })?;
    }
    Ok(reply)
}

/// What only this kind of request can tell of its answer.
fn check<R: Request>(request: &R, reply: &R::Reply) -> RuleCheck {
    let (request, reply): (&dyn Any, &dyn Any) = (request, reply);
    /// One arm a request: the first that is of its type decides.
    macro_rules! checks {
        ($($request:ty => $check:expr;)*) => {
            $(if let Some(request) = request.downcast_ref::<$request>()
                && let Some(reply) = reply.downcast_ref::<<$request as Request>::Reply>()
            {
                let check: fn(&$request, &<$request as Request>::Reply) -> RuleCheck = $check;
                return check(request, reply);
            })*
        };
    }
    checks! {
        Describe => |_, description| describes(description);
        Open => |_, opened| lines("what was recovered", &opened.recovered)
            .and_then(|()| lines("warnings", &opened.warnings));
        Info => |_, reply| info(&reply.info);
        Probe => |_, probed| probed.message.as_deref().map_or(Ok(()), |message| text("the message", message));
        Check => |_, checked| findings(&checked.findings);
        CreateVolume => |request, reply| volume(reply, Some(&request.name));
        CloneVolume => |request, reply| volume(reply, Some(&request.name));
        RevertVolume => |request, reply| volume(reply, Some(&request.name));
        ResizeVolume => |request, reply| volume(reply, Some(&request.name));
        GetVolume => |request, reply| volume(reply, Some(&request.name));
        FinishRestore => |_, reply| volume(reply, None);
        MountVolume => |_, mounted| path("R14", "the mountpoint", &mounted.mountpoint);
        ListVolumes => listed_volumes;
        ListKept => listed_kept;
        CreateSnapshot => |request, reply| snapshot(reply, &request.volume, Some(&request.snapshot));
        GetSnapshot => |request, reply| snapshot(reply, &request.volume, Some(&request.snapshot));
        ListSnapshots => |request, reply| snapshots(&reply.snapshots, &request.volume);
        OpenSnapshot => |request, reply| {
            handle(&reply.handle)?;
            strings("restore_options", &reply.restore_options)?;
            source(request, &reply.location)
        };
        ListExtents => |request, reply| {
            ensure("R24", reply.next.is_none_or(|next| next > request.from), || {
                format!("the next page begins at {:?}, not after {}: it would never end", reply.next, request.from)
            })?;
            let limit = request.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            for (what, extents) in [("extents", &reply.extents), ("discarded", &reply.discarded)] {
                ensure("R24", extents.len() <= limit, || {
                    format!("expected at most {limit} {what}, found {}", extents.len())
                })?;
                in_order(what, extents, request.from)?;
            }
            Ok(())
        };
        PrepareRestore => |request, reply| {
            handle(&reply.handle)?;
            let found = match &reply.location {
                TargetLocation::Tree { path: at, .. } => path("R27", "the target", at).map(|()| SourceKind::Tree),
                TargetLocation::Block { device, size: bytes, .. } => path("R27", "the target", device)
                    .and_then(|()| size(*bytes))
                    .map(|()| SourceKind::Block),
            }?;
            ensure("R27", found == request.kind, || format!("expected a {}, found a {found}", request.kind))
        };
        CreateBackup => |_, reply| text("the URL", &reply.url);
        InspectBackup => |_, reply| backup(reply);
        ListBackups => |request, reply| reply.backups.iter().try_for_each(|found| {
            let of = request.volume.as_ref().is_none_or(|volume| **volume == *found.volume);
            ensure("R43", of, || format!("a backup of volume {:?} was not asked for", found.volume))?;
            backup(found)
        });
    }
    // What is left has nothing to say.
    Ok(())
}

fn describes(description: &Description) -> RuleCheck {
    text("the summary", &description.summary)?;
    for (what, value) in [("version", &description.version), ("protocol", &description.protocol)] {
        word(what, value)?;
    }
    for specs in [&description.options, &description.create_options] {
        count("options", specs.len())?;
        for OptionSpec { name, help, default, .. } in specs {
            ensure("R2", !name.is_empty(), || "an option has no name".to_owned())?;
            word("the name of an option", name)?;
            text("the help of an option", help)?;
            text("the default of an option", default.as_deref().unwrap_or_default())?;
        }
    }
    word("backup_scheme", description.backup_scheme())
}

/// Whether a volume is the one that was asked for.
pub(crate) fn is_volume(volume: &Volume, requested: Option<&Name>) -> RuleCheck {
    ensure("R46", requested.is_none_or(|requested| volume.name == *requested), || {
        format!(
            "expected volume {}, found {}",
            requested.map_or("", |requested| requested.as_str()),
            volume.name
        )
    })
}

/// Whether a volume is where its driver says that it has mounted it: at the place that was asked for, if one
/// was.
pub(crate) fn is_mounted(requested: Option<&Path>, found: &Path) -> RuleCheck {
    ensure("R14", found.is_dir(), || format!("expected a directory, found none at {}", found.display()))?;
    let same = requested.is_none_or(|requested| {
        requested == found || requested.canonicalize().ok() == found.canonicalize().ok()
    });
    ensure("R14", same, || {
        let requested = requested.unwrap_or(found).display();
        format!("expected it at {requested}, which was asked for, found it at {}", found.display())
    })
}

fn volume(volume: &Volume, requested: Option<&Name>) -> RuleCheck {
    is_volume(volume, requested)?;
    size(volume.size)?;
    info(&volume.info)?;
    if let Some(mountpoint) = &volume.mountpoint {
        path("R14", "the mountpoint", mountpoint)?;
    }
    if let Health::Damaged(why) = &volume.health {
        text("what is damaged", why)?;
    }
    snapshots(&volume.snapshots, &volume.name)
}

fn listed_volumes(request: &ListVolumes, listed: &<ListVolumes as Request>::Reply) -> RuleCheck {
    let (found, generation) = (&listed.volumes, listed.generation.as_deref().unwrap_or_default());
    word("the generation", generation)?;
    lines("warnings", &listed.warnings)?;
    if listed.unchanged {
        ensure("R17", request.generation.is_some() && found.is_empty() && !listed.more, || {
            "it says that nothing changed since a listing that it was not asked about, or lists volumes"
                .to_owned()
        })?;
    }
    let names = found.iter().map(|one| &one.name);
    page("R16", request.limit, request.after.as_ref(), names, listed.more)?;
    found.iter().try_for_each(|one| volume(one, None))
}

fn listed_kept(request: &ListKept, listed: &<ListKept as Request>::Reply) -> RuleCheck {
    let names = listed.kept.iter().map(|one| &one.name);
    page("R53", request.limit, request.after.as_ref(), names, listed.more)?;
    listed.kept.iter().try_for_each(|one| {
        size(one.size.unwrap_or_default())?;
        text("the note", one.note.as_deref().unwrap_or_default())?;
        one.path.as_deref().map_or(Ok(()), |at| path("R53", "the path", at))
    })
}

/// Names in order, no more than were asked for, and no pages without end.
fn page<'a>(
    rule: &'static str,
    limit: Option<u32>,
    after: Option<&'a Name>,
    names: impl ExactSizeIterator<Item = &'a Name>,
    more: bool,
) -> RuleCheck {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    let found = names.len();
    ensure(rule, found <= limit, || format!("expected at most {limit} volumes, found {found}"))?;
    ensure(rule, !(more && found == 0 && limit > 0), || {
        "it says that more volumes follow and gives none: its pages go in circles".to_owned()
    })?;
    let mut last = after;
    for name in names {
        ensure(rule, last.is_none_or(|last| name > last), || {
            format!("volume {name} does not come after {}", last.map_or("", |last| last.as_str()))
        })?;
        last = Some(name);
    }
    Ok(())
}

fn snapshot(found: &Snapshot, of: &Name, requested: Option<&Name>) -> RuleCheck {
    ensure("R46", found.volume == *of, || {
        format!("expected a snapshot of {of}, found one of {}", found.volume)
    })?;
    if let Some(requested) = requested {
        ensure("R46", found.name == *requested, || {
            format!("expected snapshot {requested}, found {}", found.name)
        })?;
    }
    info(&found.info)
}

fn snapshots(found: &[Snapshot], of: &Name) -> RuleCheck {
    let mut names: Vec<&Name> = found.iter().map(|one| &one.name).collect();
    names.sort_unstable();
    names.dedup();
    ensure("R21", names.len() == found.len(), || format!("a snapshot of {of} is listed twice"))?;
    found.iter().try_for_each(|one| snapshot(one, of, None))
}

fn source(request: &OpenSnapshot, location: &SourceLocation) -> RuleCheck {
    if let Some(kind) = request.kind {
        let found = location.kind();
        ensure("R45", found == kind, || format!("expected a {kind}, found a {found}"))?;
    }
    match location {
        SourceLocation::Tree { path: at, .. } => path("R23", "the tree", at),
        SourceLocation::Block { device, size: bytes, changed_only, .. } => {
            ensure("R26", !changed_only || request.base.is_some(), || {
                "it gives what changed since a base that it was not asked about".to_owned()
            })?;
            path("R23", "the device", device)?;
            size(*bytes)
        }
    }
}

fn in_order(what: &str, extents: &[Extent], from: u64) -> RuleCheck {
    let mut end = from;
    for Extent { offset, length } in extents {
        let next = offset.checked_add(*length).filter(|next| *next <= MAX_SIZE && *length > 0);
        match next {
            Some(next) if *offset >= end => end = next,
            _ => {
                return broken(
                    "R24",
                    format!("{what}: {length} bytes at {offset} after {end}: not sorted, or not possible"),
                );
            }
        }
    }
    Ok(())
}

fn backup(found: &BackupInfo) -> RuleCheck {
    text("the URL", &found.url)?;
    text("the volume", &found.volume)?;
    text("the snapshot", &found.snapshot)?;
    size(found.size)?;
    info(&found.info)
}

fn findings(findings: &[Finding]) -> RuleCheck {
    count("findings", findings.len())?;
    findings.iter().try_for_each(|finding| {
        ensure("R42", !finding.subject.is_empty(), || "a finding does not say what it is about".to_owned())?;
        text("the subject of a finding", &finding.subject)?;
        text("a finding", &finding.message)?;
        text("the hint of a finding", finding.hint.as_deref().unwrap_or_default())
    })
}

/// An absolute path that means the same from everywhere.
fn path(rule: &'static str, what: &str, path: &Path) -> RuleCheck {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let good = path.is_absolute() && !climbs && path.as_os_str().len() < MAX_PATH;
    ensure(rule, good, || {
        let shown: String = path.to_string_lossy().chars().take(200).collect();
        format!("{what}: expected an absolute path of less than {MAX_PATH} bytes without .., found {shown:?}")
    })
}

fn size(bytes: u64) -> RuleCheck {
    ensure("R46", bytes <= MAX_SIZE, || format!("expected a size of at most {MAX_SIZE} bytes, found {bytes}"))
}

fn handle(handle: &str) -> RuleCheck {
    ensure("R46", !handle.is_empty(), || "its handle is empty".to_owned())?;
    word("the handle", handle)
}

fn word(what: &str, word: &str) -> RuleCheck {
    bounded(what, word, MAX_WORD)
}

fn text(what: &str, text: &str) -> RuleCheck {
    bounded(what, text, MAX_TEXT)
}

fn bounded(what: &str, text: &str, limit: usize) -> RuleCheck {
    ensure("R46", text.len() <= limit, || {
        format!("{what}: expected at most {limit} bytes, found {}", text.len())
    })
}

fn count(what: &str, found: usize) -> RuleCheck {
    ensure("R46", found <= MAX_ENTRIES, || format!("expected at most {MAX_ENTRIES} {what}, found {found}"))
}

fn lines(what: &str, lines: &[String]) -> RuleCheck {
    count(what, lines.len())?;
    lines.iter().try_for_each(|line| text(what, line))
}

fn info(info: &BTreeMap<String, String>) -> RuleCheck {
    strings("info", info)
}

fn strings(what: &str, strings: &BTreeMap<String, String>) -> RuleCheck {
    count(what, strings.len())?;
    strings.iter().try_for_each(|(key, value)| word(what, key).and_then(|()| text(what, value)))
}

/// The error in an answer; `None` if there is none to be read. A kind that the protocol does not have is told
/// in the log: the set is closed, so it is a defect of the driver.
pub(crate) fn error(driver: &Name, json: &[u8]) -> Option<DriverError> {
    #[derive(Deserialize)]
    struct Strange {
        kind: String,
        message: String,
        #[serde(default)]
        hint: Option<String>,
    }
    let mut error = match serde_json::from_slice::<DriverError>(json) {
        Ok(error) => error,
        Err(_) => {
            let Strange { kind, message, hint } = serde_json::from_slice(json).ok()?;
            let kind = cut(kind, MAX_WORD);
            tracing::warn!(%driver, kind, message = cut(message.clone(), MAX_WORD),
                "a driver answered with a kind of error that the protocol does not have (R8)");
            let defect =
                format!("{kind:?} is no kind of error of the protocol: report it to the driver's author");
            let hint = hint.map_or(defect.clone(), |hint| format!("{hint}. {defect}"));
            DriverError::internal(message).hint(hint)
        }
    };
    if error.message.trim().is_empty() {
        error.message = "the driver does not say why".to_owned();
    }
    error.message = cut(error.message, MAX_TEXT);
    error.hint = error.hint.map(|hint| cut(hint, MAX_TEXT));
    Some(error)
}

/// At most so many bytes of a text.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        text.push_str("...");
    }
    text
}
