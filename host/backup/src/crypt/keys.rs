//! The key objects of a store: `convoy-objectstore/keys/<id>.json`, each the master key wrapped by one
//! secret.
//!
//! Several secrets may open a store: to change one, add the new and remove the old. To change the master key
//! itself, after it leaked, use a new destination.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use convoy_objectstore::{Depth, ObjectStore, PutOutcome, list_all};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::StoreKey;
use crate::engine::EngineOptions;
use crate::engine::catalog::any_encrypted;
use crate::error::{BackupError, BackupResult};
use crate::layout::{ROOT, VolumeDir};
use crate::lock::{Lock, LockMode, LockTimes};
use crate::memory::Memory;
use crate::record::json;

const PLACE: &[u8] = b"convoy store key v1";
/// Bytes of a key object; those that convoy writes have some 300.
const KEY_LIMIT: u64 = 4 << 10;
/// Key objects of a store. Each of them may cost a stretching.
const KEYS_MAX: usize = 32;
/// What a key object may ask of argon2id: as much memory as convoy asks for, and a second or so of work.
const MEMORY_KIB_MAX: u32 = MEMORY_KIB;
const PASSES_MAX: u32 = 8;
const LANES_MAX: u32 = 4;
/// What convoy asks for.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// Hexadecimal digits of a salt, and of a wrapped key: nonce, key, tag.
const SALT_DIGITS: std::ops::RangeInclusive<usize> = 16..=128;
const WRAPPED_DIGITS: usize = 2 * (24 + 32 + 16);
/// A key file is random bytes; fewer than this are not.
const KEY_FILE_MIN: usize = 32;

/// Stretching a passphrase takes 64 MiB for a moment: one at a time, however many operations begin at once.
/// Taken for one key object and no longer, in turn; who waits may stop waiting.
static STRETCHING: Semaphore = Semaphore::const_new(1);

/// What opens a store. Never printed.
#[derive(Clone)]
pub enum KeySource {
    /// What a person knows. Stretched by argon2id.
    Passphrase(Zeroizing<String>),
    /// The content of a file: at least 32 random bytes.
    File(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for KeySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(..)",
            Self::File(_) => "File(..)",
        })
    }
}

/// How a secret is stretched.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", tag = "Kdf")]
enum Kdf {
    #[serde(rename = "argon2id", rename_all = "PascalCase")]
    Argon2id { salt: String, memory_kib: u32, passes: u32, lanes: u32 },
    #[serde(rename = "blake3", rename_all = "PascalCase")]
    Blake3 { salt: String },
}

/// A key object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeyObject {
    version: u32,
    /// Of the master key.
    key_id: String,
    #[serde(flatten)]
    kdf: Kdf,
    /// Nonce and sealed master key, hexadecimal.
    wrapped: String,
}

impl KeySource {
    /// A way to stretch this secret, with a new salt.
    fn new_kdf(&self) -> Kdf {
        let salt = hex::encode(rand::random::<[u8; 16]>());
        match self {
            Self::Passphrase(_) => Kdf::Argon2id { salt, memory_kib: MEMORY_KIB, passes: PASSES, lanes: 1 },
            Self::File(_) => Kdf::Blake3 { salt },
        }
    }

    /// The key that wraps, or `None` if the object is for the other kind of secret.
    fn stretch(&self, kdf: &Kdf) -> BackupResult<Option<Zeroizing<[u8; 32]>>> {
        let unusable = |e: &dyn std::fmt::Display| {
            BackupError::KeyUnusable(format!("a key of this store cannot be used: {e}"))
        };
        let mut out = Zeroizing::new([0u8; 32]);
        match (self, kdf) {
            (Self::Passphrase(secret), Kdf::Argon2id { salt, memory_kib, passes, lanes }) => {
                let salt = hex::decode(salt).map_err(|e| unusable(&e))?;
                let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(|e| unusable(&e))?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(secret.as_bytes(), &salt, &mut out[..])
                    .map_err(|e| unusable(&e))?;
            }
            (Self::File(secret), Kdf::Blake3 { salt }) => {
                let mut material = Zeroizing::new(hex::decode(salt).map_err(|e| unusable(&e))?);
                material.extend_from_slice(secret);
                *out = blake3::derive_key("convoy backup 2026 key file", &material);
            }
            _ => return Ok(None),
        }
        Ok(Some(out))
    }

