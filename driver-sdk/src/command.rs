//! Running an external program as a part of a call: never longer than the call, never left behind.

#![allow(unsafe_code, reason = "what a child does between fork and exec")]

use crate::{Context, DriverError, ErrorKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a running program's call is asked whether to go on.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// How long a program has between the polite signal and the other one.
const GRACE: Duration = Duration::from_secs(2);
/// How long a killed program may take to vanish; one that sits in the kernel can take for ever.
const REAP: Duration = Duration::from_secs(3);
/// What is kept of each output, in bytes.
const OUTPUT_LIMIT: usize = 4 << 20;
/// How much of its standard error an error message quotes, in bytes.
const QUOTED: usize = 600;
/// Where system programs are, for a host whose own path lacks them.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do its work. A `command` is its command line, without its secrets.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum CommandError {
    /// There is no such program.
    #[error("the program {program} is not installed")]
    NotInstalled { program: String, package: Option<&'static str> },
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start { program: String, source: io::Error },
    /// It said that it failed.
    #[error("{command} failed ({status}): {stderr}")]
    Failed { command: String, status: ExitStatus, stderr: String },
    /// The call ended first, and the program with it.
    #[error("{command} was ended: {reason}")]
    Ended {
        command: String,
        /// The call was cancelled, or its deadline or the time limit passed.
        reason: DriverError,
        /// Whether the program could not even be killed: it waits in the kernel.
        stuck: bool,
    },
    /// The call ended first. The program goes on and holds its lock: see [`Command::outlives`].
    #[error("{command} takes longer than the call, and goes on: {reason}")]
    GoesOn { command: String, reason: DriverError },
    /// Reading its output or waiting for it failed.
    #[error("lost {program}: {source}")]
    Lost { program: String, source: io::Error },
}

impl From<CommandError> for DriverError {
    fn from(error: CommandError) -> Self {
        let text = error.to_string();
        match error {
            CommandError::NotInstalled { program, package } => {
                let hint = match package {
                    Some(package) => format!("install the package {package}, which has {program}"),
                    None => format!("install {program}"),
                };
                Self::new(ErrorKind::Unavailable, text).retryable(false).hint(hint)
            }
            CommandError::Start { program, source } => {
                Self::io(format_args!("cannot start {program}"), &source)
            }
            CommandError::Ended { reason, stuck, .. } => {
                let built = Self::new(reason.kind, text);
                if stuck {
                    built.hint("the program waits in the kernel and could not be killed: see the kernel log")
                } else {
                    built
                }
            }
            CommandError::GoesOn { reason, .. } => {
                Self::new(reason.kind, text).hint("try again later: it is waited for then")
            }
            CommandError::Failed { .. } | CommandError::Lost { .. } => Self::new(ErrorKind::Internal, text),
        }
    }
}

/// What a program that succeeded wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended: not always with 0, see [`Command::accept`].
    pub code: i32,
    /// What the program wrote on standard output.
    pub stdout: Vec<u8>,
    /// What the program wrote on standard error.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A program to run.
#[derive(Debug, Clone)]
#[must_use]
pub struct Command {
    program: OsString,
    package: Option<&'static str>,
    args: Vec<OsString>,
    accepted: Vec<i32>,
    limit: Option<Duration>,
    namespace: Option<PathBuf>,
    environment: Vec<(OsString, Hidden)>,
    stdin: Option<Hidden>,
    lock: Option<Arc<File>>,
}

/// What no message and no log shows.
#[derive(Clone)]
struct Hidden(Vec<u8>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl Command {
    /// A program, by name or path.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            package: None,
            args: Vec::new(),
            accepted: vec![0],
            limit: None,
            namespace: None,
            environment: Vec::new(),
            stdin: None,
            lock: None,
        }
    }

    /// The package to install when it is missing.
    pub fn package(mut self, package: &'static str) -> Self {
        self.package = Some(package);
        self
    }

    /// One more argument. Arguments appear in messages: never pass a secret.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What the program reads on its standard input. It may be a secret, such as the passphrase of a LUKS
    /// device: no message and no log shows it.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(Hidden(bytes.into()));
        self
    }

    /// One more variable of the program's environment. Its value may be a secret, such as the `PASSWD` of
    /// `mount.cifs`: no message and no log shows it.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl Into<Vec<u8>>) -> Self {
        self.environment.push((name.as_ref().to_owned(), Hidden(value.into())));
        self
    }

    /// One more exit code that is no failure.
    pub fn accept(mut self, code: i32) -> Self {
        self.accepted.push(code);
        self
    }

    /// A time limit of its own, beside the deadline of the call.
    pub fn limit(mut self, limit: Option<Duration>) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it in another mount namespace (`/proc/<pid>/ns/mnt`).
    pub fn namespace(mut self, namespace: Option<&Path>) -> Self {
        self.namespace = namespace.map(Path::to_owned);
        self
    }

    /// For a program that leaves damage when it is cut off, such as `resize2fs`: it goes on when the call
    /// ends and when this process dies. `lock` is an open file with a lock (`flock`), which the program holds
    /// until it ends: who repeats the call, or is the next life of this process, waits for that lock first.
    pub fn outlives(mut self, lock: &Arc<File>) -> Self {
        self.lock = Some(Arc::clone(lock));
        self
    }

    /// Runs the program to its end.
    ///
    /// It gets no standard input unless [`Self::stdin`] gives it one, the `C` locale and a process group of
    /// its own. When the call is cancelled or its deadline passes, the group is ended by SIGTERM and, two
    /// seconds later, SIGKILL. When this process dies, the kernel kills the program. [`Self::outlives`] makes
    /// both otherwise.
    pub fn run(&self, context: &Context) -> Result<Output, CommandError> {
        let started = Instant::now();
        if let (Some(_), Err(reason)) = (&self.lock, context.check()) {
            return Err(CommandError::Ended { command: self.line(), reason, stuck: false });
        }
        let mut running = self.start()?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = running.wait(&mut out, &mut err, || {
            context.check()?;
            match self.limit {
                Some(limit) if started.elapsed() >= limit => Err(DriverError::deadline_exceeded(format!(
                    "it took longer than the {} s a command may take",
                    limit.as_secs_f32()
                ))),
                _ => Ok(()),
            }
        });
        let status = match status {
            Ok(Ok(status)) => status,
            Ok(Err(reason)) if self.lock.is_some() => {
                running.leave();
                return Err(CommandError::GoesOn { command: self.line(), reason });
            }
            Ok(Err(reason)) => {
                let stuck = running.end();
                return Err(CommandError::Ended { command: self.line(), reason, stuck });
            }
            Err(source) => {
                if self.lock.is_some() {
                    running.leave();
                } else {
                    running.end();
                }
                return Err(CommandError::Lost { program: self.name(), source });
            }
        };
        tracing::debug!(command = self.line(), %status, elapsed = ?started.elapsed(), "ran");
        match status.code() {
            Some(code) if self.accepted.contains(&code) => Ok(Output { code, stdout: out, stderr: err }),
            _ => Err(CommandError::Failed { command: self.line(), status, stderr: quote(&err) }),
        }
    }

    fn start(&self) -> Result<RunningProgram, CommandError> {
        let start = |source| CommandError::Start { program: self.name(), source };
        let namespace = self.namespace.as_ref().map(File::open).transpose().map_err(start)?;
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env("LC_ALL", "C").env("PATH", search_path());
        for (name, value) in &self.environment {
            command.env(name, OsStr::from_bytes(&value.0));
        }
        let stdin = match &self.stdin {
            Some(bytes) => in_memory(&bytes.0).map_err(start)?.into(),
            None => Stdio::null(),
        };
        command.stdin(stdin);
        let lock = self.lock.clone();
        let mut files = None;
        if lock.is_some() {
            // A pipe breaks when this process dies, and a program that writes into it then is killed.
            let (out, err) = (in_memory(b"").map_err(start)?, in_memory(b"").map_err(start)?);
            command.stdout(out.try_clone().map_err(start)?).stderr(err.try_clone().map_err(start)?);
            files = Some([out, err]);
        } else {
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        }
        let parent = rustix::process::getpid();
        // SAFETY: between fork and exec only system calls are made; nothing is allocated or locked.
        unsafe {
            command.pre_exec(move || prepare(parent, namespace.as_ref(), lock.as_deref()));
        }
        let child = command.spawn().map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                CommandError::NotInstalled { program: self.name(), package: self.package }
            } else {
                start(source)
            }
        })?;
        RunningProgram::new(child, files)
            .map_err(|source| CommandError::Lost { program: self.name(), source })
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn line(&self) -> String {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

/// A file that is nowhere: the program reads or writes it at its own pace, and nobody waits for it.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("memory", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(PATH);
    path
}

