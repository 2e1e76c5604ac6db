//! A Docker engine of our own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};

use crate::child::Child;
use crate::error::{Context, Error, Result};
use crate::http::Client;
use crate::lab::{Lab, Origin};
use crate::run::{self, Output};
use crate::{leaks, patience, turns};

/// The image every container is made from.
pub const IMAGE: &str = "convoy-busybox";

/// What a container runs that counts up in a file of its volume, ten times a second. The file is never empty.
pub const COUNT: &str = "i=0; while true; do i=$((i+1)); echo $i > /data/next; \
    mv /data/next /data/count; sleep 0.1; done";

/// How long the engine may take until it answers. It asks plugins for known volumes first.
const START: Duration = Duration::from_secs(60);

/// What a Swarm answers to a change that starts from an old version of the object.
const OUT_OF_SEQUENCE: &str = "update out of sequence";

/// How long others may change an object of a Swarm before a change of ours fails.
const SEQUENCE: Duration = Duration::from_secs(30);

/// What the containers of the tests use; each is a link to busybox.
const APPLETS: [&str; 20] = [
    "cat",
    "chmod",
    "cp",
    "date",
    "dd",
    "echo",
    "false",
    "id",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "sync",
    "touch",
    "true",
    "wc",
];

/// A running engine with its own directories, and its own name for our plugin.
/// Dropping it removes its containers and ends it.
#[derive(Debug)]
pub struct Engine {
    directory: PathBuf,
    plugin: String,
    spec: PathBuf,
    live_restore: bool,
    swarm: bool,
    origin: Origin,
    child: Option<Child>,
}

impl Engine {
    /// Starts an engine that knows the plugin at a socket.
    ///
    /// # Errors
    /// When the engine is not installed or does not answer.
    pub fn start(lab: &Lab, plugin_socket: &Path) -> Result<Self> {
        Self::start_as(lab, plugin_socket, &own_name(lab), false)
    }

    /// Starts an engine that is the one node of a Swarm, in a network of its own: a Swarm listens on fixed
    /// ports.
    ///
    /// # Errors
    /// When the engine is not installed or does not answer.
    pub fn start_swarm(lab: &Lab, plugin_socket: &Path) -> Result<Self> {
        let engine = Self::prepare(lab, plugin_socket, &own_name(lab), false, true)?;
        engine.ok(&["swarm", "init", "--advertise-addr", "127.0.0.1"])?;
        Ok(engine)
    }

    /// Starts an engine whose containers live on when it stops.
    ///
    /// # Errors
    /// When the engine is not installed or does not answer.
    pub fn start_with_live_restore(lab: &Lab, plugin_socket: &Path) -> Result<Self> {
        Self::start_as(lab, plugin_socket, &own_name(lab), true)
    }

    /// Starts an engine that knows the plugin at a socket by a name no other plugin of this machine has.
    ///
    /// # Errors
    /// When the engine is not installed or does not answer.
    pub fn start_as(lab: &Lab, plugin_socket: &Path, plugin: &str, live_restore: bool) -> Result<Self> {
        Self::prepare(lab, plugin_socket, plugin, live_restore, false)
    }

    fn prepare(
        lab: &Lab,
        plugin_socket: &Path,
        plugin: &str,
        live_restore: bool,
        swarm: bool,
    ) -> Result<Self> {
        turns::take()?;
        let directory = lab.make(&format!("docker{}", lab.number()))?;
        fs::create_dir_all(leaks::PLUGINS).during(|| format!("cannot make {}", leaks::PLUGINS))?;
        let spec = Path::new(leaks::PLUGINS).join(format!("{plugin}.spec"));
        fs::write(&spec, format!("unix://{}", plugin_socket.display()))
            .during(|| format!("cannot write {}", spec.display()))?;
        let mut engine = Self {
            directory,
            plugin: plugin.to_owned(),
            spec,
            live_restore,
            swarm,
            origin: lab.origin(),
            child: None,
        };
        engine.start_again()?;
        engine.import(lab)?;
        Ok(engine)
    }

