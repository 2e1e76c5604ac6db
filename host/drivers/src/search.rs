//! Where drivers are looked for.

use crate::spec::{Carrier, file_name, name_of_file};
use convoy_driver_sdk::Name;
use std::path::{Path, PathBuf};

/// Where packages install drivers.
pub const SYSTEM_DIR: &str = "/usr/lib/convoy/drivers";

/// Directories with drivers, the first preferred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchPath {
    dirs: Vec<PathBuf>,
}

impl SearchPath {
    /// These (`--driver-path`), then `drivers` beside the executable, its own directory, and [`SYSTEM_DIR`].
    pub fn standard(extra: &[PathBuf]) -> Self {
        let mut dirs = extra.to_vec();
        if let Some(own) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            dirs.push(own.join("drivers"));
            dirs.push(own.to_owned());
        }
        dirs.push(PathBuf::from(SYSTEM_DIR));
        Self { dirs }
    }

    /// A search of these directories alone.
    pub fn only(dirs: &[PathBuf]) -> Self {
        Self { dirs: dirs.to_vec() }
    }

    /// The directories, in the order they are searched.
    pub fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }

    /// The first file of that name and carrier.
    pub fn find(&self, name: &Name, carrier: Carrier) -> Option<PathBuf> {
        let file = file_name(name, carrier)?;
        self.dirs.iter().map(|dir| dir.join(&file)).find(|path| path.is_file())
    }

    /// Every driver there is, as they would be found: sorted by name, the preferred carrier first.
    pub fn list(&self) -> Vec<(Name, Carrier, PathBuf)> {
        let mut found: Vec<(Name, Carrier, PathBuf)> = Vec::new();
        for entry in self.dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
            let path = entry.path();
            if let Some((name, carrier)) = name_of_file(&path)
                && path.is_file()
                && !found.iter().any(|(known, of, _)| *known == name && *of == carrier)
            {
                found.push((name, carrier, path));
            }
        }
        found.sort();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_wins() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let put = |dir: &tempfile::TempDir, file: &str| std::fs::write(dir.path().join(file), "").unwrap();
        put(&two, "convoy-driver-my-store");
        put(&two, "libconvoy_driver_my_store.so");
        put(&two, "convoy-driver-x.d");
        put(&two, "libother.so");
        put(&one, "convoy-driver-my-store");
        let path = SearchPath::only(&[one.path().to_owned(), "/nowhere".into(), two.path().to_owned()]);
        let name = Name::from_static("my-store");
        assert_eq!(path.find(&name, Carrier::Process).unwrap(), one.path().join("convoy-driver-my-store"));
        assert_eq!(
            path.find(&name, Carrier::Library).unwrap(),
            two.path().join("libconvoy_driver_my_store.so")
        );
        assert_eq!(path.find(&Name::from_static("none"), Carrier::Process), None);
        let names: Vec<_> =
            path.list().into_iter().map(|(name, carrier, _)| format!("{carrier}:{name}")).collect();
        assert_eq!(names, ["process:my-store", "library:my_store", "process:x.d"]);
    }
}