/// In the child, before the program.
fn prepare(parent: Pid, namespace: Option<&File>, lock: Option<&File>) -> io::Result<()> {
    if let Some(lock) = lock {
        rustix::process::setsid()?;
        // The program keeps it open, and so locked.
        rustix::io::fcntl_setfd(lock, rustix::io::FdFlags::empty())?;
    } else {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent died before the kernel was told to care.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    if let Some(namespace) = namespace {
        let kind = rustix::thread::LinkNameSpaceType::Mount;
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(kind))?;
    }
    Ok(())
}

struct RunningProgram {
    child: Child,
    group: Pid,
    pidfd: rustix::fd::OwnedFd,
    /// What it writes, if not into pipes.
    files: Option<[File; 2]>,
}

impl RunningProgram {
    fn new(mut child: Child, files: Option<[File; 2]>) -> io::Result<Self> {
        let opened = i32::try_from(child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
            .and_then(|pid| Ok((pid, rustix::process::pidfd_open(pid, PidfdFlags::empty())?)));
        match opened {
            Ok((group, pidfd)) => Ok(Self { child, group, pidfd, files }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Collects the output until the program has ended. The outer error is the system's, the inner one that
    /// of `go_on`. Output that a background process of its own still holds open is not waited for.
    fn wait(
        &mut self,
        out: &mut Vec<u8>,
        err: &mut Vec<u8>,
        go_on: impl Fn() -> crate::Result<()>,
    ) -> io::Result<crate::Result<ExitStatus>> {
        let (mut stdout, mut stderr) = (self.child.stdout.take(), self.child.stderr.take());
        for fd in [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true)?;
        }
        loop {
            if let Err(reason) = go_on() {
                return Ok(Err(reason));
            }
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.extend(stdout.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            fds.extend(stderr.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
            let tick = Timespec { tv_sec: 0, tv_nsec: i64::from(CHECK_EVERY.subsec_nanos()) };
            match poll(&mut fds, Some(&tick)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            // Asked before the pipes are drained, so that nothing written before the end is missed.
            let ended = self.child.try_wait()?;
            drain(&mut stdout, out)?;
            drain(&mut stderr, err)?;
            if let Some(status) = ended {
                for (file, into) in self.files.iter_mut().flatten().zip([&mut *out, &mut *err]) {
                    file.rewind()?;
                    file.take(OUTPUT_LIMIT as u64).read_to_end(into)?;
                }
                return Ok(Ok(status));
            }
        }
    }

    /// Lets it go on. A thread waits for it, so that the kernel can forget it when it has ended.
    fn leave(mut self) {
        let waits = std::thread::Builder::new().name("goes-on".to_owned()).spawn(move || self.child.wait());
        if let Err(error) = waits {
            tracing::debug!(%error, "a program that goes on stays in the process table when it has ended");
        }
    }

    /// Ends the whole group; answers whether it is stuck.
    fn end(&mut self) -> bool {
        let _ = rustix::process::kill_process_group(self.group, Signal::TERM);
        if !self.gone_within(GRACE) {
            let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        }
        let gone = self.gone_within(REAP);
        // What the program itself started and left running.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        !gone
    }

    fn gone_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn drain<P: Read>(pipe: &mut Option<P>, into: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    while let Some(open) = pipe {
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(count) => {
                let taken = OUTPUT_LIMIT.saturating_sub(into.len()).min(count);
                into.extend(buffer.iter().take(taken));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The end of a program's standard error, on one line.
fn quote(stderr: &[u8]) -> String {
    let from = stderr.len().saturating_sub(QUOTED);
    let text = String::from_utf8_lossy(stderr.get(from..).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() { "it wrote no message".to_owned() } else { lines.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("sh").arg("-c").arg(script)
    }

    #[test]
    fn captures_what_is_written() {
        let output = shell("echo out; echo err >&2; exit 3").accept(3).run(&Context::default()).unwrap();
        assert_eq!(
            (output.code, output.text().as_str(), output.stderr.as_slice()),
            (3, "out\n", &b"err\n"[..])
        );
        let large = shell("head -c 300000 /dev/zero").run(&Context::default()).unwrap();
        assert_eq!(large.stdout.len(), 300_000);
    }

    #[test]
    fn secrets_reach_the_program_and_no_message() {
        // More than a pipe holds, of which the program reads a line.
        let input = [b"hunter2\n".as_slice(), &[b'x'; 200_000]].concat();
        let command = shell("read -r line; echo $line $PASSWD; exit 3").stdin(input).env("PASSWD", "hunter3");
        assert!(!format!("{command:?}").contains("hunter"), "{command:?}");
        let error = command.clone().run(&Context::default()).unwrap_err().to_string();
        assert!(!error.contains("hunter"), "{error}");
        let output = command.accept(3).run(&Context::default()).unwrap();
        assert_eq!(output.text(), "hunter2 hunter3\n");
    }

    #[test]
    fn a_failure_quotes_the_program() {
        let error = shell("echo 'no such device' >&2; exit 1").run(&Context::default()).unwrap_err();
        assert!(matches!(error, CommandError::Failed { .. }));
        assert!(error.to_string().contains("no such device"), "{error}");
    }

    #[test]
    fn a_missing_program_names_its_package() {
        let error =
            Command::new("mkfs.nothing").package("nothing-progs").run(&Context::default()).unwrap_err();
        let error = DriverError::from(error);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(!error.retryable && error.hint.unwrap().contains("nothing-progs"));
    }

    #[test]
    fn a_deadline_ends_the_whole_group() {
        let marker = format!("6{:07}", std::process::id());
        let context = Context::new("1").with_deadline(Some(Instant::now() + Duration::from_millis(100)));
        let started = Instant::now();
        let error = shell(&format!("sleep {marker} & sleep {marker}")).run(&context).unwrap_err();
        let patience = Duration::from_secs(60);
        assert!(started.elapsed() < patience);
        assert_eq!(DriverError::from(error).kind, ErrorKind::DeadlineExceeded);
        // A process that was killed is gone a moment later.
        let is_left = || {
            std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                line.starts_with(format!("sleep\0{marker}").as_bytes())
            })
        };
        while is_left() {
            assert!(started.elapsed() < patience, "a process of the group lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn cancelling_ends_it_and_a_limit_of_its_own_too() {
        let context = Context::new("1");
        let flag = context.cancel_flag().clone();
        let cancel = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            flag.cancel();
        });
        let error = DriverError::from(shell("sleep 60").run(&context).unwrap_err());
        assert_eq!(error.kind, ErrorKind::Cancelled);
        cancel.join().unwrap();
        let limited = shell("sleep 60").limit(Some(Duration::from_millis(50)));
        let error = DriverError::from(limited.run(&Context::default()).unwrap_err());
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
        assert!(error.message.contains("sleep 60"), "{error}");
    }

    #[test]
    fn a_background_child_does_not_hold_up_the_answer() {
        let started = Instant::now();
        let output = shell("echo done; sleep 30 &").run(&Context::default()).unwrap();
        assert_eq!(output.text(), "done\n");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}
