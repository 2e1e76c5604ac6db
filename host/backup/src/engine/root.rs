//! Loads the root of a manifest: the list of a backup's segments.

use std::ops::Deref;

use super::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::format::PackId;
use crate::format::limits::ROOT_MAX;
use crate::format::manifest::Root;
use crate::layout::{VolumeDir, parse_run};
use crate::memory::Charge;
use crate::record::BackupRecord;

/// What is wrong with a manifest that is another than its record says.
pub(crate) const WRONG_CHECKSUM: &str =
    "its content does not have the checksum that the backup's record gives";

/// The root of a manifest, with the memory it takes.
#[derive(Debug)]
pub(crate) struct LoadedRoot {
    root: Root,
    _charge: Charge,
}

impl Deref for LoadedRoot {
    type Target = Root;

    fn deref(&self) -> &Root {
        &self.root
    }
}

/// Loads the root of a backup's manifest, checked against its record.
pub(crate) fn load_root(ctx: &Ctx, record: &BackupRecord) -> BackupResult<LoadedRoot> {
    load(ctx, record, None)
}

/// Loads the root as [`load_root`] does, and tells of every pack that the backup needs.
pub(crate) fn load_root_with(
    ctx: &Ctx,
    record: &BackupRecord,
    pack: &mut dyn FnMut(PackId),
) -> BackupResult<LoadedRoot> {
    load(ctx, record, Some(pack))
}

fn load(ctx: &Ctx, record: &BackupRecord, pack: Option<&mut dyn FnMut(PackId)>) -> BackupResult<LoadedRoot> {
    let key_of_record = ctx.volume.backup(&record.name)?;
    let damaged = |why: &str| BackupError::damaged(key_of_record.clone(), why);
    let manifest = record.manifest.as_ref().ok_or_else(|| damaged("it names no manifest"))?;
    let run = parse_run(&manifest.run).ok_or_else(|| damaged("it names no proper run"))?;
    let key = ctx.volume.manifest(run);
    let bytes = ctx.call(ctx.memory.read(&*ctx.store, &key, ROOT_MAX))?;
    if blake3::hash(&bytes).to_hex().as_str() != manifest.blake3 {
        return Err(BackupError::damaged(key, WRONG_CHECKSUM));
    }
    if let Some(pack) = pack {
        Root::each_pack(&key, &bytes, &mut |found| {
            pack(PackId { run: found.run, seq: found.seq });
            Ok(())
        })?;
    }
    let mut charge = ctx.memory.charge();
    let root = Root::parse(&key, &bytes, ctx.volume.name(), &record.name, &ctx.crypt, &mut charge)?;
    check_code(&ctx.volume, record, &root)?;
    Ok(LoadedRoot { root, _charge: charge })
}

/// Refuses a record whose code was taken away: the manifest, which is sealed for this backup, says that there
/// was one.
fn check_code(volume: &VolumeDir, record: &BackupRecord, root: &Root) -> BackupResult<()> {
    if root.record_code && record.code.is_none() {
        let why = "its code was taken away: its manifest, which is sealed, says that there was one";
        return Err(BackupError::not_authentic(volume.backup(&record.name)?, why));
    }
    Ok(())
}
