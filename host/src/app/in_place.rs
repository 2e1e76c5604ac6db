//! A volume changed altogether, by a restore in place or a revert: who uses it is refused, or stopped and
//! started again.

use super::App;
use super::stopped::names;
use crate::docker::{Docker, DockerError, MountSource, VolumeUser};
use convoy_activity::jobs::Running;
use convoy_client::types::{RestoreParts, RestoreReport, RevertSnapshot};
use convoy_driver_sdk::protocol::Capability;
use convoy_driver_sdk::{ErrorKind, Name};
use convoy_drivers::RequestContext;
use convoy_volumes::{Alone, Entry, Error, HalfRestored, Result};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a volume may be in use after its containers have stopped: Docker takes its mounts back then.
const RELEASE: Duration = Duration::from_secs(60);
/// How often that is looked at.
const PERIOD: Duration = Duration::from_millis(50);
/// Where the data of a volume that Docker has itself is, and which engine has it, in what its driver tells.
const VOLUME_PATH: &str = "Path";
const VOLUME_ENGINE: &str = "Engine";
/// How often it is tried to start containers that an earlier daemon had stopped.
const RETRY: Duration = Duration::from_secs(10);

/// What became of containers that were stopped.
#[derive(Debug, Default)]
struct Restarted {
    started: Vec<String>,
    /// Those that do not run, each with the reason.
    failed: Vec<String>,
}

impl App {
    /// Brings parts of a backup or snapshot back into a volume, or makes a whole volume what they are.
    ///
    /// # Errors
    /// Those of [`Backups::restore_parts`](crate::backups::Backups::restore_parts) and
    /// [`Backups::restore_in_place`](crate::backups::Backups::restore_in_place); [`Error::InvalidRequest`]
    /// for what does not go together; [`Error::UsedBy`].
    pub async fn restore(
        &self,
        asked: &RestoreParts,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<RestoreReport> {
        check(asked)?;
        if !asked.in_place {
            return self.backups().restore_parts(asked, job, request_id).await;
        }
        if asked.dry_run {
            return self.backups().look_in_place(asked, job, request_id).await;
        }
        let (entry, alone) = self.volumes().take_alone(&asked.volume_name, &job.call(request_id)).await?;
        let volume = &entry.volume.name;
        let users = self.users_to_stop(&entry, asked.stop).await?;
        let ready = {
            let (app, volume, users, job) = (self.clone(), volume.clone(), users.clone(), Arc::clone(job));
            async move { app.stop(&volume, &users, &job).await }.boxed()
        };
        let work = self.backups().restore_in_place(asked, (&entry, &alone), ready, job, request_id);
        let done = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(super::broken()));
        let half = self.volumes().half_restored(&entry);
        let mut reverted = false;
        if let Some(half) = half.as_ref().filter(|_| !users.is_empty()) {
            reverted = self.take_back(&entry, &alone, half, request_id).await;
        }
        // Containers mount it when they start.
        drop(alone);
        let restarted = self.start_again(&entry).await;
        let unfinished = self.volumes().half_restored(&entry);
        match done {
            Ok(mut report) => {
                report.reverted = reverted;
                if unfinished.is_none() {
                    report.unfinished.clear();
                }
                (report.restarted, report.not_started) = (restarted.started, restarted.failed);
                Ok(report)
            }
            Err(error) => Err(with_end(error, &entry, reverted, unfinished.as_ref(), &restarted)),
        }
    }

