//! The examples of the documents are run as they stand, in their order: on a machine with systemd and Docker,
//! with the package installed, and an S3 server that answers under the names that the documents use.
//!
//! What a page takes for granted is in [`BEFORE`]; what is not run here, and why, in [`ELSEWHERE`]. The pages
//! with commands between fences are run by `tutorial.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_tests::engine::image;
use convoy_tests::error::{Context, check};
use convoy_tests::package::{deb, tree};
use convoy_tests::{Error, Lab, Machine, Result, patience, peers, programs};

/// What a line begins with that is a command and no text of a file.
const PROGRAMS: [&str; 13] = [
    "convoy",
    "docker",
    "podman",
    "curl",
    "systemctl",
    "apt",
    "tar",
    "cargo",
    "mkdir",
    "echo",
    "head",
    "target/release/convoy",
    "DO_TOKEN=dop_v1_...",
];

/// Examples that are not run here: the page, how the line begins, and why.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("README.md", "cargo ", "builds, or runs all of this"),
    ("README.md", "apt install", "docker_installed.rs"),
    ("docs/bring-back.md", "mkdir -p /mnt/backups", "backup_mounts.rs"),
    ("docs/bring-back.md", "convoy backup mount", "backup_mounts.rs"),
    ("docs/bring-back.md", "tar -C /mnt/backups", "backup_mounts.rs"),
    ("docs/bring-back.md", "convoy backup serve", "backup_mounts.rs"),
    ("docs/bring-back.md", "curl ", "backup_mounts.rs"),
    ("docs/cli.md", "convoy jobs cancel 3f2a", "the id is that of a job which runs while the line is typed"),
    (
        "docs/cli.md",
        "convoy resize data 20G",
        "needs a driver whose volumes have a size: tests/vm, drivers/cloud",
    ),
    ("docs/doctor.md", "$ convoy doctor", "what it prints is of a cloud"),
    ("docs/drivers/devicemapper.md", "convoy ", "needs device-mapper: tests/vm"),
    ("docs/drivers/digitalocean.md", "", "needs the cloud: drivers/digitalocean"),
    ("docs/drivers/ebs.md", "", "needs the cloud: drivers/ebs"),
    ("docs/drivers/local.md", "", "docker_local.rs"),
    ("docs/operations/compose-and-swarm.md", "", "docker_compose.rs and docker_swarm.rs"),
    ("docs/operations/install.md", "apt install", "docker_installed.rs"),
    ("docs/operations/install.md", "docker plugin", "docker_plugin.rs"),
    (
        "docs/operations/install.md",
        "docker run --rm -it -v data:/data --volume-driver convoy",
        "docker_plugin.rs",
    ),
    ("docs/operations/install.md", "tar ", "`cargo xtask package` unpacks what it made, and runs it"),
    ("docs/operations/migration.md", "systemctl stop convoy-0.5", "docker_upgrade.rs"),
    ("docs/operations/migration.md", "apt install", "docker_installed.rs"),
];

/// What has to be there before an example, and what it does not say itself: the page, how the line begins,
/// and shell.
const BEFORE: &[(&str, &str, &str)] = &[
    (
        "README.md",
        "target/release/convoy daemon",
        "mkdir -p target/release; ln -sf /usr/bin/convoy target/release/",
    ),
    ("docs/cli.md", "convoy backup create monday --dest s3:", MONDAY),
    ("docs/backups.md", "head -c 32", MONDAY),
    ("docs/backups.md", "convoy backup create monday --dest s3://backups/ --passphrase-file", PASSPHRASE),
    ("docs/backups.md", "convoy backup key add s3://backups/ --encryption-key-file", OLD_KEY),
    ("docs/backups.md", "convoy backup key add s3://backups/ --passphrase-file", OLD_PASSPHRASE),
    (
        "docs/backups.md",
        "convoy backup create monday --dest s3://backups/ --as tree",
        "rm -rf /var/lib/s3/backups/*",
    ),
    ("docs/bring-back.md", "convoy snapshot find 'app.conf'", APP),
    ("docs/bring-back.md", "convoy restore monday --path etc/app/app.conf --into data --dry-run", APP),
    ("docs/schedules.md", "convoy schedule list", DAILY),
    ("docs/operations/configuration.md", "convoy retain database keep", "convoy create database"),
    ("docs/operations/recovery.md", "convoy config check", KEY),
    ("docs/operations/recovery.md", "convoy backup list s3://backups@eu-central-1/hosts/", LOST),
];

