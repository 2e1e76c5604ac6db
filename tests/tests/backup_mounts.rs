//! `convoy backup mount` and `convoy backup serve`: backups as directories, without a daemon.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoy_tests::child::Child;
use convoy_tests::error::{Context, check};
use convoy_tests::{Blocks, Carrier, Convoy, Error, Lab, Result, Setup, Storage, patience, run};
use nix::sys::signal::Signal;

/// Long enough for a machine that is busy.
const LONG: Duration = Duration::from_secs(120);

/// A volume with two backups, and no daemon any more.
struct World<'a> {
    lab: &'a Lab,
    setup: Setup,
    destination: String,
    monday: String,
}

impl<'a> World<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let mut convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        let destination = format!("vfs://{}", lab.make("backups")?.display());
        let convoy_setup = convoy.setup().clone();
        convoy.ok(&["create", "data"])?;
        let data = convoy_setup.volumes.join("data");
        write(&data.join("app.conf"), b"colour=blue\n")?;
        write(&data.join("large"), &(0..2_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
        shell(
            "cd $1; ln app.conf twin; ln -s app.conf link; chmod 600 app.conf; chown 12:34 app.conf",
            &[&data],
        )?;
        let monday = back_up(&convoy, "monday", &destination)?;
        next_second()?;
        write(&data.join("app.conf"), b"colour=red, by mistake\n")?;
        back_up(&convoy, "tuesday", &destination)?;
        convoy.stop()?;
        Ok(Self { lab, setup: convoy_setup, destination, monday })
    }

    /// Starts a command that goes on, and gives what it says once it is ready.
    fn start(&self, words: &[&str], ready: &str) -> Result<(Child, String)> {
        start(self.lab, &self.setup, words, ready)
    }

    fn refused(&self, words: &[&str]) -> Result<String> {
        run::capture(&mut self.setup.client(words)?)?.refused()
    }
}

fn back_up(convoy: &Convoy, snapshot: &str, destination: &str) -> Result<String> {
    convoy.ok(&["snapshot", "create", "data", "--name", snapshot])?;
    Ok(convoy.ok(&["backup", "create", snapshot, "--dest", destination])?.replace("\\u0026", "&"))
}

/// Waits until the clock shows another second: records tell times to the second, and of two backups of one
/// second nobody knows which is the newest.
fn next_second() -> Result<()> {
    let second = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = second();
    patience::until("the next second", LONG, || Ok(second() > now))
}

fn start(lab: &Lab, setup: &Setup, words: &[&str], ready: &str) -> Result<(Child, String)> {
    let mut command = setup.client(words)?;
    lab.origin().mark(&mut command);
    let log = lab.path(&format!("shown{}.log", lab.number()));
    let mut child = Child::start(&mut command, &log)?;
    let mut said = String::new();
    patience::until("the command to be ready", LONG, || {
        said = fs::read_to_string(&log).unwrap_or_default();
        match child.ended()? {
            Some(status) => Err(Error::Unexpected(format!("it ended with {status}: {said}"))),
            None => Ok(said.lines().any(|line| line.starts_with(ready))),
        }
    })?;
    let line = said.lines().find(|line| line.starts_with(ready)).unwrap_or_default().to_owned();
    Ok((child, line))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).during(|| format!("write {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).during(|| format!("read {}", path.display()))
}

fn shell(script: &str, words: &[&Path]) -> Result<String> {
    run::capture(Command::new("sh").args(["-ec", script, "sh"]).args(words))?.ok()
}

fn says(text: &str, part: &str) -> Result<()> {
    check(text.contains(part), || format!("{part:?} is not in: {text}"))
}

/// Whether anything is mounted at a directory.
fn is_mounted(path: &Path) -> Result<bool> {
    let table = fs::read_to_string("/proc/self/mountinfo").during(|| "read the mounts".to_owned())?;
    let path = path.display().to_string();
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(&path)))
}

/// The locks at the destination.
fn locks(world: &World<'_>) -> Result<String> {
    shell("find $1 -name '*.lock'", &[&world.lab.path("backups")])
}

