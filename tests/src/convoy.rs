//! A convoy daemon under test.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::child::Child;
use crate::error::{Error, Result};
use crate::http::Client;
use crate::lab::{Lab, Origin};
use crate::run::{self, Output};
use crate::{patience, programs};

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(20);

/// How long a daemon that was told to stop may take, on a machine that is busy.
const END: Duration = Duration::from_secs(60);

/// How the daemon reaches its driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Linked into the program.
    Builtin,
    /// A shared library.
    Library,
    /// A process of its own.
    Process,
}

impl Carrier {
    /// How the driver is named to `--drivers`.
    pub fn driver(self, name: &str) -> String {
        match self {
            Self::Builtin => format!("builtin:{name}"),
            Self::Library => format!("library:{name}"),
            Self::Process => format!("process:{name}"),
        }
    }
}

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The path that `--socket` names.
    pub socket: PathBuf,
    /// The path that `--root` names.
    pub root: PathBuf,
    /// Where vfs keeps the volumes.
    pub volumes: PathBuf,
    /// Every other flag.
    pub flags: Vec<String>,
    /// A command to run the daemon by, with its first arguments; empty for none.
    pub wrapper: Vec<String>,
    /// The program, if it is not the one that was built.
    pub program: Option<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
    origin: Origin,
}

impl Setup {
    /// A daemon with the vfs driver and everything of it in the lab.
    pub fn vfs(lab: &Lab, carrier: Carrier) -> Self {
        let mut setup = Self::bare(lab);
        setup.flags = vec![
            "--drivers".to_owned(),
            carrier.driver("vfs"),
            "--driver-opts".to_owned(),
            format!("vfs.path={}", setup.volumes.display()),
        ];
        setup
    }

    /// A daemon in the lab without any flag but its root and socket.
    pub fn bare(lab: &Lab) -> Self {
        let number = lab.number();
        Self {
            socket: lab.path(&format!("convoy{number}.sock")),
            root: lab.path(&format!("root{number}")),
            volumes: lab.path(&format!("volumes{number}")),
            flags: Vec::new(),
            wrapper: Vec::new(),
            program: None,
            log: lab.path(&format!("convoy{number}.log")),
            origin: lab.origin(),
        }
    }

    /// Adds flags to the command line of the daemon.
    #[must_use]
    pub fn with(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub fn start(&self) -> Result<Convoy> {
        let child = Child::start(&mut self.daemon()?, &self.log)?;
        let mut convoy = Convoy { setup: self.clone(), child };
        convoy.wait_until_it_answers()?;
        Ok(convoy)
    }

    /// Starts a daemon that must refuse, and says what it printed.
    ///
    /// # Errors
    /// When it runs or ends well.
    pub fn start_refused(&self) -> Result<String> {
        let from = std::fs::read_to_string(&self.log).unwrap_or_default().len();
        let mut child = Child::start(&mut self.daemon()?, &self.log)?;
        let status = child.wait(START)?;
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let said = log.get(from..).unwrap_or_default().to_owned();
        if status.code().is_some_and(|code| code != 0) {
            return Ok(said);
        }
        Err(Error::Unexpected(format!(
            "the daemon should have refused to start, but ended with {status}: {said}"
        )))
    }

    /// The command line of the daemon.
    ///
    /// # Errors
    /// When the program has not been built.
    pub fn daemon(&self) -> Result<Command> {
        let program = self.program()?;
        let mut words = self.wrapper.iter().map(OsString::from).chain([program.into_os_string()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command
            .args(words)
            .arg("--socket")
            .arg(&self.socket)
            .args(["daemon", "--root"])
            .arg(&self.root)
            .args(&self.flags);
        without_settings(&mut command);
        self.origin.mark(&mut command);
        Ok(command)
    }

    fn program(&self) -> Result<PathBuf> {
        self.program.clone().map_or_else(programs::convoy, Ok)
    }

    /// The command line of a client.
    ///
    /// # Errors
    /// When the program has not been built.
    pub fn client(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(self.program()?);
        command.arg("--socket").arg(&self.socket).args(words);
        without_settings(&mut command);
        Ok(command)
    }
}

/// A running daemon. Dropping it stops it.
#[derive(Debug)]
pub struct Convoy {
    setup: Setup,
    child: Child,
}

impl Convoy {
    /// What it was started with.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The process id of the daemon.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Runs the command line against this daemon.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        run::capture(&mut self.setup.client(words)?)
    }

    /// Runs a command that must succeed, and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        self.run(words)?.ok()
    }

    /// Runs a command that must be refused, and gives what it printed.
    ///
    /// # Errors
    /// When it succeeds or crashes.
    pub fn refused(&self, words: &[&str]) -> Result<String> {
        self.run(words)?.refused()
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When the daemon does not listen.
    pub fn connect(&self) -> Result<Client> {
        Client::connect(&self.setup.socket)
    }

    /// The names of all volumes.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub fn names(&self) -> Result<Vec<String>> {
        let list = self.connect()?.ask("GET", "/v1/volumes/list", "")?;
        let list: serde_json::Map<_, _> = serde_json::from_str(&list.ok()?)
            .map_err(|error| Error::Unexpected(format!("the list is not a map: {error}")))?;
        Ok(list.keys().cloned().collect())
    }

    /// A volume as `inspect` shows it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn inspect(&self, name: &str) -> Result<serde_json::Value> {
        let text = self.ok(&["inspect", name])?;
        serde_json::from_str(&text)
            .map_err(|error| Error::Unexpected(format!("inspect is not JSON ({error}): {text}")))
    }