    /// The name our plugin has in this engine.
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// Starts the engine after [`Self::stop`], and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn start_again(&mut self) -> Result<()> {
        self.launch()?;
        self.wait_until_it_answers()
    }

    /// Starts the engine without waiting for it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> Result<()> {
        let mut command = if self.swarm {
            let mut command = Command::new("unshare");
            let within = "ip link set lo up && exec dockerd \"$@\"";
            command.args(["--net", "--", "sh", "-c", within, "dockerd"]);
            command
        } else {
            Command::new("dockerd")
        };
        command
            .arg("--data-root")
            .arg(self.directory.join("data"))
            .arg("--exec-root")
            .arg(self.directory.join("exec"))
            .arg("-p")
            .arg(self.directory.join("pid"))
            .arg("-H")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(self.live_restore.then_some("--live-restore"));
        self.origin.mark(&mut command);
        let log = self.directory.with_extension("log");
        self.child = Some(Child::start(&mut command, &log)?);
        Ok(())
    }

    /// Waits until the engine answers.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub fn wait_until_it_answers(&mut self) -> Result<()> {
        let socket = self.socket();
        let Some(child) = self.child.as_mut() else {
            return Err(Error::Unexpected("the engine was not started".to_owned()));
        };
        patience::until("an answer of the Docker engine", START, || {
            if let Some(status) = child.ended()? {
                let log = fs::read_to_string(child.log()).unwrap_or_default();
                return Err(Error::Unexpected(format!("dockerd did not start: {status}\n{log}")));
            }
            Ok(Client::connect(&socket).and_then(|mut client| client.ask("GET", "/_ping", "")).is_ok())
        })
    }

    /// Stops the engine; with live restore its containers go on.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&mut self) -> Result<()> {
        match self.child.take() {
            Some(mut child) => child.stop().map(|_| ()),
            None => Ok(()),
        }
    }

    /// Kills the engine without warning.
    ///
    /// # Errors
    /// When it is already gone.
    pub fn kill(&mut self) -> Result<()> {
        let mut child =
            self.child.take().ok_or_else(|| Error::Unexpected("the engine does not run".to_owned()))?;
        child.kill()?;
        // Its containerd dies with it. Where nobody collects the dead, the next engine would take it for
        // alive.
        let containerd = self.directory.join("exec/containerd");
        let alive = || {
            let pid = fs::read_to_string(containerd.join("containerd.pid")).unwrap_or_default();
            fs::read(format!("/proc/{}/cmdline", pid.trim())).is_ok_and(|line| !line.is_empty())
        };
        patience::until("the end of containerd", START, || Ok(!alive()))?;
        for file in ["containerd.pid", "containerd.sock", "containerd.sock.ttrpc"] {
            let _ = fs::remove_file(containerd.join(file));
        }
        Ok(())
    }

    /// The command line of Docker's client for this engine.
    pub fn client(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        self.environment(&mut command);
        command.args(words);
        command
    }

    /// The command line of Docker Compose for a project on this engine; its files take the image from
    /// `$IMAGE` and our plugin from `$VOLUME_DRIVER`.
    pub fn compose(&self, project: &str, file: &Path, words: &[&str]) -> Command {
        let mut command = Command::new("docker-compose");
        command.args(["-p", project, "-f"]).arg(file).args(words);
        self.environment(&mut command);
        command
    }

    /// Says to a client where the engine is, and to a file with services what is ours.
    fn environment(&self, command: &mut Command) {
        command
            .env("DOCKER_HOST", format!("unix://{}", self.socket().display()))
            .env("DOCKER_CONFIG", &self.directory)
            .env("IMAGE", IMAGE)
            .env("VOLUME_DRIVER", &self.plugin)
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY");
    }

    /// Runs Docker's client.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        run::capture(&mut self.client(words))
    }

    /// Runs Docker's client, which must succeed, and gives what it printed.
    ///
    /// Docker's client reads an object of a Swarm and sends it back changed. When somebody else changed it in
    /// between, the Swarm refuses with [`OUT_OF_SEQUENCE`] and means "read it again": so this runs it again.
    ///
    /// # Errors
    /// When it fails, or meets changes of others for longer than [`SEQUENCE`].
    pub fn ok(&self, words: &[&str]) -> Result<String> {
        let mut output = self.run(words)?;
        patience::until("an object of the Swarm that nobody else changes", SEQUENCE, || {
            let retry = !output.success() && output.stderr.contains(OUT_OF_SEQUENCE);
            if retry {
                output = self.run(words)?;
            }
            Ok(!retry)
        })?;
        output.ok()
    }

    /// The words of `docker run` up to the image's, for a container with a volume of our plugin at `/data`.
    pub fn words<'a>(&'a self, flags: &[&'a str], mount: &'a str, shell: &'a str) -> Vec<&'a str> {
        let mut words = vec!["run", "--network", "none", "--volume-driver", &self.plugin, "-v", mount];
        words.extend(flags);
        words.extend([IMAGE, "/bin/sh", "-c", shell]);
        words
    }

    /// Runs a container to its end with a volume at `/data`, and gives what it printed.
    ///
    /// # Errors
    /// When it fails.
    pub fn shell(&self, volume: &str, shell: &str) -> Result<String> {
        let mount = format!("{volume}:/data");
        self.ok(&self.words(&["--rm"], &mount, shell))
    }

    /// Starts a container in the background with a volume at `/data`, and gives its id.
    ///
    /// # Errors
    /// When it does not start.
    pub fn background(&self, name: &str, volume: &str, shell: &str) -> Result<String> {
        let mount = format!("{volume}:/data");
        self.ok(&self.words(&["-d", "--name", name], &mount, shell))
    }

    /// Runs a command line in a running container.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, container: &str, shell: &str) -> Result<String> {
        self.ok(&["exec", container, "/bin/sh", "-c", shell])
    }

    /// The names of the volumes of our plugin, sorted. Docker asks every plugin that has a spec on this
    /// machine, those of other tests, too.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn volumes(&self) -> Result<Vec<String>> {
        let ours = format!("driver={}", self.plugin);
        let names = self.ok(&["volume", "ls", "-q", "--filter", &ours])?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Removes every container.
    ///
    /// # Errors
    /// When the engine refuses.
    pub fn remove_containers(&self) -> Result<()> {
        let ids = self.ok(&["ps", "-aq"])?;
        let ids: Vec<_> = ids.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.ok(&[&["rm", "-f"], ids.as_slice()].concat()).map(|_| ())
    }

    fn import(&self, lab: &Lab) -> Result<()> {
        self.ok(&["import", &image(lab)?.to_string_lossy(), IMAGE]).map(|_| ())
    }
}

