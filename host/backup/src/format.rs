//! The new format, version 1, byte by byte: docs/backup-format.md says it in words.

pub(crate) mod chunk;
pub(crate) mod limits;
pub(crate) mod manifest;
pub(crate) mod pack;
pub(crate) mod segment;
pub(crate) mod wire;

pub(crate) use chunk::{ChunkId, ChunkLocation, ChunkRef, Encoding, PackId};
