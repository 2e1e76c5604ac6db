//! Says of a volume what Docker's Remove does to its data.

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::policies::DockerRemove;
use crate::service::Volumes;
use convoy_drivers::RequestContext;

impl Volumes {
    /// Says what becomes of a volume's data when Docker removes it; `None`: what holds for all.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; a record that cannot be written.
    pub async fn retain(
        &self,
        name: &str,
        policy: Option<DockerRemove>,
        call: &RequestContext,
    ) -> Result<()> {
        let entry = self.find(name, call).await?;
        let _turn = self.lock_to_mount(&entry.volume.name, "retain").await?;
        // It may have been deleted, and another made, meanwhile.
        let entry =
            self.index.get(&entry.volume.name).ok_or_else(|| Error::VolumeNotFound(name.to_owned()))?;
        self.policies.set(&entry, policy)
    }

    /// Forgets the policy of a volume that is gone. One that stays behind is of no volume any more.
    pub(crate) fn forget_policy(&self, entry: &Entry) {
        if let Err(error) = self.policies.set(entry, None) {
            tracing::warn!(volume = %entry.volume.name, %error, "cannot remove the policy of a volume that \
                is gone");
        }
    }
}
