//! Which files may run inside the daemon, or as root beside it.
//!
//! A driver has all the rights of the host. So nobody may be able to change a driver, or put one in its
//! place, who could not change the host itself: root, the user the host runs as, and whoever may write the
//! host's own executable (in a build directory, the developer).

use crate::LoadError;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The users and groups that may own or change the files of drivers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Trust {
    /// Root, this user, and those who may write this program.
    pub fn of_this_program() -> Self {
        let mut trust = Self { users: vec![0, rustix::process::geteuid().as_raw()], groups: Vec::new() };
        if let Ok(program) = std::fs::metadata("/proc/self/exe") {
            trust.users.push(program.uid());
            if program.mode() & GROUP_WRITES != 0 {
                trust.groups.push(program.gid());
            }
        }
        trust
    }

    /// Trusts these users and groups alone.
    pub fn of(users: &[u32], groups: &[u32]) -> Self {
        Self { users: users.to_vec(), groups: groups.to_vec() }
    }

    /// Checks a driver's file and every directory above it, and gives its path without symbolic links.
    ///
    /// # Errors
    /// [`LoadError::Untrusted`]; [`LoadError::NoFile`], [`LoadError::NotAFile`] if no file is there.
    pub fn check(&self, path: &Path) -> Result<PathBuf, LoadError> {
        let start = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                LoadError::NoFile { path: path.to_owned() }
            }
            _ => LoadError::Start { action: "open", path: path.to_owned(), reason: error.to_string() },
        };
        let real = path.canonicalize().map_err(start)?;
        if !real.metadata().map_err(start)?.is_file() {
            return Err(LoadError::NotAFile { path: path.to_owned() });
        }
        for part in real.ancestors() {
            if let Some(flaw) = self.flaw(&part.metadata().map_err(start)?) {
                let reason = format!("{} {flaw}", part.display());
                return Err(LoadError::Untrusted { path: path.to_owned(), culprit: part.to_owned(), reason });
            }
        }
        Ok(real)
    }

    fn flaw(&self, found: &Metadata) -> Option<String> {
        // In a sticky directory nobody can replace what is not theirs.
        let sticky = found.is_dir() && found.mode() & STICKY != 0;
        if !self.users.contains(&found.uid()) {
            return Some(format!("belongs to user {}, who is not trusted", found.uid()));
        }
        if found.mode() & OTHERS_WRITE != 0 && !sticky {
            return Some(format!("can be written by everybody (mode {:o})", found.mode() & 0o7777));
        }
        if found.mode() & GROUP_WRITES != 0 && !sticky && !self.groups.contains(&found.gid()) {
            return Some(format!(
                "can be written by group {} (mode {:o})",
                found.gid(),
                found.mode() & 0o7777
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn refuses_what_others_can_change() {
        let dir = tempfile::tempdir().unwrap();
        let drivers = dir.path().join("drivers");
        std::fs::create_dir(&drivers).unwrap();
        let file = drivers.join("convoy-driver-x1");
        std::fs::write(&file, "").unwrap();
        let own = rustix::process::geteuid().as_raw();
        let trust = Trust::of(&[0, own], &[]);
        let mode = |path: &Path, mode| set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let reason = |trust: &Trust| trust.check(&file).unwrap_err().to_string();

        mode(&drivers, 0o755);
        mode(&file, 0o755);
        assert_eq!(trust.check(&file).unwrap(), file);
        for (bad, expected) in [(0o775, "group"), (0o757, "everybody")] {
            mode(&file, bad);
            assert!(reason(&trust).contains(expected));
        }
        mode(&file, 0o775);
        let gid = file.metadata().unwrap().gid();
        trust_group_only_if_told(&trust, &file, own, gid);
        mode(&file, 0o755);
        mode(&drivers, 0o777);
        assert!(reason(&trust).contains("drivers can be written by everybody"));
        // What is to be changed is the directory.
        let hint = trust.check(&file).unwrap_err().hint();
        assert!(hint.ends_with(&format!("chmod go-w {}", drivers.display())), "{hint}");
        mode(&drivers, 0o1777);
        trust.check(&file).unwrap();
        mode(&drivers, 0o755);
        if own == 0 {
            chown(&file, Some(12345), None).unwrap();
            assert!(reason(&trust).contains("belongs to user 12345"));
            Trust::of(&[0, 12345], &[]).check(&file).unwrap();
        }
        assert!(trust.check(&drivers).unwrap_err().to_string().contains("no regular file"));
        for nothing in [drivers.join("none"), file.join("below")] {
            let error = trust.check(&nothing).unwrap_err();
            assert_eq!(error.to_string(), format!("there is no file {}", nothing.display()));
            assert!(error.hint().contains("convoy-driver-NAME"));
        }
    }

    fn trust_group_only_if_told(trust: &Trust, file: &Path, own: u32, gid: u32) {
        assert!(trust.check(file).is_err());
        Trust::of(&[0, own], &[gid]).check(file).unwrap();
    }

    #[test]
    fn a_link_is_judged_by_what_it_points_to() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("real");
        std::fs::write(&file, "").unwrap();
        set_permissions(&file, Permissions::from_mode(0o777)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(Trust::of_this_program().check(&link).is_err());
        set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Trust::of_this_program().check(&link).unwrap(), file);
    }
}