#[test]
fn backups_are_mounted_and_unmounted_without_a_daemon() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab)?;
        let mnt = lab.make("mnt")?;
        let at = mnt.display().to_string();
        let (mut mount, _) = world.start(&["backup", "mount", &world.destination, &at], "Mounted at ")?;
        let volume = mnt.join("volumes/data");
        let names = shell("ls $1", &[&volume])?;
        check(names.lines().count() == 3, || format!("two backups and a link, not: {names}"))?;
        assert_eq!(read(&volume.join("latest/app.conf"))?, b"colour=red, by mistake\n");
        let first = names.lines().next().unwrap_or_default();
        assert_eq!(read(&volume.join(first).join("app.conf"))?, b"colour=blue\n");
        let told = shell(
            "cd $1; stat -c '%a %u %g' app.conf; test app.conf -ef twin; readlink link",
            &[&volume.join(first)],
        )?;
        assert_eq!(told, "600 12 34\napp.conf");
        says(&shell("! touch $1/new 2>&1", &[&volume.join("latest")])?, "Read-only file system")?;
        // While it is open its data is kept; in the end nothing is left at the store.
        check(!locks(&world)?.is_empty(), || "no lock is held".to_owned())?;
        let status = mount.stop()?;
        check(status.success(), || format!("{status}"))?;
        check(!is_mounted(&mnt)?, || "it is mounted still".to_owned())?;
        assert_eq!(locks(&world)?, "");

        // Whoever unmounts it ends it.
        let (mut mount, _) = world.start(&["backup", "mount", &world.monday, &at], "Mounted at ")?;
        assert_eq!(read(&mnt.join("app.conf"))?, b"colour=blue\n");
        shell("umount $1", &[&mnt])?;
        let status = mount.wait(LONG)?;
        check(status.success(), || format!("{status}"))?;
        assert_eq!(locks(&world)?, "");

        // Also where somebody still uses it.
        let (mut mount, _) = world.start(&["backup", "mount", &world.monday, &at], "Mounted at ")?;
        let mut open = fs::File::open(mnt.join("large")).during(|| "open".to_owned())?;
        let mut byte = [0];
        open.read_exact(&mut byte).during(|| "read".to_owned())?;
        mount.stop()?;
        check(!is_mounted(&mnt)?, || "it is mounted still".to_owned())?;
        assert_eq!(locks(&world)?, "");
        check(open.read_to_end(&mut Vec::new()).is_err(), || "nobody serves it any more".to_owned())
    })
}

/// The process that reads the store: the other is its parent.
fn reader(mount: &Child) -> Result<(i32, String)> {
    let children = format!("/proc/{}/task/{}/children", mount.id(), mount.id());
    let children = fs::read_to_string(&children).during(|| "list the children".to_owned())?;
    let id: i32 =
        children.trim().parse().map_err(|_| Error::Unexpected(format!("one child, not: {children}")))?;
    let status = fs::read_to_string(format!("/proc/{id}/status")).during(|| "read its status".to_owned())?;
    Ok((id, status))
}

#[test]
fn who_reads_the_store_has_no_rights_and_a_killed_process_leaves_a_mount_that_goes() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab)?;
        let mnt = lab.make("mnt")?;
        let at = mnt.display().to_string();
        let words = ["backup", "mount", world.monday.as_str(), &at];
        let (mut mount, _) = world.start(&words, "Mounted at ")?;
        let (id, status) = reader(&mount)?;
        // All but CAP_DAC_READ_SEARCH.
        for line in [
            "CapPrm:\t0000000000000004",
            "CapEff:\t0000000000000004",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            says(&status, line)?;
        }
        // If it is killed, the other unmounts.
        let killed = nix::unistd::Pid::from_raw(id);
        nix::sys::signal::kill(killed, Signal::SIGKILL).during(|| "kill".to_owned())?;
        let ended = mount.wait(LONG)?;
        check(ended.code() == Some(1), || format!("{ended}"))?;
        says(&fs::read_to_string(mount.log()).unwrap_or_default(), "SIGKILL")?;
        check(!is_mounted(&mnt)?, || "it is mounted still".to_owned())?;

        // If the other is killed, a mount is left that says so, and `umount` removes it.
        let (mut mount, _) = world.start(&words, "Mounted at ")?;
        let (id, _) = reader(&mount)?;
        mount.kill()?;
        patience::until("the reader to end", LONG, || Ok(!Path::new(&format!("/proc/{id}")).exists()))?;
        says(&world.refused(&words)?, "a mount is there that nobody serves any more")?;
        shell("umount $1", &[&mnt])?;
        let (mut mount, _) = world.start(&words, "Mounted at ")?;
        mount.stop().map(drop)
    })
}

