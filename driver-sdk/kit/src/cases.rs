//! The cases, by topic. Each is a function that returns at the first broken rule.

use crate::check::Outcome;
use crate::subject::Subject;
use convoy_driver_sdk::protocol::Capability;

mod backups;
mod calls;
mod contents;
mod copies;
mod crash;
mod data;
mod end;
mod identity;
mod kept;
mod listing;
mod restore;
mod snapshots;
mod volumes;

pub(crate) enum Need {
    /// The driver declares this capability.
    Can(Capability),
    /// The driver in a process of its own.
    Process,
    /// An option whose value is secret.
    Secret,
    /// A create option by which a volume adopts data.
    Adopted,
}

pub(crate) struct Case {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    pub(crate) needs: &'static [Need],
    pub(crate) run: fn(&Subject) -> Outcome,
}

macro_rules! cases {
    ($($id:literal $title:literal [$($need:expr),*] $run:expr;)*) => {
        /// All cases, in the order they are run: each is simpler than those after it.
        pub(crate) const CASES: &[Case] =
            &[$(Case { id: $id, title: $title, needs: &[$($need),*], run: $run }),*];
    };
}

/// The ids and titles of all cases.
pub fn list() -> impl Iterator<Item = (&'static str, &'static str)> {
    CASES.iter().map(|case| (case.id, case.title))
}

use Capability as C;
use Need::{Adopted, Can, Process, Secret};

