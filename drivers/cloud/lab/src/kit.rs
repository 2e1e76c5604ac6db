//! The conformance kit on a cloud's driver: `convoy driver test` in a mount namespace in which the lab's
//! kernel stands in for `/dev` and `/sys`, as a driver's author would run it on an instance.

use crate::Result;
use crate::daemon::staged;
use crate::kernel::Kernel;
use crate::world::Cloud;
use convoy_driver_cloud::Provider;
use convoy_tests::child::Child;
use convoy_tests::error::check;
use convoy_tests::{Lab, programs, run};
use serde::Deserialize;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// How long the whole kit may take.
const LIMIT: Duration = Duration::from_secs(400);

const LIST: [&str; 5] = ["driver", "test", "--list", "--output", "json"];

#[derive(Deserialize)]
struct Case {
    id: String,
}

/// A part of the kit: each is a test of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Kills in the midst of calls, and whether they leave anything.
    Kills,
    /// Every other case.
    Calls,
    /// Those that are worth repeating by a second carrier: what is below the carrier does not read gigabytes
    /// twice.
    Carrier,
}

impl Part {
    fn has(self, case: &str) -> bool {
        let is = |topics: &[&str]| topics.iter().any(|topic| case.starts_with(topic));
        match self {
            Self::Kills => is(&["crash.", "end."]),
            Self::Calls => !is(&["crash."]),
            Self::Carrier => !is(&["crash.", "data.", "restore.block", "copy."]),
        }
    }
}

/// The kit through both carriers: `$program` is the driver's, beside which its library is.
#[macro_export]
macro_rules! kit_tests {
    ($cloud:ty, $program:expr) => {
        use $crate::kit::{Part, the_kit_passes};

        #[test]
        fn the_kit_passes_by_a_process() {
            let process = format!("process:{}", $program);
            the_kit_passes::<$cloud>(&process, "ext4", Part::Calls, 36).unwrap();
        }

        #[test]
        fn the_kit_passes_while_the_process_is_killed() {
            let process = format!("process:{}", $program);
            the_kit_passes::<$cloud>(&process, "ext4", Part::Kills, 15).unwrap();
        }

        #[test]
        fn the_kit_passes_by_a_library() {
            let library = format!("library:{}", $crate::daemon::library($program));
            the_kit_passes::<$cloud>(&library, "xfs", Part::Carrier, 27).unwrap();
        }
    };
}

/// No case fails, at least so many pass, and nothing is left in the cloud.
///
/// # Errors
/// The broken rules, or what is left.
pub fn the_kit_passes<C: Cloud>(driver: &str, fs: &str, part: Part, at_least: usize) -> Result<()> {
    staged(|lab, kernel| scenario::<C>(lab, kernel, driver, fs, part, at_least))
}

fn scenario<C: Cloud>(
    lab: &Lab,
    kernel: &Arc<Kernel>,
    driver: &str,
    fs: &str,
    part: Part,
    at_least: usize,
) -> Result<()> {
    let wrapper = kernel.stand_in()?;
    let cloud = C::start(Arc::clone(kernel));
    cloud.calm();
    let mut options = cloud.options(&lab.path(""));
    options.insert(format!("{}.fs", C::Provider::PREFIX), fs.to_owned());
    let (program, words) = wrapper.split_first().ok_or("no words")?;
    let mut command = Command::new(program);
    command.args(words).arg(programs::convoy()?).args(["driver", "test", driver]);
    for (name, value) in options {
        command.arg("--option").arg(format!("{name}={value}"));
    }
    let listed = run::capture(Command::new(programs::convoy()?).args(LIST))?.ok()?;
    let listed: Vec<Case> = serde_json::from_str(&listed)?;
    for case in listed.iter().filter(|case| part.has(&case.id)) {
        command.args(["--case", &case.id]);
    }
    command.args(["--kills", "2", "--output", "table"]).arg("--work").arg(lab.make("work")?);
    lab.origin().mark(&mut command);
    let log = lab.path("kit.log");
    let ended = Child::start(&mut command, &log)?.wait(LIMIT)?;
    let printed = std::fs::read_to_string(&log)?;
    check(ended.success(), || format!("{ended}: {printed}"))?;
    let passed = printed.lines().filter(|line| line.split_whitespace().nth(1) == Some("passed")).count();
    check(passed >= at_least, || format!("only {passed} passed: {printed}"))?;
    let (volumes, snapshots) = (cloud.volumes(), cloud.snapshots());
    check(volumes.is_empty() && snapshots.is_empty(), || {
        format!("expected nothing to be left in the cloud, found {volumes:?} and {snapshots:?}: {printed}")
    })?;
    let violations = cloud.violations();
    check(violations.is_empty(), || violations.join("\n"))?;
    Ok(())
}