    /// Takes a volume back to one of its snapshots, and if that is asked for stops who uses it meanwhile.
    ///
    /// # Errors
    /// Those of [`Volumes::revert`](convoy_volumes::Volumes::revert); [`Error::UsedBy`] and those of Docker.
    pub async fn revert(
        &self,
        asked: &RevertSnapshot,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<Entry> {
        let (snapshot, of) =
            (&asked.snapshot_name, Some(asked.volume_name.as_str()).filter(|it| !it.is_empty()));
        if !asked.stop {
            let entry = self.volumes().revert(snapshot, of, &job.call(request_id)).await?;
            self.start_again(&entry).await;
            return Ok(entry);
        }
        let (entry, _) = self.volumes().snapshot(snapshot, of)?;
        let (entry, alone) = self.volumes().take_alone(&entry.volume.name, &job.call(request_id)).await?;
        let volume = &entry.volume.name;
        if entry.driver.failure().is_none() && !entry.driver.can(Capability::Revert) {
            let what = "going back to a snapshot";
            return Err(Error::Unsupported { driver: entry.driver.name().clone(), what });
        }
        let users = self.users_to_stop(&entry, true).await?;
        let work = async {
            self.stop(volume, &users, job).await?;
            self.volumes().revert_as(Some(&alone), snapshot, Some(volume), &job.call(request_id)).await
        };
        let done = AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|_| Err(super::broken()));
        drop(alone);
        let restarted = self.start_again(&entry).await;
        if !restarted.failed.is_empty() {
            job.warn(restarted.failed.iter().map(|why| format!("a container does not run again: {why}")));
        }
        let unfinished = self.volumes().half_restored(&entry);
        done.map_err(|error| with_end(error, &entry, false, unfinished.as_ref(), &restarted))
    }

    /// Takes a volume as it is although a restore in place of it is not finished, and starts the containers
    /// that were stopped for that. Answers what was not finished.
    ///
    /// # Errors
    /// As [`Volumes::accept_half_restored`](convoy_volumes::Volumes::accept_half_restored).
    pub async fn accept_restore(&self, volume: &str, call: &RequestContext) -> Result<HalfRestored> {
        let half = self.volumes().accept_half_restored(volume, call).await?;
        tracing::warn!(volume, source = half.what(), "a half restored volume was taken as it is");
        if let Some(entry) = self.volumes().get(volume) {
            self.start_again(&entry).await;
        }
        Ok(half)
    }