    /// Whether it can be used at all.
    fn check(&self) -> BackupResult<()> {
        match self {
            Self::Passphrase(secret) if secret.is_empty() => {
                Err(BackupError::KeyUnusable("the passphrase is empty".into()))
            }
            Self::File(secret) if secret.len() < KEY_FILE_MIN => Err(BackupError::KeyUnusable(format!(
                "the key file has {} bytes, at least {KEY_FILE_MIN} random ones are needed: make it with `head -c 32 /dev/urandom`",
                secret.len()
            ))),
            _ => Ok(()),
        }
    }
}

fn dir() -> String {
    format!("{ROOT}keys/")
}

fn wrap(source: &KeySource, master: &Zeroizing<[u8; 32]>) -> BackupResult<KeyObject> {
    source.check()?;
    let kdf = source.new_kdf();
    let unusable = || BackupError::KeyUnusable("the store's key cannot be wrapped".into());
    let wrapping = source.stretch(&kdf)?.ok_or_else(unusable)?;
    let nonce: [u8; 24] = rand::random();
    let cipher = XChaCha20Poly1305::new(&(*wrapping).into());
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: &master[..], aad: PLACE })
        .map_err(|_| unusable())?;
    let mut wrapped = hex::encode(nonce);
    wrapped.push_str(&hex::encode(sealed));
    Ok(KeyObject { version: 1, key_id: StoreKey::from_master(master).id().to_owned(), kdf, wrapped })
}

/// The master key, if this secret opens this object.
fn unwrap(source: &KeySource, object: &KeyObject) -> BackupResult<Option<Zeroizing<[u8; 32]>>> {
    let Some(wrapping) = source.stretch(&object.kdf)? else { return Ok(None) };
    let Ok(wrapped) = hex::decode(&object.wrapped) else { return Ok(None) };
    let Some((nonce, sealed)) = wrapped.split_first_chunk::<24>() else { return Ok(None) };
    let cipher = XChaCha20Poly1305::new(&(*wrapping).into());
    let Ok(master) = cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: PLACE }) else {
        return Ok(None);
    };
    let master = Zeroizing::new(master);
    Ok(<[u8; 32]>::try_from(&master[..]).ok().map(Zeroizing::new))
}

impl KeyObject {
    /// Refuses what no convoy writes, before any work is done for it.
    fn check(&self) -> Result<(), String> {
        let salt = match &self.kdf {
            Kdf::Argon2id { salt, memory_kib, passes, lanes } => {
                if *memory_kib > MEMORY_KIB_MAX || *passes > PASSES_MAX || *lanes > LANES_MAX {
                    return Err(format!(
                        "it asks for {memory_kib} KiB, {passes} passes and {lanes} lanes, and at most \
                         {MEMORY_KIB_MAX}, {PASSES_MAX} and {LANES_MAX} are given"
                    ));
                }
                salt
            }
            Kdf::Blake3 { salt } => salt,
        };
        if !SALT_DIGITS.contains(&salt.len()) || self.wrapped.len() != WRAPPED_DIGITS {
            return Err("its salt or its key has not the length that one has".to_owned());
        }
        Ok(())
    }
}

/// Every key object of a store, with its key. All are checked before any of them costs work.
async fn load_all(store: &dyn ObjectStore) -> BackupResult<Vec<(String, KeyObject)>> {
    let mut keys: Vec<(String, KeyObject)> = Vec::new();
    let mut objects = list_all(store, &dir(), Depth::One).await?.objects;
    objects.retain(|info| info.key.ends_with(".json"));
    if objects.len() > KEYS_MAX {
        let why = format!(
            "there are {} keys in {} and at most {KEYS_MAX} are tried: remove those that are not yours",
            objects.len(),
            dir()
        );
        return Err(BackupError::KeyUnusable(why));
    }
    for info in objects {
        let bytes = store.get(&info.key, KEY_LIMIT).await?;
        let object: KeyObject =
            serde_json::from_slice(&bytes).map_err(|e| BackupError::damaged(&info.key, e))?;
        if object.version != 1 {
            return Err(BackupError::Version { key: info.key, found: object.version.into(), known: 1 });
        }
        object.check().map_err(|why| BackupError::damaged(&info.key, why))?;
        if let Some((first, other)) = keys.first().filter(|(_, other)| other.key_id != object.key_id) {
            let why = format!("it is of another store than {first} ({} there)", other.key_id);
            return Err(BackupError::damaged(info.key, why));
        }
        keys.push((info.key, object));
    }
    Ok(keys)
}

/// The master key behind one of the objects. Who drops this waits for nothing; what is being stretched then
/// is the last.
async fn open_any(source: &KeySource, keys: Vec<(String, KeyObject)>) -> BackupResult<Zeroizing<[u8; 32]>> {
    for (_, object) in keys {
        let source = source.clone();
        if let Some(master) = stretching(move || unwrap(&source, &object)).await? {
            return Ok(master);
        }
    }
    Err(BackupError::KeyWrong)
}

