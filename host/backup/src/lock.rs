//! Locks in a store, one set per volume: shared by backups and restores, exclusive for what deletes data.
//!
//! A lock is an object made once, under a random name, and a second object beside it that its holder rewrites
//! as long as it lives. Who wants a lock writes its own first and lists afterwards: of two that exclude each
//! other at least one sees the other and steps back. Age is told by the times the store gives to objects, so
//! the clocks of hosts do not matter. A lock that was not renewed for its time to live counts for nothing;
//! whoever takes the exclusive lock removes it first. A backup whose lock was removed while it slept finds
//! that out after it has written its record, and takes the record back ([`Lock::confirm`]). Deletions take
//! away what refers to data, look at their lock again, and delete data only then, in no more time than the
//! lock still lives: what starts later cannot refer to it any more. A holder that was late with a renewal
//! never takes it for good: others may have seen the lock void meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use convoy_objectstore::{Depth, ObjectStore, StoreError, list_all};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::error::{BackupError, BackupResult};
use crate::layout::{LockName, Object, VolumeDir};
use crate::record::json;
use crate::timestamp;

/// What a lock lets others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockMode {
    /// Others may share it.
    Shared,
    /// Nobody else may have any.
    Exclusive,
}

/// How long to wait and to live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LockTimes {
    /// How long to wait for others.
    pub(crate) wait: Duration,
    /// A lock not renewed for so long is void.
    pub(crate) ttl: Duration,
}

/// The content of a lock: for people, and to know a dead holder on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Holder {
    host: String,
    pid: u32,
    /// The machine's boot and the namespace in which the pid means something, and when that process began.
    life: String,
    started: String,
    purpose: String,
}

impl Holder {
    fn this(purpose: &str) -> Self {
        let pid = std::process::id();
        Self {
            host: nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
            pid,
            life: life(pid).unwrap_or_default(),
            started: timestamp::now(),
            purpose: purpose.to_owned(),
        }
    }

    /// Whether the process is known to be gone: it was one of this boot and namespace, and that pid is now
    /// nobody or somebody else.
    fn dead(&self) -> bool {
        let (Some(ours), Some((place, _))) = (life(std::process::id()), self.life.rsplit_once(' ')) else {
            return false;
        };
        let here = ours.rsplit_once(' ').is_some_and(|(here, _)| here == place);
        here && life(self.pid).is_none_or(|now| now != self.life)
    }
}

/// Boot id, pid namespace and start time of a process; the last is missing when there is no such process.
fn life(pid: u32) -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything, but ends at the last parenthesis; field 22 is the start
    // time.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    Some(format!("{} {} {start}", boot.trim(), namespace.display()))
}

/// A moment by a clock that goes on while the machine sleeps: the store's does, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Duration);

impl Moment {
    fn now() -> Self {
        // Of rustix, whose call cannot fail: a lock that is wrong about the time is none.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Since the machine started, so neither part is negative.
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default()))
    }

    /// The end of the time in which a lock renewed now is good, less than it lives: the holder is to give up
    /// before others do.
    fn good_until(self, ttl: Duration) -> Self {
        Self(self.0 + ttl.mul_f64(0.8))
    }
}

/// A lock that is held. Dropping it gives it back when there is a runtime to do so; [`Lock::release`] waits
/// for that.
#[derive(Debug)]
pub(crate) struct Lock {
    store: Arc<dyn ObjectStore>,
    volume: String,
    key: String,
    beat_key: String,
    /// `None` once it may have been void.
    valid_until: Arc<Mutex<Option<Moment>>>,
    keeper: JoinHandle<()>,
    released: bool,
}

/// A lock as it is seen in a listing.
struct LockListing {
    made: bool,
    exclusive: bool,
    latest: SystemTime,
    keys: Vec<String>,
}