    /// Where a volume is mounted; empty when it is not.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn mount_point(&self, name: &str) -> Result<String> {
        let volume = self.inspect(name)?;
        Ok(volume.get("MountPoint").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned())
    }

    /// Asks the daemon to stop, and waits.
    ///
    /// # Errors
    /// When it does not stop or ends badly.
    pub fn stop(&mut self) -> Result<()> {
        well(self.child.stop()?)
    }

    /// Waits until a daemon that was told to stop has.
    ///
    /// # Errors
    /// When it does not stop or ends badly.
    pub fn wait_for_end(&mut self) -> Result<()> {
        well(self.child.wait(END)?)
    }

    /// Kills the daemon without warning.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()
    }

    /// Starts the daemon again, after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = Child::start(&mut self.setup.daemon()?, &self.setup.log)?;
        self.wait_until_it_answers()
    }

    /// Changes the flags for the next start.
    pub fn set_flags(&mut self, flags: &[String]) {
        self.setup.flags = flags.to_vec();
    }

    /// The resident memory of the daemon, in KiB.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn resident_kib(&self) -> Result<u64> {
        self.memory_kib("VmRSS:")
    }

    /// The memory that is the daemon's alone, in KiB: what it wrote, and pages of its program that nobody
    /// else has mapped, which the kernel takes back when it needs room. Each page is counted
    /// (`smaps_rollup`), which `VmRSS` is not.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn private_kib(&self) -> Result<(u64, u64)> {
        let rollup = format!("/proc/{}/smaps_rollup", self.id());
        Ok((kib_in(&rollup, "Private_Dirty:")?, kib_in(&rollup, "Private_Clean:")?))
    }

    /// The most resident memory the daemon has had since it started, in KiB.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn peak_kib(&self) -> Result<u64> {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> Result<u64> {
        kib_in(&format!("/proc/{}/status", self.id()), field)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let socket = self.setup.socket.clone();
        let child = &mut self.child;
        patience::until("an answer of convoy", START, || {
            if let Some(status) = child.ended()? {
                let log = std::fs::read_to_string(child.log()).unwrap_or_default();
                return Err(Error::Unexpected(format!("convoy did not start: {status}\n{log}")));
            }
            Ok(answers(&socket))
        })
    }
}

/// The number of KiB that a file of the kernel tells in a field.
fn kib_in(file: &str, field: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let rest = text.lines().find_map(|line| line.strip_prefix(field));
    rest.and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .ok_or_else(|| Error::Unexpected(format!("{file} does not say how much memory the daemon uses")))
}

/// What a person has set for the convoy of this machine is not for the one under test.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CONVOY_") {
            command.env_remove(name);
        }
    }
    command.env("CONVOY_CONFIG", "/dev/null");
}

fn answers(socket: &Path) -> bool {
    Client::connect(socket).and_then(|mut client| client.ask("GET", "/v1/info", "")).is_ok()
}

fn well(status: ExitStatus) -> Result<()> {
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("convoy ended with {status}"))) }
}
