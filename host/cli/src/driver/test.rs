//! `convoy driver test`: the conformance kit.

use super::{Installed, not_loaded, spec};
use crate::args::TestDriverArgs;
use crate::error::{Failure, Result};
use crate::output::Output;
use convoy_driver_kit::{CaseReport, KitError, Options, Report};
use convoy_driver_sdk::context::CancelFlag;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;

/// A driver that broke a rule; 1 is for one that could not be tested.
const BROKEN: u8 = 3;

pub(super) async fn test(
    args: TestDriverArgs,
    installed: Installed,
    output: &mut Output,
) -> Result<ExitCode> {
    let Some(driver) = args.driver.as_deref().filter(|_| !args.list) else {
        list(output)?;
        return Ok(ExitCode::SUCCESS);
    };
    let (spec, drivers, options) = (spec(driver)?, installed(&args.driver_path), options(&args));
    // A report that has nowhere to go is found out before the tests are run; and no older one is taken for
    // theirs.
    let junit = args.junit.as_ref().map(|path| (path, std::fs::File::create(path)));
    let mut junit = match junit {
        Some((path, file)) => {
            Some((path, file.map_err(|error| other(format!("cannot write {}: {error}", path.display())))?))
        }
        None => None,
    };
    let cancel = CancelFlag::default();
    let (tell, mut told) = unbounded_channel::<CaseReport>();
    let flag = cancel.clone();
    let mut testing = tokio::task::spawn_blocking(move || {
        // Nobody listens any more once the report is there.
        convoy_driver_kit::run_watched(drivers, spec, &options, flag, move |case| {
            drop(tell.send(case.clone()))
        })
    });
    let result = loop {
        tokio::select! {
            Some(case) = told.recv() => if output.is_for_people() {
                output.line(case)?;
            },
            result = &mut testing => break result,
            Ok(()) = tokio::signal::ctrl_c() => {
                if cancel.is_cancelled() {
                    let message = "the test was interrupted before it had cleaned up".to_owned();
                    return Err(Failure::Interrupted { message });
                }
                // The case that runs is finished and cleaned up after: nothing stays mounted.
                cancel.cancel();
                output.aside("interrupted", "the case that runs is finished; Ctrl-C once more ends it at once");
            }
        }
    };
    while let Ok(case) = told.try_recv() {
        if output.is_for_people() {
            output.line(case)?;
        }
    }
    let report = result.map_err(|error| other(error.to_string()))?.map_err(failure)?;
    if let Some((path, file)) = &mut junit {
        file.write_all(report.to_junit()?.as_bytes())
            .map_err(|error| other(format!("cannot write {}: {error}", path.display())))?;
    }
    show(&report, output)?;
    if cancel.is_cancelled() {
        return Err(Failure::Interrupted { message: "the test was interrupted".to_owned() });
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn options(args: &TestDriverArgs) -> Options {
    let mut options = Options::default().limit(Duration::from_secs(args.timeout)).kills(args.kills);
    for (name, value) in &args.options {
        options = options.option(name, value);
    }
    for (name, value) in &args.create_options {
        options = options.create_option(name, value);
    }
    for (name, directory) in &args.adopt {
        options = options.adopt(name, directory);
    }
    options = args.size.into_iter().fold(options, Options::size);
    options = args.work.iter().fold(options, Options::work);
    args.cases.iter().fold(options, Options::case)
}

/// The cases were shown as they came.
fn show(report: &Report, output: &mut Output) -> Result<()> {
    if output.is_for_people() {
        output.line(format_args!("\n{}\n\n{}", report.heading(), report.conclusion()))
    } else {
        output.line(report.to_json()?)
    }
}

fn list(output: &mut Output) -> Result<()> {
    let cases: Vec<_> = convoy_driver_kit::list().collect();
    if !output.is_for_people() {
        let cases: Vec<_> =
            cases.iter().map(|(id, title)| serde_json::json!({ "id": id, "title": title })).collect();
        return output.line(serde_json::to_string_pretty(&cases)?);
    }
    let width = cases.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
    cases.iter().try_for_each(|(id, title)| output.line(format_args!("{id:width$}  {title}")))
}

fn other(message: String) -> Failure {
    Failure::Other { message, hint: None }
}

fn failure(error: KitError) -> Failure {
    match error {
        KitError::Load { source, .. } => not_loaded(&source),
        KitError::Work(error) => Failure::Other {
            message: format!("cannot make the directory for the test: {error}"),
            hint: Some("name one that is there with --work".to_owned()),
        },
        KitError::NoCase(filter) => Failure::Other {
            message: format!("no case has {filter:?} in its id"),
            hint: Some("see them with: convoy driver test --list".to_owned()),
        },
        other => self::other(other.to_string()),
    }
}
