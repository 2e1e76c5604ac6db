//! What a create asks for.

use crate::docker_rules::DockerRules;
use crate::driver::ManagedDriver;
use crate::error::{Error, Result};
use crate::names::generated_name;
use crate::policies::DockerRemove;
use convoy_activity::jobs::About;
use convoy_client::types::CreateVolume as CreateRequest;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::size;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The create options every driver has always been sent, and which one that does not know them ignores.
const STANDARD: [&str; 4] = ["id", "type", "iops", "vm"];

/// The options of Docker's creates that are convoy's own and no driver's.
const OWN: [&str; 7] = ["driver", "size", "backup", "snapshot", "endpoint", "retain", "allow-losses"];

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateSpec {
    /// The driver; empty: the default one.
    pub driver: String,
    /// Bytes; `None`: the driver's default.
    pub size: Option<u64>,
    /// A backup to restore; empty: none.
    pub backup: String,
    /// A snapshot whose contents the volume begins with; empty: none.
    pub snapshot: String,
    /// A custom S3 endpoint for the backup; empty: none.
    pub endpoint: String,
    /// The file with the key of an encrypted backup; empty: none.
    pub encryption_key_file: String,
    /// The file with its passphrase; empty: none.
    pub passphrase_file: String,
    /// Whether a backup is restored that is not encrypted although a key is named. Docker's calls cannot say
    /// it.
    pub allow_unencrypted: bool,
    /// Keep what can be restored where the file system refuses a part of the backup.
    pub allow_losses: bool,
    /// What becomes of the data when Docker removes the volume; `None`: what holds for all.
    pub docker_remove: Option<DockerRemove>,
    /// Every other option by name, the standard ones among them.
    pub options: BTreeMap<String, String>,
    /// What Docker's users may ask for, if it is they who ask; `None`: an operator asks.
    pub docker: Option<Arc<DockerRules>>,
}

impl CreateSpec {
    /// Reads Docker's `-o` options. Those of drivers, and the backup, are held against the rules when they
    /// are used.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for a value that its option cannot have; [`Error::NotForDocker`].
    pub fn from_docker(options: BTreeMap<String, String>, rules: Arc<DockerRules>) -> Result<Self> {
        let mut spec = Self { docker: Some(rules), ..Self::default() };
        for (option, value) in options {
            match option.as_str() {
                "driver" => spec.driver = value,
                "size" => {
                    let bytes =
                        size::parse(&value).map_err(|error| Error::InvalidRequest(error.to_string()))?;
                    spec.size = (bytes > 0).then_some(bytes);
                }
                "backup" => spec.backup = value,
                "snapshot" => spec.snapshot = value,
                "endpoint" if value.is_empty() => {}
                "endpoint" => return Err(DockerRules::no_endpoint()),
                "allow-losses" => {
                    spec.allow_losses =
                        truth(&value).ok_or_else(|| invalid("allow-losses", &value, "true or false"))?;
                }
                "retain" => {
                    let policy = value
                        .parse::<DockerRemove>()
                        .map_err(|_| invalid("retain", &value, "keep or delete"))?;
                    spec.docker_remove = Some(policy);
                }
                "vm" => {
                    if truth(&value).ok_or_else(|| invalid("vm", &value, "true or false"))? {
                        spec.options.insert(option, "true".to_owned());
                    }
                }
                "iops" => match value.parse::<u64>() {
                    Ok(0) => {}
                    Ok(_) => drop(spec.options.insert(option, value)),
                    Err(_) => return Err(invalid("iops", &value, "a whole number")),
                },
                _ => drop(spec.options.insert(option, value)),
            }
        }
        Ok(spec)
    }

