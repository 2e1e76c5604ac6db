//! Opening: the pool runs, every volume is there, and nothing is left of what was cut off.

use super::{DeviceMapper, health, sources};
use crate::error::{Error, Result as DmResult};
use crate::journal::Journal;
use crate::kernel::{Kernel, Removal, Visibility};
use crate::options::Settings;
use crate::pool::{self, Owner};
use crate::state::{PoolConfig, ThinId};
use crate::store::Store;
use crate::tools::{MetadataReader, Tools};
use convoy_driver_sdk::protocol::{Open, Opened};
use convoy_driver_sdk::{Context, DriverError, Result, atomic};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

pub(super) fn open(request: Open, context: &Context) -> Result<(DeviceMapper, Opened)> {
    let root = request.root;
    atomic::create_dir(&root, 0o700)
        .map_err(|error| DriverError::io(format_args!("make {}", root.display()), &error))?;
    let saved = load_config(&root)?;
    let settings = Settings::new(&request.options, saved.as_ref(), request.override_saved)?;
    let (store, mut warnings) = Store::open(&root)?;
    let kernel = Kernel::open()?;
    let pool = pool::bring_up(kernel, settings.clone(), !store.is_empty(), context)?;
    // A reader that was killed kept it; nobody else has business in this pool.
    pool.release_metadata_snapshot()?;

    let config = PoolConfig {
        root: root.clone(),
        data_device: settings.data_device.clone(),
        metadata_device: settings.metadata_device.clone(),
        thinpool_device: settings.pool_device(),
        thinpool_size: pool.size()?,
        thinpool_block_size: settings.block,
        default_volume_size: settings.default_volume_size,
        filesystem: settings.filesystem,
        last_dev_id: saved.as_ref().map_or(0, |saved| saved.last_dev_id),
        pending: saved.as_ref().map(|saved| saved.pending.clone()).unwrap_or_default(),
    };
    if saved.as_ref() != Some(&config) {
        config.save(&root).map_err(|error| DriverError::io("write devicemapper.cfg", &error))?;
    }
    let tools = Tools::find(context);
    if !tools.no_delta.is_empty() {
        warnings.push(format!("backups read everything in use, or cannot be made: {}", tools.no_delta));
    }
    let reader = MetadataReader::default();
    let present = reader.ids(&pool, &root, context);
    let recorded = store.ids();
    let mut strangers = Vec::new();
    match &present {
        Err(error) => {
            warnings.push(format!("the pool's devices cannot be compared with the records: {error}"))
        }
        Ok(present) => strangers = compare(&config, &store, &recorded, present, pool.name(), &mut warnings),
    }
    let taken = recorded.union(present.as_ref().unwrap_or(&BTreeSet::new())).copied().collect();

    let driver = DeviceMapper {
        journal: Journal::new(&root, config, taken),
        root,
        settings,
        namespace: request.mount_namespace,
        command_limit: request.command_timeout_ms.map(Duration::from_millis),
        boot_id: boot_id()?,
        pool,
        store,
        reader,
        tools,
        sources: sources::Sources::default(),
        restores: Mutex::new(BTreeMap::new()),
        restored: Mutex::new(BTreeMap::new()),
        watch: Mutex::new(health::Watch::default()),
        strangers,
    };
    // Before their devices are removed.
    let mut recovered = driver.release_abandoned(context);
    recovered.extend(driver.tidy(context, &mut warnings)?);
    driver.thaw_all(context);
    recovered.extend(driver.settle(context));
    warnings.extend(driver.activate_all(context)?);
    let (mounted, failed) = driver.remount(context);
    recovered.extend(mounted);
    warnings.extend(failed);
    warnings.extend(driver.warning(&driver.pool.status()?));
    Ok((driver, Opened::new().recovered(recovered).warnings(warnings)))
}

fn load_config(root: &Path) -> Result<Option<PoolConfig>> {
    PoolConfig::load(root).map_err(|error| {
        let path = root.join(crate::state::CONFIG_FILE);
        DriverError::data_loss(format!("cannot read {}: {error}", path.display())).hint(
            "put a good copy there, or move it away and give dm.datadev, dm.metadatadev and all other \
             options again",
        )
    })
}

fn boot_id() -> Result<String> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(PATH)
        .map_err(|error| DriverError::io(format_args!("read {PATH}"), &error))?;
    Ok(text.trim().to_owned())
}