impl Lock {
    /// Takes a lock, waiting for others for a while.
    pub(crate) async fn take(
        store: Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        mode: LockMode,
        purpose: &str,
        times: LockTimes,
    ) -> BackupResult<Self> {
        let deadline = tokio::time::Instant::now() + times.wait;
        let holder = json(&Holder::this(purpose))?;
        loop {
            let letter = if mode == LockMode::Exclusive { 'x' } else { 's' };
            let id = format!("{letter}-{:016x}", rand::random::<u64>());
            let key = format!("{}{id}.lock", volume.locks());
            let made = Moment::now();
            store.put_if_absent(&key, holder.clone()).await?;
            let conflict = match Self::conflict(&*store, volume, &id, mode, times.ttl).await {
                Ok(conflict) => conflict,
                Err(e) => {
                    let _ = store.delete(std::slice::from_ref(&key)).await;
                    return Err(e);
                }
            };
            let Some(other) = conflict else {
                return Ok(Self::hold(store, volume, key, holder, made, times.ttl));
            };
            store.delete(&[key]).await?;
            let now = tokio::time::Instant::now();
            if now >= deadline {
                return Err(BackupError::Busy { volume: volume.name().to_owned(), holder: other });
            }
            let pause = Duration::from_millis(rand::random_range(50..400));
            tokio::time::sleep(pause.min(deadline.saturating_duration_since(now))).await;
        }
    }

    /// As [`Lock::take`], shared, for who only reads; `None` where this store may only be read: then nobody
    /// is kept from deleting meanwhile, which makes the reader fail, and harms nothing.
    pub(crate) async fn take_to_read(
        store: Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        purpose: &str,
        times: LockTimes,
    ) -> BackupResult<Option<Self>> {
        match Self::take(store, volume, LockMode::Shared, purpose, times).await {
            Ok(lock) => Ok(Some(lock)),
            Err(BackupError::Store(error @ StoreError::Denied { .. })) => {
                tracing::warn!(%error, "this store cannot be written to: reading without a lock");
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Looks for a lock that excludes ours, `id`; says who holds it. Exclusive: removes void ones on the way.
    async fn conflict(
        store: &dyn ObjectStore,
        volume: &VolumeDir,
        id: &str,
        mode: LockMode,
        ttl: Duration,
    ) -> BackupResult<Option<String>> {
        let mut seen = list(store, volume).await?;
        // The store's time is that of what was just written.
        let Some(own) = seen.remove(id) else {
            return Ok(Some("this lock vanished as soon as it was made".into()));
        };
        let mut void = Vec::new();
        for other in seen.into_values() {
            if mode == LockMode::Shared && !other.exclusive {
                continue;
            }
            let age = own.latest.duration_since(other.latest).unwrap_or_default();
            let holder = read_holder(store, &other).await?;
            if !other.made || age > ttl || holder.as_ref().is_some_and(Holder::dead) {
                void.extend(other.keys);
                continue;
            }
            let who = holder.map_or_else(
                || "somebody who has just gone".to_owned(),
                |h| format!("{} by process {} on {} since {}", h.purpose, h.pid, h.host, h.started),
            );
            return Ok(Some(who));
        }
        if mode == LockMode::Exclusive && !void.is_empty() {
            store.delete(&void).await?;
        }
        Ok(None)
    }

    /// Starts to renew.
    fn hold(
        store: Arc<dyn ObjectStore>,
        volume: &VolumeDir,
        key: String,
        holder: bytes::Bytes,
        made: Moment,
        ttl: Duration,
    ) -> Self {
        let beat_key = key.replace(".lock", ".beat");
        let valid_until = Arc::new(Mutex::new(Some(made.good_until(ttl))));
        let (beats, valid, to) = (store.clone(), valid_until.clone(), beat_key.clone());
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(ttl / 5).await;
                let asked = Moment::now();
                if let Err(error) = beats.put(&to, holder.clone()).await {
                    tracing::warn!(key = to, %error, "a lock could not be renewed");
                    continue;
                }
                let mut valid = valid.lock();
                *valid = valid.filter(|until| Moment::now() < *until).map(|_| asked.good_until(ttl));
                if valid.is_none() {
                    tracing::warn!(key = to, "a lock was renewed too late: it counts for nothing any more");
                    return;
                }
            }
        });
        Self { store, volume: volume.name().to_owned(), key, beat_key, valid_until, keeper, released: false }
    }

    /// Fails when the lock may be void by now; else gives how long it is good for at least.
    pub(crate) fn check(&self) -> BackupResult<Duration> {
        let valid_until = *self.valid_until.lock();
        match valid_until.and_then(|until| until.0.checked_sub(Moment::now().0)) {
            Some(left) if !left.is_zero() => Ok(left),
            _ => Err(self.lost("it could not be renewed in time")),
        }
    }

    /// Makes a call that must have ended before the lock can be void.
    pub(crate) async fn within<T>(
        &self,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> BackupResult<T> {
        match tokio::time::timeout(self.check()?, call).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(self.lost("the store took longer than it lives")),
        }
    }

