//! What may be asked for: of the driver at its start, and of a volume at its creation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use convoy_driver_sdk::protocol::OptionSpec;
use convoy_driver_sdk::{options, size};

use crate::error::{VfsError, VfsResult};
use crate::layout::Layout;
use crate::record::StateFile;

/// Of an image for a virtual machine, where nothing is said: 100 GiB, as always.
const DEFAULT_SIZE: u64 = 100 << 30;

const PATH: &str = "vfs.path";
const SIZE: &str = "vfs.defaultvolumesize";
const STRICT: &str = "vfs.strictsize";
const VM: &str = "vm";
const UID: &str = "uid";
const GID: &str = "gid";
const MODE: &str = "mode";

pub(crate) fn driver_options() -> Vec<OptionSpec> {
    vec![
        OptionSpec::new(PATH, "directory that holds the volumes; hosts that share it share them")
            .default_value("<driver root>/volumes"),
        OptionSpec::new(SIZE, "size of an image made with --vm").default_value("100G"),
        OptionSpec::new(STRICT, "refuse a size that the file system cannot enforce").default_value("false"),
    ]
}

pub(crate) fn create_options() -> Vec<OptionSpec> {
    [
        OptionSpec::new(VM, "make an image for a virtual machine (disk.img) in the volume")
            .default_value("false"),
        OptionSpec::new(UID, "owner of the volume's directory, as a number").default_value("0"),
        OptionSpec::new(GID, "group of the volume's directory, as a number").default_value("0"),
        OptionSpec::new(MODE, "permissions of the volume's directory, octal").default_value("0700"),
    ]
    .map(OptionSpec::for_docker)
    .into()
}

/// The driver's options, the saved ones and the defaults, in one.
#[derive(Debug)]
pub(crate) struct DriverOptions {
    pub(crate) layout: Layout,
    pub(crate) default_size: u64,
    /// Whether sizes that the file system cannot enforce are refused. It is not saved.
    pub(crate) strict_size: bool,
    /// What is to be saved, if it is not saved yet.
    pub(crate) unsaved: Option<StateFile>,
}

impl DriverOptions {
    /// `override_saved`: what is given replaces what an earlier start saved, and is saved in its place.
    pub(crate) fn parse(
        root: PathBuf,
        given: &BTreeMap<String, String>,
        override_saved: bool,
    ) -> VfsResult<Self> {
        options::check(&driver_options(), given)?;
        let strict_size = truth(STRICT, given)?;
        let file = Layout::state_file(&root);
        let saved = StateFile::load(&file)?;
        let given_path = given.get(PATH).map(PathBuf::from);
        if let Some(path) = given_path.as_ref().filter(|path| !path.is_absolute()) {
            return Err(VfsError::BadOption {
                name: PATH,
                value: path.display().to_string(),
                expected: "an absolute path",
            });
        }
        let given_size = given
            .get(SIZE)
            .map(|text| {
                size::parse(text).ok().filter(|size| *size > 0).ok_or_else(|| VfsError::BadOption {
                    name: SIZE,
                    value: text.clone(),
                    expected: "bytes, or a whole number followed by K, M, G or T (10G)",
                })
            })
            .transpose()?;
        let differs = |option, saved: String, given: String| {
            Err(VfsError::ConfigDiffers { option, saved, given, file: file.clone() })
        };
        if let Some(saved) = saved.as_ref().filter(|_| !override_saved) {
            if let Some(path) = given_path.as_ref().filter(|path| **path != saved.path) {
                return differs(PATH, saved.path.display().to_string(), path.display().to_string());
            }
            if let Some(size) = given_size.filter(|size| *size != saved.default_volume_size) {
                return differs(SIZE, saved.default_volume_size.to_string(), size.to_string());
            }
        }
        let saved_path = saved.as_ref().map(|saved| saved.path.clone());
        let saved_size = saved.as_ref().map(|saved| saved.default_volume_size);
        let path = given_path.or(saved_path.clone()).unwrap_or_else(|| root.join("volumes"));
        let default_size = given_size.or(saved_size).unwrap_or(DEFAULT_SIZE);
        let layout = Layout { root, path };
        if saved_path.as_ref() == Some(&layout.path) && !layout.config().is_dir() {
            return Err(VfsError::PathGone(layout.path));
        }
        let changed = saved_path.as_ref() != Some(&layout.path) || saved_size != Some(default_size);
        let unsaved = changed.then(|| StateFile {
            root: layout.root.clone(),
            path: layout.path.clone(),
            config_path: layout.config(),
            default_volume_size: default_size,
        });
        Ok(Self { layout, default_size, strict_size, unsaved })
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CreateOptions {
    pub(crate) vm: bool,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mode: Option<u32>,
}

impl CreateOptions {
    pub(crate) fn parse(given: &BTreeMap<String, String>) -> VfsResult<Self> {
        options::check(&create_options(), given)?;
        let bad = |name, expected| {
            move |value: &String| VfsError::BadOption { name, value: value.clone(), expected }
        };
        let id = |name| {
            given
                .get(name)
                // The highest number means "leave as it is" to the kernel.
                .map(|text| text.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or(text))
                .transpose()
                .map_err(bad(name, "a number from 0 to 4294967294"))
        };
        let vm = truth(VM, given)?;
        let mode = given
            .get(MODE)
            .map(|text| u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or(text))
            .transpose()
            .map_err(bad(MODE, "octal permissions such as 0750"))?;
        Ok(Self { vm, uid: id(UID)?, gid: id(GID)?, mode })
    }

    /// What a restore has to be told again.
    pub(crate) fn for_restore(vm: bool) -> BTreeMap<String, String> {
        vm.then(|| (VM.to_owned(), "true".to_owned())).into_iter().collect()
    }

    pub(crate) fn changes_directory(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.mode.is_some()
    }
}

/// The value of an option that is true or false, and false where it is not given.
fn truth(name: &'static str, given: &BTreeMap<String, String>) -> VfsResult<bool> {
    match given.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(VfsError::BadOption { name, value: other.to_owned(), expected: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// A new option is to be given its place here: see [`OptionSpec::docker`].
    #[test]
    fn every_create_option_is_for_dockers_users_or_not() {
        let told = create_options();
        let told: Vec<_> = told.iter().map(|option| (option.name.as_str(), option.docker)).collect();
        assert_eq!(told, [(VM, true), (UID, true), (GID, true), (MODE, true)]);
    }

    #[test]
    fn create_options_are_parsed_or_refused() {
        let options =
            CreateOptions::parse(&map(&[("vm", "true"), ("uid", "1000"), ("mode", "02775")])).unwrap();
        assert_eq!(options, CreateOptions { vm: true, uid: Some(1000), gid: None, mode: Some(0o2775) });
        for bad in [
            ("uid", "root"),
            ("uid", "-1"),
            ("gid", "4294967295"),
            ("mode", "rwx"),
            ("mode", "10000"),
            ("vm", "1"),
        ] {
            assert!(matches!(CreateOptions::parse(&map(&[bad])), Err(VfsError::BadOption { .. })), "{bad:?}");
        }
        let error = CreateOptions::parse(&map(&[("sise", "1G")])).unwrap_err();
        let error = convoy_driver_sdk::DriverError::from(error);
        assert_eq!(error.hint.unwrap(), "known options: vm, uid, gid, mode");
    }
}
