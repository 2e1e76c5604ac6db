//! Who uses one volume: a small state machine without any I/O.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The user that stands for mounts by hand (`convoy mount`): one claim, however often it is repeated.
pub const BY_HAND: &str = "convoy:by-hand";

/// The user that stands for whoever had the volume mounted before the ledger was begun (by convoy 0.5).
pub(crate) const ADOPTED: &str = "convoy:adopted";

/// The user that stands for a restore of parts into the volume: one claim. None outlives the daemon.
pub(crate) const RESTORE: &str = "convoy:restore";

/// The user that stands for a restore in place: one claim, and nobody joins it. None outlives the daemon.
pub(crate) const IN_PLACE: &str = "convoy:restore-in-place";

/// Whether a user is none of Docker's.
fn is_own(user: &str) -> bool {
    [BY_HAND, ADOPTED, RESTORE, IN_PLACE].contains(&user)
}

/// The users of one volume.
///
/// Docker names every mount with an id and takes it back with the same id. An id may come several times
/// (`docker cp` uses that of the running container), so each is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Where the driver mounted it.
    pub(crate) mountpoint: PathBuf,
    /// How often each user mounted it; no zeros.
    pub(crate) users: BTreeMap<String, u32>,
    /// The last user left, and the driver has not confirmed the unmount yet.
    #[serde(default)]
    pub(crate) unmount_pending: bool,
}

/// What an unmount means for the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Others use it: leave it mounted.
    StillUsed,
    /// Nobody uses it any more: the driver has to unmount it.
    Last,
    /// It was not mounted: nothing to do.
    Nothing,
}

impl Usage {
    pub(crate) fn is_used(&self) -> bool {
        !self.users.is_empty()
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        self.users.keys().filter(|user| !is_own(user)).cloned().collect()
    }

    pub(crate) fn claim(&mut self, user: &str) {
        let count = self.users.entry(user.to_owned()).or_default();
        *count = if is_own(user) { 1 } else { count.saturating_add(1) };
        self.unmount_pending = false;
    }

    /// One mount less by this user. An id that never mounted takes back what was adopted, if anything was.
    pub(crate) fn release(&mut self, user: &str) -> Release {
        let known = if self.users.contains_key(user) { user } else { ADOPTED };
        let Some(count) = self.users.get_mut(known) else {
            return if self.is_used() {
                Release::StillUsed
            } else if self.unmount_pending {
                Release::Last
            } else {
                Release::Nothing
            };
        };
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.users.remove(known);
        }
        if self.is_used() {
            return Release::StillUsed;
        }
        self.unmount_pending = true;
        Release::Last
    }

    pub(crate) fn release_all(&mut self) -> Release {
        if !self.is_used() && !self.unmount_pending {
            return Release::Nothing;
        }
        *self = self.left();
        Release::Last
    }

    /// The same once the last user has left, and before the driver has unmounted.
    pub(crate) fn left(&self) -> Self {
        Self { mountpoint: self.mountpoint.clone(), users: BTreeMap::new(), unmount_pending: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_two_containers_to_stop_leaves_it_mounted() {
        let mut usage = Usage::default();
        usage.claim("aaaa");
        usage.claim("bbbb");
        assert_eq!(usage.release("aaaa"), Release::StillUsed);
        assert_eq!(usage.release("aaaa"), Release::StillUsed, "a repetition takes nothing from the other");
        assert_eq!(usage.release("bbbb"), Release::Last);
    }

    #[test]
    fn a_copy_into_a_running_container_uses_its_id() {
        let mut usage = Usage::default();
        usage.claim("run");
        usage.claim("run");
        assert_eq!(usage.release("run"), Release::StillUsed);
        assert_eq!(usage.release("run"), Release::Last);
    }

    #[test]
    fn mounts_by_hand_are_one() {
        let mut usage = Usage::default();
        usage.claim(BY_HAND);
        usage.claim(BY_HAND);
        assert_eq!(usage.release(BY_HAND), Release::Last);
    }

    #[test]
    fn an_unknown_id_takes_back_what_was_adopted() {
        let mut usage = Usage::default();
        usage.claim(ADOPTED);
        assert_eq!(usage.release("of a container that 0.5 mounted it for"), Release::Last);
        assert_eq!(Usage::default().release("x"), Release::Nothing);
    }

    #[test]
    fn an_unmount_that_failed_is_tried_again_by_the_next_one() {
        let mut usage = Usage::default();
        usage.claim("aaaa");
        assert_eq!(usage.release("aaaa"), Release::Last);
        assert!(usage.unmount_pending);
        assert_eq!(usage.release("aaaa"), Release::Last);
        usage.claim("bbbb");
        assert!(!usage.unmount_pending);
    }

    proptest! {
        /// Against the plainest model: a list of mounts that were not taken back.
        #[test]
        fn counts_as_a_list_of_mounts_would(steps in prop::collection::vec((any::<bool>(), 0usize..4), 0..80)) {
            let ids = ["a", "b", "c", "d"];
            let mut usage = Usage::default();
            let mut model: Vec<&str> = Vec::new();
            for (mount, id) in steps {
                let id = ids[id];
                if mount {
                    usage.claim(id);
                    model.push(id);
                } else {
                    let before = model.len();
                    if let Some(at) = model.iter().position(|held| *held == id) {
                        model.remove(at);
                    }
                    let last = model.is_empty() && (before > 0 || usage.unmount_pending);
                    let expected = if last { Release::Last }
                        else if model.is_empty() { Release::Nothing }
                        else { Release::StillUsed };
                    prop_assert_eq!(usage.release(id), expected);
                }
                prop_assert_eq!(usage.is_used(), !model.is_empty());
                prop_assert_eq!(usage.users.values().sum::<u32>() as usize, model.len());
            }
        }
    }
}
