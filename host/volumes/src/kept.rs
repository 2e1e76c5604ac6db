//! Data of volumes that were forgotten, which their drivers still have.

use crate::driver::{CHANGE, ManagedDriver, QUICK};
use crate::error::{Error, Result};
use crate::service::Volumes;
use convoy_activity::events::about;
use convoy_driver_sdk::protocol::{Capability, DeleteKept, Kept, ListKept};
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use convoy_drivers::RequestContext;
use std::sync::Arc;

/// How many are asked for at once, and how many of one driver are told: more are not looked at by anybody.
const PAGE: u32 = 1000;
const MOST: usize = 100_000;

impl Volumes {
    /// What the drivers keep, in their order; and what those say that cannot tell. Sizes are those that are
    /// found out within seconds.
    pub async fn kept(
        &self,
        sizes: bool,
        call: &RequestContext,
    ) -> (Vec<(Arc<ManagedDriver>, Kept)>, Vec<(Arc<ManagedDriver>, DriverError)>) {
        let (mut all, mut failed) = (Vec::new(), Vec::new());
        for driver in self.drivers.iter().filter(|driver| driver.can(Capability::Kept)) {
            match kept_by(driver, sizes, call).await {
                Ok(kept) => all.extend(kept.into_iter().map(|kept| (Arc::clone(driver), kept))),
                Err(error) => failed.push((Arc::clone(driver), error)),
            }
        }
        (all, failed)
    }

    /// Finds the driver that keeps data of a forgotten volume of this name.
    pub async fn keeper_of(&self, name: &str, call: &RequestContext) -> Option<Name> {
        let (kept, _) = self.kept(false, call).await;
        kept.iter().find(|(_, kept)| *kept.name == *name).map(|(driver, _)| driver.name().clone())
    }

    /// Deletes what a driver keeps under a name; of the only one that keeps anything under it if none is
    /// named. A volume of that name is never touched: its driver has to refuse that, and nothing but
    /// `kept.delete` is sent.
    ///
    /// # Errors
    /// [`Error::NothingKept`]; [`Error::UnknownDriver`]; [`Error::InvalidRequest`] when several drivers keep
    /// something under the name; the driver's.
    pub async fn delete_kept(&self, name: &Name, driver: &str, call: &RequestContext) -> Result<()> {
        if !driver.is_empty() {
            self.drivers.get(driver)?;
        }
        let guard = self.lock(name, "delete").await?;
        let (kept, mut failed) = self.kept(false, call).await;
        let asked = |of: &ManagedDriver| driver.is_empty() || **of.name() == *driver;
        let mut keepers: Vec<_> =
            kept.into_iter().filter(|(of, kept)| kept.name == *name && asked(of)).map(|(of, _)| of).collect();
        if keepers.len() > 1 {
            let names: Vec<_> = keepers.iter().map(|of| of.name().as_str()).collect();
            let text = format!(
                "several drivers keep data of {name} ({}): say which with --driver",
                names.join(", ")
            );
            return Err(Error::InvalidRequest(text));
        }
        let Some(keeper) = keepers.pop() else {
            failed.retain(|(of, _)| asked(of));
            return Err(match failed.pop() {
                Some((_, error)) => error.into(),
                None => Error::NothingKept { name: name.clone(), volume: self.index.get(name).is_some() },
            });
        };
        match keeper.change(DeleteKept::new(name.clone()), &call.within(CHANGE), &guard).await {
            // Gone meanwhile: by another host, or by a request whose answer was lost.
            Err(error) if error.kind != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        self.events.send(about("kept.delete", keeper.name(), name));
        Ok(())
    }
}

async fn kept_by(
    driver: &ManagedDriver,
    sizes: bool,
    call: &RequestContext,
) -> std::result::Result<Vec<Kept>, DriverError> {
    let (mut all, mut after, call) = (Vec::new(), None, call.within(QUICK));
    loop {
        // Sizes of the first page only: the driver takes seconds to find out each time.
        let sizes = sizes && after.is_none();
        let request = ListKept::new().after(after.take()).limit(Some(PAGE)).sizes(sizes);
        let mut page = driver.unless_silent(request, &call).await?;
        all.append(&mut page.kept);
        after = all.last().map(|kept: &Kept| kept.name.clone());
        if !page.more || all.len() >= MOST {
            return Ok(all);
        }
    }
}
