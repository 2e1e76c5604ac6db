//! The vfs driver on NFS 4.2: an export of this machine, and two hosts that share it. Each host has a
//! network, a name, an NFS client and a daemon of its own.

use super::check::{Failure, Step};
use super::lab::sh;
use crate::{ensure, ensure_eq};
use convoy_tests::patience;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Servers and hosts. The second export makes root a nobody, as exports do unless told otherwise. The root of
/// the machine itself, a memory overlay, cannot be exported: the exports have a root of their own.
pub(super) const SETUP: &str = "
    modprobe nfsd; modprobe nfs; modprobe veth
    mkfs.ext4 -q -O ^has_journal /dev/vda && mkdir -p /export && mount /dev/vda /export
    mkdir /export/shared /export/squashed && mount -t tmpfs squashed /export/squashed && chmod 755 /export/squashed
    mount -t tmpfs nfs /var/lib/nfs && mkdir /var/lib/nfs/v4recovery && touch /var/lib/nfs/etab /var/lib/nfs/rmtab
    mount -t nfsd nfsd /proc/fs/nfsd
    echo 10 > /proc/fs/nfsd/nfsv4gracetime; echo 10 > /proc/fs/nfsd/nfsv4leasetime
    echo '/export *(rw,sync,fsid=0,no_subtree_check,no_root_squash,insecure)' > /etc/exports
    echo '/export/squashed *(rw,sync,fsid=1,no_subtree_check,root_squash,insecure)' >> /etc/exports
    exportfs -ra && rpc.mountd -N 2 -N 3 --no-udp && rpc.nfsd -N 3 4
    for host in a b; do
        n=$([ $host = a ] && echo 1 || echo 2)
        ip netns add $host && ip link add to-$host type veth peer name eth0 netns $host
        ip addr add 10.9.$n.1/24 dev to-$host && ip link set to-$host up
        ip netns exec $host ip link set lo up && ip netns exec $host ip link set eth0 up
        ip netns exec $host ip addr add 10.9.$n.2/24 dev eth0
        mkdir -p /srv/$host
    done";

/// What a host is: its name, its network, its own mount of the share, and then a program.
const HOST: &str = "
    mount --make-rprivate / && hostname host-$1
    mount -t nfs4 -o vers=4.2 10.9.$2.1:/$3 /srv/$1 && shift 3 && exec \"$@\"";

/// How long something may take that happens by itself: every few seconds hosts look for what others did.
const PATIENCE: Duration = Duration::from_secs(90);

struct Host {
    name: &'static str,
    convoy: PathBuf,
    daemon: Child,
}

impl Drop for Host {
    fn drop(&mut self) {
        // The machine ends with the scenario: this is for the daemons that a scenario replaces.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// A daemon on a host of its own, which may not start.
fn spawn(name: &'static str, export: &str) -> Step<Host> {
    let convoy = super::daemon::convoy()?;
    let number = if name == "a" { "1" } else { "2" };
    let daemon = Command::new("ip")
        .args(["netns", "exec", name, "unshare", "--uts", "--mount", "sh", "-ec", HOST, "host", name, number])
        .arg(export)
        .arg(&convoy)
        .args([
            "--socket",
            &format!("/run/{name}.sock"),
            "daemon",
            "--root",
            &format!("/run/root-{name}-{export}"),
        ])
        .args(["--drivers", "vfs", "--driver-opts", &format!("vfs.path=/srv/{name}/volumes")])
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(format!("/run/{name}.log"))?)
        .stderr(std::fs::File::options().append(true).open(format!("/run/{name}.log"))?)
        .spawn()?;
    Ok(Host { name, convoy, daemon })
}

impl Host {
    fn start(name: &'static str, export: &str) -> Step<Self> {
        let mut host = spawn(name, export)?;
        let answers = patience::wait(&format!("an answer of host {name}"), PATIENCE, || {
            ensure!(host.daemon.try_wait()?.is_none(), "host {name} ended");
            Ok(host.run(&["info"])?.status.success())
        });
        answers.map_err(|failure| failure.with(&host.log()))?;
        Ok(host)
    }

