//! What Docker's users may ask for. Whoever may call Docker is not thereby an operator of this host: a create
//! that comes from Docker names no address, no key, and no place that the settings do not name.

use crate::error::{Error, Result};
use convoy_driver_sdk::Name;
use convoy_objectstore::{Destination, Location};
use std::collections::BTreeSet;

/// What Docker's users may ask for beside what everybody may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerRules {
    /// Options of creates that their drivers leave to operators: `DRIVER.OPTION`.
    options: BTreeSet<String>,
    /// Where the backups are that they may restore.
    places: Vec<Location>,
}

impl DockerRules {
    /// Takes the setting `docker-options` and the places that the settings name.
    pub fn new(options: &[String], places: Vec<Location>) -> Result<Self, String> {
        let is_whole = |option: &&String| {
            option.split_once('.').is_some_and(|(driver, name)| !driver.is_empty() && !name.is_empty())
        };
        match options.iter().find(|option| !is_whole(option)) {
            Some(wrong) => Err(format!("expected DRIVER.OPTION, like ebs.id, found {wrong:?}")),
            None => Ok(Self { options: options.iter().cloned().collect(), places }),
        }
    }

    /// Refuses an option that its driver leaves to operators, unless the settings allow it.
    ///
    /// # Errors
    /// [`Error::NotForDocker`], with the line to add to the settings.
    pub fn check_option(&self, driver: &Name, option: &str) -> Result<()> {
        let asked = format!("{driver}.{option}");
        if self.options.contains(&asked) {
            return Ok(());
        }
        let all: Vec<_> = self.options.iter().chain([&asked]).map(|option| format!("{option:?}")).collect();
        Err(Error::NotForDocker {
            what: format!("the option {option} of driver {driver} is for operators, not for Docker's users"),
            hint: format!(
                "to let them give it, set docker-options = [{}] in convoy.toml and reload; an operator makes \
                 such a volume with `convoy create --opt {option}=...`",
                all.join(", ")
            ),
        })
    }

    /// Refuses to read backups anywhere but where the settings say: in a directory that they name, itself and
    /// not one below it, since containers may write, and plant links, below it; in a bucket below the path
    /// that they name, where there are no links.
    ///
    /// # Errors
    /// [`Error::NotForDocker`], with the line to add to the settings.
    pub fn check_destination(&self, destination: &Destination) -> Result<()> {
        if self.places.iter().any(|place| place.admits(destination.place())) {
            return Ok(());
        }
        Err(Error::NotForDocker {
            what: format!(
                "Docker's users restore only from destinations that the settings name, and {destination} is \
                 none of them"
            ),
            hint: format!(
                "to let them, add the line [destinations.{:?}] to convoy.toml and reload; an operator \
                 restores from it with `convoy create --backup`",
                destination.to_string()
            ),
        })
    }

    /// What the option `endpoint` is answered with.
    pub fn no_endpoint() -> Error {
        Error::NotForDocker {
            what: "the option endpoint is for operators, not for Docker's users".to_owned(),
            hint: "set it for the destination in convoy.toml, endpoint = \"https://...\" below \
                   [destinations.\"s3://BUCKET/\"], and leave it out here"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(options: &[&str], places: &[&str]) -> DockerRules {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let place = |url: &&str| url.parse::<Destination>().unwrap().place().clone();
        DockerRules::new(&options, places.iter().map(place).collect()).unwrap()
    }

    #[test]
    fn only_what_the_settings_name_is_read() {
        let rules = rules(&[], &["vfs:///srv/backups/", "s3://b1@r-1/hosts/", "s3://b2/"]);
        for allowed in [
            "vfs:///srv/backups",
            "vfs:///srv/./backups/",
            "s3://b1@r-1/hosts/",
            "s3://b1@r-1/hosts/web/",
            "s3://b2@r-9/",
            "s3://b2/a/b",
        ] {
            assert!(rules.check_destination(&allowed.parse().unwrap()).is_ok(), "{allowed}");
        }
        for refused in [
            "vfs:///",
            "vfs:///srv/",
            "vfs:///srv/backups/volume/",
            "vfs:///srv/backups/../backups2",
            "vfs:///srv/backups/%2e%2e/other",
            "vfs:///srv/backups2/",
            "s3://b1@r-1/",
            "s3://b1@r-1/hosts2/",
            "s3://b1@r-1/hosts/../other/",
            "s3://b1@r-1/hosts/%2e%2e/other/",
            "s3://b1@r-2/hosts/",
            "s3://b1/hosts/",
            "s3://b3/",
        ] {
            let destination: Destination = refused.parse().unwrap();
            let error = rules.check_destination(&destination).unwrap_err();
            assert!(error.full_text().contains(&format!("[destinations.{refused:?}]")), "{error}");
        }
    }

    #[test]
    fn a_refused_option_says_the_whole_line_to_write() {
        let rules = rules(&["ebs.id"], &[]);
        let (ebs, other) = (Name::from_static("ebs"), Name::from_static("other"));
        assert!(rules.check_option(&ebs, "id").is_ok());
        assert!(rules.check_option(&other, "id").is_err());
        let error = rules.check_option(&ebs, "kmskeyid").unwrap_err();
        assert!(error.full_text().contains("docker-options = [\"ebs.id\", \"ebs.kmskeyid\"]"), "{error}");
        for wrong in ["id", ".id", "ebs."] {
            let error = DockerRules::new(&[wrong.to_owned()], Vec::new()).unwrap_err();
            assert!(error.contains("DRIVER.OPTION") && error.contains(wrong), "{error}");
        }
    }
}
