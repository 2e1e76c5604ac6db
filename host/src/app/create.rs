//! Volumes: empty, from a snapshot, or from a backup.

use super::App;
use convoy_activity::jobs::Running;
use convoy_driver_sdk::Name;
use convoy_drivers::RequestContext;
use convoy_volumes::{CreateSpec, Entry, Error, Result};
use std::sync::Arc;

impl App {
    /// Makes a volume.
    pub async fn create(
        &self,
        name: &Name,
        spec: &CreateSpec,
        job: &Arc<Running>,
        request_id: &str,
    ) -> Result<Entry> {
        spec.check_sources()?;
        if !spec.backup.is_empty() {
            return self.backups().restore(name, spec, job, request_id).await;
        }
        let call = job.call(request_id);
        match spec.snapshot.is_empty() {
            true => self.volumes().create(name, spec, &call).await,
            false => self.volumes().clone_snapshot(name, spec, &call).await,
        }
    }

    /// Makes a volume unless there is one of that name.
    ///
    /// # Errors
    /// As [`Self::create`], but for a volume that exists.
    pub(super) async fn create_or_get(
        &self,
        name: &Name,
        spec: &CreateSpec,
        call: &RequestContext,
    ) -> Result<Entry> {
        if spec.backup.is_empty() && spec.snapshot.is_empty() {
            return self.volumes().create_or_get(name, spec, call).await;
        }
        self.volumes().refuse_dockers_own(name, spec, call).await?;
        if let Ok(entry) = self.volumes().find_for_docker(name, call).await {
            return Ok(entry);
        }
        let job = Arc::new(self.jobs().begin(spec.about(name)));
        match self.create(name, spec, &job, call.request_id()).await {
            Err(Error::VolumeExists(_)) => self.volumes().find(name, call).await,
            result => result,
        }
    }
}