cases! {
    "identity.hello" "says hello, and nothing before" [Process] identity::hello;
    "identity.describe" "describes itself before it is opened" [Process] identity::describe;
    "identity.undeclared" "answers unsupported where it declares nothing" [] identity::undeclared;
    "identity.options" "refuses options it does not know" [] identity::options;
    "identity.newer" "gets along with a newer host" [Process] identity::newer;
    "identity.state" "tells how it is, in the form it is to be told" [] identity::state;
    "identity.repeated" "carries a repeated request out once" [Process] identity::repeated;
    "identity.secrets" "tells no secrets" [Process, Secret] identity::secrets;
    "volume.life" "creates, describes and deletes a volume" [] volumes::life;
    "volume.twice" "refuses a create of what exists" [] volumes::twice;
    "volume.unknown" "does not know what is not there" [] volumes::unknown;
    "volume.names" "refuses names that are none" [] volumes::names;
    "volume.create-options" "refuses create options it does not know" [] volumes::create_options;
    "volume.sizes" "refuses sizes that cannot be" [Can(C::Sized)] volumes::sizes;
    "volume.mount" "mounts, and mounts again" [] volumes::mount;
    "volume.files" "keeps every file through unmount and restart" [] volumes::files;
    "volume.in-use" "does not delete what is mounted" [] volumes::in_use;
    "volume.size" "enforces the size" [Can(C::Sized)] volumes::size;
    "volume.born" "keeps the time of creation" [] volumes::born;
    "volume.keep" "forgets a volume and keeps its data" [] volumes::keep;
    "volume.adopted" "keeps the data that a volume adopted" [Adopted] volumes::adopted;
    "volume.kept" "tells and deletes what it keeps" [Can(C::Kept)] kept::life;
    "volume.resize-offline" "grows a volume that is not mounted" [Can(C::ResizeOffline), Can(C::Sized)] volumes::resize_offline;
    "volume.resize-online" "grows a volume that is mounted" [Can(C::ResizeOnline), Can(C::Sized)] volumes::resize_online;
    "list.pages" "lists in pages, sorted" [] listing::pages;
    "list.generation" "says truly that nothing has changed" [] listing::generation;
    "snapshot.life" "takes, lists and deletes snapshots" [Can(C::Snapshots)] snapshots::life;
    "snapshot.unknown" "does not know snapshots that are not there" [Can(C::Snapshots)] snapshots::unknown;
    "snapshot.open" "keeps what is being read" [Can(C::Snapshots)] snapshots::open;
    "data.tree" "hands over a tree as it was" [Can(C::Snapshots), Can(C::ReadTree)] data::tree;
    "data.block" "hands over a device as it was" [Can(C::Snapshots), Can(C::ReadBlock)] data::block;
    "data.changed" "knows every byte that changed" [Can(C::Snapshots), Can(C::ReadBlock), Can(C::ChangedExtents)] data::changed;
    "data.either" "hands a snapshot over as a tree and as a device" [Can(C::Snapshots), Can(C::ReadEither)] data::either;
    "restore.tree" "restores a tree" [Can(C::RestoreTree)] restore::tree;
    "restore.options" "takes back what it gave for a restore" [Can(C::Snapshots)] restore::options;
    "restore.block" "restores a device bit for bit" [Can(C::Snapshots), Can(C::ReadBlock), Can(C::RestoreBlock)] restore::block;
    "restore.abort" "leaves nothing of an aborted restore" [] restore::abort_case;
    "restore.taken" "restores over nothing" [] restore::taken;
    "copy.clone" "makes an independent volume of a snapshot" [Can(C::Snapshots), Can(C::Clone)] copies::clone;
    "copy.kept" "clones over nothing" [Can(C::Snapshots), Can(C::Clone)] copies::kept;
    "copy.revert" "goes back to a snapshot" [Can(C::Snapshots), Can(C::Revert)] copies::revert;
    "copy.revert-ended" "goes back whole or not at all when the call is ended" [Can(C::Snapshots), Can(C::Revert)] copies::revert_ended;
    "copy.check" "finds nothing wrong where nothing is" [Can(C::Check)] copies::check;
    "backup.life" "keeps a backup of its own beyond snapshot and volume" [Can(C::Snapshots), Can(C::NativeBackup)] backups::life;
    "backup.unknown" "does not know backups that are not there" [Can(C::NativeBackup)] backups::unknown;
    "calls.concurrent" "serves many volumes at once" [] calls::concurrent;
    "calls.independent" "lets no volume wait for another's work" [] calls::independent;
    "calls.deadline" "ends when its time is over" [] calls::deadline;
    "calls.cancel" "ends when it is cancelled" [] calls::cancel;
    "crash.durable" "loses nothing it acknowledged" [Process] crash::durable;
    "crash.create" "survives a kill in the midst of volume.create" [Process] crash::create;
    "crash.delete" "survives a kill in the midst of volume.delete" [Process] crash::delete;
    "crash.mount" "survives a kill in the midst of volume.mount" [Process] crash::mount;
    "crash.unmount" "survives a kill in the midst of volume.unmount" [Process] crash::unmount;
    "crash.resize" "survives a kill in the midst of volume.resize" [Process, Can(C::ResizeOffline), Can(C::Sized)] crash::resize;
    "crash.snapshot" "survives a kill in the midst of snapshot.create" [Process, Can(C::Snapshots)] crash::snapshot;
    "crash.snapshot-delete" "survives a kill in the midst of snapshot.delete" [Process, Can(C::Snapshots)] crash::snapshot_delete;
    "crash.reading" "survives a kill while a snapshot is read" [Process, Can(C::Snapshots)] crash::reading;
    "crash.restore" "survives a kill in the midst of a restore" [Process] crash::restore;
    "crash.clone" "survives a kill in the midst of volume.clone" [Process, Can(C::Snapshots), Can(C::Clone)] crash::clone;
    "crash.revert" "survives a kill in the midst of volume.revert" [Process, Can(C::Snapshots), Can(C::Revert)] crash::revert;
    "crash.backup" "survives a kill in the midst of backup.create and of a restore of it" [Process, Can(C::Snapshots), Can(C::NativeBackup)] crash::backup;
    "crash.tidy" "removes what calls made that were cut off" [Process] crash::tidy;
    "crash.open" "survives a kill in the midst of driver.open" [Process] crash::open;
    "end.goodbye" "finishes what is under way and exits with 0" [Process] end::goodbye;
    "end.hangup" "exits when its host is gone" [Process] end::hangup;
    "end.leaks" "leaves nothing behind" [] end::leaks;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique() {
        let ids: std::collections::BTreeSet<_> = CASES.iter().map(|case| case.id).collect();
        assert_eq!(ids.len(), CASES.len());
    }
}
