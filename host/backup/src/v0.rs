//! The formats of convoy 0.5: blocks of 2 MiB, each gzipped under its SHA-512, and a tar.gz of a directory.

pub(crate) mod blocks;
mod file;

pub(crate) use blocks::{check_blocks, load as load_block, read_blocks, write_blocks};
pub(crate) use file::{
    ArchiveStream, check_file, explain as explain_archive, file_key, open as open_archive, read_file,
    scan_file, write_file,
};

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 2 << 20;