const MONDAY: &str = "convoy create data; convoy snapshot create data --name monday";
const APP: &str = "convoy inspect data >/dev/null 2>&1 || { convoy create data; at=$(convoy mount data); \
    mkdir -p $at/etc/app; echo port = 80 > $at/etc/app/app.conf; convoy snapshot create data --name monday; \
    convoy backup create monday --dest vfs:///srv/backups; }";
const KEY: &str = "(umask 077; head -c 32 /dev/urandom > /etc/convoy/backup.key)";
const PASSPHRASE: &str =
    "rm -rf /var/lib/s3/backups/*; (umask 077; echo secret of mine > /etc/convoy/passphrase)";
const OLD_KEY: &str = "rm -rf /var/lib/s3/backups/*; umask 077; for key in old new; do \
    head -c 32 /dev/urandom > $key.key; done; \
    convoy backup create monday --dest s3://backups/ --encryption-key-file old.key";
const OLD_PASSPHRASE: &str = "rm -rf /var/lib/s3/backups/*; umask 077; for key in old new; do \
    echo the $key one > $key; done; convoy backup create monday --dest s3://backups/ --passphrase-file old";
const DAILY: &str = "(umask 077; head -c 32 /dev/urandom > /etc/convoy/backup.key); \
    docker volume create --driver convoy --label com.example.backup=daily db-1";
const LOST: &str = "convoy create data; convoy snapshot create data --name monday; \
    convoy backup create monday --dest s3://backups@eu-central-1/hosts/; convoy delete data";

/// The credentials that the S3 server takes, where the documents have them.
const CREDENTIALS: &str = "[default]\naws_access_key_id = key\naws_secret_access_key = secret\n";

const START: &str = "systemctl start convoy.socket convoy.service";

/// Long enough for a start.
const SOON: Duration = Duration::from_secs(30);

/// An example: the page, and what is typed.
struct Example {
    page: String,
    line: String,
}

impl Example {
    fn is(&self, page: &str, begins: &str) -> bool {
        self.page == page && self.line.starts_with(begins)
    }
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages, README first, each with its text; of `docs/cli.md` what is written by hand.
fn pages() -> Result<Vec<(String, String)>> {
    let mut names = vec!["README.md".to_owned()];
    for directory in ["docs", "docs/operations", "docs/drivers"] {
        let entries =
            fs::read_dir(checkout().join(directory)).during(|| format!("cannot list {directory}"))?;
        let files = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.extend(files.filter(|file| file.ends_with(".md")).map(|file| format!("{directory}/{file}")));
    }
    names.sort();
    let read = |name: String| {
        let text = fs::read_to_string(checkout().join(&name)).during(|| format!("cannot read {name}"))?;
        // The reference of the commands is made from the program, and begins there.
        let by_hand = text
            .split("<!-- Made from the definition of the command line")
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok((name, by_hand))
    };
    names.into_iter().map(read).collect()
}

/// The commands in indented blocks. One that ends in a pipe goes on in the next line.
fn examples(page: &str, text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut goes_on = false;
    for line in text.lines().filter(|line| line.starts_with("    ")).map(str::trim) {
        let mut words = line.trim_start_matches("$ ").split(' ');
        let (first, setting) = (words.next().unwrap_or_default(), words.next() == Some("="));
        match found.last_mut().filter(|_| goes_on) {
            Some(last) => last.line = format!("{} {line}", last.line),
            None if PROGRAMS.contains(&first) && !setting => {
                found.push(Example { page: page.to_owned(), line: line.to_owned() });
            }
            None => continue,
        }
        goes_on = line.ends_with('|');
    }
    found
}

/// What a page says in indented blocks of settings, and the S3 server where the documents have theirs.
fn settings(text: &str) -> String {
    let (mut settings, mut table) = (String::new(), false);
    for line in text.lines().filter(|line| line.starts_with("    ")).map(str::trim) {
        table = match line.starts_with('[') {
            true => {
                ["[destinations.", "[scheduling]", "[[schedule]]"].iter().any(|name| line.starts_with(name))
            }
            false => table && line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' ')),
        };
        if table {
            settings += &format!("{line}\n");
        }
        if table && line.starts_with("[destinations.\"s3:") {
            settings += S3;
        }
    }
    for destination in DESTINATIONS {
        let table = format!("[destinations.\"{destination}\"]\n");
        if !settings.contains(&table) {
            settings += &format!("{table}credentials-file = \"/etc/convoy/credentials\"\n{S3}");
        }
    }
    settings
}

