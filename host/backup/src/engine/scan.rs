//! Counts what there is to do in a tree, while it is being done.

use std::path::Path;
use std::time::Duration;

use convoy_tree::{Found, Kind, WalkOptions, walk};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::ctx::Ctx;
use crate::exclude::{Excludes, Verdict};

/// How long the parent's totals are good enough.
const GUESS: Duration = Duration::from_secs(1);

/// Counts until `ended` hangs up.
pub(crate) fn scan(ctx: &Ctx, root: &Path, excludes: &Excludes, ended: &Receiver<()>) {
    // The totals grow meanwhile: there is nothing better to show.
    count(ctx, root, excludes, ended, |bytes| ctx.progress.add_total(bytes, 1));
}

/// Counts where the parent's totals are a good guess already: only if the work takes long enough for somebody
/// to look.
pub(crate) fn scan_later(ctx: &Ctx, root: &Path, excludes: &Excludes, ended: &Receiver<()>) {
    if ended.recv_timeout(GUESS) == Err(RecvTimeoutError::Timeout)
        && let Some((bytes, files)) = count(ctx, root, excludes, ended, |_| ())
    {
        ctx.progress.set_total(bytes, files);
    }
}

/// Bytes and files of a tree, and `each` called with the bytes of every file; `None` when nobody wants to
/// know any more.
fn count(
    ctx: &Ctx,
    root: &Path,
    excludes: &Excludes,
    ended: &Receiver<()>,
    each: impl Fn(u64),
) -> Option<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    let mut walk = walk(root, WalkOptions { xattrs: false, ..WalkOptions::default() }).ok()?;
    while let Some(found) = walk.next() {
        if ctx.check().is_err() || ended.try_recv() == Err(TryRecvError::Disconnected) {
            return None;
        }
        let Ok(Found::Entry(found)) = found else { continue };
        if !matches!(excludes.peek(&found), Ok(Verdict::Keep)) {
            // A marker is small.
            walk.skip_children();
            continue;
        }
        if found.entry.kind == Kind::File {
            bytes += found.entry.size;
            files += 1;
            each(found.entry.size);
        }
    }
    Some((bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::Crypt;
    use crate::exclude::ExcludeRules;
    use crate::layout::VolumeDir;
    use crate::memory::Memory;
    use crate::progress::Progress;
    use std::sync::Arc;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_guess_is_replaced_by_a_count_unless_the_work_is_done() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("one", 3000), ("two", 50_000), ("three", 7)] {
            std::fs::write(dir.path().join(name), vec![1; bytes]).unwrap();
        }
        let store = Arc::new(convoy_objectstore::DirectoryStore::open(dir.path()).await.unwrap());
        let volume = VolumeDir::new("vol1").unwrap();
        let progress = Progress::new();
        let ctx = Ctx::new(
            store,
            volume,
            Crypt::default(),
            progress.clone(),
            &CancellationToken::new(),
            Memory::new(64 << 20),
        );
        let totals = || (progress.snapshot().bytes_total, progress.snapshot().files_total);
        progress.set_total(7, 1);

        let (going_on, ended) = crossbeam_channel::bounded(0);
        drop(going_on);
        let rules = ExcludeRules { patterns: vec!["three".to_owned()], ..ExcludeRules::default() };
        let excludes = Excludes::new(&rules, dir.path(), |text| panic!("{text}")).unwrap();
        scan_later(&ctx, dir.path(), &excludes, &ended);
        assert_eq!(totals(), (7, 1));

        let (_going_on, ended) = crossbeam_channel::bounded(0);
        scan_later(&ctx, dir.path(), &excludes, &ended);
        assert_eq!(totals(), (53_000, 2));
        assert!(excludes.excluded().is_empty(), "a scan counts nothing as left out");
    }
}
