//! A place without backups, where backups were to be looked at: most likely somebody mistyped it.
//!
//! What the first backup makes stays when the last one is deleted. So a place where nothing is was never a
//! destination.

use super::store::Store;
use crate::config::destinations::Destinations;
use crate::volumes::error::{Error, Result};
use convoy_backup::Engine;
use convoy_driver_sdk::ErrorKind;
use convoy_objectstore::{Depth, Destination};
use std::sync::Arc;
use std::time::Duration;

/// How long to look for what was meant. It is only a hint.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many places beside the one that was given are looked at, and how many in it.
const PLACES: usize = 8;

impl Destinations {
    /// Opens a destination where there must be something already.
    ///
    /// # Errors
    /// As [`Destinations::open`], and when there is nothing of convoy's.
    pub(super) async fn open_known(&self, engine: &Engine, url: &str, endpoint: &str) -> Result<Store> {
        let failed = match self.open(url, endpoint).await {
            Ok(store) if engine.is_known(Arc::clone(&store.objects)).await? => return Ok(store),
            Ok(store) => Error::Backup {
                kind: ErrorKind::NotFound,
                message: format!("there are no backups at {}, and there never were", store.destination),
                hint: None,
            },
            Err(error) => error,
        };
        let (Error::Backup { kind: ErrorKind::NotFound, message, .. }, Ok(wrong)) = (&failed, url.parse())
        else {
            return Err(failed);
        };
        let near = tokio::time::timeout(PATIENCE, self.near(engine, &wrong, endpoint)).await.ok().flatten();
        let hint = match near {
            Some(near) => format!("there are some at {near}"),
            None => "check the spelling; the first backup makes it a destination".to_owned(),
        };
        Err(Error::Backup { kind: ErrorKind::NotFound, message: message.clone(), hint: Some(hint) })
    }

    /// A destination that was probably meant: one beside it with a similar name, the one it is in, or one in
    /// it.
    async fn near(&self, engine: &Engine, wrong: &Destination, endpoint: &str) -> Option<Destination> {
        let mut places = Vec::new();
        if let Some((parent, name)) = wrong.parent() {
            let mut beside = self.places_in(&parent, endpoint).await;
            beside.sort_by_cached_key(|other| strsim::osa_distance(other, name));
            let alike = beside.iter().filter(|other| strsim::osa_distance(other, name) <= 1 + name.len() / 3);
            places.extend(alike.take(PLACES).filter_map(|other| parent.child(other)));
            places.push(parent);
        }
        let inside = self.places_in(wrong, endpoint).await;
        places.extend(inside.iter().take(PLACES).filter_map(|name| wrong.child(name)));
        for place in places {
            if let Ok(store) = self.open_at(place.clone(), endpoint).await
                && engine.is_known(store.objects).await.is_ok_and(|known| known)
            {
                return Some(place);
            }
        }
        None
    }

    /// The names of the first directories in a place; none if it cannot be looked at.
    async fn places_in(&self, place: &Destination, endpoint: &str) -> Vec<String> {
        let Ok(store) = self.open_at(place.clone(), endpoint).await else { return Vec::new() };
        let page = store.objects.list("", Depth::One, None).await.unwrap_or_default();
        page.dirs.iter().map(|dir| dir.trim_end_matches('/').to_owned()).collect()
    }
}