    fn log(&self) -> Step<String> {
        Ok(std::fs::read_to_string(format!("/run/{}.log", self.name))?)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.convoy);
        command.args(["--socket", &format!("/run/{}.sock", self.name)]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, args: &[&str]) -> Step<Output> {
        Ok(self.command(args).output()?)
    }

    /// A command that must succeed.
    fn ok(&self, args: &[&str]) -> Step<String> {
        let output = self.run(args)?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "host {}: {args:?}: {text}{error}\n{}", self.name, self.log()?);
        Ok(text)
    }

    /// A command that must fail, with these words.
    fn refused(&self, args: &[&str], words: &str) -> Step {
        let output = self.run(args)?;
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && error.contains(words), "host {}: {args:?}: {error}", self.name);
        Ok(())
    }

    /// Asks again until the answer is as wanted.
    fn until(&self, args: &[&str], what: &str, wanted: impl Fn(&str) -> bool) -> Step {
        patience::wait(&format!("{what} at host {}", self.name), PATIENCE, || Ok(wanted(&self.ok(args)?)))
            .map_err(|failure: Failure| failure.with(&self.ok(args)))
    }

    /// A shell where the host's files are.
    fn sh(&self, script: &str) -> Step<String> {
        let inside = format!("nsenter -t {} -m sh -ec '{script}'", self.daemon.id());
        sh(&inside)
    }

    fn signal(&self, signal: &str) -> Step {
        sh(&format!("kill -{signal} {}", self.daemon.id())).map(drop)
    }
}

pub(super) fn run() -> Step {
    sh(&format!("set -e\n{SETUP}"))?;
    squashed()?;
    let (a, mut b) = (Host::start("a", "shared")?, Host::start("b", "shared")?);
    for host in [&a, &b] {
        ensure!(!host.log()?.contains("without locks"), "{}", host.log()?);
    }
    said("both hosts are up");
    one_winner(&a, &b)?;
    said("one winner each");
    each_sees_the_other(&a, &b)?;
    said("each sees the other");
    snapshots_and_backups(&a, &b)?;
    said("snapshots and backups");
    a_host_stops_in_the_midst(&a, &mut b)?;
    for volume in ["seen", "restored"] {
        a.ok(&["delete", volume])?;
    }
    let left = a.sh("cd /srv/a/volumes && ls; ls config/snapshots")?;
    ensure!(left.lines().all(|line| line.starts_with("race") || line == "config"), "left: {left}");
    Ok(())
}

fn said(what: &str) {
    println!("{what}");
}

/// Root is nobody there: an error that says what to do.
fn squashed() -> Step {
    let mut host = spawn("a", "squashed")?;
    let told = patience::wait("a word of root_squash", PATIENCE, || {
        Ok(host.daemon.try_wait()?.is_some() || host.log()?.contains("no_root_squash"))
    });
    told.map_err(|failure: Failure| failure.with(&host.log()))?;
    let log = host.log()?;
    ensure!(log.contains("Permission denied") && log.contains("no_root_squash"), "{log}");
    Ok(())
}

/// Both make a volume of one name at the same moment.
fn one_winner(a: &Host, b: &Host) -> Step {
    for number in 0..5 {
        let name = format!("race{number}");
        // What one remembers of the name must not matter.
        b.refused(&["inspect", &name], "not found")?;
        let both: Vec<_> = [a, b]
            .iter()
            .map(|host| host.command(&["create", &name]).spawn())
            .collect::<std::io::Result<_>>()?;
        let mut won = 0;
        for child in both {
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            won += usize::from(output.status.success());
            ensure!(output.status.success() || error.contains("exists"), "{error}");
        }
        ensure_eq!(won, 1);
        ensure_eq!(a.sh(&format!("stat -c %F /srv/a/volumes/{name}"))?, "directory");
    }
    Ok(())
}

