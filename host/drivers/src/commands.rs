//! Commands of driver packages: programs beside a driver that its package brings along.
//!
//! `convoy NAME COMMAND` runs `convoy-NAME-COMMAND`, as git runs its subcommands, from a directory that
//! drivers are looked for in. It gets all rights of whoever runs it, so it is trusted as a driver is, and
//! only where the driver it belongs to is installed.

use crate::{Carrier, LoadError, SearchPath, trust::Trust};
use convoy_driver_sdk::Name;
use std::path::{Path, PathBuf};

/// A command that a driver's package brings along.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DriverCommand {
    /// The driver, as it is written on the command line.
    pub driver: String,
    /// The command, as a user writes it.
    pub command: String,
    /// The program, not yet trusted.
    pub program: PathBuf,
}

impl DriverCommand {
    /// The program, if nobody could have changed it who could not change the host.
    pub fn trusted(&self) -> Result<PathBuf, LoadError> {
        Trust::of_this_program().check(&self.program)
    }
}

/// The commands of the drivers that are installed, sorted; of two programs of one name the one that is found
/// first.
pub fn list(search: &SearchPath) -> Vec<DriverCommand> {
    let mut drivers: Vec<String> = Vec::new();
    for (name, carrier, _) in search.list() {
        drivers.push(name.to_string());
        // The names of libraries have `_` for `-`.
        if carrier == Carrier::Library {
            drivers.push(name.replace('_', "-"));
        }
    }
    drivers.sort();
    drivers.dedup();
    let mut found: Vec<DriverCommand> = Vec::new();
    for entry in search.dirs().iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        let (program, file) = (entry.path(), entry.file_name());
        let Some(file) = file.to_str() else { continue };
        // The longest name is meant where one driver's begins with another's.
        let parts = drivers.iter().filter_map(|driver| Some((driver, command(file, driver)?)));
        let Some((driver, command)) = parts.max_by_key(|(driver, _)| driver.len()) else { continue };
        let known = found.iter().any(|known| known.driver == *driver && known.command == command);
        if !known && is_program(&program) {
            found.push(DriverCommand { driver: driver.clone(), command: command.to_owned(), program });
        }
    }
    found.sort();
    found
}

/// What follows a driver's name in the name of a program. A driver's own program (`convoy-driver-NAME`) is no
/// command.
fn command<'a>(file: &'a str, driver: &str) -> Option<&'a str> {
    let command = file.strip_prefix("convoy-")?.strip_prefix(driver)?.strip_prefix('-')?;
    (driver != "driver" && is_word(command)).then_some(command)
}

/// Letters, digits and dashes: neither a path nor what a build leaves beside a program (`x.d`).
fn is_word(text: &str) -> bool {
    Name::parse(text).is_ok() && !text.contains('.')
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn put(dir: &tempfile::TempDir, file: &str, mode: u32) {
        let path = dir.path().join(file);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn only_programs_of_installed_drivers_are_commands() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for file in ["convoy-driver-my-store", "libconvoy_driver_my_disk.so", "convoy-driver-my"] {
            put(&two, file, 0o755);
        }
        for file in
            ["convoy-my-store-prepare", "convoy-my-disk-check", "convoy-other-prepare", "convoy-my-x.d"]
        {
            put(&two, file, 0o755);
        }
        put(&two, "convoy-my-notes", 0o644);
        put(&one, "convoy-my-store-prepare", 0o755);
        let found =
            list(&SearchPath::only(&[one.path().to_owned(), "/nowhere".into(), two.path().to_owned()]));
        let listed: Vec<_> =
            found.iter().map(|found| format!("{} {}", found.driver, found.command)).collect();
        assert_eq!(listed, ["my-disk check", "my-store prepare"]);
        assert_eq!(found[1].program, one.path().join("convoy-my-store-prepare"));
    }

    #[test]
    fn what_others_can_change_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir, "convoy-driver-x1", 0o755);
        put(&dir, "convoy-x1-go", 0o755);
        let found = list(&SearchPath::only(&[dir.path().to_owned()]));
        assert_eq!(found[0].trusted().unwrap(), dir.path().join("convoy-x1-go"));
        put(&dir, "convoy-x1-go", 0o757);
        assert!(found[0].trusted().unwrap_err().to_string().contains("everybody"));
    }
}
