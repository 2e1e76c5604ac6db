//! A cloud's driver under the whole program: the daemon with its command line, the carriers, the backup
//! engine.
//!
//! The daemon runs in a mount namespace in which the lab's kernel stands in for `/dev` and `/sys`. What it
//! mounts is seen there only.

pub mod doctor;

use crate::Result;
use crate::kernel::Kernel;
use crate::world::Cloud;
use convoy_driver_cloud::Provider;
use convoy_tests::error::check;
use convoy_tests::{Convoy, Lab, Setup, run};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// A daemon with the driver of that file, on an instance of a cloud.
struct Machine<C> {
    convoy: Convoy,
    cloud: C,
}

impl<C: Cloud> Machine<C> {
    fn start(lab: &Lab, kernel: &Arc<Kernel>, driver: &str) -> Result<Self> {
        let wrapper = kernel.stand_in()?;
        let cloud = C::start(Arc::clone(kernel));
        cloud.calm();
        let mut setup = Setup::bare(lab).with(&["--drivers", driver]);
        for (name, value) in cloud.options(&lab.path("")) {
            setup.flags.extend(["--driver-opts".to_owned(), format!("{name}={value}")]);
        }
        setup.wrapper = wrapper;
        Ok(Self { convoy: setup.start()?, cloud })
    }

    /// Runs a shell command where the daemon's mounts are.
    fn inside(&self, script: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.convoy.id())).args(["sh", "-ec", script]);
        Ok(run::capture(&mut command)?.ok()?)
    }

    /// Mounts a volume and reads a file of it.
    fn content(&self, volume: &str) -> Result<String> {
        let at = self.convoy.ok(&["mount", volume])?;
        let content = self.inside(&format!("cat '{at}/file'"))?;
        self.convoy.ok(&["umount", volume])?;
        Ok(content)
    }
}

/// The tests of this module through both carriers: `$program` is the driver's, beside which its library is.
#[macro_export]
macro_rules! daemon_tests {
    ($cloud:ty, $program:expr) => {
        use $crate::daemon::{backups_stay_and_leave, doctor::the_doctor_finds_what_was_lost, library};

        #[test]
        fn backups_stay_and_leave_by_a_process() {
            backups_stay_and_leave::<$cloud>(&format!("process:{}", $program)).unwrap();
        }

        #[test]
        fn backups_stay_and_leave_by_a_library() {
            backups_stay_and_leave::<$cloud>(&format!("library:{}", library($program))).unwrap();
        }

        #[test]
        fn the_doctor_finds_what_was_lost_by_a_process() {
            the_doctor_finds_what_was_lost::<$cloud>(&format!("process:{}", $program)).unwrap();
        }

        #[test]
        fn the_doctor_finds_what_was_lost_by_a_library() {
            the_doctor_finds_what_was_lost::<$cloud>(&format!("library:{}", library($program))).unwrap();
        }
    };
}

/// A volume is written, snapshotted, and backed up twice: by the provider, and by the engine to a directory.
/// Both backups are restored; the one in the directory after the cloud has lost everything.
pub fn backups_stay_and_leave<C: Cloud>(driver: &str) -> Result<()> {
    staged(|lab, kernel| scenario::<C>(lab, kernel, driver))
}

/// Runs a scenario in a lab with a kernel.
pub(crate) fn staged(scenario: impl FnOnce(&Lab, &Arc<Kernel>) -> Result<()>) -> Result<()> {
    let kernel = Arc::new(Kernel::new()?);
    // The lab's error is of another kind: it is handed out beside.
    let mut outcome = Ok(());
    Lab::run(|lab| {
        outcome = scenario(lab, &kernel);
        check(outcome.is_ok(), || format!("{:?}", outcome.as_ref().err()))
    })?;
    outcome
}

fn scenario<C: Cloud>(lab: &Lab, kernel: &Arc<Kernel>, driver: &str) -> Result<()> {
    let machine = Machine::<C>::start(lab, kernel, driver)?;
    let convoy = &machine.convoy;
    let counts = || (machine.cloud.volumes().len(), machine.cloud.snapshots().len());
    convoy.ok(&["create", "data", "--size", "1G"])?;
    let at = convoy.ok(&["mount", "data"])?;
    machine.inside(&format!("echo first > '{at}/file'; head -c 3000000 /dev/urandom > '{at}/noise'"))?;
    convoy.ok(&["snapshot", "create", "data", "--name", "one"])?;
    machine.inside(&format!("echo second > '{at}/file'"))?;
    convoy.ok(&["snapshot", "create", "data", "--name", "two"])?;
    let noise = machine.inside(&format!("sha256sum < '{at}/noise'"))?;
    convoy.ok(&["umount", "data"])?;

    let at_provider = format!("{}://{}", C::Provider::SCHEME, C::REGION);
    let native = convoy.ok(&["backup", "create", "one", "--dest", &at_provider])?;
    check(native.starts_with(&format!("{at_provider}/")), || native.clone())?;
    let listed = convoy.ok(&["backup", "list", &at_provider])?;
    check(listed.contains(&native), || listed.clone())?;
    convoy.ok(&["create", "from-provider", "--backup", &native])?;
    check(machine.content("from-provider")? == "first", || "restored by the provider".to_owned())?;

    let store = lab.path("store");
    std::fs::create_dir(&store)?;
    let store = format!("vfs://{}", store.display());
    let first = convoy.ok(&["backup", "create", "one", "--dest", &store])?;
    let size = stored(lab)?;
    check(size < 8 << 20, || format!("{size} bytes are stored of 3 MB in use"))?;
    let second = convoy.ok(&["backup", "create", "two", "--dest", &store])?;
    let added = stored(lab)? - size;
    check(added < 3 << 20, || format!("{added} bytes were added for a changed line"))?;
    // The volumes it was read through are gone.
    check(counts() == (2, 2), || format!("{:?} are left", counts()))?;

    for volume in ["data", "from-provider"] {
        convoy.ok(&["delete", volume])?;
    }
    convoy.ok(&["backup", "delete", &native])?;
    check(counts() == (0, 0), || format!("{:?} are left", counts()))?;
    for (volume, backup, line) in [("back1", &first, "first"), ("back2", &second, "second")] {
        convoy.ok(&["create", volume, "--backup", backup])?;
        let content = machine.content(volume)?;
        check(content == line, || format!("expected {line}, found {content}"))?;
    }
    let at = convoy.ok(&["mount", "back2"])?;
    let found = machine.inside(&format!("sha256sum < '{at}/noise'"))?;
    check(found == noise, || "the noise is another".to_owned())?;
    convoy.ok(&["umount", "back2"])?;
    for volume in ["back1", "back2"] {
        convoy.ok(&["delete", volume])?;
    }
    check(counts() == (0, 0), || format!("{:?} are left", counts()))?;
    let violations = machine.cloud.violations();
    check(violations.is_empty(), || violations.join("\n"))?;
    Ok(())
}

/// How many bytes the store has.
fn stored(lab: &Lab) -> Result<u64> {
    let mut command = Command::new("du");
    let printed = run::capture(command.args(["--summarize", "--bytes"]).arg(lab.path("store")))?.ok()?;
    Ok(printed.split_whitespace().next().unwrap_or_default().parse()?)
}

/// Where cargo has put a driver's library: beside its program, or among what only tests were built of.
pub fn library(program: &str) -> String {
    let program = Path::new(program);
    let name = program.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
    let name = format!("lib{name}.so");
    let among = program.with_file_name("deps").join(&name);
    let library = if among.exists() { among } else { program.with_file_name(name) };
    library.display().to_string()
}