fn each_sees_the_other(a: &Host, b: &Host) -> Step {
    b.refused(&["inspect", "seen"], "not found")?;
    a.ok(&["create", "seen"])?;
    // At once by its name, and soon in the list.
    ensure!(b.ok(&["inspect", "seen"])?.contains("/srv/b/volumes/seen"), "another place on another host");
    b.until(&["list"], "a volume of the other host in the list", |list| list.contains("\"seen\""))?;
    b.refused(&["create", "seen"], "exists")?;
    a.ok(&["mount", "seen"])?;
    a.sh("echo of-a > /srv/a/volumes/seen/file")?;
    b.ok(&["mount", "seen"])?;
    ensure_eq!(b.sh("cat /srv/b/volumes/seen/file")?, "of-a");
    a.ok(&["umount", "seen"])?;
    // Free here, and used there.
    a.refused(&["delete", "seen"], "another host")?;
    ensure_eq!(b.sh("cat /srv/b/volumes/seen/file")?, "of-a");
    b.ok(&["umount", "seen"])?;
    b.ok(&["create", "gone"])?;
    a.ok(&["inspect", "gone"])?;
    b.ok(&["delete", "gone"])?;
    a.until(&["list"], "a list without what the other host deleted", |list| !list.contains("\"gone\""))
}

fn snapshots_and_backups(a: &Host, b: &Host) -> Step {
    a.ok(&["snapshot", "create", "seen", "--name", "first"])?;
    b.until(&["inspect", "seen"], "a snapshot of the other host", |seen| seen.contains("\"first\""))?;
    a.sh("echo changed > /srv/a/volumes/seen/file")?;
    // The snapshot of one host is backed up by the other, and restored by the first.
    sh("mkdir -p /run/store")?;
    let url = b.ok(&["backup", "create", "first", "--dest", "vfs:///run/store"])?;
    a.ok(&["create", "restored", "--backup", url.trim()])?;
    ensure_eq!(a.sh("cat /srv/a/volumes/restored/file")?, "of-a");
    a.ok(&["snapshot", "delete", "first"]).map(drop)
}

/// A daemon that hangs keeps its volume locked; one that is killed does not, and what it had begun is
/// settled.
fn a_host_stops_in_the_midst(a: &Host, b: &mut Host) -> Step {
    b.ok(&["create", "many"])?;
    // On the server itself, which is faster.
    sh("cd /export/shared/volumes/many && for n in $(seq 400); do echo $n > $n; done")?;
    let mut snapshot = b.command(&["snapshot", "create", "many", "--name", "half"]).spawn()?;
    // In a hurry: it does not take long.
    let begun = Instant::now();
    while sh("ls -d /export/shared/volumes/config/work/host-b-*/snapshot.*/tree/1* 2>/dev/null | head -1")?
        .is_empty()
    {
        ensure!(begun.elapsed() < PATIENCE, "the snapshot did not begin: {:?}", snapshot.try_wait()?);
        std::thread::sleep(Duration::from_millis(5));
    }
    b.signal("STOP")?;
    let mut delete = a.command(&["delete", "many"]).spawn()?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(delete.try_wait()?.is_none(), "deleted a volume that another host has locked");
    ensure!(a.ok(&["inspect", "many"])?.contains("many"), "the volume is gone");
    b.signal("KILL")?;
    let freed = Instant::now();
    let output = delete.wait_with_output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    said(&format!("the lock of a killed daemon was free after {:.1} s", freed.elapsed().as_secs_f32()));
    ensure!(!snapshot.wait()?.success(), "a snapshot succeeded in a daemon that was killed");
    b.daemon.wait()?;
    *b = Host::start("b", "shared")?;
    // Large trees go in the background.
    let work = || a.sh("ls -d /srv/a/volumes/config/work/*/*.many 2>/dev/null || true");
    patience::wait("the end of a killed daemon's work", PATIENCE, || Ok(work()?.is_empty()))
        .map_err(|failure: Failure| failure.with(&work()).with(&b.log()))?;
    ensure!(!b.ok(&["list"])?.contains("\"many\""), "a deleted volume is listed");
    Ok(())
}
