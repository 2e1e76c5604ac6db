//! The restores that a driver has under way, by their handles.

use crate::Name;
use crate::protocol::Volume;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Restores that were prepared and are neither finished nor aborted, and the names of the finished ones.
///
/// `T` is a place that is being written to. See `restore.prepare`, `restore.finish` and `restore.abort`.
#[derive(Debug)]
pub struct Restores<T> {
    restores: Mutex<HashMap<String, Restore<T>>>,
    count: AtomicU64,
}

#[derive(Debug)]
enum Restore<T> {
    /// The data is being written.
    Open(T),
    /// It has become this volume: a repeated finish answers it again.
    Finished(Name),
}

/// What became of a finish.
#[derive(Debug)]
pub enum Finish<T> {
    /// It is this volume now. What is left of the place can go.
    Done(Volume, T),
    /// It was finished before, as the volume of this name.
    Again(Name),
    /// There is no such restore.
    Unknown,
}

impl<T> Default for Restores<T> {
    fn default() -> Self {
        Self { restores: Mutex::default(), count: AtomicU64::new(0) }
    }
}

impl<T> Restores<T> {
    /// Remembers a place that is ready, and gives its handle.
    pub fn begin(&self, place: T) -> String {
        let handle = format!("restore-{}", self.count.fetch_add(1, Ordering::Relaxed));
        self.restores.lock().insert(handle.clone(), Restore::Open(place));
        handle
    }

    /// Makes a volume of a place. What failed, for want of space, say, can be finished later.
    ///
    /// # Errors
    /// Those of `publish`.
    pub fn finish<E>(
        &self,
        handle: &str,
        publish: impl FnOnce(&T) -> Result<Volume, E>,
    ) -> Result<Finish<T>, E> {
        let put = |restore| drop(self.restores.lock().insert(handle.to_owned(), restore));
        let found = self.restores.lock().remove(handle);
        let place = match found {
            None => return Ok(Finish::Unknown),
            Some(Restore::Open(place)) => place,
            Some(Restore::Finished(name)) => {
                put(Restore::Finished(name.clone()));
                return Ok(Finish::Again(name));
            }
        };
        match publish(&place) {
            Ok(volume) => {
                put(Restore::Finished(volume.name.clone()));
                Ok(Finish::Done(volume, place))
            }
            Err(error) => {
                put(Restore::Open(place));
                Err(error)
            }
        }
    }

    /// Takes a place that is not finished, to be removed. What is finished is a volume, and stays.
    pub fn abort(&self, handle: &str) -> Option<T> {
        let mut restores = self.restores.lock();
        let Some(Restore::Open(_)) = restores.get(handle) else { return None };
        match restores.remove(handle) {
            Some(Restore::Open(place)) => Some(place),
            _ => None,
        }
    }

    /// Drops all places that are not finished.
    pub fn clear(&self) {
        self.restores.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn a_restore_is_finished_once_and_a_failed_one_again() {
        let restores = Restores::default();
        let handle = restores.begin("place");
        let volume = |_: &&str| Ok::<_, ()>(Volume::new(Name::from_static("v1"), 0, Timestamp::from_unix(0)));
        assert!(restores.finish(&handle, |_| Err("full")).is_err());
        assert!(matches!(restores.finish(&handle, volume), Ok(Finish::Done(_, "place"))));
        assert!(matches!(restores.finish(&handle, volume), Ok(Finish::Again(_))));
        assert_eq!(restores.abort(&handle), None, "it is a volume");
        let second = restores.begin("other");
        assert_eq!(restores.abort(&second), Some("other"));
        assert_eq!(restores.abort(&second), None);
        assert!(matches!(restores.finish(&second, volume), Ok(Finish::Unknown)));
    }
}
