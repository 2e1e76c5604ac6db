//! convoy as a managed plugin of Docker: a directory that `docker plugin create` takes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::CapabilitySet;

use crate::error::{Context, Error, Result};
use crate::run::capture;

/// What Docker is told of the plugin.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/docker-plugin/config.json");

/// Programs that drivers run, as far as this machine has them.
const TOOLS: [&str; 15] = [
    "losetup",
    "mount",
    "umount",
    "blkid",
    "blockdev",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "debugfs",
    "e2fsck",
    "resize2fs",
    "xfs_growfs",
    "thin_delta",
    "thin_check",
    "udevadm",
];

/// Directories that have to be there.
const DIRECTORIES: [&str; 8] =
    ["dev", "etc", "mnt/convoy", "proc", "run/docker/plugins", "sys", "tmp", "usr/lib/convoy/drivers"];

/// Makes `config.json` and `rootfs` below a directory: convoy, its drivers, the tools they run, and the libraries of this
/// machine that all of them are linked to. No image of any distribution is needed.
///
/// # Errors
/// When a program or library is missing, or a file cannot be written.
pub fn make(place: &Path, programs: &Path, drivers: &[&str]) -> Result<()> {
    let root = place.join("rootfs");
    if root.exists() {
        fs::remove_dir_all(&root).during(|| format!("cannot remove {}", root.display()))?;
    }
    for directory in DIRECTORIES {
        let path = root.join(directory);
        fs::create_dir_all(&path).during(|| format!("cannot make {}", path.display()))?;
    }
    // Where the machine has them so: /lib and the like are links into /usr.
    for name in ["bin", "sbin", "lib", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            fs::create_dir_all(root.join(&target)).during(|| format!("cannot make {}", target.display()))?;
            symlink(&target, root.join(name)).during(|| format!("cannot link {name}"))?;
        }
    }
    let mut image = Image { root, libraries: BTreeSet::new() };
    image.program(&programs.join("convoy"), Path::new("usr/bin/convoy"))?;
    for driver in drivers {
        for file in crate::package::files(driver) {
            image.program(&programs.join(&file), &Path::new("usr/lib/convoy/drivers").join(&file))?;
        }
    }
    for tool in TOOLS {
        let places = ["/usr/sbin", "/usr/bin"].map(|place| Path::new(place).join(tool));
        if let Some(found) = places.iter().find(|path| path.is_file()) {
            image.program(found, found)?;
        }
    }
    let mut text = fs::read_to_string(CONFIG).during(|| format!("cannot read {CONFIG}"))?;
    let own = rustix::thread::capabilities(None).map_err(std::io::Error::from);
    if !own
        .during(|| "cannot read the capabilities".to_owned())?
        .effective
        .contains(CapabilitySet::SYS_RESOURCE)
    {
        // An engine in a container cannot give what it has not, and starts no plugin that wants it.
        text = text.replace(", \"CAP_SYS_RESOURCE\"", "");
    }
    let config = place.join("config.json");
    fs::write(&config, text).during(|| format!("cannot write {}", config.display()))
}

/// Lets a plugin that was made have a directory of the host, too.
///
/// # Errors
/// When its `config.json` cannot be read or written.
pub fn bind(place: &Path, source: &Path, destination: &Path) -> Result<()> {
    let config = place.join("config.json");
    let during = || format!("cannot change {}", config.display());
    let text = fs::read_to_string(&config).during(during)?;
    let (source, destination) = (source.display(), destination.display());
    let mount = format!(
        r#"{{ "name": "images", "source": "{source}", "destination": "{destination}", "type": "bind", "options": ["rbind"] }},"#
    );
    let text = text.replacen("\"mounts\": [", &format!("\"mounts\": [{mount}"), 1);
    fs::write(&config, text).during(during)
}

struct Image {
    root: PathBuf,
    libraries: BTreeSet<PathBuf>,
}

impl Image {
    /// Copies a program and the libraries it is linked to.
    fn program(&mut self, from: &Path, to: &Path) -> Result<()> {
        self.copy(from, to)?;
        let output = capture(Command::new("ldd").arg(from))?;
        if output.stdout.contains("not found") {
            return Err(Error::Unexpected(format!("{} lacks a library: {}", from.display(), output.stdout)));
        }
        // `name => /path (address)`, or `/path (address)` for the loader; a static program has none.
        let paths = output.stdout.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        for library in paths {
            if self.libraries.insert(library.clone()) {
                self.copy(&library, &library)?;
            }
        }
        Ok(())
    }

    fn copy(&self, from: &Path, to: &Path) -> Result<()> {
        let to = self.root.join(to.strip_prefix("/").unwrap_or(to));
        let what = || format!("cannot copy {} to {}", from.display(), to.display());
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).during(what)?;
        }
        // The file itself where it is a link, with its mode.
        fs::copy(from, &to).during(what).map(|_| ())
    }
}
