//! The tree of files that is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Context, Result, check};
use crate::run::capture;

/// Where drivers are looked for without being told.
const DRIVERS: &str = "usr/lib/convoy/drivers";

/// Where documents go.
const DOCUMENTATION: &str = "usr/share/doc/convoy";

/// What an author of drivers needs who has no checkout, beside `docs/`.
const DOCUMENTS: &[(&str, u32)] = &[
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
    tree.program(&programs.join("convoy"), "usr/bin/convoy", 0o755)?;
    for driver in drivers {
        for file in super::files(driver) {
            let mode = if file.ends_with(".so") { 0o644 } else { 0o755 };
            tree.program(&programs.join(&file), &format!("{DRIVERS}/{file}"), mode)?;
        }
        // The commands that come with a driver: `convoy NAME COMMAND`.
        for command in commands(programs, driver)? {
            tree.program(&programs.join(&command), &format!("{DRIVERS}/{command}"), 0o755)?;
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
    // Out of `packaging/`, where the checkout has it.
    let checkout = super::shipped().join("..");
    tree.ship("debian/copyright", &format!("{DOCUMENTATION}/copyright"))?;
    tree.copy_all(&checkout.join("docs"), DOCUMENTATION)?;
    for example in ["examples/compose", "examples/swarm"] {
        tree.copy_all(&checkout.join(example), &format!("{DOCUMENTATION}/{example}"))?;
    }
    for (file, mode) in DOCUMENTS {
        tree.copy(&checkout.join(file), &format!("{DOCUMENTATION}/{file}"), *mode)?;
    }
    let changelog = format!("{DOCUMENTATION}/changelog");
    tree.copy(&checkout.join("CHANGELOG.md"), &changelog, 0o644)?;
    capture(Command::new("gzip").args(["-9", "-n"]).arg(top.join(changelog)))?.ok()?;
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

    /// Copies a program or library without the symbols that only a debugger reads: a quarter of it.
    fn program(&self, from: &Path, below: &str, mode: u32) -> Result<()> {
        self.copy(from, below, mode)?;
        capture(Command::new("strip").arg("--strip-unneeded").arg(self.top.join(below)))?.ok().map(|_| ())
    }

    /// Copies a directory with all that is in it.
    fn copy_all(&self, from: &Path, below: &str) -> Result<()> {
        let what = || format!("cannot list {}", from.display());
        for entry in fs::read_dir(from).during(what)? {
            let path = entry.during(what)?.path();
            let to = Path::new(below).join(path.file_name().unwrap_or_default()).display().to_string();
            if path.is_dir() { self.copy_all(&path, &to)? } else { self.copy(&path, &to, 0o644)? }
        }
        Ok(())
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
