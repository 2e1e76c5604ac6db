//! The thin pool: making and deleting the devices in it, and making them block devices.

use crate::error::{Error, Result};
use crate::kernel::{DeviceState, Kernel, Removal, Target, Visibility};
use crate::options::Settings;
use crate::sectors::Sectors;
use crate::state::ThinId;
use convoy_driver_sdk::Context;
use devicemapper::{Device, DmFlags};
use nix::errno::Errno;
use std::path::{Path, PathBuf};

mod setup;
mod status;

pub use setup::bring_up;
pub use status::{PoolState, PoolStatus, Usage};

/// What every UUID of this driver's devices begins with.
const UUID_PREFIX: &str = "CONVOY";

#[derive(Debug)]
pub struct Pool {
    kernel: Kernel,
    name: String,
    number: Device,
    metadata: PathBuf,
    settings: Settings,
}

/// Whose a device-mapper device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Thin {
        id: ThinId,
        /// Its length in bytes.
        size: u64,
    },
    /// Made by this driver, and never given a table: a create was cut off.
    Unfinished,
    Foreign,
}

impl Pool {
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Name of the pool, and of its device-mapper device.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn metadata(&self) -> &Path {
        &self.metadata
    }

    pub fn block_bytes(&self) -> u64 {
        self.settings.block_bytes()
    }

    /// Usage and health. The kernel writes outstanding metadata first.
    ///
    /// # Errors
    /// [`Error::Kernel`]; [`Error::Library`] for a status line of an unknown form.
    pub fn status(&self) -> Result<PoolStatus> {
        PoolStatus::parse(&self.kernel.status(&self.name)?, self.settings.block_bytes())
    }

    /// Makes an empty thin device.
    ///
    /// # Errors
    /// [`Error::Message`] with `EEXIST` if the id is taken; [`Error::Pool`] if the pool could not keep it.
    pub fn create_thin(&self, id: ThinId) -> Result<()> {
        self.message(&format!("create_thin {id}"))?;
        self.committed()
    }

    /// Makes a thin device with the content of another that nobody writes to: a snapshot, active for reading
    /// or not.
    pub fn copy(&self, id: ThinId, origin_id: ThinId) -> Result<()> {
        self.message(&format!("create_snap {id} {origin_id}"))?;
        self.committed()
    }

    /// Makes a thin device with the present content of another, which may be active as `origin`: its file
    /// system is frozen and its I/O held up meanwhile, so that the copy is whole.
    ///
    /// # Errors
    /// [`Error::Message`] with `EEXIST` if the id is taken; [`Error::Kernel`]; [`Error::Pool`].
    pub fn create_snapshot(&self, id: ThinId, origin_id: ThinId, origin: &str) -> Result<()> {
        if self.kernel.state(origin)?.is_none() {
            return self.copy(id, origin_id);
        }
        // Between suspend and resume nothing is logged: whatever is written might go to the held up device.
        self.kernel.suspend(origin, DmFlags::empty())?;
        let taken = self.message(&format!("create_snap {id} {origin_id}"));
        self.kernel.resume(origin, Visibility::Public)?;
        taken?;
        self.committed()
    }

    /// Deletes a thin device; the blocks that only it uses are free again. Gone already is success.
    ///
    /// # Errors
    /// [`Error::Message`] with `EBUSY` while it is active; [`Error::Pool`] if the pool could not write that
    /// it is gone.
    pub fn delete(&self, id: ThinId) -> Result<()> {
        match self.message(&format!("delete {id}")) {
            Err(error) if error.is(Errno::ENODATA) => Ok(()),
            Ok(()) => self.committed(),
            failed => failed,
        }
    }

    /// Keeps the present state of the metadata for tools to read, while the pool goes on.
    ///
    /// # Errors
    /// [`Error::Message`] with `EBUSY` if one is kept already.
    pub fn reserve_metadata_snapshot(&self) -> Result<()> {
        self.message("reserve_metadata_snap")
    }