    /// Starts containers that an earlier daemon had stopped and did not start again, as soon as Docker
    /// answers; or tells why they are left.
    pub async fn start_left_containers(self) {
        let mut told = false;
        loop {
            let mut left = false;
            for (volume, record) in self.stopped().all().unwrap_or_default() {
                match record {
                    Err(why) if !told => {
                        tracing::error!(%volume, why, "containers were stopped for this volume, and which they \
                            were cannot be read: start them, and remove the record");
                    }
                    Err(_) => {}
                    Ok(record) => left |= self.start_left(&volume, &names(&record.containers), !told).await,
                }
            }
            if !left {
                return;
            }
            told = true;
            tokio::select! {
                () = self.stopping().cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    fn docker(&self) -> Docker {
        Docker::at(&self.config().file.tables.scheduling.docker_socket)
    }

    /// Whether it is to be tried once more.
    async fn start_left(&self, volume: &Name, containers: &str, tell: bool) -> bool {
        let entry = self.volumes().get(volume);
        if let Some(half) = entry.as_ref().and_then(|entry| self.volumes().half_restored(entry)) {
            if tell {
                let ways = entry.as_ref().map(|entry| half.ways_out(entry)).unwrap_or_default();
                tracing::error!(%volume, containers, "these containers stay stopped: the volume is half \
                    restored. They are started after one of: {ways}");
            }
            return false;
        }
        let restarted = self.start_all(volume).await;
        if !restarted.started.is_empty() {
            let started = restarted.started.join(", ");
            tracing::info!(%volume, started, "started containers that had been stopped for a restore");
        }
        for why in restarted.failed.iter().filter(|_| tell) {
            tracing::error!(%volume, why, "a container that was stopped for a restore does not run: trying \
                again");
        }
        !restarted.failed.is_empty()
    }

    /// Who uses a volume and is to be stopped. Nobody else may use it.
    async fn users_to_stop(&self, entry: &Entry, stop: bool) -> Result<Vec<VolumeUser>> {
        let volume = &entry.volume.name;
        let used = match self.volumes().refuse_if_in_use(volume).await {
            Ok(()) => None,
            Err(error @ Error::UsedByContainers { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        if entry.is_known_to_docker() {
            // Docker mounts it without a word to us.
            let users = self.users_of_docker(entry).await?;
            return match stop || users.is_empty() {
                true => stoppable(users),
                false => Err(Error::UsedBy { volume: volume.clone(), containers: names(&users) }),
            };
        }
        let docker = self.docker();
        if !stop {
            let Some(error) = used else { return Ok(Vec::new()) };
            // Docker knows their names; that it cannot be asked changes nothing.
            let users = docker.users(MountSource::Plugin(volume)).await.unwrap_or_default();
            return Err(match users.is_empty() {
                true => error,
                false => Error::UsedBy { volume: volume.clone(), containers: names(&users) },
            });
        }
        match docker.users(MountSource::Plugin(volume)).await {
            Ok(users) => stoppable(users),
            // Who has it asks for it, and is refused from now on: there is nobody to stop.
            Err(error) if used.is_none() => {
                tracing::warn!(%volume, %error, "nobody uses the volume; Docker could not be asked");
                Ok(Vec::new())
            }
            Err(error) => Err(docker_error(error)),
        }
    }

    /// The containers that have the directory of a volume that Docker has itself.
    async fn users_of_docker(&self, entry: &Entry) -> Result<Vec<VolumeUser>> {
        let info = &entry.volume.info;
        let (Some(path), engine) = (info.get(VOLUME_PATH), info.get(VOLUME_ENGINE)) else {
            return Ok(Vec::new());
        };
        let ours = &self.config().file.tables.scheduling.docker_socket;
        let engine = engine.map_or(ours.as_path(), Path::new);
        let users = Docker::at(engine).users(MountSource::Directory(Path::new(path))).await;
        let users = users.map_err(docker_error)?;
        if users.is_empty() || engine == ours {
            return Ok(users);
        }
        let text = format!("containers of the engine at {} use it: {}", engine.display(), names(&users));
        let hint = "stop them, and restore without --stop: convoy stops containers of the engine in [scheduling] \
                    docker-socket alone";
        Err(Error::Backup { kind: ErrorKind::InUse, message: text, hint: Some(hint.to_owned()) })
    }

    /// Stops containers, whoever waits for others first, and waits until the volume is free. They are noted
    /// before.
    async fn stop(&self, volume: &Name, users: &[VolumeUser], job: &Running) -> Result<()> {
        if users.is_empty() {
            return Ok(());
        }
        self.stopped().add(volume, users)?;
        tracing::info!(%volume, containers = names(users), "stopping the containers that use this volume");
        let (docker, cancel) = (self.docker(), job.cancel());
        let stopping = async {
            for user in users.iter().rev() {
                docker.stop(user).await.map_err(docker_error)?;
            }
            let give_up = tokio::time::Instant::now() + RELEASE;
            while self.volumes().is_used(volume) && tokio::time::Instant::now() < give_up {
                tokio::time::sleep(PERIOD).await;
            }
            self.volumes().refuse_if_in_use(volume).await
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Cancelled("the work was cancelled".to_owned())),
            done = stopping => done,
        }
    }

    /// Takes a half restored volume back to the state of before. Whether that was possible.
    async fn take_back(&self, entry: &Entry, alone: &Alone, half: &HalfRestored, request_id: &str) -> bool {
        let volume = &entry.volume.name;
        if half.kept.is_empty() || !entry.driver.can(Capability::Revert) {
            return false;
        }
        // Not the job's call: a cancelled job goes back, too.
        let call = RequestContext::new(request_id);
        match self.volumes().revert_as(Some(alone), &half.kept, Some(volume), &call).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(%volume, snapshot = half.kept, %error, "a restore failed, and the volume could \
                    not be taken back");
                false
            }
        }
    }

    /// Starts what was stopped for a volume, unless that is half restored.
    async fn start_again(&self, entry: &Entry) -> Restarted {
        let volume = &entry.volume.name;
        if self.volumes().half_restored(entry).is_none() {
            return self.start_all(volume).await;
        }
        let left = self.stopped().of(volume).unwrap_or_default();
        let why = |one: &VolumeUser| format!("{}: its volume is half restored", one.name);
        Restarted { started: Vec::new(), failed: left.iter().map(why).collect() }
    }

    async fn start_all(&self, volume: &Name) -> Restarted {
        let mut restarted = Restarted::default();
        let containers = match self.stopped().of(volume) {
            Ok(containers) => containers,
            Err(error) => {
                restarted.failed.push(error.to_string());
                return restarted;
            }
        };
        if containers.is_empty() {
            return restarted;
        }
        let docker = self.docker();
        let mut left = Vec::new();
        for container in containers {
            match docker.start(&container).await {
                Ok(true) => restarted.started.push(container.name),
                // Somebody removed it: there is nothing to start.
                Ok(false) => tracing::warn!(container = container.name, "a stopped container is gone"),
                Err(error) => {
                    restarted.failed.push(format!("{}: {error}", container.name));
                    left.push(container);
                }
            }
        }
        if let Err(error) = self.stopped().set(volume, left) {
            tracing::error!(%volume, %error, "cannot note that the stopped containers were started");
        }
        restarted
    }
}

/// Refuses what does not go together.
fn check(asked: &RestoreParts) -> Result<()> {
    let invalid = |text: &str| Err(Error::InvalidRequest(text.to_owned()));
    if !asked.in_place {
        return match asked.stop || asked.no_keep || !asked.keep_as.is_empty() {
            true => invalid("Stop, NoKeep and KeepAs are for a restore in place"),
            false => Ok(()),
        };
    }
    let parts = !asked.paths.is_empty() || !asked.exclude.is_empty() || !asked.at.is_empty();
    if parts || !asked.existing.is_empty() || asked.delete_extra {
        return invalid(
            "a restore in place is of all: Paths, Exclude, At, Existing and DeleteExtra are for parts",
        );
    }
    if asked.no_keep && !asked.keep_as.is_empty() {
        return invalid("expected either NoKeep or KeepAs, found both");
    }
    Ok(())
}

/// Refuses those that would be started again at once.
fn stoppable(users: Vec<VolumeUser>) -> Result<Vec<VolumeUser>> {
    let Some(task) = users.iter().find(|user| !user.swarm_service.is_empty()) else { return Ok(users) };
    let text = format!(
        "container {} is a task of the Swarm service {}, and the Swarm would start another for it at once",
        task.name, task.swarm_service
    );
    let hint = format!(
        "`docker service scale {}=0` stops its tasks; restore without --stop, and scale it up again",
        task.swarm_service
    );
    Err(Error::Backup { kind: ErrorKind::InUse, message: text, hint: Some(hint) })
}

fn docker_error(error: DockerError) -> Error {
    let hint = "the settings name the engine's socket: docker-socket in [scheduling]".to_owned();
    Error::Backup { kind: ErrorKind::Unavailable, message: error.to_string(), hint: Some(hint) }
}

/// Says in an error what became of the volume and of its containers.
fn with_end(
    error: Error,
    entry: &Entry,
    reverted: bool,
    unfinished: Option<&HalfRestored>,
    restarted: &Restarted,
) -> Error {
    let mut notes = Vec::new();
    if reverted {
        notes.push("the volume is as it was before".to_owned());
    }
    if unfinished.is_some() {
        notes.push("the volume is half restored and cannot be mounted".to_owned());
    }
    if !restarted.started.is_empty() {
        notes.push(format!("started again: {}", restarted.started.join(", ")));
    }
    if !restarted.failed.is_empty() {
        notes.push(format!("not running: {}", restarted.failed.join("; ")));
    }
    if notes.is_empty() {
        return error;
    }
    let message = format!("{}; {}", error.plain().unwrap_or_else(|| error.to_string()), notes.join("; "));
    let hint = unfinished.map(|half| half.ways_out(entry)).or_else(|| error.hint());
    Error::Backup { kind: error.kind(), message, hint }
}
