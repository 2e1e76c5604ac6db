//! An NFS server that does not answer any more: the volumes of another driver go on, before and after a
//! restart of the daemon, and so do its own when it comes back, without one.

use super::check::{Failure, Step};
use super::lab::sh;
use super::nfs::SETUP;
use crate::ensure;
use convoy_tests::patience;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const SOCKET: &str = "/run/hung.sock";
const LOG: &str = "/run/hung.log";
const STORE: &str = "vfs:///srv/a/backups";

/// How long something may take that does not wait for the server. Everything is slow here, and nothing takes
/// minutes.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a directory of backups may take to say whether it is there.
const LOOK: Duration = Duration::from_secs(30);

/// How long the kernel may take to find out that the server is back.
const REPAIR: Duration = Duration::from_secs(240);

/// Holds the mount of the share, which daemons come and go in.
const HOLDER: &str = "
    mount --make-rprivate / && mount -t nfs4 -o vers=4.2 10.9.1.1:/shared /srv/a && exec sleep 100000";

struct Machine {
    holder: Child,
    convoy: PathBuf,
    daemon: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The machine ends with the scenario. What hangs in the kernel is not waited for.
        for child in [&mut self.daemon, &mut self.holder] {
            let _ = child.kill();
        }
    }
}

fn launch(convoy: &PathBuf, holder: u32) -> Step<Child> {
    let log = std::fs::File::options().create(true).append(true).open(LOG)?;
    let daemon = Command::new("nsenter")
        .args(["-t", &holder.to_string(), "-m", "-n"])
        .arg(convoy)
        .args(["--socket", SOCKET, "daemon", "--root", "/run/root-hung", "--stop-timeout", "10s"])
        .args(["--drivers", "vfs", "--driver-opts", "vfs.path=/srv/a/volumes"])
        .args(["--drivers", "devicemapper"])
        .args(["--driver-opts", "dm.datadev=/dev/vdb", "--driver-opts", "dm.metadatadev=/dev/vdc"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(daemon)
}

impl Machine {
    fn start() -> Step<Self> {
        let convoy = super::daemon::convoy()?;
        let holder = Command::new("ip")
            .args(["netns", "exec", "a", "unshare", "--mount", "sh", "-ec", HOLDER])
            .stdin(Stdio::null())
            .spawn()?;
        let mounted = format!("nsenter -t {} -m mountpoint -q /srv/a && echo yes || true", holder.id());
        patience::wait("the mount of the share", PATIENCE, || Step::Ok(sh(&mounted)? == "yes"))?;
        let daemon = launch(&convoy, holder.id())?;
        let mut machine = Self { holder, convoy, daemon };
        machine.wait_until_it_answers()?;
        Ok(machine)
    }

    fn wait_until_it_answers(&mut self) -> Step {
        let answers = patience::wait("an answer of the daemon", PATIENCE, || {
            ensure!(self.daemon.try_wait()?.is_none(), "the daemon ended");
            Ok(docker("List", "{}").is_ok())
        });
        answers.map_err(|failure| failure.with(&log()))
    }

    /// Stops the daemon, of which something hangs, and starts another one.
    fn restart(&mut self) -> Step {
        let stopped = || Ok::<_, Failure>(log()?.matches("stopped").count());
        let before = stopped()?;
        sh(&format!("kill -TERM {}", self.daemon.id()))?;
        let ended =
            patience::wait("the end of the daemon after SIGTERM", PATIENCE, || Ok(stopped()? != before));
        ended.map_err(|failure: Failure| failure.with(&log()))?;
        // It may be held in the kernel until the server answers: that is nobody's business but the kernel's.
        // The next one has to get the root.
        let before = std::mem::replace(&mut self.daemon, launch(&self.convoy, self.holder.id())?);
        drop(before);
        self.wait_until_it_answers()
    }

    fn spawn(&self, words: &[&str]) -> Step<Child> {
        let mut command = Command::new(&self.convoy);
        command.args(["--socket", SOCKET]).args(words);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?)
    }

    /// Runs a command, which must not hang.
    fn run(&self, words: &[&str]) -> Step<Output> {
        let mut child = self.spawn(words)?;
        let ended =
            patience::wait(&format!("the end of {words:?}"), PATIENCE, || Ok(child.try_wait()?.is_some()));
        if let Err(failure) = ended {
            child.kill()?;
            return Err(Failure::with(failure, &log()));
        }
        Ok(child.wait_with_output()?)
    }

    fn ok(&self, words: &[&str]) -> Step<String> {
        let output = self.run(words)?;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{words:?}: {out}{error}\n{}", log()?);
        Ok(out.trim().to_owned())
    }

    /// A command that must fail and say so.
    fn refused(&self, words: &[&str], says: &[&str]) -> Step {
        let output = self.run(words)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let clear = says.iter().all(|said| error.contains(said));
        ensure!(!output.status.success() && clear, "{words:?} does not say {says:?}: {error}\n{}", log()?);
        Ok(())
    }

    /// What has nothing to do with the server.
    fn others_are_served(&self, number: u32) -> Step {
        let (name, snapshot) = (format!("new{number}"), format!("snap{number}"));
        let all = self.ok(&["list"])?;
        let listed = docker("List", "{}")?;
        for volume in ["on-nfs", "idle-nfs", "on-disk"] {
            ensure!(all.contains(&format!("\"{volume}\"")), "{volume} is not listed: {all}");
            ensure!(listed.contains(&format!("\"{volume}\"")), "{volume} is not listed for Docker: {listed}");
        }
        let got = docker("Get", r#"{"Name":"on-nfs"}"#)?;
        ensure!(got.contains("\"on-nfs\""), "{got}");
        let path = docker("Path", r#"{"Name":"on-nfs"}"#)?;
        ensure!(
            path.contains("/srv/a/volumes/on-nfs"),
            "its users have it, and Docker is not told where: {path}"
        );
        self.ok(&["mount", "on-disk"])?;
        self.ok(&["umount", "on-disk"])?;
        self.ok(&["create", &name, "--driver", "devicemapper", "--size", "32M"])?;
        self.ok(&["snapshot", "create", &name, "--name", &snapshot])?;
        self.ok(&["snapshot", "delete", &snapshot])?;
        self.ok(&["delete", &name])?;
        let mounted = docker("Mount", r#"{"Name":"on-disk","ID":"container"}"#)?;
        ensure!(mounted.contains("on-disk"), "{mounted}");
        docker("Unmount", r#"{"Name":"on-disk","ID":"container"}"#)?;
        self.ok(&["info"])?;
        Ok(())
    }

    fn mount_again(&self) -> Step {
        let begun = Instant::now();
        loop {
            let output = self.run(&["mount", "idle-nfs"])?;
            if output.status.success() {
                println!("mounted {:.0} s after the server was back", begun.elapsed().as_secs_f32());
                return Ok(());
            }
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(
                begun.elapsed() < REPAIR,
                "the server is back and its volumes are not: {error}\n{}",
                log()?
            );
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

fn log() -> Step<String> {
    Ok(std::fs::read_to_string(LOG)?)
}

/// Calls the plugin API as Docker does.
fn docker(call: &str, body: &str) -> Step<String> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /VolumeDriver.{call} HTTP/1.1\r\nHost: plugin\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    ensure!(answer.starts_with("HTTP/1.1 200"), "{call}: {answer}");
    ensure!(!body.contains("\"Err\":\"") || body.contains("\"Err\":\"\""), "{call}: {body}");
    Ok(body)
}

/// Cuts the host off from its server, or ends that. Nobody is told: packets are lost.
fn server(answers: bool) -> Step {
    sh(&format!("ip link set to-a {}", if answers { "up" } else { "down" })).map(drop)
}

pub(super) fn run() -> Step {
    sh(&format!("set -e\n{SETUP}"))?;
    let mut machine = Machine::start()?;
    machine.ok(&["create", "on-nfs"])?;
    machine.ok(&["create", "idle-nfs"])?;
    machine.ok(&["create", "on-disk", "--driver", "devicemapper", "--size", "64M"])?;
    machine.ok(&["mount", "on-nfs"])?;
    sh("echo kept > /export/shared/volumes/on-nfs/file && mkdir /export/shared/backups")?;
    machine.ok(&["snapshot", "create", "on-disk", "--name", "kept"])?;
    let backup = machine.ok(&["backup", "create", "kept", "--dest", STORE])?;
    machine.others_are_served(0)?;

    server(false)?;
    // The one that finds it out, and is left to wait.
    let mut first = machine.spawn(&["mount", "idle-nfs"])?;
    machine.others_are_served(1)?;
    println!("others are served beside a call that hangs");
    // It may have been told so by now, where the others took long.
    ensure!(
        first.try_wait()?.is_none_or(|ended| !ended.success()),
        "a mount succeeded although the server hangs"
    );
    // For some seconds the NFS client has in its cache what the driver looks at.
    let inspected = || machine.ok(&["inspect", "on-nfs"]);
    let stale = || Ok(inspected()?.contains("as last known"));
    patience::wait("what is last known of a volume", PATIENCE, stale)
        .map_err(|failure: Failure| failure.with(&inspected()))?;
    let noticed = || Ok(log()?.contains("a driver does not answer"));
    patience::wait("somebody who notices", PATIENCE, noticed)
        .map_err(|failure: Failure| failure.with(&log()))?;
    machine
        .refused(&["create", "another", "--driver", "vfs"], &["has not answered for", "without a restart"])?;
    machine.others_are_served(2)?;
    println!("the server is known to hang");

    machine.restart()?;
    println!("started without the server");
    machine.others_are_served(3)?;
    let says = ["driver vfs is not open yet", "has not answered for", "without a restart"];
    machine.refused(&["mount", "idle-nfs"], &says)?;
    machine.refused(&["delete", "idle-nfs"], &says)?;
    machine.refused(&["create", "idle-nfs", "--driver", "devicemapper", "--size", "32M"], &["exists"])?;
    let inspected = machine.ok(&["inspect", "idle-nfs"])?;
    ensure!(inspected.contains("has not answered for"), "{inspected}");
    machine.others_are_served(4)?;

    // Backups that are there. The first who asks finds it out; nobody else keeps a thread.
    let list = ["backup", "list", STORE];
    let says = ["/srv/a/backups has not answered for", "without a restart"];
    machine.refused(&list, &says)?;
    let begun = Instant::now();
    for _ in 0..3 {
        machine.refused(&list, &says)?;
    }
    let elapsed = begun.elapsed();
    ensure!(elapsed < LOOK, "three who asked later waited {elapsed:?}");

    let daemon = machine.daemon.id();
    server(true)?;
    machine.mount_again()?;
    ensure!(machine.daemon.try_wait()?.is_none() && machine.daemon.id() == daemon, "it was restarted");
    machine.refused(&["delete", "on-nfs"], &["still mounted"])?;
    let well = || Ok(!machine.ok(&["inspect", "on-nfs"])?.contains("\"Error\""));
    patience::wait("a volume that is as it was", PATIENCE, well)
        .map_err(|failure: Failure| failure.with(&log()))?;
    let file = format!("nsenter -t {} -m cat /srv/a/volumes/on-nfs/file", machine.holder.id());
    ensure!(sh(&file)? == "kept", "the data is another");
    let listed = || Ok(machine.run(&list)?.status.success());
    patience::wait("backups that are there again", REPAIR, listed)
        .map_err(|failure: Failure| failure.with(&log()))?;
    ensure!(machine.ok(&list)?.contains(&backup), "{backup} is not listed");
    for volume in ["on-nfs", "idle-nfs"] {
        machine.ok(&["umount", volume])?;
        machine.ok(&["delete", volume])?;
    }
    machine.others_gone()
}

impl Machine {
    fn others_gone(&self) -> Step {
        self.ok(&["delete", "on-disk"])?;
        let left = self.ok(&["list"])?;
        ensure!(left == "{}", "left: {left}");
        Ok(())
    }
}
