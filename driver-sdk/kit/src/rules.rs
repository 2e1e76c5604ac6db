//! The rules of `docs/driver-protocol.md`, as numbered and worded there.

/// A rule that every driver is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its number in the document: `R12`.
    pub id: &'static str,
    /// The words of the rule, as in the document.
    pub text: &'static str,
}

macro_rules! rules {
    ($($id:ident $name:ident $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: Rule = Rule { id: stringify!($id), text: $text };
        )*

        /// All rules, in the order of the document.
        pub const RULES: &[Rule] = &[$($name),*];
    };
}

rules! {
    R1 HELLO "A process answers `hello` within 10 seconds with the name of the protocol and a version of the host's major, and nothing else before it.";
    R2 DESCRIBE "`driver.describe` is answered before `driver.open` and touches nothing; the name is that of the file.";
    R3 CAPABILITIES "What is declared works; what is not declared is answered `unsupported`.";
    R4 OPTIONS "An option that is not declared is refused with `invalid_argument` and named, in `driver.open` and in `volume.create`.";
    R5 NEWER "A member that is not known is ignored, a notification that is not known is ignored, a method that is not known is answered `unsupported`.";
    R6 NAMES "A name that breaks the rule for names is refused with `invalid_argument`, and nothing has changed.";
    R7 SIZES "A size that cannot be is refused with `invalid_argument` or `exhausted`, and nothing has changed.";
    R8 ERRORS "An error has a kind of the closed set and a message that says what was expected and what was found.";
    R9 UNKNOWN "A call for a volume or snapshot that does not exist is answered `not_found`.";
    R10 CREATE "`volume.create` makes an empty volume that is listed; of a name that exists it answers `already_exists` and changes nothing.";
    R11 DELETE "`volume.delete` removes the volume, its data and its snapshots, and frees the name; repeated it answers `not_found`.";
    R12 IN_USE "`volume.delete` of a mounted volume answers `in_use`, where the driver mounts.";
    R13 KEEP "`volume.delete` with `reference_only` forgets the volume and keeps its data; a restore never goes over it.";
    R14 MOUNT "`volume.mount` answers an absolute path to a directory that can be written; repeated it answers the same.";
    R15 UNMOUNT "`volume.unmount` may be repeated; what was written is there at the next mount.";
    R16 LIST "`volume.list` gives every volume once, sorted by name, in pages of at most `limit` names after `after`; `more` is true as long as names follow.";
    R17 GENERATION "A `generation` changes with every change of the volumes; `unchanged` is answered only to the present one.";
    R18 GET "`volume.get` and `volume.list` say the same of a volume.";
    R19 SIZED "A driver with `sized` enforces the size: the mounted file system is no larger.";
    R20 RESIZE "`volume.resize` reaches the size that is asked for and keeps the data; having the size already is success.";
    R21 SNAPSHOT "`snapshot.create` of a name that exists answers `already_exists`; snapshots are listed sorted by name, in the volume too; `snapshot.delete` repeated answers `not_found`.";
    R22 SNAPSHOT_OPEN "An open snapshot is not deleted: `snapshot.delete` answers `in_use`. `snapshot.close` may be repeated, also for a handle that is not known.";
    R23 SNAPSHOT_DATA "A snapshot is the state of the volume at one moment, and never changes.";
    R24 EXTENTS "Extents are sorted, do not overlap and lie within the device; pages put together are the whole.";
    R25 IN_USE_EXTENTS "Extents in use have all content: what they leave out is not needed to restore the volume.";
    R26 CHANGED "Changed extents have every byte that differs from the base; `discarded` reads as zeros. Without the base the driver gives what is in use, and says so.";
    R27 RESTORE "`restore.prepare` gives an empty place that is no volume yet; `restore.finish` makes it a volume with exactly what was written; repeated it answers the same.";
    R28 RESTORE_TAKEN "`restore.prepare` for a name that is taken answers `already_exists`.";
    R29 ABORT "`restore.abort` leaves nothing behind and may be repeated.";
    R30 CONCURRENT "Calls on different volumes are answered at the same time.";
    R31 DEADLINE "A call ends soon after its deadline: with `deadline_exceeded`, or with success if it was done; what it began is undone or remembered.";
    R32 CANCEL "A cancelled call ends soon: with `cancelled`, or with success if it was done; what it began is undone or remembered.";
    R33 DURABLE "What was acknowledged is there after a kill at any moment.";
    R34 WHOLE "A call that was cut off is finished or undone by the next `driver.open`: what it was about is there whole, as it was, or not at all, and the call can be repeated.";
    R35 GOODBYE "At `goodbye` a driver finishes the calls in flight and exits with 0.";
    R36 HANGUP "When its socket is closed a driver exits at once.";
    R37 SECRETS "The value of a secret option is in no log, no output, no error and no answer.";
    R38 LEAKS "Nothing is left of volumes that are deleted: no mount, no loop device, no device-mapper device, no open file, no process.";
    R39 TIME "A call ends within the time it is given.";
    R40 CLONE "`volume.clone` makes a volume with the contents of the snapshot, independent of its source afterwards.";
    R41 REVERT "`volume.revert` makes the contents those of the snapshot and keeps all snapshots; of a mounted volume it answers `in_use`; it may be repeated.";
    R42 CHECK "`driver.check` changes nothing without `repair`, loses nothing with it, and says of each finding what it is about.";
    R43 BACKUP "`backup.create` gives a URL with the driver's scheme, by which the backup is listed, inspected and deleted; it outlives its snapshot and its volume. `backup.delete` repeated answers `not_found`.";
    R44 BACKUP_DATA "`volume.create` with the option `backup` makes a volume with exactly what the snapshot had, and leaves the backup as it is.";
    R45 READ_EITHER "`snapshot.open` of a driver with `read_either` hands over what `kind` says; without `kind` what it declares beside it: `read_tree` or `read_block`.";
    R46 ANSWERS "An answer is a JSON object of the method's type, about the volume and snapshot that were asked for, within the limits.";
    R47 ONCE "Every request is answered once, and a request that comes twice is carried out once.";
    R48 RESTORE_OPTIONS "What `snapshot.open` gives as `restore_options`, `restore.prepare` takes as options.";
    R49 PROBE "`driver.probe` says `healthy` as long as volumes can be made.";
    R50 BORN "The creation time of a volume or snapshot never changes.";
    R51 TIDY "What a call that was cut off made in the driver's directories is gone after the next `driver.open`, unless the call was finished.";
    R52 ADOPTED "Data that was there before its volume is kept by `volume.delete`, and is in the volume when a create of that name adopts it again.";
    R53 KEPT "`kept.list` tells what `volume.delete` with `reference_only` kept, and no volume; `kept.delete` deletes it, and never a volume; repeated it answers `not_found`.";
}

/// The rule of a number: `R12`.
pub fn rule(id: &str) -> Option<Rule> {
    RULES.iter().find(|rule| rule.id == id).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_rule_and_no_other() {
        let document = include_str!("../../../docs/driver-protocol.md");
        let written: Vec<_> = document
            .lines()
            .filter_map(|line| line.strip_prefix("- **R")?.split_once("** "))
            .map(|(number, text)| (format!("R{number}"), text.to_owned()))
            .collect();
        let defined: Vec<_> = RULES.iter().map(|rule| (rule.id.to_owned(), rule.text.to_owned())).collect();
        assert_eq!(defined, written);
        for (number, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.id, format!("R{}", number + 1));
        }
    }
}
