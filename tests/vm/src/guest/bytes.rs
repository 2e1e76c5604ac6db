//! Content: made by numbers, so that it can be checked without being kept.

use super::check::Step;
use super::lab::Source;
use crate::{ensure, ensure_eq};
use convoy_driver_sdk::protocol::Extent;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that no compression or chance repeats: xorshift64 of a seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Writes such bytes to a file and makes them durable.
///
/// # Errors
/// Those of the file system.
pub fn write(path: &Path, seed: u64, length: usize) -> Step {
    let mut file = File::create(path)?;
    file.write_all(&noise(seed, length))?;
    file.sync_all()?;
    Ok(())
}

/// Whether a file holds exactly them.
///
/// # Errors
/// If not.
pub fn verify(path: &Path, seed: u64, length: usize) -> Step {
    let found = std::fs::read(path)?;
    ensure!(found == noise(seed, length), "{} does not hold what was written to it", path.display());
    Ok(())
}

/// All bytes of a device.
///
/// # Errors
/// Those of the kernel.
pub fn image(device: &Path) -> Step<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(device)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The checksum of a device.
///
/// # Errors
/// Those of the kernel.
pub fn checksum(device: &Path) -> Step<String> {
    Ok(Sha256::digest(image(device)?).iter().map(|byte| format!("{byte:02x}")).collect())
}

/// That extents tell the truth: applied to what was there before (nothing, for all extents in use), they give
/// exactly what is there now; and they do not tell of the whole device.
///
/// # Errors
/// If not.
pub fn check_extents(source: &Source, before: Option<&[u8]>) -> Step<Vec<u8>> {
    let now = image(&source.device)?;
    ensure_eq!(now.len() as u64, source.size);
    ensure_eq!(source.changed_only, before.is_some());
    let mut rebuilt = before.map_or_else(|| vec![0; now.len()], <[u8]>::to_vec);
    rebuilt.resize(now.len(), 0);
    let mut told = 0;
    for extent in &source.discarded {
        let range = range(extent)?;
        rebuilt.get_mut(range).ok_or_else(|| super::check::Failure::new("an extent behind the end"))?.fill(0);
    }
    for extent in &source.extents {
        let range = range(extent)?;
        told += extent.length;
        let (Some(to), Some(from)) = (rebuilt.get_mut(range.clone()), now.get(range)) else {
            return Err(super::check::Failure::new("an extent behind the end"));
        };
        to.copy_from_slice(from);
    }
    ensure!(rebuilt == now, "the extents {:?} do not tell all that differs", source.extents);
    ensure!(told < source.size, "the extents are the whole device");
    Ok(now)
}

fn range(extent: &Extent) -> Step<std::ops::Range<usize>> {
    let from = usize::try_from(extent.offset)?;
    Ok(from..from + usize::try_from(extent.length)?)
}

/// Writes a source's extents to a device, as a restore does.
///
/// # Errors
/// Those of the kernel.
pub fn copy_extents(source: &Source, device: &Path) -> Step {
    let (from, to) = (File::open(&source.device)?, File::options().write(true).open(device)?);
    for extent in &source.extents {
        let mut bytes = vec![0; usize::try_from(extent.length)?];
        from.read_exact_at(&mut bytes, extent.offset)?;
        to.write_all_at(&bytes, extent.offset)?;
    }
    Ok(())
}
