//! What opens encrypted backups: a key file or a passphrase, each read from a file on this host.
//!
//! Only the places of secrets are in requests, settings and logs; their contents go from the file to the
//! engine.

use crate::config::destinations::DestinationSettings;
use crate::volumes::error::{Error, Result};
use convoy_backup::KeySource;
use convoy_driver_sdk::ErrorKind;
use convoy_driver_sdk::secret::{self, SecretFileError};
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

/// Where systemd says that it put the credentials of this service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The most that a file with a key or a passphrase may hold: a wrong path may lead to a disk image.
const MOST: u64 = 1 << 20;
/// A path that is right where a command is typed may be another file where the daemon runs.
const BY_THE_DAEMON: &str = "the file is read by the daemon, on its host";
/// The most that a passphrase may have.
const LONGEST: usize = 4096;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// A file of random bytes.
    KeyFile(PathBuf),
    /// A file with a passphrase.
    Passphrase(PathBuf),
    /// A passphrase that systemd hands to this service under a name.
    Credential(String),
}

impl Secret {
    /// The one that a request names, if it names one.
    ///
    /// # Errors
    /// For a request that names two.
    pub(super) fn asked(key_file: &str, passphrase_file: &str) -> Result<Option<Self>> {
        match (key_file, passphrase_file) {
            ("", "") => Ok(None),
            (file, "") => Ok(Some(Self::KeyFile(file.into()))),
            ("", file) => Ok(Some(Self::Passphrase(file.into()))),
            _ => {
                let text = "expected either a key file or a passphrase file, found both";
                Err(Error::InvalidRequest(text.to_owned()))
            }
        }
    }

    /// The one of a destination's settings, which have at most one.
    pub(super) fn of(settings: &DestinationSettings) -> Option<Self> {
        let key = settings.encryption_key_file.clone().map(Self::KeyFile);
        let passphrase = settings.passphrase_file.clone().map(Self::Passphrase);
        key.or(passphrase).or_else(|| settings.passphrase_credential.clone().map(Self::Credential))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] for a file that is missing, cannot be read or holds no such secret.
    pub(super) async fn read(&self) -> Result<KeySource> {
        match self {
            Self::KeyFile(path) => {
                Ok(KeySource::File(read("key file", path, BY_THE_DAEMON, secret::open).await?))
            }
            Self::Passphrase(path) => {
                let content = read("passphrase file", path, BY_THE_DAEMON, secret::open).await?;
                passphrase(content, &path.display().to_string())
            }
            Self::Credential(name) => {
                let hint =
                    "systemd hands it over: LoadCredential= or LoadCredentialEncrypted= in the service";
                let Some(directory) = std::env::var_os(CREDENTIALS) else {
                    let text = format!(
                        "there is no credential {name:?}: the daemon was started without any (${CREDENTIALS} is not set)"
                    );
                    return Err(unusable(text, Some(hint)));
                };
                // systemd keeps others out of the directory; the mode of the file is its own affair.
                let open = |path: &Path| {
                    let unreadable = |source| SecretFileError::Unreadable { path: path.to_owned(), source };
                    std::fs::File::open(path).map_err(unreadable)
                };
                let content = read("credential", &Path::new(&directory).join(name), hint, open).await?;
                passphrase(content, &format!("credential {name:?}"))
            }
        }
    }
}

async fn read(
    what: &str,
    path: &Path,
    hint: &str,
    open: impl FnOnce(&Path) -> std::result::Result<std::fs::File, SecretFileError> + Send + 'static,
) -> Result<Zeroizing<Vec<u8>>> {
    if !path.is_absolute() {
        let text = format!("invalid {what} {path:?}: expected an absolute path on the daemon's host");
        return Err(Error::InvalidRequest(text));
    }
    let failed = |error: std::io::Error| {
        unusable(format!("cannot read the {what} {}: {error}", path.display()), Some(hint))
    };
    let opened = path.to_owned();
    let file = tokio::task::spawn_blocking(move || open(&opened))
        .await
        .map_err(|error| failed(std::io::Error::other(error)))?
        .map_err(|error| match error {
            SecretFileError::Unreadable { source, .. } => failed(source),
            other => unusable(format!("cannot use the {what}: {other}"), None),
        })?;
    let file = tokio::fs::File::from_std(file);
    // Room for all of it from the beginning: a vector that grows leaves copies behind that nobody wipes.
    let known = file.metadata().await.map_err(failed)?.len().min(MOST);
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(known).unwrap_or_default() + 64));
    file.take(MOST + 1).read_to_end(&mut content).await.map_err(failed)?;
    if content.len() as u64 > MOST {
        return Err(unusable(format!("the {what} {} has more than {MOST} bytes", path.display()), None));
    }
    Ok(content)
}

/// The text of a file without the end of its line, which editors and `echo` add.
fn passphrase(content: Zeroizing<Vec<u8>>, from: &str) -> Result<KeySource> {
    // What is wrong is told without a word of what is there.
    let text = std::str::from_utf8(&content).map_err(|_| {
        unusable(
            format!("the passphrase of {from} is no UTF-8 text"),
            Some("random bytes are a key file: --encryption-key-file"),
        )
    })?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(unusable(format!("the passphrase of {from} is empty"), None));
    }
    if text.contains(['\n', '\r', '\0']) {
        let text = format!("the passphrase of {from} has several lines: expected one");
        return Err(unusable(text, None));
    }
    if text.len() > LONGEST {
        return Err(unusable(format!("the passphrase of {from} has more than {LONGEST} bytes"), None));
    }
    Ok(KeySource::Passphrase(Zeroizing::new(text.to_owned())))
}

fn unusable(message: String, hint: Option<&str>) -> Error {
    Error::Backup { kind: ErrorKind::InvalidArgument, message, hint: hint.map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &[u8]) -> std::result::Result<String, String> {
        match passphrase(Zeroizing::new(content.to_vec()), "/p") {
            Ok(KeySource::Passphrase(text)) => Ok(text.to_string()),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_passphrase_is_one_line() {
        for content in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(read(content.as_bytes()).unwrap(), "correct horse");
        }
        assert_eq!(read(b" \n").unwrap(), " ", "blanks are part of it");
        for (content, why) in [
            (&b""[..], "empty"),
            (b"\n", "empty"),
            (b"two\nlines\n", "several lines"),
            (b"\xff\xfe secret", "no UTF-8"),
            (&[b'x'; 5000], "more than 4096"),
        ] {
            let error = read(content).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret") && !error.contains("lines\n"), "{error}");
        }
    }

    #[test]
    fn one_secret_is_asked_for() {
        assert_eq!(Secret::asked("", "").unwrap(), None);
        assert_eq!(Secret::asked("/k", "").unwrap(), Some(Secret::KeyFile("/k".into())));
        assert_eq!(Secret::asked("", "/p").unwrap(), Some(Secret::Passphrase("/p".into())));
        assert!(Secret::asked("/k", "/p").is_err());
    }
}
