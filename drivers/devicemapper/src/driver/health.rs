//! How the pool is: for `info`, and for whoever watches.

use super::DeviceMapper;
use crate::error::Result as DmResult;
use crate::options::NoSpace;
use crate::pool::{PoolState, PoolStatus};
use crate::store::DRIVER;
use convoy_driver_sdk::protocol::Probed;
use convoy_driver_sdk::{Context, DriverError, Result};
use std::collections::BTreeMap;

/// What was last said about the pool, so that a thing is logged once.
#[derive(Debug, Default)]
pub(super) struct Watch {
    said: Option<String>,
}

impl DeviceMapper {
    /// The keys of 0.5, and the pool's health.
    pub(super) fn show(&self) -> DmResult<BTreeMap<String, String>> {
        let (settings, status) = (&self.settings, self.pool.status()?);
        let mut info = vec![
            ("Driver", DRIVER.to_owned()),
            ("Root", self.root.display().to_string()),
            ("DataDevice", settings.data_device.display().to_string()),
            ("MetadataDevice", settings.metadata_device.display().to_string()),
            ("ThinpoolDevice", settings.pool_device().display().to_string()),
            ("ThinpoolSize", self.pool.size()?.to_string()),
            ("ThinpoolBlockSize", settings.block_bytes().to_string()),
            ("DefaultVolumeSize", settings.default_volume_size.to_string()),
            ("Filesystem", settings.filesystem.to_string()),
            ("PoolState", status.state.as_str().to_owned()),
            ("PoolDataUsed", status.data.used.to_string()),
            ("PoolDataTotal", status.data.total.to_string()),
            ("PoolDataPercent", status.data.percent().to_string()),
            ("PoolMetadataUsed", status.metadata.used.to_string()),
            ("PoolMetadataTotal", status.metadata.total.to_string()),
            ("PoolMetadataPercent", status.metadata.percent().to_string()),
            ("PoolWarnPercent", settings.warn_percent.to_string()),
            ("PoolLimitPercent", settings.limit_percent.to_string()),
            ("WhenFull", if settings.no_space == NoSpace::Queue { "queue" } else { "error" }.to_owned()),
            ("ThinTools", self.tools.version.clone().unwrap_or_else(|| "not installed".to_owned())),
        ];
        if let Some(warning) = self.warning(&status) {
            info.push(("PoolWarning", warning));
        }
        if self.store.kept_count() > 0 {
            info.push(("KeptVolumes", self.store.kept_count().to_string()));
        }
        if !self.strangers.is_empty() {
            let ids: Vec<_> = self.strangers.iter().map(ToString::to_string).collect();
            info.push(("UnknownDevices", ids.join(" ")));
        }
        Ok(info.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What needs a person's attention, on one line.
    pub(super) fn warning(&self, status: &PoolStatus) -> Option<String> {
        if status.state != PoolState::Good {
            let error = DriverError::from(status.state.refusal(self.pool.name(), self.pool.metadata()));
            return Some(format!("{error}; {}", error.hint.as_deref().unwrap_or_default()));
        }
        let usage = [("data", status.data), ("metadata", status.metadata)];
        let filling = self.filling(status);
        let full: Vec<_> = usage
            .iter()
            .filter(|(what, _)| filling.contains(what))
            .map(|(what, usage)| format!("{what}: {usage}"))
            .collect();
        if full.is_empty() {
            return None;
        }
        let (pool, limit) = (self.pool.name(), self.settings.limit_percent);
        Some(format!(
            "the pool {pool} is getting full ({}): nothing new is created from {limit} % on; enlarge its \
             devices or delete what is not needed",
            full.join(", ")
        ))
    }

    /// What of the pool is in use above the threshold for warnings.
    fn filling(&self, status: &PoolStatus) -> Vec<&'static str> {
        let usage = [("data", status.data), ("metadata", status.metadata)];
        let above = usage.into_iter().filter(|(_, usage)| usage.percent() >= self.settings.warn_percent);
        above.map(|(what, _)| what).collect()
    }

    /// Looks after the pool: takes over devices that have grown, settles what was deferred, says what is
    /// wrong.
    pub(super) fn look(&self, context: &Context) -> Result<Probed> {
        match self.pool.extend() {
            Ok(false) => {}
            Ok(true) => tracing::info!(
                pool = self.pool.name(),
                "the pool's devices have grown, and the pool with them"
            ),
            Err(error) => tracing::warn!(%error, "cannot look whether the pool's devices have grown"),
        }
        self.pool.kernel().forget_deferred()?;
        for line in self.settle(context) {
            tracing::info!("{line}");
        }
        let status = self.pool.status()?;
        let message = self.warning(&status);
        let mut watch = self.watch.lock();
        // The figures change all the time; what is said once is what there is to say.
        let topic = message.as_ref().map(|_| format!("{}{:?}", status.state.as_str(), self.filling(&status)));
        if watch.said != topic {
            match &message {
                Some(message) => tracing::warn!("{message}"),
                None => tracing::info!(pool = self.pool.name(), "the pool is well again"),
            }
            watch.said = topic;
        }
        let mut probed = Probed::well().message(message);
        probed.healthy = self.works(&status);
        Ok(probed)
    }

    /// Whether something new can be made.
    pub(super) fn works(&self, status: &PoolStatus) -> bool {
        let limit = self.settings.limit_percent;
        let room = status.data.percent() < limit && status.metadata.percent() < limit;
        status.state == PoolState::Good && room
    }
}