    /// Lets it go. None kept is success.
    pub fn release_metadata_snapshot(&self) -> Result<()> {
        match self.message("release_metadata_snap") {
            Err(error) if error.is(Errno::EINVAL) => Ok(()),
            done => done,
        }
    }

    fn message(&self, message: &str) -> Result<()> {
        self.kernel.message(&self.name, message)
    }

    /// The kernel answers a message before it knows whether the metadata could be written, and goes read-only
    /// if not: so ask it.
    fn committed(&self) -> Result<()> {
        match self.status()?.state {
            PoolState::Good | PoolState::OutOfData => Ok(()),
            state => Err(state.refusal(&self.name, &self.metadata)),
        }
    }

    /// Makes a block device of a thin device, or adopts the one of that name.
    ///
    /// # Errors
    /// [`Error::Foreign`] if the name is taken; [`Error::Kernel`] with `ENODATA` if the pool has no such id.
    pub fn activate(
        &self,
        name: &str,
        id: ThinId,
        size: u64,
        read_only: bool,
        visibility: Visibility,
    ) -> Result<()> {
        let table = [self.table(id, size)];
        if let Some(state) = self.kernel.state(name)? {
            match self.owner(&state) {
                Owner::Thin { id: found, size: now } if found == id => {
                    if state.removing {
                        self.kernel.keep(name)?;
                    }
                    if now != size {
                        self.kernel.reload(name, &state.table, &table)?;
                    } else if state.suspended {
                        self.kernel.resume(name, visibility)?;
                    }
                    return self.kernel.ensure_node(name, state.number);
                }
                Owner::Unfinished => self.kernel.remove(name, &Context::default())?,
                Owner::Thin { .. } | Owner::Foreign => return Err(self.foreign(name, &state)),
            }
        }
        // By id, not by name: a restored device is renamed.
        let uuid = format!("{UUID_PREFIX}-{id}-{}", self.name);
        self.kernel.create(name, &uuid, &table, read_only, visibility).map(drop)
    }

    /// Ends a block device; the thin device stays in the pool.
    ///
    /// # Errors
    /// [`Error::Open`] while somebody has it open; [`Error::Foreign`] if it is none of ours.
    pub fn deactivate(&self, name: &str, context: &Context) -> Result<()> {
        self.check_ours(name)?;
        self.kernel.remove(name, context)
    }

    /// Ends a block device, at the latest when nobody has it open any more.
    ///
    /// # Errors
    /// [`Error::Kernel`]; [`Error::Foreign`] if it is none of ours.
    pub fn deactivate_or_defer(&self, name: &str, context: &Context) -> Result<Removal> {
        self.check_ours(name)?;
        self.kernel.remove_or_defer(name, context)
    }

    fn check_ours(&self, name: &str) -> Result<()> {
        match self.kernel.state(name)? {
            Some(state) if self.owner(&state) == Owner::Foreign => Err(self.foreign(name, &state)),
            _ => Ok(()),
        }
    }

    /// Whether a name is that of this thin device, or of one that was never finished.
    pub fn is(&self, name: &str, id: ThinId) -> Result<bool> {
        let owner = self.kernel.state(name)?.map(|state| self.owner(&state));
        Ok(owner.is_some_and(|owner| match owner {
            Owner::Thin { id: found, .. } => found == id,
            Owner::Unfinished => true,
            Owner::Foreign => false,
        }))
    }

    /// Refuses a name that is taken by a device which is not ours.
    pub fn check_name_free(&self, name: &str) -> Result<()> {
        match self.kernel.state(name)? {
            Some(state) if self.owner(&state) != Owner::Unfinished => Err(self.foreign(name, &state)),
            _ => Ok(()),
        }
    }

    fn foreign(&self, name: &str, state: &DeviceState) -> Error {
        let found = match state.table.as_slice() {
            [] => format!("no table, UUID {:?}", state.uuid),
            [(.., kind, params), ..] => format!("{kind} {params}"),
        };
        Error::Foreign { name: name.to_owned(), pool: self.name.clone(), found }
    }

