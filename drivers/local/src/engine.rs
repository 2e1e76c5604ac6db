//! What is asked of an engine: Docker's, or Podman's, which answers the same questions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use convoy_driver_sdk::{Context, Name};
use hyper::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::{LocalError, LocalResult};
use crate::http::{self, HttpError};
use crate::options::plain;

/// How long an engine may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Of a volume that convoy had made: which driver it was, and which create.
pub(crate) const LABEL_DRIVER: &str = "convoy.driver";
pub(crate) const LABEL_ID: &str = "convoy.id";

/// The volumes of the driver `local` alone: for others, Docker would ask its plugins, and so convoy.
const OWN_VOLUMES: &str = "/volumes?filters=%7B%22driver%22%3A%5B%22local%22%5D%7D";

/// An engine, by its socket.
#[derive(Debug)]
pub(crate) struct Engine {
    socket: PathBuf,
}

/// A volume as an engine tells of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct VolumeAnswer {
    pub(crate) name: String,
    pub(crate) driver: String,
    pub(crate) mountpoint: String,
    pub(crate) created_at: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) options: Option<BTreeMap<String, String>>,
}

impl VolumeAnswer {
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }
}

/// A container as an engine lists it, running or not.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ContainerAnswer {
    pub(crate) id: String,
    pub(crate) names: Option<Vec<String>>,
    pub(crate) mounts: Option<Vec<MountAnswer>>,
}

impl ContainerAnswer {
    /// As people call it.
    pub(crate) fn name(&self) -> &str {
        let first = self.names.as_ref().and_then(|names| names.first());
        first.map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct MountAnswer {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) driver: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumesAnswer {
    volumes: Option<Vec<VolumeAnswer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InfoAnswer {
    docker_root_dir: String,
}

impl Engine {
    pub(crate) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn volumes(&self, context: &Context) -> LocalResult<Vec<VolumeAnswer>> {
        let answer: VolumesAnswer = self.read(&Method::GET, OWN_VOLUMES, None, context)?;
        Ok(answer.volumes.unwrap_or_default())
    }

    pub(crate) fn containers(&self, context: &Context) -> LocalResult<Vec<ContainerAnswer>> {
        self.read(&Method::GET, "/containers/json?all=1", None, context)
    }

    /// The directory in which the engine keeps what it has.
    pub(crate) fn data_root(&self, context: &Context) -> LocalResult<PathBuf> {
        let InfoAnswer { docker_root_dir } = self.read(&Method::GET, "/info", None, context)?;
        plain(&docker_root_dir).ok_or_else(|| {
            self.unreachable(format!(
                "expected the absolute path of its data root, found {docker_root_dir:?}"
            ))
        })
    }

    pub(crate) fn ping(&self, context: &Context) -> LocalResult<()> {
        self.send(&Method::GET, "/_ping", None, context).map(drop)
    }

    /// Has a volume made, or gives the one of that name: then it has another id.
    pub(crate) fn create(&self, name: &Name, id: &str, context: &Context) -> LocalResult<VolumeAnswer> {
        let labels = json!({ LABEL_DRIVER: "local", LABEL_ID: id });
        let body = json!({ "Name": name.as_str(), "Driver": "local", "Labels": labels });
        self.read(&Method::POST, "/volumes/create", Some(body.to_string().into_bytes()), context)
    }

    /// Has a volume removed. One that is gone is.
    pub(crate) fn remove(&self, name: &Name, context: &Context) -> LocalResult<()> {
        match self.send(&Method::DELETE, &format!("/volumes/{name}"), None, context) {
            Err(LocalError::EngineRefused { status: 404, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        context: &Context,
    ) -> LocalResult<T> {
        let bytes = self.send(method, path, body, context)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let call = path.split('?').next().unwrap_or_default();
            self.unreachable(format!("expected an answer of Docker's to {call}, found another: {error}"))
        })
    }

    fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<Vec<u8>>,
        context: &Context,
    ) -> LocalResult<Vec<u8>> {
        context.check()?;
        let patience = context.remaining().map_or(PATIENCE, |remaining| remaining.min(PATIENCE));
        let answer = match http::ask(&self.socket, method, path, body, patience) {
            Ok(answer) => answer,
            Err(HttpError::Stranger(user)) => {
                return Err(LocalError::Stranger { socket: self.socket.clone(), user });
            }
            Err(error) => {
                context.check()?;
                return Err(self.unreachable(error.to_string()));
            }
        };
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Refusal {
            message: String,
        }
        let Refusal { message } = serde_json::from_slice(&answer.body).unwrap_or_default();
        let message = if message.is_empty() { format!("status {}", answer.status) } else { message };
        let message = message.chars().take(1000).collect();
        let call = format!("{method} {}", path.split('?').next().unwrap_or_default());
        Err(LocalError::EngineRefused { call, status: answer.status, message })
    }

    fn unreachable(&self, why: String) -> LocalError {
        LocalError::Unreachable { socket: self.socket.clone(), why }
    }
}
