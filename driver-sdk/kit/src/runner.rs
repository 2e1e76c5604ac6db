//! Runs the cases, each with a time limit.

use crate::cases::{CASES, Case, Need};
use crate::check::{Failure, Outcome, Stop, fail};
use crate::options::Options;
use crate::report::{CaseReport, Report, Verdict, rounded};
use crate::rules;
use crate::scratch::Scratch;
use crate::subject::{Kit, StuckCall, Subject};
use convoy_driver_sdk::DriverError;
use convoy_driver_sdk::context::CancelFlag;
use convoy_driver_sdk::protocol::{Capability, Open};
use convoy_drivers::{DriverSpec, Drivers, LoadError, RestartPolicy, SearchPath};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// What a case may take beyond the time of its calls, before it counts as stuck.
const STUCK: Duration = Duration::from_secs(15);

/// How long the threads of the kit's runtime are waited for at the end.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// Why the driver could not be tested at all.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum KitError {
    /// Neither a name of a driver nor a file.
    #[error("no driver {spec}: {source}")]
    Load { spec: String, source: LoadError },
    /// It does not open with the options given.
    #[error("the driver does not open: {}{}", .0.message, .0.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Open(DriverError),
    /// No case is of that name.
    #[error("no case has {0:?} in its name: see `convoy driver test --list`")]
    NoCase(String),
    /// The kit's own files.
    #[error("cannot make the directory for the test: {0}")]
    Work(std::io::Error),
    /// A thread of the kit ended in a panic.
    #[error("the kit itself failed: {0}")]
    Kit(String),
}