    /// Reads a request of the admin API: the volume's name, which is made up if none is given, and the rest.
    ///
    /// # Errors
    /// [`Error::InvalidVolumeName`]; [`Error::InvalidRequest`] for a value that its field cannot have.
    pub fn from_request(request: CreateRequest) -> Result<(Name, Self)> {
        let name = match request.name.as_str() {
            "" => generated_name("volume")?,
            name => Name::parse(name).map_err(|error| Error::InvalidVolumeName(error.0))?,
        };
        if i64::try_from(request.size).is_err() {
            let text = format!(
                "invalid size {}: more than the 9223372036854775807 bytes a device can have",
                request.size
            );
            return Err(Error::InvalidRequest(text));
        }
        let mut options = request.options;
        for (option, value) in [("id", request.driver_volume_id), ("type", request.kind)] {
            if !value.is_empty() {
                options.insert(option.to_owned(), value);
            }
        }
        if request.iops > 0 {
            options.insert("iops".to_owned(), request.iops.to_string());
        }
        if request.prepare_for_vm {
            options.insert("vm".to_owned(), "true".to_owned());
        }
        let docker_remove = options.remove("retain").map(|policy| policy.parse::<DockerRemove>()).transpose();
        let docker_remove = docker_remove
            .map_err(|why| Error::InvalidRequest(format!("invalid value of option retain: {why}")))?;
        let spec = Self {
            docker_remove,
            driver: request.driver_name,
            size: (request.size > 0).then_some(request.size),
            backup: request.backup_url,
            snapshot: request.snapshot_name,
            endpoint: request.endpoint,
            encryption_key_file: request.encryption_key_file,
            passphrase_file: request.passphrase_file,
            allow_unencrypted: request.allow_unencrypted,
            allow_losses: request.allow_losses,
            options,
            docker: None,
        };
        Ok((name, spec))
    }

    /// Refuses a volume that is to begin with a backup and with a snapshot, and an endpoint without a backup.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn check_sources(&self) -> Result<()> {
        let text = match (self.backup.is_empty(), self.snapshot.is_empty(), self.endpoint.is_empty()) {
            (true, _, false) => "Endpoint option can only be used when creating a volume from a backup.",
            (false, false, _) => "a volume begins with a backup or with a snapshot, not with both",
            _ => return Ok(()),
        };
        Err(Error::InvalidRequest(text.to_owned()))
    }

    /// Describes the making of the volume, for lists of jobs and for what is told of its failure.
    pub fn about(&self, name: &Name) -> About {
        let kind = match (self.backup.is_empty(), self.snapshot.is_empty()) {
            (false, _) => "restore",
            (true, false) => "snapshot clone",
            (true, true) => "volume create",
        };
        let about = About::volume(kind, name);
        About { snapshot: self.snapshot.clone(), url: self.backup.clone(), ..about }
    }

    /// Refuses an option of a driver that whoever asks may not give.
    ///
    /// # Errors
    /// [`Error::NotForDocker`].
    pub fn check_option(&self, driver: &ManagedDriver, option: &str) -> Result<()> {
        let Some(rules) = &self.docker else { return Ok(()) };
        let mut declared = driver.description().into_iter().flat_map(|told| &told.create_options);
        if declared.any(|known| known.name == option && known.docker) {
            return Ok(());
        }
        rules.check_option(driver.name(), option)
    }

    /// The options to give to a driver: those it declares. Standard ones that it does not declare are left
    /// out and logged.
    ///
    /// # Errors
    /// [`Error::UnknownOption`] for any other, with the known ones; [`Error::NotForDocker`].
    pub fn options_for(&self, driver: &ManagedDriver, volume: &Name) -> Result<BTreeMap<String, String>> {
        let Some(description) = driver.description() else { return Ok(self.options.clone()) };
        let declared = |name: &str| description.create_options.iter().any(|option| option.name == name);
        let mut options = BTreeMap::new();
        for (option, value) in &self.options {
            if declared(option) {
                self.check_option(driver, option)?;
                options.insert(option.clone(), value.clone());
            } else if STANDARD.contains(&option.as_str()) {
                tracing::warn!(%volume, driver = %driver.name(), option, "the driver has no such option: \
                    ignored");
            } else {
                let mut known: Vec<&str> =
                    description.create_options.iter().map(|option| option.name.as_str()).collect();
                known.extend(OWN);
                known.extend(STANDARD);
                known.sort_unstable();
                known.dedup();
                return Err(Error::UnknownOption {
                    driver: driver.name().clone(),
                    option: option.clone(),
                    known: known.join(", "),
                });
            }
        }
        Ok(options)
    }
}

