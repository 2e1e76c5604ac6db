//! Growing a volume and what is on it.

use super::CloudDriver;
use crate::provider::Provider;
use crate::{device, settings, wait};
use convoy_driver_sdk::protocol::{ResizeVolume, Volume};
use convoy_driver_sdk::{Context, DriverError, Result};
use std::time::Duration;

/// How long the kernel may take to notice.
const KERNEL_LIMIT: Duration = Duration::from_secs(120);

impl<P: Provider> CloudDriver<P> {
    /// See [`ResizeVolume`]. A crash after the volume has grown leaves its file system at the old size:
    /// repeat it.
    ///
    /// # Errors
    /// `InvalidArgument` for less than it has: providers only grow volumes; `Busy` if it was changed too
    /// recently.
    pub(super) fn resize_volume(&self, request: ResizeVolume, context: &Context) -> Result<Volume> {
        let record = self.records.load(&request.name)?;
        let size = settings::gib::<P>(request.size)?;
        let volume = self.existing(&record, context)?;
        if size < volume.size {
            return Err(DriverError::invalid(format!(
                "expected at least the {} that {} has, found {size}",
                volume.size, record.name
            ))
            .hint("a cloud volume cannot shrink: copy its content to a smaller one"));
        }
        self.cache.clear();
        if size > volume.size {
            self.provider.resize(&record.id, size, context)?;
        }
        let (_, found) = self.attached(&volume, context)?;
        let what = format!("the kernel to see {size} at {}", found.display());
        wait::until(what, wait::Backoff::brief(), KERNEL_LIMIT, context, || {
            Ok((device::size(&found)? >= size.bytes()).then_some(()))
        })?;
        let mounted = self.mounted_at(&record, &self.mount_table()?);
        self.grow(&found, mounted.as_deref(), context)?;
        let record = self.records.change(&record.name, |record| record.size = size.bytes())?;
        self.cache.clear();
        self.describe_one(&record, context)
    }
}