/// The files that a page shows whole: an indented block that begins with a path behind `#`.
fn files(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let indented = line.strip_prefix("    ");
        if let Some(path) = indented.and_then(|line| line.strip_prefix("# /")) {
            found.push((path.to_owned(), String::new()));
            within = true;
            continue;
        }
        within &= indented.is_some() || line.is_empty();
        if let Some((_, content)) = found.last_mut().filter(|_| within) {
            *content += &format!("{}\n", indented.unwrap_or_default());
        }
    }
    found
}

/// What makes Podman run in a container of this machine: no network, no overlay above an overlay.
const PODMAN: [(&str, &str); 2] = [
    (
        "etc/containers/storage.conf",
        "[storage]\ndriver = \"vfs\"\nrunroot = \"/run/pod\"\ngraphroot = \"/var/lib/docker/pod\"\n",
    ),
    (
        "etc/containers/containers.conf.d/lab.conf",
        "[containers]\nnetns = \"none\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
         [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n",
    ),
];

/// The buckets that the documents name.
const DESTINATIONS: [&str; 5] = [
    "s3://bucket@eu-central-1/",
    "s3://bucket@eu-west-1/",
    "s3://bucket@us-east-1/",
    "s3://backups/",
    "s3://backups@eu-central-1/",
];

const S3: &str = "endpoint = \"http://127.0.0.1:9000\"\nregion = \"us-east-1\"\n";

/// The machine that the documents are tried on.
struct Trial {
    machine: Machine,
}

impl Trial {
    fn prepare(lab: &Lab) -> Result<Self> {
        let tree = tree::make(&lab.path("tree"), &programs::directory()?, &["vfs"])?;
        let package = deb::build(&tree, lab.directory(), deb::Compression::None)?;
        let machine = Machine::boot(lab)?;
        let bring = |from: &Path, to: &str| {
            let to = machine.root().join(to);
            fs::copy(from, &to).map(|_| ()).during(|| format!("cannot copy to {}", to.display()))
        };
        bring(&package, "root/convoy.deb")?;
        bring(&image(lab)?, "root/image.tar")?;
        bring(&peers::s3s_fs()?, "usr/local/bin/s3s-fs")?;
        let trial = Self { machine };
        trial.shell("dpkg --install /root/convoy.deb")?;
        // No registry is asked: what the documents call debian is busybox.
        trial.shell("mkdir -p /etc/containers/containers.conf.d")?;
        for (file, text) in PODMAN {
            trial.write(file, text)?;
        }
        for engine in ["docker", "podman"] {
            trial.shell(&format!("{engine} import --change 'CMD [\"sh\"]' /root/image.tar debian"))?;
        }
        trial.shell("echo '127.0.0.1 minio.example.com' >> /etc/hosts; mkdir -p /var/lib/s3")?;
        let server = "s3s-fs --host 127.0.0.1 --port 9000 --access-key key --secret-key secret /var/lib/s3";
        trial.shell(&format!("systemd-run --unit=s3 {server}"))?;
        Ok(trial)
    }

    /// What a reader has who begins with a page.
    fn anew(&self, page: &str, text: &str) -> Result<()> {
        self.shell(
            "docker rm -f $(docker ps -aq) 2>/dev/null; docker volume rm -f $(docker volume ls -q); :",
        )?;
        self.forget()?;
        self.shell("rm -rf /srv/* /var/lib/s3/* /root/work/*")?;
        self.shell("mkdir -p /root/work /srv/backups /var/lib/s3/bucket /var/lib/s3/backups")?;
        self.write("etc/convoy/credentials", CREDENTIALS)?;
        self.shell("chmod 600 /etc/convoy/credentials")?;
        self.write("etc/convoy/convoy.toml", &settings(text))?;
        for (file, text) in files(text) {
            self.write(&file, &text)?;
        }
        if text.contains("encryption-key-file = \"/etc/convoy/backup.key\"") {
            self.shell(KEY)?;
        }
        self.shell(START).map(drop).map_err(|error| {
            Error::Unexpected(format!("{page}: convoy does not start with its settings: {error}"))
        })
    }

    /// Runs an example, and says what was printed where it fails.
    fn run(&self, example: &Example) -> Result<()> {
        let Example { page, line } = example;
        for (_, _, before) in BEFORE.iter().filter(|(page, begins, _)| example.is(page, begins)) {
            self.shell(before)?;
        }
        let line = self.with_a_backup(line)?;
        let ran = match line.contains("convoy daemon") {
            true => self.daemon(&line),
            false => self.shell(&once(&line)).map(drop),
        };
        ran.map_err(|error| Error::Unexpected(format!("{page}: {line}\n{error}")))
    }

    /// Puts the id of a backup that is there in the place of one that an example has made up.
    fn with_a_backup(&self, line: &str) -> Result<String> {
        let Some((before, after)) = line.rsplit_once("?backup=backup-") else { return Ok(line.to_owned()) };
        let before = self.with_a_backup(before)?;
        let destination = before.rsplit(['\'', '"', ' ', '=']).next().unwrap_or_default();
        let url = self.shell(&format!("convoy backup list {destination} | jq -er 'keys[-1]'"))?;
        let id = url.split(['=', '&', '\\']).nth(1).unwrap_or_default();
        Ok(format!("{before}?backup={id}{}", after.get(16..).unwrap_or_default()))
    }

    /// A daemon is started for the first time, in the place of the one that runs, until it answers.
    fn daemon(&self, line: &str) -> Result<()> {
        self.forget()?;
        self.shell(&format!("systemd-run --unit=example --working-directory=/root/work sh -c '{line}'"))?;
        let answers = patience::until("the daemon of the example", SOON, || {
            let answers = "test $(systemctl show --property=MainPID --value example) != 0 && convoy info";
            Ok(self.machine.run(&["sh", "-c", answers])?.success())
        });
        if let Err(error) = answers {
            let log = self.shell("journalctl --no-pager --lines=20 --unit=example")?;
            return Err(Error::Unexpected(format!("{error}\n{log}")));
        }
        self.shell(&format!("systemctl stop example; {START}")).map(drop)
    }

    /// Stops the daemon, and nothing is left of what it knew.
    fn forget(&self) -> Result<()> {
        self.shell(
            "systemctl stop convoy.socket convoy.service; umount -q /var/lib/rancher/convoy/vfs/volumes; :",
        )?;
        // Not for long: systemd starts a service five times in ten seconds, and would count these.
        self.shell("systemctl reset-failed convoy.socket convoy.service; :")?;
        self.shell("rm -rf /var/lib/rancher/convoy /run/convoy/mounts").map(drop)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let file = self.machine.root().join(file);
        fs::write(&file, text).during(|| format!("cannot write {}", file.display()))
    }

    fn shell(&self, line: &str) -> Result<String> {
        self.machine.ok(&["sh", "-c", &format!("mkdir -p /root/work; cd /root/work; {line}")])
    }
}

/// A line as it is run where nobody types: there is no terminal, and what would go on for ever is told to
/// stop.
fn once(line: &str) -> String {
    // There is no bridge on this machine.
    let line = line.replace("docker run ", "docker run --network none ").replace(" -it ", " -i ");
    match line.as_str() {
        "convoy events" => format!("timeout 1 {line}; test $? = 124"),
        _ => line,
    }
}

#[test]
fn every_example_of_the_documents_runs() -> Result<()> {
    let pages = pages()?;
    let all: Vec<Example> = pages.iter().flat_map(|(page, text)| examples(page, text)).collect();
    // What is said of an example is said of one that is there.
    for (page, begins) in ELSEWHERE.iter().chain(BEFORE).map(|(page, begins, _)| (page, begins)) {
        check(all.iter().any(|example| example.is(page, begins)), || {
            format!("{page} has no example that begins with {begins:?}")
        })?;
    }
    let elsewhere = |example: &Example| ELSEWHERE.iter().any(|(page, begins, _)| example.is(page, begins));
    Lab::run_on_disk(|lab| {
        let trial = Trial::prepare(lab)?;
        let (mut ran, mut wrong) = (0, Vec::new());
        for (page, text) in &pages {
            let here: Vec<&Example> =
                all.iter().filter(|example| example.page == *page && !elsewhere(example)).collect();
            if here.is_empty() {
                continue;
            }
            trial.anew(page, text)?;
            for example in here {
                ran += 1;
                wrong.extend(trial.run(example).err().map(|error| error.to_string()));
            }
        }
        check(ran > 60 && wrong.is_empty(), || format!("{ran} were run; these fail:\n{}", wrong.join("\n")))
    })
}
