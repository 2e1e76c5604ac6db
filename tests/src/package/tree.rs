//! The tree of files that is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Result, check};
use crate::run::capture;

/// Where drivers are looked for without being told.
const DRIVERS: &str = "usr/lib/convoy/drivers";

/// What an author of drivers needs who has no checkout.
const DOCUMENTS: &[(&str, u32)] = &[
    ("docs/driver-protocol.md", 0o644),
    ("docs/writing-a-driver.md", 0o644),
    ("docs/testing-a-driver.md", 0o644),
    ("docs/choosing-a-carrier.md", 0o644),
    ("driver-sdk/schema/1.3.json", 0o644),
    ("examples/python/convoy-driver-folder", 0o755),
    ("examples/go/go.mod", 0o644),
    ("examples/go/main.go", 0o644),
    ("examples/go/wire.go", 0o644),
];

/// Makes the tree anew.
///
/// # Errors
/// When a program is missing or a file cannot be written.
pub fn make(top: &Path, programs: &Path, drivers: &[&str]) -> Result<PathBuf> {
    if top.exists() {
        fs::remove_dir_all(top).during(|| format!("cannot remove {}", top.display()))?;
    }
    let tree = Tree { top: top.to_owned() };
    tree.copy(&programs.join("convoy"), "usr/bin/convoy", 0o755)?;
    for driver in drivers {
        let library = format!("libconvoy_driver_{driver}.so");
        tree.copy(&programs.join(&library), &format!("{DRIVERS}/{library}"), 0o644)?;
        let program = format!("convoy-driver-{driver}");
        tree.copy(&programs.join(&program), &format!("{DRIVERS}/{program}"), 0o755)?;
        // The commands that come with a driver: `convoy NAME COMMAND`.
        for command in commands(programs, driver)? {
            tree.copy(&programs.join(&command), &format!("{DRIVERS}/{command}"), 0o755)?;
        }
    }
    for unit in ["convoy.service", "convoy.socket", "convoy-docker.socket"] {
        tree.ship(&format!("systemd/{unit}"), &format!("usr/lib/systemd/system/{unit}"))?;
    }
    // Not under /etc, where the administrator's own wins over it.
    tree.ship("convoy.spec", "usr/lib/docker/plugins/convoy.spec")?;
    tree.ship("convoy.toml", "etc/convoy/convoy.toml")?;
    let convoy = top.join("usr/bin/convoy");
    for (shell, file) in [
        ("bash", "usr/share/bash-completion/completions/convoy"),
        ("zsh", "usr/share/zsh/vendor-completions/_convoy"),
        ("fish", "usr/share/fish/vendor_completions.d/convoy.fish"),
    ] {
        let script = capture(Command::new(&convoy).args(["completions", shell]))?.ok()?;
        tree.write(file, &script)?;
    }
    let pages = tree.place("usr/share/man/man1/x")?.with_file_name("");
    capture(Command::new(&convoy).arg("man").arg(&pages))?.ok()?;
    for page in fs::read_dir(&pages).during(|| "cannot list the pages".to_owned())?.flatten() {
        capture(Command::new("gzip").args(["-9", "-n"]).arg(page.path()))?.ok()?;
    }
    tree.ship("debian/copyright", "usr/share/doc/convoy/copyright")?;
    for (file, mode) in DOCUMENTS {
        // Out of `packaging/`, where the checkout has it.
        let name = Path::new(file).strip_prefix("docs").unwrap_or(Path::new(file));
        let below = Path::new("usr/share/doc/convoy").join(name).display().to_string();
        tree.copy(&super::shipped().join("..").join(file), &below, *mode)?;
    }
    // What is shipped as a sample is right.
    let sample = tree.top.join("etc/convoy/convoy.toml");
    let said = capture(Command::new(&convoy).args(["config", "check"]).arg(sample))?.ok()?;
    check(said.contains("all well"), || said)?;
    Ok(tree.top)
}

/// The programs that are named after a driver's commands.
fn commands(programs: &Path, driver: &str) -> Result<Vec<String>> {
    let prefix = format!("convoy-{driver}-");
    let entries = fs::read_dir(programs).during(|| format!("cannot list {}", programs.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names.filter(|name| name.starts_with(&prefix) && !name.contains('.')).collect();
    found.sort();
    Ok(found)
}

struct Tree {
    top: PathBuf,
}

impl Tree {
    /// The path of a file, whose directory is made.
    fn place(&self, below: &str) -> Result<PathBuf> {
        let path = self.top.join(below);
        let parent = path.parent().unwrap_or(&self.top);
        fs::create_dir_all(parent).during(|| format!("cannot make {}", parent.display()))?;
        Ok(path)
    }

    fn copy(&self, from: &Path, below: &str, mode: u32) -> Result<()> {
        let to = self.place(below)?;
        let what = || format!("cannot copy {} to {}", from.display(), to.display());
        fs::copy(from, &to).during(what)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).during(what)
    }

    /// Copies a file of `packaging/`.
    fn ship(&self, from: &str, below: &str) -> Result<()> {
        self.copy(&super::shipped().join(from), below, 0o644)
    }

    fn write(&self, below: &str, text: &str) -> Result<()> {
        let path = self.place(below)?;
        fs::write(&path, text).during(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .during(|| format!("cannot write {}", path.display()))
    }
}