/// Tests the driver in a file, or an installed one by its name (`vfs`, `process:vfs`).
///
/// The kit blocks; it may be called from a thread of an asynchronous runtime.
///
/// # Errors
/// [`KitError`] if the driver cannot be tested; broken rules are in the report.
pub fn run(driver: impl AsRef<Path>, options: &Options) -> Result<Report, KitError> {
    let driver = driver.as_ref();
    // A file may be named from here; a name has no slash.
    let spec = match driver.to_str() {
        Some(name) if !name.contains('/') => name.to_owned(),
        Some(file) => file.split_once(':').filter(|(carrier, _)| !carrier.contains('/')).map_or_else(
            || absolute(driver),
            |(carrier, path)| format!("{carrier}:{}", absolute(Path::new(path))),
        ),
        None => driver.display().to_string(),
    };
    let load = |source| KitError::Load { spec: spec.clone(), source };
    let parsed: DriverSpec = spec.parse().map_err(load)?;
    run_with(Drivers::new(SearchPath::standard(&[])), parsed, options)
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Tests a driver that is loaded from these.
pub fn run_with(drivers: Drivers, spec: DriverSpec, options: &Options) -> Result<Report, KitError> {
    run_watched(drivers, spec, options, CancelFlag::default(), |_| {})
}

/// As [`run_with`], telling of each case when it is done. After the flag is set no case is begun.
pub fn run_watched(
    drivers: Drivers,
    spec: DriverSpec,
    options: &Options,
    cancel: CancelFlag,
    watch: impl Fn(&CaseReport) + Send + 'static,
) -> Result<Report, KitError> {
    if let Some(filter) =
        options.cases.iter().find(|filter| !CASES.iter().any(|case| case.id.contains(filter.as_str())))
    {
        return Err(KitError::NoCase(filter.clone()));
    }
    // A thread of its own: the kit waits for its runtime, which a thread of another runtime may not.
    let options = options.clone();
    let thread = std::thread::Builder::new()
        .name("kit".to_owned())
        .spawn(move || test(drivers, spec, options, &cancel, &watch));
    thread.map_err(KitError::Work)?.join().unwrap_or_else(|panic| {
        Err(KitError::Kit(panic.downcast_ref::<String>().cloned().unwrap_or_default()))
    })
}

fn test(
    drivers: Drivers,
    spec: DriverSpec,
    options: Options,
    cancel: &CancelFlag,
    watch: &dyn Fn(&CaseReport),
) -> Result<Report, KitError> {
    // The kit kills often, and wants it back at once.
    let drivers = drivers.restarts(RestartPolicy {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(100),
        well_after: Duration::from_millis(1),
        give_up_after: 20,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let runtime = runtime.map_err(KitError::Work)?;
    let base = options.work.clone().unwrap_or_else(std::env::temp_dir);
    let work = Scratch::new(&base, "convoy-kit").map_err(KitError::Work)?;
    let report = test_in(work.path(), drivers, spec, options, runtime.handle(), cancel, watch);
    // A library that hangs in a call keeps its thread: the kit ends without it.
    runtime.shutdown_timeout(SHUTDOWN);
    // What a failed driver left mounted would keep it from being removed.
    work.clear();
    report
}

fn test_in(
    work: &Path,
    drivers: Drivers,
    spec: DriverSpec,
    options: Options,
    runtime: &Handle,
    cancel: &CancelFlag,
    watch: &dyn Fn(&CaseReport),
) -> Result<Report, KitError> {
    let open = Open::new(work.join("root")).options(options.driver.clone());
    let text = spec.to_string();
    let subject = Subject::load(drivers, spec, options, open, work.to_owned(), runtime.clone())
        .map_err(|source| KitError::Load { spec: text, source })?;
    let kit: Kit = Arc::new(subject);
    kit.begin();
    kit.start().map_err(KitError::Open)?;
    let description = kit.handle().description().clone();
    let capability = |capability: &Capability| {
        serde_json::to_value(capability).ok().and_then(|value| Some(value.as_str()?.to_owned()))
    };
    let mut report = Report {
        driver: kit.spec.to_string(),
        version: format!("{} {}", description.name, description.version),
        protocol: description.protocol.clone(),
        capabilities: description.capabilities.iter().filter_map(capability).collect(),
        cases: Vec::new(),
    };
    kit.remember_held();
    let wanted: Vec<&'static Case> = CASES.iter().filter(|case| kit.options.wants(case.id)).collect();
    let mut stuck = false;
    for case in wanted {
        let started = Instant::now();
        let verdict = if stuck || cancel.is_cancelled() {
            let why =
                if stuck { "a call of an earlier case does not end" } else { "the kit was interrupted" };
            Verdict::Skipped { why: why.to_owned() }
        } else {
            let (verdict, goes_on) =
                judge(case, &kit).map_or((None, true), |(verdict, goes_on)| (Some(verdict), goes_on));
            stuck = goes_on;
            verdict.unwrap_or_else(|| {
                let text =
                    format!("the case does not end: it was left after {} s", started.elapsed().as_secs());
                Verdict::failed(Failure { rule: rules::TIME, text })
            })
        };
        let (id, title, seconds) = (case.id.to_owned(), case.title.to_owned(), rounded(started.elapsed()));
        let done = CaseReport { id, title, verdict, seconds };
        watch(&done);
        report.cases.push(done);
    }
    if !stuck {
        kit.begin();
        kit.stop();
    }
    Ok(report)
}

/// Runs a case on a thread of its own; `None` if it does not end. Also whether something of it goes on that
/// nothing can end.
fn judge(case: &'static Case, kit: &Kit) -> Option<(Verdict, bool)> {
    if let Some(why) = case.needs.iter().find_map(|need| need.lacking(kit)) {
        return Some((Verdict::Skipped { why }, false));
    }
    let (answer, answered) = channel();
    let kit = Arc::clone(kit);
    let limit = kit.options.limit * 4 + STUCK;
    let thread = std::thread::Builder::new().name(case.id.to_owned()).spawn(move || {
        kit.begin();
        let outcome = (case.run)(&kit);
        let (cleaned, goes_on) = match kit.end_calls() {
            Ok(()) => (kit.clean(), false),
            Err(StuckCall { method, goes_on }) => {
                let broken = fail(rules::TIME, format!("{method} has not ended long after its time"));
                (if goes_on { broken } else { kit.clean().and(broken) }, goes_on)
            }
        };
        // Nobody listens any more if it took too long.
        let _ = answer.send((verdict(outcome, cleaned), goes_on));
    });
    let waited = thread.map_err(|error| error.to_string()).and_then(|_| {
        answered.recv_timeout(limit).map(Some).or_else(|error| match error {
            std::sync::mpsc::RecvTimeoutError::Timeout => Ok(None),
            std::sync::mpsc::RecvTimeoutError::Disconnected => Err("the case ended in a panic".to_owned()),
        })
    });
    waited.unwrap_or_else(|error| {
        let failure = Failure { rule: rules::TIME, text: format!("the kit itself failed: {error}") };
        Some((Verdict::failed(failure), false))
    })
}

fn verdict(outcome: Outcome, cleaned: Outcome) -> Verdict {
    match (outcome, cleaned) {
        (Err(Stop::Failed(failure)), _) | (Ok(()) | Err(Stop::Skipped(_)), Err(Stop::Failed(failure))) => {
            Verdict::failed(failure)
        }
        (Err(Stop::Skipped(why)), _) => Verdict::Skipped { why },
        (Ok(()), Ok(()) | Err(Stop::Skipped(_))) => Verdict::Passed,
    }
}

impl Need {
    /// What is missing for the case.
    fn lacking(&self, kit: &Subject) -> Option<String> {
        let word = |capability: &Capability| {
            serde_json::to_value(capability)
                .ok()
                .and_then(|value| Some(value.as_str()?.to_owned()))
                .unwrap_or_default()
        };
        match self {
            Self::Can(capability) => {
                (!kit.can(*capability)).then(|| format!("the driver does not declare {}", word(capability)))
            }
            Self::Process => {
                (!kit.is_process()).then(|| "for processes: test the driver as one, too".to_owned())
            }
            Self::Adopted => kit
                .options
                .adopted
                .is_empty()
                .then(|| "no create option was given by which a volume adopts data (--adopt)".to_owned()),
            Self::Secret => {
                let description = kit.handle().description().clone();
                let secret =
                    description.options.iter().chain(&description.create_options).any(|option| option.secret);
                (!secret).then(|| "the driver has no secret option".to_owned())
            }
        }
    }
}
