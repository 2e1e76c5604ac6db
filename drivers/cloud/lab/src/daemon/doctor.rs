//! `convoy doctor` of a machine on which something was lost: what a person reads, what a program reads, what
//! a repair does, and that its advice can be followed.

use super::{Machine, staged};
use crate::Result;
use crate::http::{Fault, Request};
use crate::kernel::Kernel;
use crate::world::{Action, Cloud};
use convoy_driver_cloud::Provider;
use convoy_tests::error::check;
use convoy_tests::run::Output;
use convoy_tests::{Convoy, Lab};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

/// What is left when nothing is repaired but what is safe: exit codes of the doctor.
const ERRORS: i32 = 3;

/// A record is lost, a volume is lost, and a copy that was made to be read is forgotten.
pub fn the_doctor_finds_what_was_lost<C: Cloud>(driver: &str) -> Result<()> {
    staged(|lab, kernel| scenario::<C>(lab, kernel, driver))
}

fn scenario<C: Cloud>(lab: &Lab, kernel: &Arc<Kernel>, driver: &str) -> Result<()> {
    let mut machine = Machine::<C>::start(lab, kernel, driver)?;
    for volume in ["data", "lost", "gone"] {
        machine.convoy.ok(&["create", volume, "--size", "1G"])?;
    }
    let at = machine.convoy.ok(&["mount", "lost"])?;
    machine.inside(&format!("echo kept > '{at}/file'"))?;
    machine.convoy.ok(&["umount", "lost"])?;
    machine.convoy.ok(&["snapshot", "create", "data", "--name", "one"])?;
    let well = findings::<C>(&doctor(&machine.convoy, &[])?)?;
    check(well.iter().all(|it| it["Severity"] == "info"), || format!("expected to be well: {well:#?}"))?;
    let ids: Vec<String> =
        ["data", "lost", "gone"].iter().map(|name| id::<C>(&machine.convoy, name)).collect::<Result<_>>()?;

    // The volume that a snapshot is read through cannot be deleted.
    let is_delete = |request: &Request| C::asks_for(Action::DeleteVolume, request);
    machine.cloud.line().fail(0, usize::MAX, Fault::Answer(C::refusal()), is_delete);
    let store = lab.make("store")?;
    machine.convoy.run(&["backup", "create", "one", "--dest", &format!("vfs://{}", store.display())])?;
    machine.cloud.line().heal();
    let mut left = machine.cloud.volumes();
    left.retain(|id| !ids.contains(id));
    check(left.len() == 1, || format!("expected one copy, found {left:?}"))?;
    let copy = left.pop_first().unwrap_or_default();

    let root = machine.convoy.setup().root.join(C::Provider::DRIVER);
    let record =
        |volume: &str| -> PathBuf { root.join(format!("{}_volume_{volume}.json", C::Provider::DRIVER)) };
    let of_gone = std::fs::read(record("gone"))?;
    machine.convoy.ok(&["delete", "gone"])?;
    machine.convoy.stop()?;
    std::fs::write(record("gone"), of_gone)?;
    std::fs::remove_file(record("lost"))?;
    for intent in std::fs::read_dir(root.join("intents"))? {
        std::fs::remove_file(intent?.path())?;
    }
    machine.convoy.start_again()?;

    let told = [
        ("error", format!("volume gone: {}", ids[2]), "convoy delete --reference gone"),
        ("warning", format!("cloud volume {}", ids[1]), "convoy create lost"),
        ("warning", format!("cloud volume {copy}"), "convoy doctor --repair"),
    ];
    let text = doctor(&machine.convoy, &["--output", "table"])?;
    for (severity, subject, advice) in &told {
        let line = format!("{severity:<9}driver {}: {subject}", C::Provider::DRIVER);
        let mut lines = text.stdout.lines().skip_while(|found| !found.starts_with(&line)).take(2);
        check(lines.any(|found| found.contains(advice)), || {
            format!("expected {line:?} and {advice:?} in:\n{}", text.stdout)
        })?;
        check(text.stdout.matches(line.as_str()).count() == 1, || format!("told twice:\n{}", text.stdout))?;
    }
    check(text.status.code() == Some(ERRORS), || format!("{}: {}", text.status, text.stdout))?;
    check(text.stdout.contains("`convoy doctor --repair` repairs 1 of them"), || text.stdout.clone())?;
    let json = doctor(&machine.convoy, &[])?;
    check(json.status.code() == Some(ERRORS), || json.status.to_string())?;
    let found = wrong(findings::<C>(&json)?);
    check(found.len() == 3 && !found.iter().any(is_repaired), || format!("{found:#?}"))?;

    // Only the copy was nobody's.
    let repaired = doctor(&machine.convoy, &["--repair"])?;
    check(repaired.status.code() == Some(ERRORS), || repaired.status.to_string())?;
    for it in wrong(findings::<C>(&repaired)?) {
        let is_copy = it["Subject"] == format!("cloud volume {copy}").as_str();
        check(is_repaired(&it) == is_copy, || format!("{it:#}"))?;
    }
    let expected = ids.iter().take(2).cloned().collect();
    check(machine.cloud.volumes() == expected, || format!("{:?} are left", machine.cloud.volumes()))?;

    // What it says can be done.
    machine.convoy.ok(&["delete", "--reference", "gone"])?;
    machine.convoy.ok(&["create", "lost"])?;
    let content = machine.content("lost")?;
    check(content == "kept", || format!("expected what was written before, found {content}"))?;
    let well = wrong(findings::<C>(&doctor(&machine.convoy, &[])?)?);
    check(well.is_empty(), || format!("expected to be well: {well:#?}"))?;
    for volume in ["data", "lost"] {
        machine.convoy.ok(&["delete", volume])?;
    }
    check(machine.cloud.volumes().is_empty(), || format!("{:?} are left", machine.cloud.volumes()))?;
    let violations = machine.cloud.violations();
    check(violations.is_empty(), || violations.join("\n"))?;
    Ok(())
}

fn doctor(convoy: &Convoy, words: &[&str]) -> Result<Output> {
    Ok(convoy.run(&[&["doctor"], words].concat())?)
}

/// What it says of the driver; the machine that the test runs on may have an ailment of its own.
fn findings<C: Cloud>(output: &Output) -> Result<Vec<Value>> {
    let diagnosis: Value = serde_json::from_str(&output.stdout)
        .map_err(|error| format!("no JSON ({error}): {}{}", output.stdout, output.stderr))?;
    let area = format!("driver {}", C::Provider::DRIVER);
    let all = diagnosis["Findings"].as_array().cloned().unwrap_or_default();
    let found: Vec<_> = all.into_iter().filter(|it| it["Area"] == area.as_str()).collect();
    check(!found.is_empty(), || format!("nothing is said of {area}: {}", output.stdout))?;
    Ok(found)
}

fn wrong(mut findings: Vec<Value>) -> Vec<Value> {
    findings.retain(|it| it["Severity"] != "info");
    findings
}

/// What is false is left out.
fn is_repaired(finding: &Value) -> bool {
    finding["Repaired"] == true
}

/// The provider's id of a volume.
fn id<C: Cloud>(convoy: &Convoy, volume: &str) -> Result<String> {
    let inspected = convoy.inspect(volume)?;
    let id = inspected["DriverInfo"][C::Provider::ID_INFO].as_str();
    Ok(id.ok_or_else(|| format!("no {}: {inspected:#}", C::Provider::ID_INFO))?.to_owned())
}
