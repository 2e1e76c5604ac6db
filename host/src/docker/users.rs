//! The containers that use a volume.

use super::client::{Docker, DockerError};
use super::order::{self, Dependencies, PROJECT, Service};
use convoy_client::client::encode_query;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How long a container may take to stop: it may have been given long to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(900);

/// How long one may take to start: its volumes are mounted before.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// The label of a container that a Swarm keeps.
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

/// A container that uses a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeUser {
    /// Its id.
    #[serde(rename = "ID")]
    pub(crate) id: String,
    /// As people call it.
    pub(crate) name: String,
    /// The service of a Swarm that it is a task of; empty: none.
    #[serde(skip)]
    pub(crate) swarm_service: String,
}

/// A container, as the engine lists it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    id: String,
    names: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    mounts: Option<Vec<Mount>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Mount {
    #[serde(rename = "Type")]
    kind: String,
    name: String,
    driver: String,
    /// Where it is on the host.
    source: String,
}

/// What containers have of a volume.
#[derive(Debug, Clone, Copy)]
pub(crate) enum MountSource<'a> {
    /// A volume of a plugin, by its name.
    Plugin(&'a str),
    /// A directory of the host, or one below it: Docker's own volumes and bind mounts.
    Directory(&'a Path),
}

impl Listed {
    fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.labels.as_ref().unwrap_or(&NONE)
    }

    /// The engine's filter also finds what is mounted at a path of that name, and its own volumes.
    fn uses(&self, wanted: MountSource<'_>) -> bool {
        let is_it = |mount: &Mount| match wanted {
            MountSource::Plugin(name) => {
                mount.kind == "volume" && mount.name == name && mount.driver != "local"
            }
            MountSource::Directory(path) => Path::new(&mount.source).starts_with(path),
        };
        match &self.mounts {
            Some(mounts) => mounts.iter().any(is_it),
            // The engine's filter chose it.
            None => matches!(wanted, MountSource::Plugin(_)),
        }
    }
}

impl Docker {
    /// The containers that run and use a volume, in the order in which they are to be started: in a Compose
    /// project whoever is waited for comes first.
    pub(crate) async fn users(&self, source: MountSource<'_>) -> Result<Vec<VolumeUser>, DockerError> {
        let mut filters = json!({ "status": ["running", "paused", "restarting"] });
        if let MountSource::Plugin(name) = source {
            filters["volume"] = json!([name]);
        }
        let mut found: Vec<Listed> = self.list(&filters, false).await?;
        found.retain(|container| container.uses(source));
        let projects: BTreeSet<&String> = found.iter().filter_map(|it| it.labels().get(PROJECT)).collect();
        let mut dependencies = Dependencies::default();
        for project in projects {
            // Others of the project may stand between two that use the volume.
            let filters = json!({ "label": [format!("{PROJECT}={project}")] });
            for container in self.list(&filters, true).await? {
                dependencies.add(container.labels());
            }
        }
        let depths = dependencies.depths();
        let mut users: Vec<(usize, VolumeUser)> = found.iter().map(|it| user(it, &depths)).collect();
        users.sort_by(|(depth, user), (other_depth, other)| {
            (depth, &user.name, &user.id).cmp(&(other_depth, &other.name, &other.id))
        });
        Ok(users.into_iter().map(|(_, user)| user).collect())
    }

    async fn list(&self, filters: &serde_json::Value, all: bool) -> Result<Vec<Listed>, DockerError> {
        let filters = encode_query(&filters.to_string());
        self.ask(&format!("/containers/json?all={all}&filters={filters}")).await
    }

    /// Stops a container, as `docker stop` does. One that does not run any more is stopped.
    pub(crate) async fn stop(&self, user: &VolumeUser) -> Result<(), DockerError> {
        gone_is_fine(self.act(&format!("/containers/{}/stop", user.id), STOP_PATIENCE).await).map(drop)
    }

    /// Starts a container. False if it is no longer there.
    pub(crate) async fn start(&self, user: &VolumeUser) -> Result<bool, DockerError> {
        gone_is_fine(self.act(&format!("/containers/{}/start", user.id), START_PATIENCE).await)
    }
}

/// Whether a container was there.
fn gone_is_fine(done: Result<(), DockerError>) -> Result<bool, DockerError> {
    match done {
        Ok(()) => Ok(true),
        Err(DockerError::Refused { status: 404, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn user(listed: &Listed, depths: &BTreeMap<Service, usize>) -> (usize, VolumeUser) {
    let service = order::service(listed.labels());
    let depth = service.and_then(|service| depths.get(&service)).copied().unwrap_or_default();
    let name =
        listed.names.iter().flatten().next().map_or(listed.id.as_str(), |it| it.trim_start_matches('/'));
    let swarm_service = listed.labels().get(SWARM_SERVICE).cloned().unwrap_or_default();
    (depth, VolumeUser { id: listed.id.clone(), name: name.to_owned(), swarm_service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_uses_the_volume_counts() {
        let listed =
            |mounts: &str| serde_json::from_str::<Listed>(&format!("{{\"Mounts\":{mounts}}}")).unwrap();
        for (mounts, uses) in [
            (r#"[{"Type":"volume","Name":"data","Driver":"convoy"}]"#, true),
            (r#"[{"Type":"volume","Name":"data","Driver":"local"}]"#, false),
            (r#"[{"Type":"volume","Name":"other","Driver":"convoy"}]"#, false),
            (r#"[{"Type":"bind","Destination":"data"}]"#, false),
            ("null", true),
        ] {
            assert_eq!(listed(mounts).uses(MountSource::Plugin("data")), uses, "{mounts}");
        }
        for (source, uses) in [
            ("/srv/data", true),
            ("/srv/data/below", true),
            ("/srv/data2", false),
            ("/srv", false),
            ("", false),
        ] {
            let mounts = format!(r#"[{{"Type":"bind","Source":"{source}"}}]"#);
            let directory = MountSource::Directory(Path::new("/srv/data"));
            assert_eq!(listed(&mounts).uses(directory), uses, "{mounts}");
        }
    }
}
