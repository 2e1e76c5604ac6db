//! Mounting, unmounting, and growing the file system of a mounted volume.

use super::DeviceMapper;
use crate::error::in_use;
use crate::kernel::{Kernel, Visibility};
use crate::options::BTRFS_RESIZABLE;
use crate::state::VolumeRecord;
use convoy_driver_sdk::command::Command;
use convoy_driver_sdk::filesystem::{self, FsKind, Mount};
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_driver_sdk::protocol::{MountVolume, Mounted};
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Result, atomic};
use devicemapper::Device;
use std::path::{Path, PathBuf};

/// Directory of the driver's own mountpoints, below its root.
const MOUNTS: &str = "mounts";

impl DeviceMapper {
    fn default_mountpoint(&self, name: &Name) -> PathBuf {
        self.root.join(MOUNTS).join(name.as_str())
    }

    /// The mounts of the namespace that volumes are mounted in.
    pub(super) fn mounts(&self) -> Result<MountTable> {
        Ok(MountTable::in_namespace(self.namespace.as_deref())?)
    }

    /// Where the kernel has a volume mounted: where its record says, or else where somebody else mounted it.
    pub(super) fn find_mount(
        table: &MountTable,
        record: &VolumeRecord,
        number: Option<Device>,
    ) -> Option<PathBuf> {
        let number = number?;
        let node = Kernel::node(&record.name);
        let found = || {
            // btrfs gives its files a device number of its own, so it is found by its source.
            let by_source = table.of_source(&node).filter(|mount| mount.fs_type == FsKind::Btrfs.as_str());
            let whole = table.of_device(number.major, number.minor).chain(by_source);
            whole.filter(|mount| mount.root == Path::new("/")).map(|mount| &mount.mountpoint)
        };
        found().find(|path| **path == *record.mount_point).or_else(|| found().next()).cloned()
    }

    pub(super) fn mounted_at(&self, record: &VolumeRecord) -> Result<Option<PathBuf>> {
        let Some(state) = self.pool.kernel().state(&record.name)? else { return Ok(None) };
        Ok(Self::find_mount(&self.mounts()?, record, Some(state.number)))
    }

    pub(super) fn mount(&self, request: MountVolume, context: &Context) -> Result<Mounted> {
        let mut record = self.store.usable(&request.name)?;
        let mountpoint = match self.mounted_at(&record)? {
            Some(found) => {
                if let Some(wanted) = request.mountpoint.filter(|wanted| *wanted != found) {
                    return Err(in_use(format!(
                        "the volume {} is mounted at {} already, so not at {}",
                        record.name,
                        found.display(),
                        wanted.display()
                    )));
                }
                found
            }
            None => {
                self.pool.activate(&record.name, record.dev_id, record.size, false, Visibility::Public)?;
                // Once it is mounted that takes a right that not every daemon has.
                if record.growing && record.filesystem == FsKind::Ext4 {
                    let node = Kernel::node(&record.name);
                    filesystem::grow(FsKind::Ext4, &node, None, &self.bounded(context))?;
                    record = self.grown(&record)?;
                }
                self.mount_now(&record, request.mountpoint, context)?
            }
        };
        if record.growing {
            match self.grow(&record, &mountpoint, context) {
                Err(error) if error.kind == ErrorKind::PermissionDenied => {
                    tracing::warn!(volume = %record.name, %error, "the file system grows at the next mount");
                }
                grown => grown?,
            }
        }
        self.store.change(&record.name, |record| {
            record.mount_point = mountpoint.to_string_lossy().into_owned();
            record.boot_id.clone_from(&self.boot_id);
        })?;
        Ok(Mounted::new(mountpoint))
    }

    fn mount_now(
        &self,
        record: &VolumeRecord,
        wanted: Option<PathBuf>,
        context: &Context,
    ) -> Result<PathBuf> {
        let target = match wanted {
            Some(target) => {
                self.check_mountpoint(&target, context)?;
                target
            }
            None => {
                let target = self.default_mountpoint(&record.name);
                self.make_dir(&target, context)?;
                target
            }
        };
        let mount = Mount::new(Kernel::node(&record.name), target.clone(), record.filesystem.to_string())
            .options(record.filesystem.mount_options(&self.settings.mount_options))
            .namespace(self.namespace.clone());
        filesystem::mount(&mount, &self.bounded(context)).map_err(|error| match error.kind {
            ErrorKind::DataLoss => error.hint(format!(
                "the kernel log (dmesg) says what it did not accept; check with `fsck {}`, or restore a \
                 backup",
                mount.source.display()
            )),
            _ => error,
        })?;
        Ok(target)
    }