/// Compares records with the pool. Volumes without their device are marked; ids that no record names and that
/// nobody was making or deleting are told, and never touched: they may be what a lost record named.
fn compare(
    config: &PoolConfig,
    store: &Store,
    recorded: &BTreeSet<ThinId>,
    present: &BTreeSet<ThinId>,
    pool: &str,
    warnings: &mut Vec<String>,
) -> Vec<ThinId> {
    for record in store.all() {
        if !present.contains(&record.dev_id) {
            let why = format!("the pool has no device {}, which its record names", record.dev_id);
            warnings.push(format!("volume {}: {why}", record.name));
            store.mark(&record.name, why);
        }
        for snapshot in record.snapshots.values().filter(|snapshot| !present.contains(&snapshot.dev_id)) {
            let (name, id) = (&snapshot.name, snapshot.dev_id);
            warnings
                .push(format!("snapshot {name} of {}: the pool has no device {id}; delete it", record.name));
        }
    }
    let pending = |id: &ThinId| config.pending.iter().any(|pending| pending.dev_id == *id);
    let strangers: Vec<_> = present.difference(recorded).copied().filter(|id| !pending(id)).collect();
    for id in &strangers {
        warnings.push(format!(
            "the pool has a device {id} that no record names; it is left alone. If it is not needed: dmsetup \
             message {pool} 0 'delete {id}'"
        ));
    }
    strangers
}

impl DeviceMapper {
    /// Lets devices go on that a crash left suspended, and ends those that only served a call of an earlier
    /// life. A device for which that fails costs its volume, and not the start.
    fn tidy(&self, context: &Context, warnings: &mut Vec<String>) -> DmResult<Vec<String>> {
        let kernel = self.pool.kernel();
        let volumes: BTreeMap<ThinId, _> =
            self.store.all().into_iter().map(|record| (record.dev_id, record.name)).collect();
        let own = self.store.ids();
        let pending: BTreeSet<_> = self.journal.abandoned().iter().map(|pending| pending.dev_id).collect();
        let prefixes = [self.read_name(0), self.tree_name(0), self.restore_name(0)]
            .map(|name| name.trim_end_matches('0').to_owned());
        let mut lines = Vec::new();
        for (name, _) in kernel.list()? {
            let Some(state) = kernel.state(&name)? else { continue };
            let leftover = match self.pool.owner(&state) {
                Owner::Foreign => continue,
                Owner::Unfinished => true,
                Owner::Thin { id, .. } => {
                    if state.suspended {
                        match kernel.resume(&name, Visibility::Public) {
                            Ok(()) => lines.push(format!("the device {name} was suspended and goes on")),
                            Err(error) => {
                                warnings.push(format!("the device {name} stays suspended: {error}"));
                            }
                        }
                    }
                    let ours = own.contains(&id) || pending.contains(&id);
                    let named_by_us = prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
                    // Under its own name it is the volume; under another it served a backup, a restore or a
                    // create.
                    volumes.get(&id).is_none_or(|volume| volume.as_str() != name) && (ours || named_by_us)
                }
            };
            if leftover {
                match kernel.remove_or_defer(&name, context) {
                    Ok(Removal::Gone) => {
                        lines.push(format!("the device {name} was left over and was removed"));
                    }
                    Ok(Removal::Deferred) => {
                        lines.push(format!("the device {name} was left over and goes when closed"));
                    }
                    Err(error) => {
                        warnings.push(format!("the device {name} was left over and stays: {error}"));
                    }
                }
            }
        }
        kernel.forget_gone(&prefixes)?;
        Ok(lines)
    }

    /// Makes every volume's device. One that cannot be made does not keep the others from being used.
    fn activate_all(&self, context: &Context) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for record in self.store.all() {
            context.check()?;
            if self.store.usable(&record.name).is_err() {
                continue;
            }
            let active =
                self.pool.activate(&record.name, record.dev_id, record.size, false, Visibility::Public);
            if let Err(error) = active {
                let why = match &error {
                    Error::Foreign { .. } => format!("{error}; rename or remove that device, then restart"),
                    _ => error.to_string(),
                };
                warnings.push(format!("volume {}: {why}", record.name));
                self.store.mark(&record.name, why);
            }
        }
        Ok(warnings)
    }
}