/// Makes the files of the image, for `docker import`: busybox alone, linked statically, no registry needed.
///
/// # Errors
/// When there is no busybox.
pub fn image(lab: &Lab) -> Result<PathBuf> {
    let busybox = busybox()?;
    let root = lab.make(&format!("image{}", lab.number()))?;
    let bin = root.join("bin");
    fs::create_dir_all(&bin).during(|| "cannot make the image".to_owned())?;
    fs::copy(&busybox, bin.join("busybox")).during(|| format!("cannot copy {}", busybox.display()))?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).during(|| "cannot make the image".to_owned())?;
    }
    let archive = lab.path("image.tar");
    run::capture(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?.ok()?;
    Ok(archive)
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Containers of an engine that stops keep their volumes mounted, and with live restore they go on:
        // remove them while an engine is there to do it.
        if self.child.is_some() || (self.live_restore && self.start_again().is_ok()) {
            if self.swarm {
                // Or it would start again what is removed.
                let _ = self.run(&["swarm", "leave", "--force"]);
            }
            let _ = self.remove_containers();
        }
        let _ = self.stop();
        // With live restore the engine leaves its own data directory mounted.
        for mount in leaks::mounts(&self.directory).unwrap_or_default().iter().rev() {
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
        let _ = fs::remove_file(&self.spec);
    }
}

/// A name for the plugin. Docker looks for plugins in fixed places only: a name of their own keeps tests
/// apart.
fn own_name(lab: &Lab) -> String {
    format!("convoy-{}-{}", std::process::id(), lab.number())
}

/// The statically linked busybox of the system.
fn busybox() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    let found = places.iter().map(PathBuf::from).find(|path| path.is_file());
    found.ok_or_else(|| {
        Error::Unexpected("no busybox: install busybox-static (`cargo xtask install-deps` does)".to_owned())
    })
}
