//! The keys that open the encrypted backups of a store.
//!
//! All of them wrap one master key, so adding and removing one writes no backup anew.

use super::Backups;
use super::store::read_key;
use crate::volumes::error::{Error, Result};
use convoy_client::types::{AddKey, ListKeys, RemoveKey};
use std::path::Path;

impl Backups {
    /// The names of a store's keys.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keys(&self, asked: &ListKeys) -> Result<Vec<String>> {
        let store = self.destinations().open(&asked.url, &asked.endpoint).await?;
        Ok(convoy_backup::list_keys(&*store.objects).await?)
    }

    /// Lets a further key open a store. Gives its name.
    ///
    /// # Errors
    /// For a key that is wrong or missing; those of the store.
    pub async fn add_key(&self, asked: &AddKey) -> Result<String> {
        let store = self.destinations().open(&asked.url, &asked.endpoint).await?;
        let known = read_key(&store.key_file(&asked.encryption_key_file).ok_or_else(no_key)?).await?;
        let new = read_key(Path::new(&asked.new_key_file)).await?;
        let name = convoy_backup::add_key(&*store.objects, &known, &new).await?;
        tracing::info!(destination = %store.destination, key = name, "a further key opens the backups");
        Ok(name)
    }

    /// Takes from a key that it opens a store.
    ///
    /// # Errors
    /// When no key that is known would be left; those of the store.
    pub async fn remove_key(&self, asked: &RemoveKey) -> Result<()> {
        let store = self.destinations().open(&asked.url, &asked.endpoint).await?;
        let names = convoy_backup::list_keys(&*store.objects).await?;
        if !names.contains(&asked.name) {
            let text =
                format!("no key {:?} at this destination; there are: {}", asked.name, names.join(", "));
            return Err(Error::InvalidRequest(text));
        }
        let remaining = read_key(&store.key_file(&asked.encryption_key_file).ok_or_else(no_key)?).await?;
        convoy_backup::remove_key(&*store.objects, &asked.name, &remaining).await?;
        tracing::info!(destination = %store.destination, key = asked.name, "a key opens the backups no more");
        Ok(())
    }
}

fn no_key() -> Error {
    Error::InvalidRequest("a key that opens the backups is needed: --encryption-key-file names it".to_owned())
}
