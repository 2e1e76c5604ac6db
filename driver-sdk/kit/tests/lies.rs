//! Drivers that lie: for each lie the case that is there for it fails, with the rule that is broken. Run as root.

#![allow(clippy::unwrap_used, clippy::panic)]

use convoy_driver_kit::{Options, Report, Verdict, run, run_with};
use convoy_driver_loop::LoopImages;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name};
use convoy_driver_vfs::VfsDriver;
use convoy_drivers::{Drivers, SearchPath};
use convoy_tests::{Lab, Storage};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// An honest driver, and what is made of its messages.
struct Liar<D> {
    lie: &'static str,
    honest: D,
    lock: Mutex<u32>,
}

impl<D: Dispatch> Liar<D> {
    fn ask(&self, method: &str, request: &Value, context: &Context) -> Result<Value, DriverError> {
        let reply = self.honest.dispatch(method, request.to_string().as_bytes(), context)?;
        Ok(serde_json::from_slice(&reply).unwrap())
    }

    fn lie(&self, method: &str, mut request: Value, context: &Context) -> Result<Value, DriverError> {
        let changed = |reply: Result<Value, DriverError>, change: fn(&mut Value)| {
            reply.map(|mut reply| {
                change(&mut reply);
                reply
            })
        };
        let name = json!({ "name": request["name"] });
        match (self.lie, method) {
            ("declares too much", "volume.clone") => Err(DriverError::unsupported("volumes from snapshots")),
            ("declares too little", "driver.describe") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["capabilities"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|capability| capability != "restore_tree");
                })
            }
            ("creates twice", "volume.create") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::AlreadyExists => {
                    self.ask("volume.get", &name, context)
                }
                other => other,
            },
            ("deletes what is not there", "volume.delete") => {
                Ok(self.ask(method, &request, context).unwrap_or(json!({})))
            }
            ("has one kind of error", "volume.get" | "volume.mount") => self
                .ask(method, &request, context)
                .map_err(|error| DriverError::new(ErrorKind::Internal, error.message)),
            ("takes any name", "volume.create")
                if request["name"].as_str().is_none_or(|name| Name::parse(name).is_err()) =>
            {
                let good = json!({ "name": "kit-any" });
                let _ = self.ask("volume.create", &good, context);
                self.ask("volume.get", &good, context)
            }
            ("takes any option", "volume.create") => {
                request["options"] = json!({});
                self.ask(method, &request, context)
            }
            ("lists backwards", "volume.list") => changed(self.ask(method, &request, context), |reply| {
                reply["volumes"].as_array_mut().unwrap().reverse();
            }),
            ("lists one page", "volume.list") => {
                changed(self.ask(method, &request, context), |reply| reply["more"] = false.into())
            }
            ("keeps nothing", "volume.delete") => {
                request["reference_only"] = false.into();
                self.ask(method, &request, context)
            }
            ("reads the live volume", "snapshot.open") => {
                let mounted = self.ask("volume.mount", &json!({ "name": request["volume"] }), context)?;
                let mut opened = self.ask(method, &request, context)?;
                opened["location"]["path"] = mounted["mountpoint"].clone();
                Ok(opened)
            }
            ("deletes what is read", "snapshot.delete") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::InUse => Ok(json!({})),
                other => other,
            },
            ("aborts nothing", "restore.abort") => Ok(json!({})),
            ("finishes once", "restore.finish") => {
                let mut finished = self.lock.lock().unwrap();
                *finished += 1;
                if *finished > 1 {
                    return Err(DriverError::new(ErrorKind::NotFound, "there is no such restore"));
                }
                self.ask(method, &request, context)
            }
            ("has one lock", _) => {
                let _lock = self.lock.lock().unwrap();
                if method == "volume.create" {
                    std::thread::sleep(Duration::from_millis(700));
                }
                self.ask(method, &request, context)
            }
            ("is deaf", "volume.create") => {
                std::thread::sleep(Duration::from_secs(7));
                self.ask(method, &request, &Context::new("deaf"))
            }
            ("keeps files open", "volume.create") => {
                std::mem::forget([(); 6].map(|()| std::fs::File::open("/dev/null").unwrap()));
                self.ask(method, &request, context)
            }
            ("misses a change", "snapshot.open") => {
                *self.lock.lock().unwrap() = u32::from(!request["base"].is_null());
                self.ask(method, &request, context)
            }
            ("misses a change", "snapshot.extents") if *self.lock.lock().unwrap() == 0 => {
                self.ask(method, &request, context)
            }
            ("misses a change" | "misses what is in use", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    let extents = reply["extents"].as_array_mut().unwrap();
                    extents.retain(|extent| extent["offset"].as_u64().unwrap() < 64 << 10);
                })
            }
            ("gives extents backwards", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["extents"].as_array_mut().unwrap().reverse();
                })
            }
            ("discards content", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["discarded"] = std::mem::take(&mut reply["extents"]);
                    reply["extents"] = json!([]);
                })
            }
            ("reverts to nothing", "volume.revert") => self.ask("volume.get", &name, context),
            ("grows on paper", "volume.resize") => {
                let mut volume = self.ask("volume.get", &name, context)?;
                volume["size"] = request["size"].clone();
                Ok(volume)
            }
            _ => self.ask(method, &request, context),
        }
    }
}