/// Argon2 takes its time on purpose: not on an async thread, and one at a time.
async fn stretching<T: Send + 'static>(
    work: impl FnOnce() -> BackupResult<T> + Send + 'static,
) -> BackupResult<T> {
    let turn = STRETCHING.acquire().await.map_err(|e| BackupError::KeyUnusable(e.to_string()))?;
    let done = tokio::task::spawn_blocking(move || {
        // Given back by the work, not by who waits for it: that may be gone by then.
        let _turn = turn;
        work()
    });
    done.await.unwrap_or_else(|e| Err(BackupError::KeyUnusable(e.to_string())))
}

/// Opens a store that has keys.
pub(crate) async fn unlock(store: &dyn ObjectStore, source: &KeySource) -> BackupResult<StoreKey> {
    let keys = load_all(store).await?;
    Ok(StoreKey::from_master(&open_any(source, keys).await?))
}

/// Opens a store, or gives it its first key.
///
/// Of hosts that do this at once one makes the key and the others find it. That does not rest on the store's
/// put-if-absent, since there are S3 servers that ignore the condition and let the last one win: who makes
/// the key holds the lock on all keys, and locks have names of their own.
pub(crate) async fn create_key(
    store: Arc<dyn ObjectStore>,
    source: &KeySource,
    times: LockTimes,
    memory: &Arc<Memory>,
) -> BackupResult<StoreKey> {
    let keys = load_all(&*store).await?;
    if !keys.is_empty() {
        return Ok(StoreKey::from_master(&open_any(source, keys).await?));
    }
    // Without its keys a store looks like a new one. A new master key would open nothing that is there, and
    // what the old one sealed would be taken for lost.
    if let Some((volume, backup)) = any_encrypted(&*store, memory).await? {
        return Err(BackupError::KeysGone { backup, volume });
    }
    let master = Zeroizing::new(rand::random::<[u8; 32]>());
    let wrapped = json(&wrap_off_thread(source, &master).await?)?;
    let lock = match take_lock(&store, "making the first key", times).await {
        Ok(lock) => lock,
        // Who had the lock has made it.
        Err(BackupError::KeysBusy { .. }) if !load_all(&*store).await?.is_empty() => {
            return unlock(&*store, source).await;
        }
        Err(error) => return Err(error),
    };
    let first = format!("{}first.json", dir());
    let made = async {
        // Another host may have been here while we waited.
        if !load_all(&*store).await?.is_empty() {
            return Ok(false);
        }
        let outcome = lock.within(store.put_if_absent(&first, wrapped.clone())).await?;
        lock.confirm().await?;
        Ok(outcome == PutOutcome::Created && store.get(&first, KEY_LIMIT).await? == wrapped)
    };
    let made = made.await.map_err(keys_busy);
    lock.release().await;
    if made? { Ok(StoreKey::from_master(&master)) } else { unlock(&*store, source).await }
}

/// The lock on all keys of a store.
async fn take_lock(store: &Arc<dyn ObjectStore>, purpose: &str, times: LockTimes) -> BackupResult<Lock> {
    let keys = VolumeDir::keys();
    Lock::take(Arc::clone(store), &keys, LockMode::Exclusive, purpose, times).await.map_err(keys_busy)
}

/// What is said of a lock on a volume, said of the keys.
fn keys_busy(error: BackupError) -> BackupError {
    match error {
        BackupError::Busy { holder: why, .. } | BackupError::LockLost { why, .. } => {
            BackupError::KeysBusy { why }
        }
        other => other,
    }
}

async fn wrap_off_thread(source: &KeySource, master: &Zeroizing<[u8; 32]>) -> BackupResult<KeyObject> {
    let (source, master) = (source.clone(), master.clone());
    stretching(move || wrap(&source, &master)).await
}

/// The names of a store's key objects.
///
/// # Errors
/// What the store says.
pub async fn list_keys(store: &dyn ObjectStore) -> BackupResult<Vec<String>> {
    let dir = dir();
    let name = |key: String| key.strip_prefix(&dir).and_then(|k| k.strip_suffix(".json")).map(str::to_owned);
    Ok(list_all(store, &dir, Depth::One).await?.objects.into_iter().filter_map(|o| name(o.key)).collect())
}

