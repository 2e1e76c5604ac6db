//! How much is read of one tree. Whoever may write in a volume could make it grow while it is read, and for
//! ever.
//!
//! Nothing here limits removing: [`remove_tree`](crate::remove_tree) takes any depth and any number of names.

/// Directories inside each other.
pub const DEPTH: usize = 16_384;
/// Bytes of a path from the root of its tree: 256 times what programs can pass to the kernel at once.
pub const PATH: usize = 1 << 20;
/// Bytes of memory for the names in the directories on the way to an entry: some seven million of usual
/// length in one directory.
pub const NAMES: usize = 256 << 20;
/// Entries of a tree.
pub const ENTRIES: u64 = 1 << 28;

/// A limit that a tree has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// More levels than [`DEPTH`].
    Depth,
    /// So many bytes in a path: [`PATH`], or fewer where a walk was asked for fewer.
    Path(usize),
    /// More memory for names than [`NAMES`].
    Names,
    /// More entries than [`ENTRIES`].
    Entries,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Depth => write!(f, "more than {DEPTH} directories inside each other"),
            Self::Path(most) => write!(f, "a path of more than {most} bytes"),
            Self::Names => write!(f, "more than {} MiB of names in its directories", NAMES >> 20),
            Self::Entries => write!(f, "more than {ENTRIES} entries"),
        }
    }
}
