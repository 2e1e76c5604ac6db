//! Makes a block device of a file: `loop(4)`, and `linux/loop.h`.

#![allow(unsafe_code, reason = "neither rustix nor nix has the ioctls of loop devices")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// Writes are refused.
const READ_ONLY: u32 = 1;
/// The device lets go of the file when nobody has it open any more, also when this process dies.
const AUTOCLEAR: u32 = 4;

/// How often another program may take the device that was free.
const RACES: usize = 64;

/// `struct loop_config`, with `struct loop_info64` inside.
#[repr(C)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

nix::ioctl_none_bad!(
    /// Gives the number of a device that is free; it is made if there is none.
    loop_ctl_get_free,
    0x4C82
);
nix::ioctl_write_ptr_bad!(
    /// Gives a device its file. Since Linux 5.8.
    loop_configure,
    0x4C0A,
    LoopConfig
);

/// A read-only loop device. It is there as long as it is open or mounted.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    /// Its node.
    pub(crate) path: PathBuf,
    _open: File,
}

impl LoopDevice {
    /// Makes a device of `file`, whose first byte is the device's.
    ///
    /// # Errors
    /// Those of the kernel; `NotFound` where it has no loop devices.
    pub(crate) fn new(file: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
        for _ in 0..RACES {
            // SAFETY: the descriptor is open, and the call takes no argument.
            let number = unsafe { loop_ctl_get_free(control.as_raw_fd()) }?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let open = OpenOptions::new().read(true).open(&path)?;
            let config = LoopConfig::of(file)?;
            // SAFETY: both descriptors are open, and `config` has the layout that the kernel reads.
            match unsafe { loop_configure(open.as_raw_fd(), &raw const config) } {
                Ok(_) => return Ok(Self { path, _open: open }),
                Err(nix::Error::EBUSY) => last = nix::Error::EBUSY.into(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(last)
    }
}

impl LoopConfig {
    fn of(file: &File) -> io::Result<Self> {
        let file = u32::try_from(file.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self {
            file,
            block_size: 0,
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: READ_ONLY | AUTOCLEAR,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
            reserved: [0; 8],
        })
    }
}

// `LOOP_CONFIGURE` reads so many bytes.
const _: () = assert!(size_of::<LoopConfig>() == 304);
