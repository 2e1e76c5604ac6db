//! Encryption of backups in the new format.
//!
//! A store has a random master key, wrapped by a passphrase (argon2id) or a key file in an object of its own.
//! From it come, by BLAKE3's key derivation, one key for the names of chunks and one for encryption. Chunks,
//! manifests and the indexes of packs are sealed with XChaCha20-Poly1305 and random nonces. Names of chunks
//! are keyed hashes, so that nobody who sees the store can tell whether it holds a given file.

mod keys;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

pub use keys::{KeySource, add_key, list_keys, remove_key};
pub(crate) use keys::{create_key, unlock};

/// Bytes that sealing adds: the nonce before, the tag after.
pub(crate) const OVERHEAD: usize = 24 + 16;

/// The keys of a store, as they are used.
#[derive(Clone)]
pub struct StoreKey {
    names: Zeroizing<[u8; 32]>,
    seal: Zeroizing<[u8; 32]>,
    records: Zeroizing<[u8; 32]>,
    id: String,
}

impl std::fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl StoreKey {
    /// The keys that follow from a master key.
    fn from_master(master: &Zeroizing<[u8; 32]>) -> Self {
        let id = blake3::derive_key("convoy backup 2026 key id", &master[..]);
        Self {
            names: Zeroizing::new(blake3::derive_key("convoy backup 2026 chunk names", &master[..])),
            seal: Zeroizing::new(blake3::derive_key("convoy backup 2026 sealing", &master[..])),
            records: Zeroizing::new(blake3::derive_key("convoy backup 2026 records", &master[..])),
            id: hex::encode(id.get(..8).unwrap_or_default()),
        }
    }

    /// Tells keys apart; says nothing about them.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The code of a record: over whose it is and the BLAKE3 of its bytes. No name has a `/` or a line break.
    pub(crate) fn record_mac(&self, volume: &str, backup: &str, digest: &[u8; 32]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.records);
        hasher.update(format!("convoy record {volume}/{backup}\n").as_bytes()).update(digest).finalize()
    }
}

/// How bytes become names and sealed bytes: in the clear, or with a store's key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crypt {
    key: Option<StoreKey>,
}

impl Crypt {
    pub(crate) fn new(key: Option<StoreKey>) -> Self {
        Self { key }
    }

    pub(crate) fn key(&self) -> Option<&StoreKey> {
        self.key.as_ref()
    }

    pub(crate) fn key_id(&self) -> Option<&str> {
        self.key.as_ref().map(StoreKey::id)
    }

    /// The name of a chunk.
    pub(crate) fn hash(&self, plain: &[u8]) -> [u8; 32] {
        match &self.key {
            Some(key) => *blake3::keyed_hash(&key.names, plain).as_bytes(),
            None => *blake3::hash(plain).as_bytes(),
        }
    }

    /// Seals bytes for a place. They open only for the same place. In the clear they stay what they are.
    pub(crate) fn seal(&self, plain: Vec<u8>, place: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(key) = &self.key else { return Ok(plain) };
        let nonce: [u8; 24] = rand::random();
        let cipher = XChaCha20Poly1305::new(&(*key.seal).into());
        let sealed = cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: place })
            .map_err(|_| SealError)?;
        let mut out = Vec::with_capacity(sealed.len() + nonce.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Crypt::seal`] made.
    pub(crate) fn open(&self, stored: &[u8], place: &[u8]) -> Result<Vec<u8>, SealError> {
        let Some(key) = &self.key else { return Ok(stored.to_vec()) };
        let (nonce, sealed) = stored.split_first_chunk::<24>().ok_or(SealError)?;
        let cipher = XChaCha20Poly1305::new(&(*key.seal).into());
        cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: place }).map_err(|_| SealError)
    }

    /// Whether bytes are stored as they are.
    pub(crate) fn is_clear(&self) -> bool {
        self.key.is_none()
    }
}

/// Bytes that were not sealed with this key for this place, or were changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it was not sealed with this key, or was changed since")]
pub(crate) struct SealError;

#[cfg(test)]
mod tests {
    use super::*;

    fn crypt(n: u8) -> Crypt {
        Crypt::new(Some(StoreKey::from_master(&Zeroizing::new([n; 32]))))
    }

    #[test]
    fn what_is_sealed_opens_only_with_its_key_and_place() {
        let (a, b) = (crypt(1), crypt(2));
        let sealed = a.seal(b"secret".to_vec(), b"here").unwrap();
        assert_eq!(sealed.len(), 6 + OVERHEAD);
        assert_eq!(a.open(&sealed, b"here").unwrap(), b"secret");
        assert!(a.open(&sealed, b"there").is_err());
        assert!(b.open(&sealed, b"here").is_err());
        for n in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[n] ^= 1;
            assert!(a.open(&changed, b"here").is_err());
            assert!(a.open(&sealed[..n], b"here").is_err());
        }
        assert_ne!(sealed, a.seal(b"secret".to_vec(), b"here").unwrap(), "nonces differ");
    }

    #[test]
    fn names_do_not_tell_contents() {
        assert_ne!(crypt(1).hash(b"x"), crypt(2).hash(b"x"));
        assert_ne!(crypt(1).hash(b"x"), Crypt::default().hash(b"x"));
        assert!(!format!("{:?}", crypt(1)).contains("names"));
    }
}