#[test]
fn what_cannot_be_mounted_is_refused_in_words() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab)?;
        let (full, mnt) = (lab.make("full")?, lab.make("mnt")?.display().to_string());
        write(&full.join("file"), b"")?;
        let at = full.display().to_string();
        says(&world.refused(&["backup", "mount", &world.destination, &at])?, "the directory is not empty")?;
        says(&world.refused(&["backup", "mount", &world.destination, "/nonexistent/dir"])?, "mkdir -p")?;
        let nowhere = format!("vfs://{}", lab.make("nothing")?.display());
        says(&world.refused(&["backup", "mount", &nowhere, &mnt])?, "there are no backups at")?;
        let other = world.monday.replace("backup=backup-", "backup=backup-f");
        says(&world.refused(&["backup", "mount", &other, &mnt])?, "there is no backup")?;
        check(!is_mounted(Path::new(&mnt))?, || "something is mounted".to_owned())
    })
}

#[test]
fn encrypted_backups_are_mounted_with_the_settings_of_the_daemon() -> Result<()> {
    Lab::run(|lab| {
        let key = lab.secret("key", [7; 32])?;
        let destination = format!("vfs://{}", lab.make("backups")?.display());
        let settings = lab.path("convoy.toml");
        let text =
            format!("[destinations.\"{destination}/\"]\nencryption-key-file = \"{}\"\n", key.display());
        write(&settings, text.as_bytes())?;
        let settings = settings.display().to_string();
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&["--config", &settings]).start()?;
        convoy.ok(&["create", "data"])?;
        write(&convoy.setup().volumes.join("data/file"), b"secret")?;
        back_up(&convoy, "monday", &destination)?;
        let mnt = lab.make("mnt")?;
        let at = mnt.display().to_string();
        // The daemon's own settings name the key; a mount beside it disturbs nobody.
        let words = ["backup", "mount", &destination, &at, "--config", &settings];
        let (mut mount, _) = start(lab, convoy.setup(), &words, "Mounted at ")?;
        assert_eq!(read(&mnt.join("volumes/data/latest/file"))?, b"secret");
        convoy.ok(&["snapshot", "create", "data", "--name", "tuesday"])?;
        convoy.ok(&["backup", "create", "tuesday", "--dest", &destination])?;
        mount.stop()?;
        // Without the key nothing in it is shown.
        let (mut mount, _) = start(lab, convoy.setup(), &words[..4], "Mounted at ")?;
        let refused = fs::read_dir(mnt.join("volumes/data/latest"));
        check(refused.is_err(), || "it was read without the key".to_owned())?;
        says(&fs::read_to_string(mount.log()).unwrap_or_default(), "is encrypted")?;
        mount.stop().map(drop)
    })
}

#[test]
fn a_backup_of_a_device_is_mounted_with_its_files() -> Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 4 << 30, "")?;
        let world = Blocks::start(lab, &storage)?;
        let convoy = &world.convoy;
        convoy.ok(&["create", "db", "--size", "256M"])?;
        let place = world.mount("db")?;
        write(&place.join("table"), &(0..1_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>())?;
        shell("chmod 600 $1/table; chown 12:34 $1/table", &[&place])?;
        world.snapshot("db", "monday")?;
        let mnt = lab.make("mnt")?;
        let at = mnt.display().to_string();
        for more in [&[][..], &["--format", "v0"]] {
            let url = world.back_up("monday", more)?;
            let words = ["backup", "mount", &url, &at];
            let (mut mount, _) = start(lab, convoy.setup(), &words, "Mounted at ")?;
            assert_eq!(
                shell("ls $1; stat -c '%a %u %s' $1/files/table", &[&mnt])?,
                "disk.img\nfiles\n600 12 4000000"
            );
            check(read(&mnt.join("files/table"))? == read(&place.join("table"))?, || {
                "other data".to_owned()
            })?;
            assert_eq!(shell("stat -c %s $1/disk.img", &[&mnt])?, (256_u64 << 20).to_string());
            let status = mount.stop()?;
            check(status.success(), || format!("{status}"))?;
        }
        convoy.ok(&["umount", "db"])?;
        convoy.ok(&["delete", "db"]).map(drop)
    })
}

