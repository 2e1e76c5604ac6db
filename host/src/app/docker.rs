//! What Docker means by its calls.

use super::App;
use convoy_activity::jobs::About;
use convoy_driver_sdk::Name;
use convoy_drivers::RequestContext;
use convoy_volumes::{CreateSpec, DockerRemove, Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

impl App {
    /// Makes a volume with Docker's `-o` options, unless there is one of that name.
    ///
    /// # Errors
    /// [`Error::InvalidVolumeName`]; [`Error::InvalidRequest`] for an option with a value that it cannot
    /// have;
    /// [`Error::NotForDocker`]; those of a create, a clone and a restore.
    pub async fn docker_create(
        &self,
        name: &str,
        options: BTreeMap<String, String>,
        call: &RequestContext,
    ) -> Result<()> {
        let name = Name::parse(name).map_err(|error| Error::InvalidVolumeName(error.0))?;
        let spec = CreateSpec::from_docker(options, Arc::clone(&self.config().docker_rules))?;
        let (app, call) = (self.clone(), call.clone());
        self.detached(spec.about(&name), async move {
            let entry = app.create_or_get(&name, &spec, &call).await?;
            // Docker repeats a create with its options; what was said since by hand holds.
            if spec.docker_remove.is_some() && app.volumes().policy(&entry).is_none() {
                if spec.docker_remove == Some(DockerRemove::Delete) && !entry.volume.snapshots.is_empty() {
                    // The snapshots of a volume that was there before are not for Docker's users to delete.
                    tracing::warn!(volume = %name, "retain=delete is not taken: there are snapshots already");
                } else {
                    app.volumes().retain(&name, spec.docker_remove, &call).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Forgets a volume, and deletes its data if the volume's policy or the settings say so. One that is gone
    /// is removed.
    pub async fn docker_remove(&self, name: String, call: RequestContext) -> Result<()> {
        let config = self.config();
        if config.general.ignore_docker_delete {
            tracing::info!(volume = name, "ignored Docker's Remove, as configured");
            return Ok(());
        }
        let volumes = Arc::clone(self.volumes());
        if let Err(gone) = volumes.find_for_docker(&name, &call).await {
            return unless_gone(Err(gone));
        }
        // Kept, the data of a volume which Docker removes is deleted by `convoy delete`.
        let own = volumes.get(&name).and_then(|entry| volumes.policy(&entry));
        let keep = own.unwrap_or(config.docker_remove) == DockerRemove::Keep;
        self.detached(About::volume("volume delete", &name), async move {
            unless_gone(volumes.delete(&name, keep, &call).await)
        })
        .await
    }

    /// Mounts a volume for the user that Docker calls `user`, and answers where it is. One that is not there
    /// is made first, with these options, if the settings say so.
    pub async fn docker_mount(
        &self,
        name: String,
        user: String,
        options: BTreeMap<String, String>,
        call: RequestContext,
    ) -> Result<PathBuf> {
        let create = self.config().general.create_on_docker_mount;
        if create && self.volumes().find_for_docker(&name, &call).await.is_err() {
            self.docker_create(&name, options, &call).await?;
        }
        let volumes = Arc::clone(self.volumes());
        self.detached(About::volume("volume mount", &name), async move {
            volumes.find_for_docker(&name, &call).await?;
            volumes.mount(&name, &user, None, &call).await
        })
        .await
    }

    /// Takes back a mount of Docker's; that of a volume that is gone is taken back.
    pub async fn docker_unmount(&self, name: String, user: String, call: RequestContext) -> Result<()> {
        let volumes = Arc::clone(self.volumes());
        if let Err(gone) = volumes.find_for_docker(&name, &call).await {
            return unless_gone(Err(gone));
        }
        self.detached(About::volume("volume unmount", &name), async move {
            unless_gone(volumes.unmount(&name, &user, &call).await)
        })
        .await
    }
}

/// What Docker takes back is gone when there is no such volume.
fn unless_gone(result: Result<()>) -> Result<()> {
    match result {
        Err(Error::VolumeNotFound(_)) => Ok(()),
        result => result,
    }
}