    /// Fails when somebody has removed the lock. Asked after a record was written, it tells whether the
    /// record may stay.
    pub(crate) async fn confirm(&self) -> BackupResult<()> {
        match self.store.head(&self.key).await {
            Ok(_) => Ok(()),
            Err(e) if e.not_found() => Err(self.lost("it had expired and was removed by another host")),
            Err(e) => Err(e.into()),
        }
    }

    fn lost(&self, why: &str) -> BackupError {
        BackupError::LockLost { volume: self.volume.clone(), why: why.to_owned() }
    }

    /// Gives the lock back.
    pub(crate) async fn release(mut self) {
        self.keeper.abort();
        let _ = (&mut self.keeper).await;
        self.released = true;
        if let Err(error) = self.store.delete(&[self.beat_key.clone(), self.key.clone()]).await {
            tracing::warn!(key = self.key, %error, "a lock could not be given back; it expires by itself");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.keeper.abort();
        if !self.released
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (store, keys) = (self.store.clone(), vec![self.beat_key.clone(), self.key.clone()]);
            runtime.spawn(async move { store.delete(&keys).await });
        }
    }
}

/// All locks of a volume, by id.
async fn list(store: &dyn ObjectStore, volume: &VolumeDir) -> BackupResult<BTreeMap<String, LockListing>> {
    let mut locks: BTreeMap<String, LockListing> = BTreeMap::new();
    let dir = volume.locks();
    for object in list_all(store, &dir, Depth::One).await?.objects {
        // What is no lock of convoy's binds nobody, and is not removed either.
        let Some(Object::Lock(LockName { exclusive, beat, .. })) = volume.object(&object.key) else {
            continue;
        };
        let Some((id, _)) = object.key.strip_prefix(&dir).and_then(|name| name.split_once('.')) else {
            continue;
        };
        let seen = locks.entry(id.to_owned()).or_insert_with(|| LockListing {
            made: false,
            exclusive,
            latest: SystemTime::UNIX_EPOCH,
            keys: Vec::new(),
        });
        seen.made |= !beat;
        seen.latest = seen.latest.max(object.modified);
        seen.keys.push(object.key);
    }
    Ok(locks)
}

/// Who holds a lock; `None` if it is gone or says nothing of use.
async fn read_holder(store: &dyn ObjectStore, seen: &LockListing) -> BackupResult<Option<Holder>> {
    let Some(key) = seen.keys.iter().find(|key| key.ends_with(".lock")) else { return Ok(None) };
    match store.get(key, 64 << 10).await {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_objectstore::{DirectoryStore, Fault, FaultStore};

    /// Another host has seen the lock void and gone on: to renew it then would be to delete under its feet.
    #[tokio::test]
    async fn a_renewal_that_comes_too_late_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let inner = DirectoryStore::open(dir.path()).await.unwrap();
        let ttl = Duration::from_millis(1000);
        let late = Fault::Slow(Duration::from_millis(1200));
        let store: Arc<dyn ObjectStore> =
            Arc::new(FaultStore::new(inner, move |call| call.key.ends_with(".beat").then_some(late)));
        let volume = VolumeDir::new("vol1").unwrap();
        let times = LockTimes { wait: Duration::ZERO, ttl };
        let lock = Lock::take(store.clone(), &volume, LockMode::Exclusive, "test", times).await.unwrap();
        lock.check().unwrap();
        // The first renewal is under way for longer than the lock lives; the next ones would be in time.
        tokio::time::sleep(Duration::from_millis(1900)).await;
        assert!(store.head(&lock.beat_key).await.is_ok(), "it was renewed");
        assert!(matches!(lock.check(), Err(BackupError::LockLost { .. })));
        let deleted = lock.within(store.delete(&["never".to_owned()])).await;
        assert!(matches!(deleted, Err(BackupError::LockLost { .. })), "{deleted:?}");
    }

    #[tokio::test]
    async fn a_call_ends_before_the_lock_does() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::open(dir.path()).await.unwrap());
        let volume = VolumeDir::new("vol1").unwrap();
        let times = LockTimes { wait: Duration::ZERO, ttl: Duration::from_millis(500) };
        let lock = Lock::take(store, &volume, LockMode::Exclusive, "test", times).await.unwrap();
        let started = tokio::time::Instant::now();
        let hanging = lock.within(std::future::pending::<Result<(), StoreError>>()).await;
        assert!(matches!(hanging, Err(BackupError::LockLost { .. })));
        assert!(started.elapsed() < Duration::from_millis(480));
        lock.release().await;
    }
}
