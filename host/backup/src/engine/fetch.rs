//! Reads chunks from the store in parallel: neighbours with one request, each verified before anybody sees
//! it.

use convoy_objectstore::StoreError;
use crossbeam_channel::{Receiver, bounded};

use super::ctx::Ctx;
use crate::error::{BackupError, BackupResult};
use crate::format::chunk::Decoder;
use crate::format::{ChunkLocation, ChunkRef, PackId};

/// Stored bytes that are looked at together to find neighbours.
const WINDOW: u64 = 32 << 20;
/// Chunks in a window.
const WINDOW_CHUNKS: usize = 8192;
/// Bytes of memory that what is done with them holds.
const WINDOW_WEIGHT: usize = 8 << 20;
/// Bytes read with one request.
pub(crate) const STRETCH: u64 = 4 << 20;
/// Bytes that are read in vain rather than making another request.
pub(crate) const GAP: u64 = 128 << 10;

/// A chunk that is wanted, and what for.
pub(crate) struct Want<T> {
    pub(crate) chunk: ChunkRef,
    pub(crate) purpose: T,
    /// Bytes of memory that the purpose holds.
    pub(crate) weight: usize,
}

/// What is done with a chunk: its plain bytes, or why there are none.
pub(crate) type Deliver<'a, T> =
    &'a (dyn Fn(T, &ChunkRef, Result<&[u8], BackupError>) -> BackupResult<()> + Sync);

/// Wants that one request answers.
struct Stretch<T> {
    pack: PackId,
    start: u64,
    end: u64,
    wants: Vec<Want<T>>,
}

fn bounds(place: &ChunkLocation) -> (u64, u64) {
    let start = u64::from(place.offset);
    (start, start + u64::from(place.stored))
}

/// Fetches everything wanted. `requests` threads read, unpack, verify and deliver; memory is about 8 MiB for
/// each.
///
/// A chunk that is damaged or missing is told to `deliver`, which decides whether that is the end. A store
/// that does not answer is.
pub(crate) fn fetch<T: Send>(
    ctx: &Ctx,
    requests: usize,
    wants: impl Iterator<Item = BackupResult<Want<T>>>,
    deliver: Deliver<'_, T>,
) -> BackupResult<()> {
    std::thread::scope(|scope| {
        let (queue, stretches) = bounded::<Stretch<T>>(requests.max(1));
        for _ in 0..requests.max(1) {
            let stretches = stretches.clone();
            scope.spawn(move || ctx.part(|| serve(ctx, &stretches, deliver)));
        }
        drop(stretches);
        let planned = ctx.part(|| {
            let mut window: Vec<Want<T>> = Vec::new();
            let (mut bytes, mut weight) = (0, 0);
            let send = |window: &mut Vec<Want<T>>| {
                for stretch in join(std::mem::take(window)) {
                    queue.send(stretch).map_err(|_| BackupError::Cancelled)?;
                }
                Ok(())
            };
            for want in wants {
                ctx.check()?;
                let want = want?;
                bytes += u64::from(want.chunk.place.stored);
                weight += want.weight;
                window.push(want);
                if bytes >= WINDOW || window.len() >= WINDOW_CHUNKS || weight >= WINDOW_WEIGHT {
                    (bytes, weight) = (0, 0);
                    send(&mut window)?;
                }
            }
            send(&mut window)
        });
        drop(queue);
        planned
    });
    ctx.check().map_err(|_| ctx.reason())
}

/// Joins what lies side by side in a pack to stretches of one request each.
fn join<T>(mut wants: Vec<Want<T>>) -> Vec<Stretch<T>> {
    wants.sort_by_key(|want| (want.chunk.place.pack, want.chunk.place.offset));
    let mut stretches: Vec<Stretch<T>> = Vec::new();
    for want in wants {
        let (start, end) = bounds(&want.chunk.place);
        match stretches.last_mut() {
            Some(last)
                if last.pack == want.chunk.place.pack
                    && start <= last.end + GAP
                    && end.max(last.end) - last.start <= STRETCH =>
            {
                last.end = last.end.max(end);
                last.wants.push(want);
            }
            _ => stretches.push(Stretch { pack: want.chunk.place.pack, start, end, wants: vec![want] }),
        }
    }
    stretches
}

fn serve<T>(ctx: &Ctx, stretches: &Receiver<Stretch<T>>, deliver: Deliver<'_, T>) -> BackupResult<()> {
    let mut decoder = ctx.decoder()?;
    while let Ok(stretch) = stretches.recv() {
        one(ctx, stretch, &mut decoder, deliver)?;
    }
    Ok(())
}

fn one<T>(
    ctx: &Ctx,
    stretch: Stretch<T>,
    decoder: &mut Decoder,
    deliver: Deliver<'_, T>,
) -> BackupResult<()> {
    let key = ctx.pack_key(stretch.pack);
    let bytes = match ctx.call(ctx.store.get_range(&key, stretch.start..stretch.end)) {
        Ok(bytes) => bytes,
        Err(BackupError::Store(StoreError::Truncated { .. })) if stretch.wants.len() > 1 => {
            // The pack is cut off somewhere; what is before may be whole.
            for want in stretch.wants {
                let (start, end) = bounds(&want.chunk.place);
                one(ctx, Stretch { pack: stretch.pack, start, end, wants: vec![want] }, decoder, deliver)?;
            }
            return Ok(());
        }
        Err(BackupError::Store(error @ (StoreError::NotFound { .. } | StoreError::Truncated { .. }))) => {
            for want in stretch.wants {
                deliver(want.purpose, &want.chunk, Err(BackupError::damaged(&key, &error)))?;
            }
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    ctx.progress.add_moved(bytes.len() as u64);
    let mut wants = stretch.wants.into_iter().peekable();
    while let Some(Want { chunk, purpose, .. }) = wants.next() {
        ctx.check()?;
        let (start, end) = bounds(&chunk.place);
        let at = |n: u64| usize::try_from(n - stretch.start).unwrap_or(usize::MAX);
        let decoded = match bytes.get(at(start)..at(end)) {
            Some(stored) => ctx.decode(decoder, &chunk, stored),
            None => Err(BackupError::damaged(&key, "it is too short")),
        };
        match decoded {
            Ok(plain) => {
                deliver(purpose, &chunk, Ok(plain))?;
                while let Some(same) = wants.next_if(|want| want.chunk == chunk) {
                    deliver(same.purpose, &chunk, Ok(plain))?;
                }
            }
            Err(error) => deliver(purpose, &chunk, Err(error))?,
        }
    }
    Ok(())
}
