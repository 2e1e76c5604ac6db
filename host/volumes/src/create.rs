//! Making volumes, and growing them.

use crate::driver::{CHANGE, ManagedDriver};
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::index::Reservation;
use crate::locks::PATIENCE;
use crate::service::Volumes;
use crate::spec::CreateSpec;
use convoy_activity::events::about;
use convoy_driver_sdk::protocol::{Capability, CreateVolume, GetVolume, ResizeVolume, Volume};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::sync::Arc;

impl Volumes {
    /// Makes an empty volume, or lets a driver with backups of its own restore one.
    ///
    /// # Errors
    /// [`Error::VolumeExists`] and the like; the driver's.
    pub async fn create(&self, name: &Name, spec: &CreateSpec, call: &RequestContext) -> Result<Entry> {
        let driver = self.drivers.get(&spec.driver)?;
        let mut options = spec.options_for(driver, name)?;
        if !spec.backup.is_empty() {
            spec.check_option(driver, "backup")?;
            options.insert("backup".to_owned(), spec.backup.clone());
        }
        let reservation = self.index.reserve_volume(name)?;
        let guard = self.lock(name, "create").await?;
        let request = CreateVolume::new(name.clone()).size(spec.size).options(options);
        match driver.change(request, &call.within(CHANGE), &guard).await {
            Ok(volume) => self.created(driver, volume, reservation),
            Err(error) if error.kind == ErrorKind::AlreadyExists => {
                // Another host made it, or a request whose answer was lost.
                match driver.call(GetVolume::new(name.clone()), &call.within(CHANGE)).await {
                    Ok(volume) => {
                        self.index.put(driver, volume);
                        Err(Error::VolumeExists(name.clone()))
                    }
                    Err(_) => Err(error.into()),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes an empty volume unless there is one of that name: what Docker means by Create.
    ///
    /// # Errors
    /// As [`Self::create`], but for a volume that exists.
    pub async fn create_or_get(
        &self,
        name: &Name,
        spec: &CreateSpec,
        call: &RequestContext,
    ) -> Result<Entry> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let maker =
            self.drivers.get(&spec.driver).map(|driver| driver.name().to_string()).unwrap_or_default();
        loop {
            self.refuse_dockers_own(name, spec, call).await?;
            if let Ok(entry) = self.find_elsewhere(name, &maker, call).await {
                return Ok(entry);
            }
            let released = self.index.released();
            let refused = match self.create(name, spec, call).await {
                Err(Error::VolumeExists(_)) => continue,
                Err(error @ Error::BeingCreated(_)) => error,
                result => return result,
            };
            if tokio::time::timeout_at(give_up, released).await.is_err() {
                return Err(refused);
            }
        }
    }

    /// Refuses Docker a driver that would ask its engine for the volume, which waits for this call; and a
    /// name under which convoy lists a volume that some engine has itself: two volumes cannot share it. One
    /// that is gone since it was listed is forgotten.
    ///
    /// # Errors
    /// [`Error::DriverOfDocker`], [`Error::NameOfDockersVolume`].
    pub async fn refuse_dockers_own(
        &self,
        name: &Name,
        spec: &CreateSpec,
        call: &RequestContext,
    ) -> Result<()> {
        if let Ok(driver) = self.drivers.get(&spec.driver)
            && driver.can(Capability::KnownToDocker)
        {
            return Err(Error::DriverOfDocker(driver.name().clone()));
        }
        if !self.index.get(name).is_some_and(|entry| entry.is_known_to_docker()) {
            return Ok(());
        }
        match self.inspect(name, call).await {
            Err(Error::VolumeNotFound(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(fresh) if !fresh.entry.is_known_to_docker() => Ok(()),
            Ok(fresh) => {
                let driver = fresh.entry.driver.name().clone();
                Err(Error::NameOfDockersVolume { volume: name.clone(), driver })
            }
        }
    }

    /// Puts a volume that a driver made into the index.
    ///
    /// # Errors
    /// [`Error::Driver`] for a volume of another name than the reserved one.
    pub fn created(
        &self,
        driver: &Arc<ManagedDriver>,
        volume: Volume,
        reservation: Reservation,
    ) -> Result<Entry> {
        if volume.name != *reservation.name() {
            driver.suspect();
            let text = format!(
                "driver {} made volume {} when asked for {}",
                driver.name(),
                volume.name,
                reservation.name()
            );
            return Err(DriverError::new(ErrorKind::Internal, text).into());
        }
        let entry = self.index.put(driver, volume);
        self.events.send(about("volume.create", driver.name(), reservation.name()));
        Ok(entry)
    }

    /// Changes a volume's size.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a driver that cannot, or cannot while the volume is mounted; the driver's.
    pub async fn resize(&self, name: &str, size: u64, call: &RequestContext) -> Result<Entry> {
        let entry = self.find(name, call).await?;
        let volume = entry.volume.name.clone();
        if size == 0 {
            return Err(Error::InvalidRequest("the size to reach is missing".to_owned()));
        }
        let guard = self.lock(&volume, "resize").await?;
        let driver = entry.driver;
        let used = self.ledger.mountpoint(&volume).is_some();
        let (needed, what) = if used {
            (Capability::ResizeOnline, "resizing a mounted volume")
        } else {
            (Capability::ResizeOffline, "resizing a volume that is not mounted")
        };
        if driver.failure().is_none() && !driver.can(needed) {
            return Err(Error::Unsupported { driver: driver.name().clone(), what });
        }
        let request = ResizeVolume::new(volume.clone(), size);
        let resized = driver.change(request, &call.within(CHANGE), &guard).await?;
        let entry = self.index.put(&driver, resized);
        self.events.send(about("volume.resize", driver.name(), &volume));
        Ok(entry)
    }
}
