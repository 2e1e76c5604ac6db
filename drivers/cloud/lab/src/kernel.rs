//! Block devices that come and go.

use crate::Result;
use convoy_driver_sdk::mountinfo::MountTable;
use convoy_tests::namespace::apart;
use nix::libc::makedev;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::fs::File;
use std::io::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Devices that programs take for granted: name, major and minor number.
const PLAIN: [(&str, u32, u32); 5] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];

/// What is done to enter a namespace: `$1` and `$2` come to stand for `/dev` and `/sys`.
const ENTER: &str = "mount --bind \"$1\" /dev && mount --bind \"$2\" /sys && shift 2 && exec \"$@\"";

/// A directory for a driver's root. What is mounted below it is unmounted when this is dropped.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Result<Self> {
        Ok(Self(TempDir::with_prefix("convoy-cloud-")?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Unmounts everything below, as a reboot would.
    pub fn unmount_all(&self) {
        let Ok(table) = MountTable::read() else { return };
        for mount in table.under(self.path()) {
            // A test that failed may have left files open; nothing else is to be done about them.
            let _ = umount2(&mount.mountpoint, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.unmount_all();
    }
}

/// A `/dev` and a `/sys` with nothing in them yet.
#[derive(Debug)]
pub struct Kernel {
    root: TempDir,
}

impl Kernel {
    pub fn new() -> Result<Self> {
        let kernel = Self { root: TempDir::with_prefix("convoy-kernel-")? };
        std::fs::create_dir_all(kernel.dev().join("disk/by-id"))?;
        std::fs::create_dir_all(kernel.sys().join("class/block"))?;
        std::fs::create_dir_all(kernel.sys().join("block"))?;
        Ok(kernel)
    }

    /// In place of `/dev`.
    pub fn dev(&self) -> PathBuf {
        self.root.path().join("dev")
    }

    /// In place of `/sys`.
    pub fn sys(&self) -> PathBuf {
        self.root.path().join("sys")
    }

    /// The words by which a command is run in a mount namespace of its own, in which this kernel stands in
    /// for the machine's.
    ///
    /// # Errors
    /// When the devices that every program needs cannot be made.
    pub fn stand_in(&self) -> Result<Vec<String>> {
        for (name, major, minor) in PLAIN {
            let node = self.dev().join(name);
            mknod(&node, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(major, minor))?;
        }
        let (dev, sys) = (self.dev().display().to_string(), self.sys().display().to_string());
        let mut words = apart(ENTER);
        words.extend(["sh".to_owned(), dev, sys]);
        Ok(words)
    }

    /// Plugs a disk in as a SCSI disk whose by-id link is `link`.
    pub fn plug_scsi(&self, disk: &Path, link: &str) -> Result<Plugged> {
        let name = self.free("sd")?;
        let mut plugged = self.plug(disk, &name)?;
        plugged.file(&self.sys().join("class/block").join(&name), "device/state", "running\n")?;
        plugged.link(&self.dev().join("disk/by-id").join(link), &name)?;
        Ok(plugged)
    }

    /// Plugs a disk in as an NVMe namespace of a controller with this serial number and model; with a by-id
    /// link, unless the system is a minimal one.
    pub fn plug_nvme(&self, disk: &Path, serial: &str, model: &str, link: Option<&str>) -> Result<Plugged> {
        let name = format!("{}n1", self.free("nvme")?);
        let mut plugged = self.plug(disk, &name)?;
        let block = self.sys().join("block").join(&name);
        // The kernel pads both with spaces.
        plugged.file(&block, "device/serial", &format!("{serial:<20}\n"))?;
        plugged.file(&block, "device/model", &format!("{model:<40}\n"))?;
        if let Some(link) = link {
            plugged.link(&self.dev().join("disk/by-id").join(link), &name)?;
        }
        Ok(plugged)
    }

    /// Plugs a disk in under the very name that was asked for.
    ///
    /// # Errors
    /// When the loop device cannot be made, or the name is taken.
    pub fn plug_named(&self, disk: &Path, name: &str) -> Result<Plugged> {
        self.plug(disk, name)
    }

    fn plug(&self, disk: &Path, name: &str) -> Result<Plugged> {
        let device = Loop::attach(disk)?;
        let node = self.dev().join(name);
        let number = std::fs::metadata(&device.path)?.rdev();
        mknod(&node, SFlag::S_IFBLK, Mode::S_IRUSR | Mode::S_IWUSR, number)?;
        Ok(Plugged { device, made: vec![node] })
    }

    /// A name that no device has: `sd` 1, 2, 3.
    fn free(&self, prefix: &str) -> Result<String> {
        for number in 1.. {
            let name = format!("{prefix}{number}");
            if !self.dev().join(&name).exists() && !self.dev().join(format!("{name}n1")).exists() {
                return Ok(name);
            }
        }
        Err("no device name is left".into())
    }
}

/// A disk that is plugged in, until this is dropped.
#[derive(Debug)]
pub struct Plugged {
    device: Loop,
    made: Vec<PathBuf>,
}

impl Plugged {
    pub fn node(&self) -> &Path {
        self.made.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// The disk has grown: the kernel notices.
    pub fn notice_size(&self) -> Result<()> {
        run(Command::new("losetup").arg("-c").arg(&self.device.path))?;
        Ok(())
    }

    fn file(&mut self, dir: &Path, name: &str, content: &str) -> Result<()> {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        std::fs::write(path, content)?;
        self.made.push(dir.to_owned());
        Ok(())
    }

    fn link(&mut self, link: &Path, name: &str) -> Result<()> {
        // The link of a volume that was here before may be there still: udev replaces it.
        let _ = std::fs::remove_file(link);
        std::os::unix::fs::symlink(format!("../../{name}"), link)?;
        self.made.push(link.to_owned());
        Ok(())
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        for path in self.made.drain(..).rev() {
            // What is gone already needs no removing.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

/// A loop device, detached by the kernel when the last user closes it: this value, or the process.
#[derive(Debug)]
struct Loop {
    path: PathBuf,
    _open: File,
}

impl Loop {
    fn attach(disk: &Path) -> Result<Self> {
        let path = PathBuf::from(run(Command::new("losetup").args(["--find", "--show"]).arg(disk))?.trim());
        let open = File::open(&path)?;
        // With the little it is given, reading a disk of holes takes seconds: 4 MiB ahead, in sectors.
        run(Command::new("blockdev").args(["--setra", "8192"]).arg(&path))?;
        // Detaching what is open means: at the last close.
        run(Command::new("losetup").arg("--detach").arg(&path))?;
        Ok(Self { path, _open: open })
    }
}

/// Makes a disk of holes, or makes it larger.
pub fn grow_disk(path: &Path, bytes: u64) -> Result<()> {
    let file = File::options().create(true).append(true).open(path)?;
    file.set_len(bytes)?;
    Ok(())
}

/// Puts a file system onto a disk that is plugged in nowhere.
pub fn stain_disk(path: &Path) -> Result<()> {
    run(Command::new("mkfs.xfs").args(["-q", "--"]).arg(path))?;
    Ok(())
}

/// Copies a disk with its holes.
pub fn copy_disk(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").args(["--sparse=always", "--reflink=auto", "--"]).arg(from).arg(to))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
