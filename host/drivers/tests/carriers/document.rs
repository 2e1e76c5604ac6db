//! `docs/driver-protocol.md` is true: its examples are read by the types, and its session is held.

use crate::support::{Root, built};
use convoy_driver_sdk::protocol as p;
use convoy_driver_sdk::wire::{Cancel, Envelope, Hello, LogRecord, ProgressNote};
use convoy_driver_sdk::{DriverError, PROTOCOL_VERSION};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

const DOCUMENT: &str = include_str!("../../../../docs/driver-protocol.md");

/// The lines of the fenced blocks of a kind.
fn lines(kind: &str) -> Vec<&'static str> {
    let mut inside = false;
    let mut lines = Vec::new();
    for line in DOCUMENT.lines() {
        match line.strip_prefix("```") {
            Some(fence) => inside = fence == kind,
            None if inside => lines.push(line),
            None => {}
        }
    }
    assert!(!lines.is_empty());
    lines
}

/// Everything in the example is known to the type: nothing is lost on the way through it.
fn reads_as<T: Serialize + DeserializeOwned>(example: &Value) {
    let read: T =
        serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{error} in {example}"));
    let written = serde_json::to_value(&read).unwrap();
    contains(&written, example);
}

fn contains(written: &Value, example: &Value) {
    match (written, example) {
        (Value::Object(written), Value::Object(example)) => {
            for (name, value) in example {
                contains(
                    written.get(name).unwrap_or_else(|| panic!("{name} is unknown: {example:?}")),
                    value,
                );
            }
        }
        (Value::Array(written), Value::Array(example)) => {
            assert_eq!(written.len(), example.len());
            written.iter().zip(example).for_each(|(written, example)| contains(written, example));
        }
        _ => assert_eq!(written, example),
    }
}

type Check = fn(&Value);
type Checks = BTreeMap<&'static str, (Check, Check)>;

fn checks() -> Checks {
    fn of<R: p::Request>() -> (&'static str, (Check, Check)) {
        (R::METHOD, (reads_as::<Envelope<R>>, reads_as::<R::Reply>))
    }
    let checks: Checks = [
        of::<p::Describe>(),
        of::<p::Open>(),
        of::<p::Info>(),
        of::<p::Probe>(),
        of::<p::Check>(),
        of::<p::Close>(),
        of::<p::CreateVolume>(),
        of::<p::DeleteVolume>(),
        of::<p::MountVolume>(),
        of::<p::UnmountVolume>(),
        of::<p::ResizeVolume>(),
        of::<p::CloneVolume>(),
        of::<p::RevertVolume>(),
        of::<p::ListVolumes>(),
        of::<p::GetVolume>(),
        of::<p::ListKept>(),
        of::<p::DeleteKept>(),
        of::<p::CreateSnapshot>(),
        of::<p::DeleteSnapshot>(),
        of::<p::ListSnapshots>(),
        of::<p::GetSnapshot>(),
        of::<p::OpenSnapshot>(),
        of::<p::ListExtents>(),
        of::<p::CloseSnapshot>(),
        of::<p::PrepareRestore>(),
        of::<p::FinishRestore>(),
        of::<p::AbortRestore>(),
        of::<p::CreateBackup>(),
        of::<p::DeleteBackup>(),
        of::<p::InspectBackup>(),
        of::<p::ListBackups>(),
        ("hello", (reads_as::<Hello>, reads_as::<Hello>)),
        ("cancel", (reads_as::<Cancel>, reads_as::<()>)),
        ("progress", (reads_as::<ProgressNote>, reads_as::<()>)),
        ("log", (reads_as::<LogRecord>, reads_as::<()>)),
        ("goodbye", (reads_as::<serde_json::Map<String, Value>>, reads_as::<()>)),
    ]
    .into();
    checks
}

