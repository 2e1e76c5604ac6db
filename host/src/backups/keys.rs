//! The keys that open the encrypted backups of a store.
//!
//! All of them wrap one master key, so adding and removing one writes no backup anew.

use super::error::backup_error;
use super::secret::Secret;
use super::service::Backups;
use convoy_client::types::{AddKey, ListKeys, RemoveKey};
use convoy_volumes::{Error, Result};
use std::sync::Arc;

impl Backups {
    /// The names of a store's keys.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keys(&self, asked: &ListKeys) -> Result<Vec<String>> {
        let store = self.destinations().open_known(&self.engine, &asked.url, &asked.endpoint).await?;
        convoy_backup::list_keys(&*store.objects).await.map_err(backup_error)
    }

    /// Lets a further key open a store. Gives its name.
    ///
    /// # Errors
    /// For a key that is wrong or missing; those of the store.
    pub async fn add_key(&self, asked: &AddKey) -> Result<String> {
        let store = self.destinations().open_known(&self.engine, &asked.url, &asked.endpoint).await?;
        let known = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let known = store.secret(known).ok_or_else(no_key)?.read().await?;
        let new = Secret::asked(&asked.new_key_file, &asked.new_passphrase_file)?.ok_or_else(no_new_key)?;
        let new = new.read().await?;
        let name = convoy_backup::add_key(&*store.objects, &known, &new).await.map_err(backup_error)?;
        tracing::info!(destination = %store.destination, key = name, "a further key opens the backups");
        Ok(name)
    }

    /// Takes from a key that it opens a store.
    ///
    /// # Errors
    /// When no key that is known would be left; those of the store.
    pub async fn remove_key(&self, asked: &RemoveKey) -> Result<()> {
        let store = self.destinations().open_known(&self.engine, &asked.url, &asked.endpoint).await?;
        let names = convoy_backup::list_keys(&*store.objects).await.map_err(backup_error)?;
        if !names.contains(&asked.name) {
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let text = format!("no key {:?} at {}; there are: {there}", asked.name, store.destination);
            return Err(Error::InvalidRequest(text));
        }
        let remaining = Secret::asked(&asked.encryption_key_file, &asked.passphrase_file)?;
        let remaining = store.secret(remaining).ok_or_else(no_key)?.read().await?;
        convoy_backup::remove_key(Arc::clone(&store.objects), &asked.name, &remaining)
            .await
            .map_err(backup_error)?;
        tracing::info!(destination = %store.destination, key = asked.name, "a key opens the backups no more");
        Ok(())
    }
}

fn no_key() -> Error {
    let text = "a key that opens the backups is needed: --encryption-key-file or --passphrase-file names it";
    Error::InvalidRequest(text.to_owned())
}

fn no_new_key() -> Error {
    let text = "a further key is needed: --new-key-file or --new-passphrase-file names it";
    Error::InvalidRequest(text.to_owned())
}
