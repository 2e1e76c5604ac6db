//! Two processes: one that mounts, and one that reads what is in a store.
//!
//! A store may hold what somebody means harm with, so whoever reads it gives up every right of root but one
//! ([`give_up_rights`]). What needs those rights, another process does for it: [`Keeper`] mounts at one
//! directory, mounts the files on a device that the first process serves to the kernel, and unmounts in the
//! end. [`Kept`] asks it. Requests are single words; with an answer comes a descriptor, or the reason why there
//! is none. Nothing in a request says what or where: the keeper knows that from the beginning.

mod rights;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use convoy_backup::{Browse, ReadAt};
use convoy_driver_sdk::Context;
use parking_lot::Mutex;

use crate::mountpoint::{Attached, Mountpoint, MountpointError};
use crate::{MountError, files, image};
use wire::{Answer, receive_answer, receive_request, send_answer, send_request};

pub use rights::give_up_rights;
pub use wire::pair;

/// Mounts at the directory.
const MOUNT: &[u8] = b"mount";
/// Makes a mount for the image of a device, which the asking process serves then.
const IMAGE: &[u8] = b"image";
/// Mounts the files on the device of that image.
const FILES: &[u8] = b"files";

/// What the keeper is at.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
    mountpoint: Option<Mountpoint>,
    everybody: bool,
    attached: Arc<Mutex<Option<Attached>>>,
}

impl Keeper {
    /// A keeper of this directory, for whoever has the other end of the socket. What it mounts there is put into
    /// `attached`, to be detached in the end.
    #[must_use]
    pub fn new(
        socket: OwnedFd,
        mountpoint: Mountpoint,
        everybody: bool,
        attached: Arc<Mutex<Option<Attached>>>,
    ) -> Self {
        Self { socket, mountpoint: Some(mountpoint), everybody, attached }
    }

    /// Does what it is asked for, until nobody can ask any more.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn run(mut self) -> io::Result<()> {
        let mut served: Option<OwnedFd> = None;
        while let Some(request) = receive_request(&self.socket)? {
            let answer = match request.as_slice() {
                MOUNT => self.mount().map_err(|error| error.to_string()),
                IMAGE => image::mount().map_err(|error| MountError::Fuse(error).to_string()).map(
                    |(fuse, mount)| {
                        served = Some(mount);
                        fuse
                    },
                ),
                // Waits for the process that asks, which serves the image: another thread of it has to.
                FILES => match served.take() {
                    Some(served) => {
                        files::mount_image(&served, &Context::new("mount")).map_err(|error| error.to_string())
                    }
                    None => Err("no image was asked for".to_owned()),
                },
                _ => Err("the request is not known".to_owned()),
            };
            send_answer(&self.socket, &answer)?;
        }
        Ok(())
    }

    fn mount(&mut self) -> Result<OwnedFd, MountpointError> {
        let Some(mountpoint) = self.mountpoint.take() else {
            let source = io::ErrorKind::AlreadyExists.into();
            let path = self.attached.lock().as_ref().map(|it| it.path().to_owned()).unwrap_or_default();
            return Err(MountpointError::Mount { path, source });
        };
        let mut attached = self.attached.lock();
        let (mount, fuse) = mountpoint.attach(self.everybody)?;
        *attached = Some(mount);
        Ok(fuse)
    }
}

/// The keeper, as the process that reads a store sees it.
#[derive(Debug)]
pub struct Kept(Mutex<OwnedFd>);

/// Why the keeper did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the message of each says what its fields are")]
pub enum KeeperError {
    #[error("{0}")]
    Refused(String),
    #[error("the process that mounts is gone: {0}")]
    Gone(#[source] io::Error),
}

impl Kept {
    /// The keeper at the other end of this socket.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self(Mutex::new(socket))
    }

    /// Has the view mounted. Gives what [`crate::serve_view`] needs.
    ///
    /// # Errors
    /// [`KeeperError`].
    pub fn mount(&self) -> Result<OwnedFd, KeeperError> {
        ask(&self.0.lock(), MOUNT)
    }

    /// Opens the files in an image, as [`crate::browse_image`] does.
    ///
    /// # Errors
    /// [`MountError`].
    pub fn browse_image(&self, image: Arc<dyn ReadAt>) -> Result<Arc<dyn Browse>, MountError> {
        // Both requests together: the keeper remembers one image.
        let socket = self.0.lock();
        let told = |error: KeeperError| MountError::Keeper(error.to_string());
        let fuse = ask(&socket, IMAGE).map_err(told)?;
        image::serve(image, fuse).map_err(MountError::Fuse)?;
        let files = ask(&socket, FILES).map_err(told)?;
        drop(socket);
        files::browse_mount(files)
    }
}

fn ask(socket: &OwnedFd, request: &[u8]) -> Result<OwnedFd, KeeperError> {
    send_request(socket, request).map_err(KeeperError::Gone)?;
    match receive_answer(socket).map_err(KeeperError::Gone)? {
        Answer::Descriptor(descriptor) => Ok(descriptor),
        Answer::Refused(why) => Err(KeeperError::Refused(why)),
    }
}
