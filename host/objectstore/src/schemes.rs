//! The kinds of stores that there are. Each is a [`Scheme`] and stands in [`SCHEMES`]: settings, schedules,
//! checks and help ask there, and name none.

mod definition;
mod directory;
mod s3;

use std::path::Path;

pub use definition::{Abilities, Location, Scheme, SettingKind, StoreOptions, StoreSetting};

/// Every kind of store.
pub static SCHEMES: &[&dyn Scheme] = &[
    &directory::Directory,
    &s3::S3,
    #[cfg(test)]
    &tests::memory::Memory,
];

/// Finds a kind of store by the name in its URLs.
pub fn scheme(name: &str) -> Option<&'static dyn Scheme> {
    SCHEMES.iter().find(|scheme| scheme.name() == name).copied()
}

/// How destinations are written: the forms of all kinds of stores, with this text between them.
pub fn forms(between: &str) -> String {
    SCHEMES.iter().map(|scheme| scheme.form()).collect::<Vec<_>>().join(between)
}

/// How the URLs begin whose destinations have a setting: `s3://`.
pub fn prefixes_with(key: &str) -> String {
    let those = SCHEMES.iter().filter(|scheme| scheme.has_setting(key));
    those.map(|scheme| format!("{}://", scheme.name())).collect::<Vec<_>>().join(" or ")
}

impl StoreOptions {
    /// Checks that a kind of store has all these settings, and that they have values they can have.
    ///
    /// # Errors
    /// The first that is wrong, and what was expected. Values are not repeated.
    pub fn check(&self, scheme: &dyn Scheme) -> Result<(), (&'static str, String)> {
        for (key, value) in &self.0 {
            let Some(setting) = scheme.settings().iter().find(|setting| setting.key == *key) else {
                return Err((key, format!("only an {} destination has it", prefixes_with(key))));
            };
            let is_web = value.starts_with("http://") || value.starts_with("https://");
            let expected = match setting.kind {
                SettingKind::Url if !is_web => "an URL that begins with http:// or https://",
                SettingKind::Path if !Path::new(value).is_absolute() => "an absolute path",
                _ => continue,
            };
            return Err((key, format!("expected {expected}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