    /// Whose a device is. The table counts, not the name: 0.5 gave its devices no UUID.
    pub fn owner(&self, state: &DeviceState) -> Owner {
        owner_of(&self.name, self.number, state)
    }

    fn table(&self, id: ThinId, size: u64) -> Target {
        (0, Sectors::of_bytes(size).0, "thin".to_owned(), format!("{} {id}", self.number))
    }

    /// Whether the pool works.
    ///
    /// # Errors
    /// [`Error::Pool`] with what to do.
    pub fn works(&self) -> Result<PoolStatus> {
        let status = self.status()?;
        match status.state {
            PoolState::Good => Ok(status),
            state => Err(state.refusal(&self.name, &self.metadata)),
        }
    }

    /// Whether new devices may be made.
    ///
    /// # Errors
    /// [`Error::Pool`] with what to do.
    pub fn admit(&self) -> Result<()> {
        let status = self.works()?;
        let limit = self.settings.limit_percent;
        for (what, usage) in [("data", status.data), ("metadata", status.metadata)] {
            if usage.percent() >= limit {
                return Err(Error::Pool {
                    pool: self.name.clone(),
                    state: format!(
                        "has {} % of its {what} in use, {limit} % is the limit for new volumes and snapshots",
                        usage.percent()
                    ),
                    hint: format!(
                        "delete what is not needed, or enlarge the {what} device: the pool follows within \
                         seconds"
                    ),
                    space: true,
                });
            }
        }
        Ok(())
    }
}

fn owner_of(name: &str, pool: Device, state: &DeviceState) -> Owner {
    // `CONVOY-<id>-<pool>`: another daemon may be making devices for another pool.
    let made_here =
        || state.uuid.strip_prefix(UUID_PREFIX)?.strip_prefix('-')?.split_once('-').map(|(_, of)| of == name);
    match state.table.as_slice() {
        [(0, length, kind, params)] if kind == "thin" => {
            let mut fields = params.split_whitespace();
            let of = fields.next().and_then(|number| number.parse::<Device>().ok());
            let id = fields.next().and_then(|id| id.parse().ok());
            match (of, id) {
                (Some(of), Some(id)) if of == pool => Owner::Thin { id, size: Sectors(*length).bytes() },
                _ => Owner::Foreign,
            }
        }
        [] if made_here() == Some(true) => Owner::Unfinished,
        _ => Owner::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Table lines as the kernel gives them, without a kernel.
    #[test]
    fn a_device_is_ours_by_its_table() {
        let state = |table: Vec<Target>, uuid: &str| DeviceState {
            number: Device { major: 253, minor: 3 },
            uuid: uuid.to_owned(),
            open_count: 0,
            suspended: false,
            removing: false,
            table,
        };
        let number = Device { major: 253, minor: 0 };
        let owner = |state: &DeviceState| owner_of("convoy-pool", number, state);
        let thin = |params: &str| vec![(0, 131_072, "thin".to_owned(), params.to_owned())];
        assert_eq!(owner(&state(thin("253:0 7"), "")), Owner::Thin { id: 7, size: 64 << 20 });
        assert_eq!(owner(&state(thin("253:9 7"), "")), Owner::Foreign);
        assert_eq!(owner(&state(thin("x"), "CONVOY-x")), Owner::Foreign);
        assert_eq!(owner(&state(Vec::new(), "CONVOY-13-convoy-pool")), Owner::Unfinished);
        assert_eq!(owner(&state(Vec::new(), "CONVOY-13-my-convoy-pool")), Owner::Foreign);
        assert_eq!(owner(&state(Vec::new(), "LVM-1")), Owner::Foreign);
        let linear = vec![(0, 8, "linear".to_owned(), "8:0 0".to_owned())];
        assert_eq!(owner(&state(linear, "")), Owner::Foreign);
    }
}
