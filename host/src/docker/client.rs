//! What is asked of Docker's engine over its socket: labels of volumes, and commands in containers.

use super::tail::Tail;
use bytes::{Bytes, BytesMut};
use convoy_client::client::encode_query;
use convoy_client::unix;
use convoy_schedule::select::Label;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the engine may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest answer to a question, in bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerError {
    /// Nobody answers at the engine's socket, or not as expected.
    #[error("cannot ask Docker at {}: {why}", socket.display())]
    Unreachable {
        /// The path of the socket.
        socket: PathBuf,
        /// The error of the system, of HTTP or of the text.
        why: String,
    },
    /// The engine refused the call.
    #[error("Docker refused {call}: {message}")]
    Refused {
        /// The method and path of the call.
        call: String,
        /// The status of HTTP.
        status: u16,
        /// What the engine said.
        message: String,
    },
}

/// The labels of volumes, by the name of the volume.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// Those that plugins keep.
    plugins: HashMap<String, BTreeMap<String, String>>,
    /// Those that Docker keeps itself: their names may be those of volumes of ours.
    own: HashMap<String, BTreeMap<String, String>>,
}

impl Labels {
    /// The labels of a volume of ours, or of Docker's own that is one of ours.
    pub(crate) fn of(&self, volume: &str, known_to_docker: bool) -> Option<&BTreeMap<String, String>> {
        let labels = if known_to_docker { &self.own } else { &self.plugins };
        labels.get(volume)
    }
}

/// A running container, as the engine lists it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
}

impl Container {
    /// As people call it.
    pub(crate) fn name(&self) -> &str {
        self.names.first().map_or(self.id.as_str(), |name| name.trim_start_matches('/'))
    }
}

/// How a command in a container ended.
#[derive(Debug)]
pub(crate) struct CommandExit {
    pub(crate) code: i64,
    /// The end of what it printed.
    pub(crate) output: Tail,
}

/// Docker's engine, by its socket.
#[derive(Debug, Clone)]
pub(crate) struct Docker {
    socket: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Volumes {
    volumes: Option<Vec<Volume>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Volume {
    name: String,
    driver: String,
    labels: Option<BTreeMap<String, String>>,
}

impl Docker {
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The labels of all volumes.
    pub(crate) async fn labels(&self) -> Result<Labels, DockerError> {
        let answer: Volumes = self.ask("/volumes").await?;
        let mut labels = Labels::default();
        for volume in answer.volumes.unwrap_or_default() {
            let of = if volume.driver == "local" { &mut labels.own } else { &mut labels.plugins };
            of.insert(volume.name, volume.labels.unwrap_or_default());
        }
        Ok(labels)
    }

    /// Running containers with all these labels that use a volume, if one is named.
    pub(crate) async fn containers(
        &self,
        labels: &[Label],
        volume: Option<&str>,
    ) -> Result<Vec<Container>, DockerError> {
        let labels: Vec<String> = labels.iter().map(ToString::to_string).collect();
        let mut filters = json!({ "status": ["running"], "label": labels });
        if let Some(volume) = volume {
            filters["volume"] = json!([volume]);
        }
        self.ask(&format!("/containers/json?filters={}", encode_query(&filters.to_string()))).await
    }

    /// Runs a command in a container to its end. Whoever stops waiting does not stop the command.
    pub(crate) async fn exec(
        &self,
        container: &str,
        command: &[String],
        environment: &[String],
        user: Option<&str>,
    ) -> Result<CommandExit, DockerError> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct ScheduledSnapshot {
            id: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Inspected {
            exit_code: Option<i64>,
        }
        let asked = json!({
            "AttachStdout": true, "AttachStderr": true, "Cmd": command, "Env": environment,
            "User": user.unwrap_or_default(),
        });
        let ScheduledSnapshot { id } = self.tell(&format!("/containers/{container}/exec"), &asked).await?;
        let start = format!("/exec/{id}/start");
        let response =
            self.send(Method::POST, &start, Some(&json!({ "Detach": false, "Tty": false }))).await?;
        let output = self.frames(response).await?;
        let Inspected { exit_code } = self.ask(&format!("/exec/{id}/json")).await?;
        // A command that printed all it had to say has ended, or is about to.
        Ok(CommandExit { code: exit_code.unwrap_or(-1), output })
    }

    /// Reads what a command prints: frames of 8 bytes, the length in the last four, and as many bytes as
    /// that.
    async fn frames(&self, response: Response<Incoming>) -> Result<Tail, DockerError> {
        let mut body = response.into_body();
        let mut pending = BytesMut::new();
        let mut output = Tail::default();
        let mut left = 0usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            pending.extend_from_slice(&data);
            loop {
                if left > 0 {
                    let taken = pending.split_to(left.min(pending.len()));
                    left -= taken.len();
                    output.push(&taken);
                }
                if left > 0 || pending.len() < 8 {
                    break;
                }
                let head = pending.split_to(8);
                let length = [head[4], head[5], head[6], head[7]];
                left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
        }
        Ok(output)
    }

    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, DockerError> {
        self.answer(Method::GET, path, None).await
    }

    async fn tell<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, DockerError> {
        self.answer(Method::POST, path, Some(body)).await
    }

    /// Makes a call that answers with nothing, or no sooner than `patience` not at all.
    pub(super) async fn act(&self, path: &str, patience: Duration) -> Result<(), DockerError> {
        let acting = async {
            let response = self.send(Method::POST, path, None).await?;
            self.bytes(response).await.map(drop)
        };
        match tokio::time::timeout(patience, acting).await {
            Ok(done) => done,
            Err(_) => Err(self.unreachable(&format_args!("no answer within {} s", patience.as_secs()))),
        }
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, DockerError> {
        let asking = async {
            let response = self.send(method, path, body).await?;
            let bytes = self.bytes(response).await?;
            serde_json::from_slice(&bytes).map_err(|error| self.unreachable(&error))
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(self.unreachable(&format_args!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, DockerError> {
        let call = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let body = body.map(|body| body.to_string().into_bytes());
        let sent = unix::send(&self.socket, "docker", method, path, &[], body).await;
        let response = sent.map_err(|error| self.unreachable(&error))?;
        // A container that is as it was to be is "not modified".
        let also = [StatusCode::SWITCHING_PROTOCOLS, StatusCode::NOT_MODIFIED];
        if response.status().is_success() || also.contains(&response.status()) {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.bytes(response).await?;
        let told: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let message = told["message"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(DockerError::Refused { call, status: status.as_u16(), message })
    }

    async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes, DockerError> {
        let limited = http_body_util::Limited::new(response.into_body(), MAX_ANSWER_BYTES);
        limited
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> DockerError {
        DockerError::Unreachable { socket: self.socket.clone(), why: why.to_string() }
    }
}
