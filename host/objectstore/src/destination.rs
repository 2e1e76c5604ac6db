//! Destinations and backup URLs, as users write them.
//!
//! A destination is the URL of a [`Scheme`](crate::Scheme), like `vfs:///dir/`; a backup is
//! `<destination>?backup=<backup>&volume=<volume>`. Both are printed as they were given. Error texts are
//! those of convoy 0.5 where it had one.

use convoy_driver_sdk::name::has_name_form;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::StoreError;
use crate::schemes::{Location, StoreOptions, scheme};
use crate::store::ObjectStore;
use crate::urls::DestinationError;

/// A destination, with the text it was given as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    text: String,
    place: Location,
}

impl Destination {
    /// Where it is.
    pub fn place(&self) -> &Location {
        &self.place
    }

    /// The name of its kind of store, which its URL begins with.
    pub fn scheme(&self) -> &'static str {
        self.place.scheme.name()
    }

    /// Opens the store.
    ///
    /// # Errors
    /// As [`Scheme::open`](crate::Scheme::open); [`StoreError::Config`] for a kind of store that cannot do
    /// what backups need.
    pub async fn open(&self, options: &StoreOptions) -> Result<Arc<dyn ObjectStore>, StoreError> {
        self.place.scheme.abilities().suffice(self.scheme())?;
        self.place.scheme.open(&self.place, options).await
    }

    /// Tells what can be told of the store without asking a server.
    pub fn probe(&self, options: &StoreOptions) -> Result<String, StoreError> {
        self.place.scheme.probe(&self.place, options)
    }

    /// The destination one level up, and what this one is called there.
    pub fn parent(&self) -> Option<(Self, &str)> {
        let (scheme, rest) = self.text.split_once("://")?;
        let (dir, name) = rest.trim_end_matches('/').rsplit_once('/')?;
        let parent = format!("{scheme}://{dir}/").parse().ok()?;
        Some((parent, name))
    }

    /// A destination one level down; `None` if an URL has to write that name otherwise.
    pub fn child(&self, name: &str) -> Option<Self> {
        let slash = if self.text.ends_with('/') { "" } else { "/" };
        if name.contains('%') { None } else { format!("{self}{slash}{name}/").parse().ok() }
    }

    /// The URL of a backup at this destination.
    pub fn backup_url(&self, backup: &str, volume: &str) -> String {
        format!("{self}?backup={backup}&volume={volume}")
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(DestinationError::Missing);
        }
        let malformed = |why| DestinationError::Malformed { url: text.to_owned(), why };
        let (name, rest) = split(text);
        let Some(scheme) = scheme(name) else {
            return Err(DestinationError::Scheme { scheme: name.to_owned() });
        };
        if rest.contains(['?', '#']) {
            return Err(malformed("a destination has no '?' and no '#'"));
        }
        if rest.chars().any(char::is_control) {
            return Err(malformed("it has control characters"));
        }
        let place = scheme.parse(rest).map_err(|error| match error {
            DestinationError::Escape => malformed("'%' is followed by two hexadecimal digits"),
            error => error,
        })?;
        Ok(Self { text: text.to_owned(), place })
    }
}

/// Splits an URL into the name of its scheme, empty if it has none, and what stands after `://`.
pub fn split(url: &str) -> (&str, &str) {
    if let Some(parts) = url.split_once("://") {
        return parts;
    }
    let one_slash = url.split_once(':').filter(|(name, rest)| {
        rest.starts_with('/') && scheme(name).is_some_and(|scheme| scheme.takes_one_slash())
    });
    one_slash.unwrap_or(("", url))
}

/// One backup: where it is and what it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupUrl {
    /// Where it is.
    pub destination: Destination,
    /// The backup's name.
    pub backup: String,
    /// The name of the volume it was made of.
    pub volume: String,
}

impl fmt::Display for BackupUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.destination.backup_url(&self.backup, &self.volume))
    }
}

impl FromStr for BackupUrl {
    type Err = DestinationError;

    /// Reads what [`plain_url`] gives of a text. Names have no `=`, so where the second parameter begins is
    /// not in doubt.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = &*plain_url(text);
        let part = |key| text.split_once(key).map_or("", |(_, rest)| rest.split('&').next().unwrap_or(""));
        let form = || DestinationError::BackupForm {
            backup: part("backup=").into(),
            volume: part("volume=").into(),
        };
        if text.is_empty() {
            return Err(DestinationError::Missing);
        }
        let (destination, query) = text.split_once('?').ok_or_else(form)?;
        let (first_key, rest) = query.split_once('=').ok_or_else(form)?;
        let (middle, second) = rest.split_once('=').ok_or_else(form)?;
        let second_key = match first_key {
            "backup" => "volume",
            "volume" => "backup",
            _ => return Err(form()),
        };
        let middle = middle.strip_suffix(second_key).ok_or_else(form)?;
        let first = middle.strip_suffix('&').ok_or_else(form)?;
        let (backup, volume) = if first_key == "backup" { (first, second) } else { (second, first) };
        Ok(Self { destination: destination.parse()?, backup: name(backup)?, volume: name(volume)? })
    }
}

/// Gives the URL of a backup as it was before it was printed as JSON: in what separates its parameters,
/// `\u0026` and `u0026` (a shell took the backslash) are `&`. A volume or a directory may have `u0026` in its
/// name: nothing else is touched.
pub fn plain_url(url: &str) -> String {
    let url = url.replace("\\u0026", "&");
    let Some((destination, query)) = url.split_once('?') else { return url };
    if query.contains('&') {
        return url;
    }
    let query = ["volume=", "backup="]
        .iter()
        .find_map(|key| {
            let (before, after) = query.split_once(&format!("u0026{key}"))?;
            Some(format!("{before}&{key}{after}"))
        })
        .unwrap_or_else(|| query.to_owned());
    format!("{destination}?{query}")
}

