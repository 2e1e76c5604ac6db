//! What a kind of store is: a [`Scheme`], with what may be set for it and where its stores are.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::StoreError;
use crate::store::ObjectStore;
use crate::urls::DestinationError;

/// A kind of store: how its URLs are read, what may be set for it, and how it is opened.
#[async_trait]
pub trait Scheme: Debug + Send + Sync {
    /// What stands before `://` in its URLs.
    fn name(&self) -> &'static str;

    /// How its URLs are written, for help and errors: `s3://bucket@region/path/`.
    fn form(&self) -> &'static str;

    /// Whether `NAME:/path` is as good as `NAME:///path`.
    fn takes_one_slash(&self) -> bool {
        false
    }

    /// Parses what stands after `://`, its escapes undone.
    ///
    /// # Errors
    /// [`DestinationError::Form`].
    fn parse(&'static self, rest: &str) -> Result<Location, DestinationError>;

    /// What may be set for a destination of this kind alone.
    fn settings(&self) -> &'static [StoreSetting] {
        &[]
    }

    /// What its stores can do.
    fn abilities(&self) -> Abilities;

    /// Whether somebody who may read backups at the path `named`, and nowhere else, may read those at
    /// `asked`.
    fn admits(&self, named: &str, asked: &str) -> bool;

    /// Opens a store.
    ///
    /// # Errors
    /// [`StoreError::Config`] for options that cannot be used, and whatever the store says.
    async fn open(&self, at: &Location, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError>;

    /// Tells where the credentials come from that a store is opened with, and nothing of them; `None` where
    /// none are used.
    ///
    /// # Errors
    /// [`StoreError::Config`] for credentials that cannot be used.
    fn credentials(&self, _options: &StoreOptions) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// Tells what can be told of a place without asking a server.
    fn probe(&self, _at: &Location, options: &StoreOptions) -> Result<String, StoreError> {
        Ok(self.credentials(options)?.unwrap_or_default())
    }

    /// The URL of the server that a place is at, where its clock matters.
    fn server(&self, _at: &Location, _options: &StoreOptions) -> Option<String> {
        None
    }
}

/// What stores of a kind can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// An object is created only if it is not there, and of many who try at once one does.
    pub create_if_absent: bool,
    /// A part of an object is read without the rest.
    pub ranges: bool,
    /// Listings come in the order of the keys, whoever keeps the store.
    pub ordered_lists: bool,
    /// The store locks objects by itself. Where it does not, convoy's locks are objects created if absent.
    pub locks: bool,
    /// What is overwritten or deleted can be had back through this crate.
    pub versions: bool,
}

impl Abilities {
    /// Checks that backups can be kept in such a store: their locks are objects that are created if absent,
    /// and a chunk is read out of a pack.
    ///
    /// # Errors
    /// [`StoreError::Config`] with what is missing.
    pub fn suffice(self, scheme: &str) -> Result<(), StoreError> {
        let needs = [
            (self.create_if_absent || self.locks, "create an object only if it is not there"),
            (self.ranges, "read a part of an object"),
        ];
        match needs.iter().find(|(able, _)| !able) {
            None => Ok(()),
            Some((_, what)) => Err(StoreError::Config(format!("stores of {scheme}:// cannot {what}"))),
        }
    }
}

/// What may be set for destinations of one kind.
#[derive(Debug)]
pub struct StoreSetting {
    /// Its name in the settings.
    pub key: &'static str,
    /// What its values are.
    pub kind: SettingKind,
    /// What it is for, in Markdown.
    pub doc: &'static str,
}

/// What the values of a setting are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingKind {
    /// Any text is a value.
    Text,
    /// An URL of http or https, which may hold a password.
    Url,
    /// An absolute path.
    Path,
    /// `true` or `false`.
    Switch,
}

impl dyn Scheme {
    /// Whether its destinations have a setting.
    pub fn has_setting(&self, key: &str) -> bool {
        self.settings().iter().any(|setting| setting.key == key)
    }
}

/// What is set for a store, by key. Values may hold passwords: they are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreOptions(pub(super) BTreeMap<&'static str, String>);

impl Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl StoreOptions {
    /// The value of a setting.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).cloned()
    }

    /// Sets a value, in the place of an earlier one.
    pub fn set(&mut self, key: &'static str, value: String) {
        self.0.insert(key, value);
    }
}

/// Where a store is.
#[derive(Debug, Clone)]
pub struct Location {
    /// The kind of store.
    pub scheme: &'static dyn Scheme,
    /// The bucket, or what a store has in its place; empty: none.
    pub host: String,
    /// The region, where the URL names one.
    pub region: Option<String>,
    /// Of a directory: its path. Of a bucket: what keys begin with, empty or ending in `/`.
    pub path: String,
}

/// Two spellings of one path are one place.
impl PartialEq for Location {
    fn eq(&self, other: &Self) -> bool {
        (self.scheme.name(), &self.host, &self.region, Path::new(&self.path))
            == (other.scheme.name(), &other.host, &other.region, Path::new(&other.path))
    }
}

impl Eq for Location {}

impl Location {
    /// How well settings of this place fit another: the greater, the better. Of two that are as long the one
    /// that names the region is better.
    pub fn fit(&self, other: &Self) -> Option<(usize, bool)> {
        let below = Path::new(&other.path).starts_with(&self.path);
        let length = 1 + Path::new(&self.path).components().count();
        (self.has(other) && below).then_some((length, self.region.is_some()))
    }

    /// Whether somebody who may read backups at this place, and nowhere else, may read those at another.
    pub fn admits(&self, other: &Self) -> bool {
        self.has(other) && self.scheme.admits(&self.path, &other.path)
    }

    /// Whether another place is in the same bucket, or whatever is in its place.
    fn has(&self, other: &Self) -> bool {
        self.scheme.name() == other.scheme.name()
            && self.host == other.host
            && (self.region.is_none() || self.region == other.region)
    }
}
