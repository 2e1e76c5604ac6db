//! What is done where something is there already.

use convoy_tree::Entry;

use super::Existing;

/// What is there, compared with what the source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    /// Nothing.
    Nothing,
    /// What the source has.
    Same,
    /// Something else, which is no directory.
    Other,
    /// A directory without anything in it, and the source has none there.
    EmptyDirectory,
    /// A directory with something in it, and the source has none there.
    FullDirectory,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It is made: nothing is there.
    Create,
    /// It takes the place of what is there, which is no directory.
    Over,
    /// The empty directory there is removed, and it is made.
    OverEmpty,
    /// The directory there is deleted with all that is in it, and it is made.
    OverFull,
    /// What is there gets another name, and it is made.
    Aside,
    /// What is there stays.
    Keep,
    /// Nothing is to be done.
    Nothing,
    /// It cannot be done as asked.
    Refuse,
}

/// Decides. `entry` is what the source has, `there` what is there, `present` its metadata.
pub(super) fn decide(
    existing: Existing,
    delete_extra: bool,
    entry: &Entry,
    there: There,
    present: Option<&Entry>,
) -> Step {
    match there {
        There::Nothing => return Step::Create,
        There::Same => return Step::Nothing,
        There::Other | There::EmptyDirectory | There::FullDirectory => {}
    }
    let newer = present.is_none_or(|present| entry.mtime > present.mtime);
    match existing {
        Existing::Keep => Step::Keep,
        Existing::Newer if !newer => Step::Keep,
        Existing::Rename => Step::Aside,
        Existing::Replace | Existing::Newer => match there {
            There::EmptyDirectory => Step::OverEmpty,
            There::FullDirectory if delete_extra => Step::OverFull,
            There::FullDirectory => Step::Refuse,
            _ => Step::Over,
        },
    }
}