/// Calls curl, and gives the status and what it printed.
fn curl(words: &[&str]) -> Result<(String, String)> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--globoff", "--write-out", "\n%{http_code}"]).args(words);
    let printed = run::capture(&mut command)?.ok()?;
    let (body, status) = printed.rsplit_once('\n').unwrap_or(("", &printed));
    Ok((status.to_owned(), body.to_owned()))
}

#[test]
fn backups_are_served_through_webdav() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab)?;
        let words = ["backup", "serve", &world.destination, "--webdav", "127.0.0.1:0"];
        let (mut served, line) = world.start(&words, "Serving at ")?;
        let root = line.trim_start_matches("Serving at ").trim_end_matches('/').to_owned();
        let latest = format!("{root}/volumes/data/latest");
        assert_eq!(
            curl(&[&format!("{latest}/app.conf")])?,
            ("200".into(), "colour=red, by mistake\n".into())
        );
        let part = curl(&["--range", "7-9", &format!("{latest}/app.conf")])?;
        assert_eq!(part, ("206".into(), "red".into()));
        let large = lab.path("large");
        let (status, _) = curl(&["--output", &large.display().to_string(), &format!("{latest}/large")])?;
        assert_eq!(status, "200");
        let expected: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
        check(read(&large)? == expected, || "other data".to_owned())?;
        let propfind = |depth: &str, path: &str| {
            curl(&[
                "--request",
                "PROPFIND",
                "--header",
                &format!("Depth: {depth}"),
                &format!("{root}/{path}"),
            ])
        };
        let (status, listed) = propfind("1", "volumes/data/latest/")?;
        assert_eq!(status, "207");
        for part in ["/volumes/data/latest/app.conf", "<D:getcontentlength>23<", "/volumes/data/latest/twin"]
        {
            says(&listed, part)?;
        }
        check(!listed.contains("/link"), || format!("WebDAV has no links: {listed}"))?;
        says(&propfind("1", "volumes/data/")?.1, "/volumes/data/latest/")?;
        // Nothing can be written, nothing is listed without end, and no page of the web gets in.
        for method in ["PUT", "DELETE", "MKCOL", "MOVE", "COPY", "PROPPATCH", "LOCK"] {
            let (status, _) = curl(&["--request", method, "--data", "x", &format!("{latest}/app.conf")])?;
            check(status == "405", || format!("{method}: {status}"))?;
        }
        assert_eq!(propfind("infinity", "")?.0, "403");
        assert_eq!(curl(&["--header", "Host: evil.example", &root])?.0, "403");
        assert_eq!(curl(&[&format!("{latest}/none")])?.0, "404");
        assert_eq!(curl(&["--path-as-is", &format!("{latest}/../../../../etc/passwd")])?.0, "403");
        let (_, headers) = curl(&["--head", &format!("{latest}/app.conf")])?;
        says(&headers.to_lowercase(), "content-security-policy: sandbox")?;
        // A head without end is not kept.
        let mut stream =
            TcpStream::connect(root.trim_start_matches("http://")).during(|| "connect".to_owned())?;
        let _ = stream.write_all(
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).as_bytes(),
        );
        let mut answer = Vec::new();
        let _ = stream.take(4096).read_to_end(&mut answer);
        check(!answer.starts_with(b"HTTP/1.1 2"), || "a megabyte of a header was taken".to_owned())?;
        check(served.stop()?.success(), || "it failed in the end".to_owned())?;
        assert_eq!(locks(&world)?, "");
        Ok(())
    })
}

#[test]
fn others_need_the_password() -> Result<()> {
    Lab::run(|lab| {
        let world = World::new(lab)?;
        let everywhere = ["backup", "serve", &world.destination, "--webdav", "0.0.0.0:0"];
        says(&world.refused(&everywhere)?, "--password-file")?;
        let password = lab.secret("password", "open sesame\n")?.display().to_string();
        let words = [&everywhere[..], &["--password-file", &password]].concat();
        let (mut served, line) = world.start(&words, "Serving at ")?;
        let port = line.trim_end_matches('/').rsplit(':').next().unwrap_or_default().to_owned();
        let url = format!("http://127.0.0.1:{port}/volumes/data/latest/app.conf");
        assert_eq!(curl(&[&url])?.0, "401");
        assert_eq!(curl(&["--user", "convoy:wrong", &url])?.0, "401");
        assert_eq!(curl(&["--user", "root:open sesame", &url])?.0, "401");
        assert_eq!(curl(&["--user", "convoy:open sesame", &url])?.0, "200");
        served.stop().map(drop)
    })
}
