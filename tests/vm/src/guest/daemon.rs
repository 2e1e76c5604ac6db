//! The real daemon, as a rule with this driver, told what to do by the real command line.

use super::check::{Failure, Step};
use super::lab::sh;
use crate::ensure;
use convoy_tests::patience;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the daemon may take to answer: its program is large, and everything is slow here.
const START_LIMIT: Duration = Duration::from_secs(90);
const END_LIMIT: Duration = Duration::from_secs(60);

/// A running daemon; killed when it is dropped.
pub(super) struct Daemon {
    child: Child,
    dir: PathBuf,
}

/// The program beside this one.
pub(super) fn convoy() -> Step<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("convoy");
    ensure!(program.exists(), "{} is missing: cargo build -p convoy", program.display());
    Ok(program)
}

impl Daemon {
    /// Starts it with this driver; see [`Self::launch`].
    pub(super) fn start(dir: &str, options: &[(&str, &str)], flags: &[&str]) -> Step<Self> {
        let options: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let options = options.iter().flat_map(|option| ["--driver-opts", option]);
        let flags = ["--drivers", "devicemapper"].into_iter().chain(flags.iter().copied());
        Self::launch(dir, &flags.chain(options).collect::<Vec<_>>())
    }

    /// Starts it with its root, socket and log below a directory, and waits until it answers.
    pub(super) fn launch(dir: &str, flags: &[&str]) -> Step<Self> {
        let dir = PathBuf::from(dir);
        std::fs::create_dir_all(&dir)?;
        let mut command = Command::new(convoy()?);
        command.arg("--socket").arg(dir.join("socket")).arg("daemon");
        command.arg("--root").arg(dir.join("root")).args(flags);
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut daemon = Self { child: command.spawn()?, dir };
        let answers = patience::wait("an answer of the daemon", START_LIMIT, || {
            ensure!(daemon.child.try_wait()?.is_none(), "the daemon ended");
            Ok(daemon.output(&["info"])?.status.success())
        });
        answers.map_err(|failure| failure.with(&daemon.log()))?;
        Ok(daemon)
    }

    /// What it wrote.
    pub(super) fn log(&self) -> Step<String> {
        Ok(std::fs::read_to_string(self.dir.join("log"))?)
    }

    /// The root of the driver.
    pub(super) fn driver_root(&self) -> PathBuf {
        self.dir.join("root/devicemapper")
    }

    pub(super) fn command(&self, words: &[&str]) -> Step<Command> {
        let mut command = Command::new(convoy()?);
        command.arg("--socket").arg(self.dir.join("socket")).args(words).stdin(Stdio::null());
        Ok(command)
    }

    fn output(&self, words: &[&str]) -> Step<std::process::Output> {
        Ok(self.command(words)?.output()?)
    }

    /// A command that must succeed; what it printed.
    pub(super) fn run(&self, words: &[&str]) -> Step<String> {
        let output = self.output(words)?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let (out, err) = (said(&output.stdout), said(&output.stderr));
        ensure!(output.status.success(), "convoy {}: {out} {err}", words.join(" "));
        Ok(out)
    }

    /// A command that must fail; what it said.
    pub(super) fn fails(&self, words: &[&str]) -> Step<String> {
        let output = self.output(words)?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success(), "convoy {} succeeded: {said}", words.join(" "));
        Ok(said)
    }

    /// Kills it, as a crash does.
    pub(super) fn kill(&mut self) -> Step {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it as a service manager does.
    pub(super) fn stop(mut self) -> Step {
        sh(&format!("kill {}", self.child.id()))?;
        let child = &mut self.child;
        let ended = patience::wait("the end of the daemon", END_LIMIT, || Ok(child.try_wait()?.is_some()));
        ended.map_err(|failure: Failure| failure.with(&self.log()))
    }

    /// Has it read its settings again.
    pub(super) fn reload(&self) -> Step {
        let read = || Ok::<_, Failure>(self.log()?.matches(" scheduled schedules=").count());
        let before = read()?;
        sh(&format!("kill -HUP {}", self.child.id()))?;
        patience::wait("new settings", END_LIMIT, || Ok(read()? != before))
            .map_err(|failure: Failure| failure.with(&self.log()))
    }

    /// The value of a key in the driver's part of `info`.
    pub(super) fn info(&self, key: &str) -> Step<String> {
        let info: serde_json::Value = serde_json::from_str(&self.run(&["info"])?)?;
        Ok(info["devicemapper"][key].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The SHA-256 of a device or file.
pub(super) fn sum(path: impl AsRef<Path>) -> Step<String> {
    let line = sh(&format!("sha256sum {}", path.as_ref().display()))?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}