fn invalid(option: &str, value: &str, expected: &str) -> Error {
    Error::InvalidRequest(format!("invalid value {value:?} of option {option}: expected {expected}"))
}

/// The spellings of truth that convoy has always understood.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(options: &[(&str, &str)]) -> Result<CreateSpec> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        CreateSpec::from_docker(options, Arc::default())
    }

    #[test]
    fn every_option_of_docker() {
        let all = spec(&[
            ("driver", "vfs"),
            ("size", "10G"),
            ("backup", "vfs:///b"),
            ("endpoint", ""),
            ("id", "vol-1"),
            ("type", "io1"),
            ("iops", "100"),
            ("vm", "1"),
            ("own.option", "a=b"),
        ])
        .unwrap();
        assert_eq!((all.driver.as_str(), all.size), ("vfs", Some(10 << 30)));
        let options: Vec<_> = all.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            options,
            [("id", "vol-1"), ("iops", "100"), ("own.option", "a=b"), ("type", "io1"), ("vm", "true")]
        );
        let nothing = CreateSpec { docker: Some(Arc::default()), ..CreateSpec::default() };
        assert_eq!(spec(&[("vm", "false"), ("size", "0"), ("iops", "0")]).unwrap(), nothing);
    }

    /// A new option, or a new field that one may set, is to be given its place here.
    #[test]
    fn every_option_is_for_dockers_users_or_refused() {
        for option in OWN.into_iter().chain(STANDARD) {
            let value = match option {
                "retain" => "keep",
                "vm" | "allow-losses" => "true",
                _ => "1",
            };
            let CreateSpec {
                // They concern the new volume alone.
                driver,
                size,
                docker_remove,
                // Anything in a volume is for Docker's users.
                snapshot,
                // Held against the settings before anything is read: see `Backups::restore` and
                // `Volumes::create`.
                backup,
                // Held against what the driver says of them: see `check_option`.
                options,
                // It concerns what is restored into the new volume alone.
                allow_losses,
                // Never.
                endpoint,
                encryption_key_file,
                passphrase_file,
                allow_unencrypted,
                docker,
            } = match spec(&[(option, value)]) {
                Ok(spec) => spec,
                Err(error) => {
                    assert!(option == "endpoint" && matches!(error, Error::NotForDocker { .. }), "{error}");
                    continue;
                }
            };
            assert_eq!(endpoint + &encryption_key_file + &passphrase_file, "", "{option}");
            assert!(docker.is_some() && !allow_unencrypted, "{option}");
            assert_eq!(allow_losses, option == "allow-losses");
            assert_eq!(!driver.is_empty(), option == "driver");
            assert_eq!(size.is_some(), option == "size");
            assert_eq!(docker_remove.is_some(), option == "retain");
            assert_eq!(!snapshot.is_empty(), option == "snapshot");
            assert_eq!(!backup.is_empty(), option == "backup");
            assert_eq!(options.contains_key(option), STANDARD.contains(&option), "{option}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_what_was_expected() {
        for (option, value) in [
            ("size", "ten"),
            ("size", "1.5G"),
            ("vm", "maybe"),
            ("retain", "forever"),
            ("iops", "x"),
            ("iops", "-1"),
        ] {
            let error = spec(&[(option, value)]).unwrap_err().to_string();
            assert!(error.contains(value) && error.contains("expected"), "{error}");
        }
    }
}
