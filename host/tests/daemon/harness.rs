//! A daemon of its own for each test, ended with the test.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A daemon and its directories.
pub(crate) struct Daemon {
    pub(crate) dir: tempfile::TempDir,
    child: Option<Child>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Daemon {
    /// A daemon with the vfs driver, its volumes under `volumes()`.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same with further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let mut daemon = Self::prepare(arguments);
        daemon.launch();
        daemon
    }

    /// The directories, and no daemon yet.
    pub(crate) fn prepare(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vfs = format!("vfs.path={}", dir.path().join("volumes").display());
        let mut all: Vec<String> = vec!["--driver-opts".to_owned(), vfs];
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        Self { dir, child: None, arguments: all, environment: Vec::new() }
    }

    /// Without the option that says where volumes are.
    pub(crate) fn bare(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { dir: tempfile::tempdir().unwrap(), child: None, arguments, environment: Vec::new() }
    }

    /// More arguments for the next start.
    pub(crate) fn add_arguments(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// Variables for the next start, and for commands.
    pub(crate) fn add_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment.extend(variables.iter().map(owned));
    }

    /// Sends the daemon a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Where the daemon keeps its mount ledger.
    pub(crate) fn ledger(&self) -> PathBuf {
        let Ok(root) = std::fs::metadata(self.root()) else { return self.root().join("mounts") };
        let run = Path::new(convoy_volumes::RUN).join(format!("{:x}-{:x}", root.dev(), root.ino()));
        if run.is_dir() { run } else { self.root().join("mounts") }
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.dir.path().join("volumes")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("convoy.sock")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
        command.arg("--socket").arg(self.socket()).env_clear().stdin(Stdio::null());
        // Not what this machine's own convoy is set to.
        command.env("CONVOY_CONFIG", "/dev/null");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn daemon_command(&self) -> Command {
        let mut command = self.command();
        command.args(["daemon", "--debug"]).arg("--root").arg(self.root()).args(&self.arguments);
        command
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn launch(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.daemon_command();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        self.child = Some(child);
        let give_up = Instant::now() + Duration::from_secs(20);
        while self.try_call("GET", "/v1/info", "", &[]).is_err() {
            if let Some(ended) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended: {ended}\n{}", std::fs::read_to_string(self.log()).unwrap());
            }
            assert!(Instant::now() < give_up, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts a daemon that is expected to end by itself.
    pub(crate) fn refused(&self) -> Output {
        let mut child = self.daemon_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let give_up = Instant::now() + Duration::from_secs(10);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > give_up {
                child.kill().unwrap();
                panic!("this daemon was expected to refuse to start: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.wait_with_output().unwrap()
    }

    /// Kills the daemon with `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(&mut self) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap()
    }

    /// A command line, with its standard output.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().unwrap()
    }

    /// A call of the API.
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.try_call(method, path, body, &[]).unwrap()
    }

    /// A call of Docker's API: the body of the answer.
    pub(crate) fn docker(&self, call: &str, body: &str) -> String {
        let answer = self.call("POST", &format!("/VolumeDriver.{call}"), body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Answer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        // A daemon that has heard enough answers and hangs up: the answer is there to be read all the same.
        let written = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let read = stream.read_to_end(&mut bytes);
        if bytes.is_empty() {
            written?;
            read?;
        }
        parse(&bytes).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(self.ledger());
        // A directory that others can enter is mounted on itself, and stays so.
        let _ = rustix::mount::unmount(self.volumes(), rustix::mount::UnmountFlags::DETACH);
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8(bytes.to_vec()).ok()?;
    let (headers, body) = text.split_once("\r\n\r\n")?;
    let status = headers.split(' ').nth(1)?.parse().ok()?;
    let length = headers.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    if let Some(length) = length {
        // What a killed daemon did not finish is no answer.
        (length.parse() == Ok(body.len())).then_some(())?;
    }
    let body = if length.is_none() { unchunked(body)? } else { body.to_owned() };
    Some(Answer { status, headers: headers.to_owned(), body })
}

fn unchunked(mut body: &str) -> Option<String> {
    let mut whole = String::new();
    while !body.is_empty() {
        let (length, rest) = body.split_once("\r\n")?;
        let length = usize::from_str_radix(length, 16).ok()?;
        whole.push_str(rest.get(..length)?);
        body = rest.get(length + 2..)?;
        if length == 0 {
            break;
        }
    }
    Some(whole)
}

/// Writes a file that nobody but its owner can read, as keys and credentials have to be.
pub(crate) fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    let mut file =
        std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_ref()).unwrap();
}

/// The files in a directory, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
