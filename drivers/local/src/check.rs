//! What is not as it should be, and what is not protected.

use std::collections::BTreeMap;

use convoy_driver_sdk::protocol::{Checked, Finding, Probed, Severity};
use convoy_driver_sdk::{Context, DriverError, Name};

use crate::catalog::{Catalog, tree_of};
use crate::engine::Engine;
use crate::error::{LocalError, LocalResult};
use crate::record::VolumeRecord;
use crate::view::View;

/// What `convoy info` shows.
pub(crate) fn info(catalog: &Catalog, context: &Context) -> BTreeMap<String, String> {
    let mut info = BTreeMap::new();
    let list = |texts: Vec<String>| texts.join(", ");
    info.insert(
        "Docker".to_owned(),
        list(catalog.engines.iter().map(|engine| engine.socket().display().to_string()).collect()),
    );
    info.insert(
        "Snapshots".to_owned(),
        list(catalog.vaults.iter().map(|vault| vault.path.display().to_string()).collect()),
    );
    let roots: LocalResult<Vec<_>> =
        (0..catalog.engines.len()).map(|engine| catalog.data_root(engine, context)).collect();
    info.insert(
        "DataRoot".to_owned(),
        match roots {
            Ok(roots) => list(roots.iter().map(|root| root.display().to_string()).collect()),
            Err(error) => error.to_string(),
        },
    );
    if let Ok(View { found, records }) = catalog.view(context) {
        let skipped = found.skipped.iter().map(|skipped| format!("{} ({})", skipped.what, skipped.why));
        let forgotten = records.values().flatten().filter(|record| record.forgotten);
        for (key, texts) in [
            ("Skipped", skipped.collect::<Vec<_>>()),
            ("Forgotten", forgotten.map(|record| record.name.to_string()).collect()),
        ] {
            if !texts.is_empty() {
                let more = texts.len().saturating_sub(20);
                let shown = list(texts.into_iter().take(20).collect());
                let rest = if more > 0 { format!(", and {more} more") } else { String::new() };
                info.insert(key.to_owned(), format!("{shown}{rest}"));
            }
        }
    }
    info
}

/// Says in a moment whether the engines answer.
pub(crate) fn probe(catalog: &Catalog, context: &Context) -> Probed {
    let failed = catalog.engines.iter().find_map(|engine| engine.ping(context).err());
    failed.map_or_else(Probed::well, |error| Probed::unwell(error.to_string()))
}

/// Looks for what is not as it should be. Nothing is repaired that a start or a look does not settle itself.
pub(crate) fn check(catalog: &Catalog, context: &Context) -> LocalResult<Checked> {
    let mut findings = Vec::new();
    let mut answers = true;
    for engine in &catalog.engines {
        if let Err(error) = engine.ping(context) {
            answers = false;
            findings.push(failed(engine_subject(engine), error));
        }
    }
    if !answers {
        return Ok(Checked::new(findings));
    }
    let View { found, records } = catalog.view(context)?;
    for skipped in found.skipped {
        let severity = if skipped.twice { Severity::Warning } else { Severity::Info };
        let text = format!("not a volume of convoy's: {}", skipped.why);
        findings.push(Finding::new(severity, skipped.what, text));
    }
    for source in found.sources.values() {
        let subject = format!("volume {}", source.name);
        match source.open().and_then(|data| catalog.vaults.for_data(data)) {
            Ok(Some(_)) => {}
            Ok(None) => {
                let (volume, path) = (source.name.clone(), source.path.clone());
                let mut finding = failed(subject, LocalError::NoVault { volume, path });
                finding.severity = Severity::Warning;
                findings.push(finding);
            }
            Err(error) => findings.push(failed(subject, error)),
        }
    }
    for (name, record) in records {
        match record {
            Ok(record) => look_at(&record, !found.sources.contains_key(&name), &mut findings),
            Err(error) => findings.push(failed(format!("record of {name}"), error)),
        }
    }
    Ok(Checked::new(findings))
}

fn look_at(record: &VolumeRecord, gone: bool, findings: &mut Vec<Finding>) {
    let name: &Name = &record.name;
    let subject = format!("volume {name}");
    for snapshot in record.snapshots.keys() {
        if let Err(error) = tree_of(record, snapshot) {
            findings.push(failed(format!("snapshot {snapshot} of {name}"), error));
        }
    }
    if record.publishing.is_some() || record.deleting {
        let text = "it was being made or deleted when convoy ended, and Docker does not let that be settled";
        let hint = "convoy tries again each time it looks; the log says what Docker answers";
        findings.push(Finding::new(Severity::Warning, subject, text).hint(hint));
    } else if gone && !record.snapshots.is_empty() {
        let many = record.snapshots.len();
        let text =
            format!("no container and no volume of Docker's has it any more; {many} snapshots are kept");
        let hint = format!("`convoy delete {name}` deletes them, if nobody wants them");
        findings.push(Finding::new(Severity::Info, subject, text).hint(hint));
    }
}

fn engine_subject(engine: &Engine) -> String {
    format!("engine {}", engine.socket().display())
}

/// An error, with what to do about it.
fn failed(subject: String, error: impl Into<DriverError>) -> Finding {
    let DriverError { message, hint, .. } = error.into();
    let finding = Finding::new(Severity::Error, subject, message);
    match hint {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}