impl<D: Dispatch> Dispatch for Liar<D> {
    fn dispatch(&self, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>, DriverError> {
        let request = serde_json::from_slice(request).unwrap();
        self.lie(method, request, context).map(|reply| reply.to_string().into_bytes())
    }
}

fn test<D: Dispatch>(name: &'static str, lie: &'static str, make: fn() -> D, options: &Options) -> Report {
    let drivers = Drivers::new(SearchPath::only(&[])).builtin(Name::from_static(name), move || {
        Arc::new(Liar { lie, honest: make(), lock: Mutex::default() })
    });
    run_with(drivers, format!("builtin:{name}").parse().unwrap(), options).unwrap()
}

/// The case failed, by this rule.
fn caught(report: &Report, case: &str, rule: &str) {
    let found = report.cases.iter().find(|found| found.id == case).unwrap();
    match &found.verdict {
        Verdict::Failed { rule: broken, .. } if broken == rule => {}
        other => panic!("{case}: expected it to fail by {rule}, found {other:?}"),
    }
}

#[test]
fn lies_about_directories() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        for (lie, case, rule) in [
            ("declares too much", "copy.clone", "R3"),
            ("declares too little", "identity.undeclared", "R3"),
            ("creates twice", "volume.twice", "R10"),
            ("deletes what is not there", "volume.life", "R11"),
            ("has one kind of error", "volume.unknown", "R9"),
            ("takes any name", "volume.names", "R6"),
            ("takes any option", "volume.create-options", "R4"),
            ("lists backwards", "list.pages", "R16"),
            ("lists one page", "list.pages", "R16"),
            ("keeps nothing", "volume.keep", "R13"),
            ("reads the live volume", "data.tree", "R23"),
            ("deletes what is read", "snapshot.open", "R22"),
            ("aborts nothing", "restore.abort", "R29"),
            ("finishes once", "restore.tree", "R27"),
            ("has one lock", "calls.independent", "R30"),
            ("is deaf", "calls.deadline", "R31"),
            ("keeps files open", "end.leaks", "R38"),
        ] {
            let path = lab.make(&lie.replace(' ', "-"))?;
            let options = Options::default()
                .option("vfs.path", path.display().to_string())
                .case(case)
                .work(lab.directory());
            let report = test("vfs", lie, Dispatcher::<VfsDriver>::new, &options);
            caught(&report, case, rule);
        }
        Ok(())
    })
}

#[test]
fn lies_about_devices() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 1 << 30, "")?;
        for (lie, case, rule) in [
            ("misses a change", "data.changed", "R26"),
            ("misses what is in use", "restore.block", "R27"),
            ("gives extents backwards", "data.block", "R24"),
            ("discards content", "data.changed", "R26"),
            ("reverts to nothing", "copy.revert", "R41"),
            ("grows on paper", "volume.resize-offline", "R20"),
        ] {
            let path = storage.path().join(lie.replace(' ', "-"));
            let options = Options::default().option("loop.path", path.display().to_string()).size(32 << 20);
            let report =
                test("loop", lie, Dispatcher::<LoopImages>::new, &options.case(case).work(lab.directory()));
            caught(&report, case, rule);
        }
        Ok(())
    })
}

/// A process in another language that tells this lie.
fn liar(lab: &Lab, lie: &str) -> convoy_tests::Result<std::path::PathBuf> {
    let dir = lab.make(&format!("liar-{lie}"))?;
    let program = dir.join("convoy-driver-liar");
    let text = include_str!("liar.py").replace(r#"os.environ.get("LIAR_LIE", "")"#, &format!("{lie:?}"));
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Ok(program)
}

fn run_liar(lab: &Lab, lie: &str, case: Option<&str>) -> convoy_tests::Result<Report> {
    let program: &Path = &liar(lab, lie)?;
    let options = Options::default().work(lab.directory()).kills(2);
    Ok(run(program, &case.into_iter().fold(options, Options::case)).unwrap())
}

#[test]
fn lies_of_processes() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        for (lie, case, rule) in [
            ("rude", "identity.hello", "R1"),
            ("unhelpful", "identity.newer", "R5"),
            ("codeless", "identity.newer", "R8"),
            ("talkative", "identity.secrets", "R37"),
            ("forgetful", "crash.durable", "R33"),
            ("forgetful", "volume.files", "R14"),
            ("sulking", "end.goodbye", "R35"),
            ("clinging", "end.hangup", "R36"),
        ] {
            caught(&run_liar(lab, lie, Some(case))?, case, rule);
        }
        Ok(())
    })
}

#[test]
fn an_honest_stranger_passes() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        let report = run_liar(lab, "", None)?;
        report.assert_passed();
        assert!(report.cases.iter().filter(|case| case.verdict == Verdict::Passed).count() > 20, "{report}");
        Ok(())
    })
}