/// Lets a further secret open a store. Gives the name of the new key object.
///
/// # Errors
/// [`BackupError::KeyWrong`] if `known` does not open the store.
pub async fn add_key(store: &dyn ObjectStore, known: &KeySource, new: &KeySource) -> BackupResult<String> {
    let master = open_any(known, load_all(store).await?).await?;
    let wrapped = wrap_off_thread(new, &master).await?;
    let name = hex::encode(rand::random::<[u8; 8]>());
    store.put_if_absent(&format!("{}{name}.json", dir()), json(&wrapped)?).await?;
    Ok(name)
}

/// Takes the right to open a store from a secret. What it has seen it has seen: a leaked key asks for a new
/// destination.
///
/// # Errors
/// [`BackupError::KeyWrong`] if `remaining` would not open the store afterwards; [`BackupError::KeysBusy`].
pub async fn remove_key(store: Arc<dyn ObjectStore>, name: &str, remaining: &KeySource) -> BackupResult<()> {
    let key = format!("{}{name}.json", dir());
    // Two who remove each other's key at once would lock everybody out.
    let lock = take_lock(&store, "removing a key", EngineOptions::default().lock_times()).await?;
    let removed = async {
        let others = load_all(&*store).await?.into_iter().filter(|(k, _)| *k != key).collect();
        open_any(remaining, others).await?;
        lock.within(store.delete(std::slice::from_ref(&key))).await
    };
    let removed = removed.await.map_err(keys_busy);
    lock.release().await;
    removed
}

#[cfg(test)]
mod tests {
    use super::*;
    use convoy_objectstore::DirectoryStore;
    use std::time::Duration;

    async fn store() -> (tempfile::TempDir, Arc<dyn ObjectStore>) {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::open(dir.path()).await.unwrap());
        (dir, store)
    }

    fn pass() -> KeySource {
        KeySource::Passphrase("correct horse".to_owned().into())
    }

    /// A key object with these fields in the place of those that convoy writes.
    async fn put(store: &dyn ObjectStore, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
        let object = wrap(&KeySource::File(vec![1; 32].into()), &Zeroizing::new([9; 32])).unwrap();
        let mut value = serde_json::to_value(&object).unwrap();
        value["Kdf"] = "argon2id".into();
        for (field, number) in [("MemoryKib", 8), ("Passes", 1), ("Lanes", 1)] {
            value[field] = number.into();
        }
        change(&mut value);
        let bytes = serde_json::to_vec(&value).unwrap();
        store.put(&format!("{}{name}.json", dir()), bytes.into()).await.unwrap();
    }

    #[tokio::test]
    async fn key_objects_that_ask_for_too_much_are_refused_before_any_work() {
        // Held: whoever would stretch a passphrase waits for ever.
        let _held = STRETCHING.acquire().await.unwrap();
        for (field, value) in [
            ("MemoryKib", serde_json::json!(1 << 20)),
            ("Passes", serde_json::json!(64)),
            ("Lanes", serde_json::json!(64)),
            ("Wrapped", serde_json::json!("ab".repeat(500))),
            ("Salt", serde_json::json!("ab".repeat(500))),
            ("Note", serde_json::json!("x".repeat(8 << 10))),
        ] {
            let (_dir, store) = store().await;
            put(&*store, "first", |object| object[field] = value).await;
            let opened = unlock(&*store, &pass()).await;
            assert!(
                matches!(opened, Err(BackupError::Damaged { .. } | BackupError::Store(_))),
                "{field}: {opened:?}"
            );
        }
        let (_dir, store) = store().await;
        for number in 0..=KEYS_MAX {
            put(&*store, &format!("k{number}"), |_| ()).await;
        }
        let error = unlock(&*store, &pass()).await.unwrap_err();
        assert!(matches!(&error, BackupError::KeyUnusable(why) if why.contains("at most 32")), "{error}");
    }

    #[tokio::test]
    async fn keys_of_two_stores_in_one_are_no_keys() {
        let (_dir, store) = store().await;
        put(&*store, "first", |_| ()).await;
        put(&*store, "other", |object| object["KeyId"] = "0011223344556677".into()).await;
        let error = unlock(&*store, &pass()).await.unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn who_stops_waiting_for_a_key_holds_nobody_up() {
        let (_dir, store) = store().await;
        put(&*store, "first", |_| ()).await;
        let held = STRETCHING.acquire().await.unwrap();
        let (secret, short) = (pass(), Duration::from_millis(50));
        let waited = tokio::time::timeout(short, unlock(&*store, &secret)).await;
        assert!(waited.is_err(), "it waits for its turn");
        drop(held);
        assert!(matches!(unlock(&*store, &pass()).await, Err(BackupError::KeyWrong)));
    }
}