#[test]
fn every_example_is_of_its_type_and_every_method_has_one() {
    let checks = checks();
    let mut methods: BTreeMap<u64, String> = BTreeMap::new();
    let mut answered = Vec::new();
    for line in lines("json") {
        let message = line.strip_prefix("--> ").or_else(|| line.strip_prefix("<-- ")).expect(line);
        let message: Value = serde_json::from_str(message).expect(line);
        assert_eq!(message["jsonrpc"], "2.0");
        if let Some(method) = message["method"].as_str() {
            checks.get(method).expect(line).0(&message["params"]);
            if let Some(id) = message["id"].as_u64() {
                methods.insert(id, method.to_owned());
            }
        } else if let Some(result) = message.get("result") {
            let method = &methods[&message["id"].as_u64().unwrap()];
            checks[method.as_str()].1(result);
            answered.push(method.clone());
        } else {
            reads_as::<DriverError>(&message["error"]["data"]);
        }
    }
    for method in p::METHODS {
        assert!(answered.iter().any(|known| known == method), "{method} has no example");
    }
    assert!(DOCUMENT.contains(&format!("Version {PROTOCOL_VERSION}.")));
    assert!(DOCUMENT.contains(&format!("(../driver-sdk/schema/{PROTOCOL_VERSION}.json)")));
}

/// The members of a type of the schema, and its name.
fn members<'a>(schema: &'a Value, at: &'a Value) -> (&'a str, Vec<&'a str>) {
    let name = at["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let properties = schema["$defs"][name]["properties"].as_object();
    (name, properties.into_iter().flat_map(|properties| properties.keys().map(String::as_str)).collect())
}