    /// A mountpoint that the user names must exist, as in 0.5: a misspelt one would hide the volume.
    fn check_mountpoint(&self, target: &Path, context: &Context) -> Result<()> {
        let missing = |found: &str| {
            DriverError::invalid(format!(
                "the mountpoint {} must be an existing directory: {found}",
                target.display()
            ))
        };
        if !target.is_absolute() {
            return Err(missing("expected an absolute path"));
        }
        let found = match &self.namespace {
            None => target.is_dir(),
            Some(namespace) => {
                let test = Command::new("test").package("coreutils").accept(1).namespace(Some(namespace));
                test.arg("-d").arg(target).run(context)?.code == 0
            }
        };
        if found { Ok(()) } else { Err(missing("there is none").hint("make it first: mkdir -p")) }
    }

    fn make_dir(&self, target: &Path, context: &Context) -> Result<()> {
        match &self.namespace {
            None => atomic::create_dir(target, 0o700)
                .map_err(|error| DriverError::io(format_args!("make {}", target.display()), &error)),
            Some(namespace) => {
                let mkdir = Command::new("mkdir").package("coreutils").namespace(Some(namespace));
                mkdir.args(["-p", "-m", "700", "--"]).arg(target).run(context)?;
                Ok(())
            }
        }
    }

    pub(super) fn unmount(&self, name: &Name, context: &Context) -> Result<()> {
        let (record, _) = self.store.get(name)?;
        // Somebody may have mounted it more than once.
        while let Some(mountpoint) = self.mounted_at(&record)? {
            context.check()?;
            filesystem::unmount(&mountpoint, self.namespace.as_deref(), &self.bounded(context))?;
        }
        self.store.change(name, |record| {
            record.mount_point.clear();
            record.boot_id.clear();
        })?;
        self.forget_mountpoint(name);
        Ok(())
    }

    /// Removes the driver's own mountpoint of a volume; whatever is in it stays.
    pub(super) fn forget_mountpoint(&self, name: &Name) {
        // Not there, or not empty: neither matters.
        let _ = std::fs::remove_dir(self.default_mountpoint(name));
    }

    /// Grows the file system of a mounted volume to its device, and notes that it has its size.
    pub(super) fn grow(&self, record: &VolumeRecord, mountpoint: &Path, context: &Context) -> Result<()> {
        let (node, kind) = (Kernel::node(&record.name), record.filesystem);
        let context = self.bounded(context);
        if kind == FsKind::Btrfs && record.size < BTRFS_RESIZABLE {
            return self.grown(record).map(drop);
        }
        match self.namespace.as_deref() {
            None => filesystem::grow(kind, &node, Some(mountpoint), &context)?,
            Some(namespace) => {
                let command = match kind {
                    FsKind::Ext4 => Command::new("resize2fs").package("e2fsprogs").arg(&node),
                    FsKind::Xfs => Command::new("xfs_growfs").package("xfsprogs").arg("-d").arg(mountpoint),
                    FsKind::Btrfs => {
                        let btrfs = Command::new("btrfs").package("btrfs-progs");
                        btrfs.args(["filesystem", "resize", "max"]).arg(mountpoint)
                    }
                };
                command.namespace(Some(namespace)).run(&context)?;
            }
        }
        self.grown(record).map(drop)
    }

    fn grown(&self, record: &VolumeRecord) -> Result<VolumeRecord> {
        Ok(self.store.change(&record.name, |record| record.growing = false)?)
    }

    /// Mounts again what was mounted before the machine went down, and forgets mounts that somebody undid by
    /// hand.
    pub(super) fn remount(&self, context: &Context) -> (Vec<String>, Vec<String>) {
        let (mut done, mut warnings) = (Vec::new(), Vec::new());
        for record in self.store.all().into_iter().filter(|record| !record.mount_point.is_empty()) {
            let name = record.name.clone();
            let result = self.mounted_at(&record).and_then(|mounted| match mounted {
                Some(_) => Ok(None),
                None if record.boot_id == self.boot_id => self.unmount(&name, context).map(|()| None),
                None => {
                    let wanted = PathBuf::from(&record.mount_point);
                    // What 0.5 wrote, or a root that has moved since: the driver's own place is the same
                    // place.
                    let own = wanted.ends_with(Path::new(MOUNTS).join(name.as_str()));
                    let mountpoint = if own { None } else { Some(wanted) };
                    self.mount(MountVolume::new(name.clone()).mountpoint(mountpoint), context).map(Some)
                }
            });
            match result {
                Ok(None) => {}
                Ok(Some(mounted)) => {
                    done.push(format!("{name} was mounted again at {}", mounted.mountpoint.display()));
                }
                Err(error) => warnings.push(format!("cannot mount {name} again: {error}")),
            }
        }
        (done, warnings)
    }
}