/// Checks a name, which may be longer than that of a new volume.
fn name(text: &str) -> Result<String, DestinationError> {
    let good = text.len() > 1 && has_name_form(text);
    if good { Ok(text.to_owned()) } else { Err(DestinationError::Name { name: text.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_three_forms_of_an_ampersand() {
        let plain = "vfs:///b?backup=backup-1&volume=vol1";
        for form in
            [plain, "vfs:///b?backup=backup-1\\u0026volume=vol1", "vfs:///b?backup=backup-1u0026volume=vol1"]
        {
            assert_eq!(plain_url(form), plain);
        }
        for untouched in ["vfs:///bku0026x/", "vfs:///b?backup=backup-1&volume=au0026b", "vfs:///b", ""] {
            assert_eq!(plain_url(untouched), untouched);
        }
        assert_eq!(
            plain_url("vfs:///bu0026x?backup=backup-1u0026volume=au0026b"),
            "vfs:///bu0026x?backup=backup-1&volume=au0026b"
        );
    }

    fn error(text: &str) -> String {
        text.parse::<Destination>().unwrap_err().to_string()
    }

    #[test]
    fn destinations_are_read_and_printed_as_given() {
        for (text, bucket, region, prefix) in [
            ("s3://rec@us-east-1/some/path/", "rec", Some("us-east-1"), "some/path/"),
            ("s3://rec/some/path", "rec", None, "some/path/"),
            ("s3://rec@us-east-1/", "rec", Some("us-east-1"), ""),
        ] {
            let dest: Destination = text.parse().unwrap();
            assert_eq!(dest.to_string(), text);
            let at = dest.place();
            assert_eq!(
                (dest.scheme(), at.host.as_str(), at.region.as_deref(), at.path.as_str()),
                ("s3", bucket, region, prefix)
            );
        }
        let dest: Destination = "vfs:///srv/a%20b/".parse().unwrap();
        assert_eq!((dest.scheme(), dest.place().path.as_str()), ("vfs", "/srv/a b/"));
        assert_eq!(dest.to_string(), "vfs:///srv/a%20b/");
    }

    #[test]
    fn one_slash_is_as_good_as_three_and_printed_as_given() {
        let dest: Destination = "vfs:/srv/backups".parse().unwrap();
        assert_eq!((dest.scheme(), dest.place().path.as_str()), ("vfs", "/srv/backups"));
        let url = dest.backup_url("backup-1", "vol");
        assert_eq!(url, "vfs:/srv/backups?backup=backup-1&volume=vol");
        assert_eq!(url.parse::<BackupUrl>().unwrap().to_string(), url);
        assert_eq!(error("vfs:srv"), "Driver  is not supported!");
        assert_eq!(error("s3:/bucket/x"), "Driver  is not supported!");
    }

    #[test]
    fn errors_have_the_texts_scripts_know() {
        assert_eq!(error(""), "Destination URL hasn't been specified");
        assert_eq!(error("/srv/x"), "Driver  is not supported!");
        assert_eq!(error("ftp://host/x"), "Driver ftp is not supported!");
        assert_eq!(error("vfs://host/path"), "VFS path must follow: vfs:///path/ format");
        let s3 = "Invalid URL. Must be either s3://bucket@region/path/, or s3://bucket/path";
        for bad in [
            "s3://rec@us-east-1",
            "s3://rec",
            "s3:///path",
            "s3://@r/p",
            "s3://b@/p",
            "s3://a b/p",
            "s3://a@b@c/p",
        ] {
            assert_eq!(error(bad), s3, "{bad}");
        }
        assert!(error("vfs:///a%2").contains('%'));
        assert!(error("vfs:///a#b").contains('#'));
    }

    #[test]
    fn all_three_separators_are_understood_and_names_left_alone() {
        for sep in ["&", "\\u0026", "u0026"] {
            let text = format!("vfs:///srv/bku0026x?backup=backup-1{sep}volume=au0026b");
            let url: BackupUrl = text.parse().unwrap();
            assert_eq!((url.backup.as_str(), url.volume.as_str()), ("backup-1", "au0026b"));
            assert_eq!(url.destination.to_string(), "vfs:///srv/bku0026x");
            assert_eq!(url.to_string(), "vfs:///srv/bku0026x?backup=backup-1&volume=au0026b");
        }
        let swapped: BackupUrl = "vfs:///d?volume=vol&backup=bak".parse().unwrap();
        assert_eq!((swapped.backup.as_str(), swapped.volume.as_str()), ("bak", "vol"));
    }

    #[test]
    fn what_is_no_backup_url_is_refused() {
        for bad in [
            "",
            "vfs:///d",
            "vfs:///d?backup=ab",
            "vfs:///d?backup=ab&volume=",
            "vfs:///d?backup=../x&volume=vol",
            "vfs:///d?backup=ab&volume=../../x",
            "vfs:///d?backup=ab&volume=v",
            "vfs:///d?backup=abvolume=vol",
            "vfs:///d?backup=ab&volume=vol&x=y",
        ] {
            assert!(bad.parse::<BackupUrl>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_names_survive(backup in "[a-zA-Z0-9][a-zA-Z0-9_.-]{1,20}(u0026)?", volume in "(u0026)?[a-zA-Z0-9][a-zA-Z0-9_.-]{1,20}", sep in 0usize..2) {
            let text = format!("vfs:///d?backup={backup}{}volume={volume}", ["&", "\\u0026"][sep]);
            let url: BackupUrl = text.parse().unwrap();
            prop_assert_eq!(url.backup, backup);
            prop_assert_eq!(url.volume, volume);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<Destination>();
            let _ = text.parse::<BackupUrl>();
        }
    }
}