/// A member that nobody has shown is one that an author does not know of.
#[test]
fn every_member_of_every_message_is_in_an_example() {
    let file = format!("{}/../../driver-sdk/schema/{PROTOCOL_VERSION}.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut methods: BTreeMap<u64, String> = BTreeMap::new();
    let mut shown: BTreeSet<(String, String)> = BTreeSet::new();
    let mut show = |at: &Value, example: &Value| {
        let (name, _) = members(&schema, at);
        shown.extend(example.as_object().unwrap().keys().map(|member| (name.to_owned(), member.clone())));
    };
    for line in lines("json") {
        let message: Value = serde_json::from_str(&line[4..]).expect(line);
        let Some(id) = message["id"].as_u64() else { continue };
        match message["method"].as_str() {
            Some("hello") | None if !methods.contains_key(&id) => {}
            Some(method) => {
                let params = &schema["methods"][method]["params"]["properties"];
                show(&params["request"], &message["params"]["request"]);
                show(&params["context"], &message["params"]["context"]);
                methods.insert(id, method.to_owned());
            }
            None => {
                if let Some(result) = message.get("result") {
                    show(&schema["methods"][&methods[&id]]["result"], result);
                }
            }
        }
    }
    for method in p::METHODS {
        let of = &schema["methods"][method];
        for at in [&of["params"]["properties"]["request"], &of["result"]] {
            let (name, all) = members(&schema, at);
            for member in all {
                let known = shown.contains(&(name.to_owned(), member.to_owned()));
                assert!(known, "{method}: {member} of {name} is in no example");
            }
        }
    }
}

#[test]
fn every_kind_and_capability_is_explained() {
    use convoy_driver_sdk::ErrorKind as K;
    let kinds = [
        K::NotFound,
        K::AlreadyExists,
        K::InUse,
        K::Busy,
        K::InvalidArgument,
        K::Unsupported,
        K::Exhausted,
        K::PermissionDenied,
        K::Unavailable,
        K::Cancelled,
        K::DeadlineExceeded,
        K::DataLoss,
        K::Internal,
    ];
    use p::Capability as C;
    let capabilities = [
        C::Snapshots,
        C::ReadTree,
        C::ReadBlock,
        C::ChangedExtents,
        C::RestoreTree,
        C::RestoreBlock,
        C::NativeBackup,
        C::ResizeOffline,
        C::ResizeOnline,
        C::MountAt,
        C::MountNamespace,
        C::Sized,
        C::VmImages,
        C::Shared,
        C::Freeze,
        C::Clone,
        C::Revert,
        C::Check,
        C::ReadEither,
    ];
    let names = kinds.iter().map(|kind| serde_json::to_value(kind).unwrap());
    for name in names.chain(capabilities.iter().map(|one| serde_json::to_value(one).unwrap())) {
        let quoted = format!("`{}`", name.as_str().unwrap());
        let explained = DOCUMENT.lines().any(|line| line.starts_with('|') && line.contains(&quoted));
        assert!(explained, "{quoted}");
    }
}

#[test]
fn the_session_is_held_as_it_is_written() {
    let dir = Root::new();
    let root = dir.path().join("tmpfs");
    let (host, driver) = UnixStream::pair().unwrap();
    // Any descriptor will do: here it is standard input.
    let mut process = Command::new(built()[1].join("convoy-driver-tmpfs"))
        .env("CONVOY_DRIVER_FD", "0")
        .stdin(Stdio::from(OwnedFd::from(driver)))
        .spawn()
        .unwrap();
    let mut answers = BufReader::new(host.try_clone().unwrap()).lines();
    for line in lines("session") {
        let line = line.replace("ROOT", &root.display().to_string());
        if let Some(request) = line.strip_prefix("--> ") {
            writeln!(&host, "{request}").unwrap();
        } else {
            let expected: Value = serde_json::from_str(line.strip_prefix("<-- ").unwrap()).unwrap();
            let mut found: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
            if let Some(created) = found.pointer_mut("/result/created") {
                assert!(created.as_str().unwrap().ends_with('Z'));
                *created = "TIME".into();
            }
            assert_eq!(found, expected, "found {found}");
        }
    }
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn a_process_ends_with_its_host() {
    let (host, driver) = UnixStream::pair().unwrap();
    let mut process = Command::new(built()[1].join("convoy-driver-tmpfs"))
        .env("CONVOY_DRIVER_FD", "0")
        .stdin(Stdio::from(OwnedFd::from(driver)))
        .spawn()
        .unwrap();
    drop(host);
    assert_eq!(process.wait().unwrap().code(), Some(0));
}

#[test]
fn run_by_hand_it_says_what_it_is() {
    let run = |fd: Option<&str>| {
        let mut command = Command::new(built()[1].join("convoy-driver-tmpfs"));
        command.env_remove("CONVOY_DRIVER_FD").envs(fd.map(|fd| ("CONVOY_DRIVER_FD", fd)));
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = run(None);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("This is a convoy driver"));
    for wrong in ["77", "0", "x", "-1"] {
        let output = run(Some(wrong));
        assert_eq!(output.status.code(), Some(1), "{wrong}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("CONVOY_DRIVER_FD"), "{output:?}");
    }
}

#[test]
fn the_tutorial_quotes_the_example_as_it_is() {
    let tutorial = include_str!("../../../../docs/writing-a-driver.md");
    let sources = [
        include_str!("../../../../examples/tmpfs/src/lib.rs"),
        include_str!("../../../../examples/tmpfs/src/main.rs"),
        include_str!("../../../../examples/tmpfs/Cargo.toml"),
    ];
    let mut blocks = 0;
    let mut inside: Option<String> = None;
    for line in tutorial.lines() {
        match (&mut inside, line) {
            (None, "```rust" | "```toml") => inside = Some(String::new()),
            (Some(block), "```") => {
                assert!(
                    sources.iter().any(|source| source.contains(block.as_str())),
                    "not in the example:\n{block}"
                );
                inside = None;
                blocks += 1;
            }
            (Some(block), line) => block.extend([line, "\n"]),
            (None, _) => {}
        }
    }
    assert!(blocks >= 4);
}
