//! Which credentials are used, told without their values, and that nobody else can read them.

use std::fmt;
use std::path::{Path, PathBuf};

use convoy_driver_sdk::secret::{self, SecretFileError};

use super::S3Options;
use crate::error::StoreError;

/// The most that a file of credentials is expected to hold, in bytes.
const MOST: u64 = 1 << 20;

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialsSource {
    /// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    Environment,
    /// A profile of a file.
    Profile {
        /// The name of the profile.
        name: String,
        /// The file that it is in.
        file: PathBuf,
    },
    /// A token of a web identity, by `AWS_WEB_IDENTITY_TOKEN_FILE`.
    WebIdentity,
    /// The service that a container of a cloud asks.
    Container,
    /// The machine's metadata service, which only a machine of a cloud has.
    Machine,
    /// Nothing offers any.
    Nowhere,
    /// A profile or a file was named, and the profile is not there.
    NoProfile {
        /// The name of the profile.
        name: String,
        /// Where it was looked for.
        file: PathBuf,
    },
}

impl fmt::Display for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "credentials from the environment",
            Self::Profile { name, file } => {
                return write!(f, "credentials from profile {name} of {}", file.display());
            }
            Self::NoProfile { name, file } => {
                return write!(f, "no credentials, since there is no profile {name} in {}", file.display());
            }
            Self::WebIdentity => "credentials from a web identity (AWS_WEB_IDENTITY_TOKEN_FILE)",
            Self::Container => "credentials from the container's service",
            Self::Machine => {
                "no credentials in the environment or in a file: the machine's metadata service is asked"
            }
            Self::Nowhere => "no credentials in the environment or in a file",
        })
    }
}

/// Looks where credentials would come from, in the order that AWS's own tools have.
///
/// # Errors
/// [`StoreError::Config`] for a file that is named and cannot be read, and for one that others can read or
/// change, with the command that mends it.
pub(super) fn find(options: &S3Options) -> Result<CredentialsSource, StoreError> {
    find_in(options, &|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn find_in(
    options: &S3Options,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<CredentialsSource, StoreError> {
    let named = options.profile.is_some() || options.credentials_file.is_some();
    if !named && variable("AWS_ACCESS_KEY_ID").is_some() && variable("AWS_SECRET_ACCESS_KEY").is_some() {
        return Ok(CredentialsSource::Environment);
    }
    let at_home = |name| variable("HOME").map(|home| Path::new(&home).join(".aws").join(name));
    let usual = |name, file| variable(name).map(PathBuf::from).or_else(|| at_home(file));
    let name = options.profile.clone().or_else(|| variable("AWS_PROFILE")).unwrap_or("default".to_owned());
    let given = options.credentials_file.clone();
    let is_given = given.is_some();
    let credentials = given.or_else(|| usual("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let files = [(credentials.clone(), false), (usual("AWS_CONFIG_FILE", "config"), true)];
    for (file, is_config) in files {
        let Some(file) = file else { continue };
        let text = match read(&file, is_config) {
            Ok(text) => text,
            // What nobody named need not be there.
            Err(_) if (is_config || !is_given) && !file.is_file() => continue,
            Err(error) => return Err(StoreError::Config(format!("the file of credentials: {error}"))),
        };
        if has_profile(&text, &name, is_config) {
            return Ok(CredentialsSource::Profile { name, file });
        }
    }
    if named {
        let file = credentials.unwrap_or_else(|| "~/.aws/credentials".into());
        return Ok(CredentialsSource::NoProfile { name, file });
    }
    let is_set = |name: &str| variable(name).is_some();
    Ok(if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        CredentialsSource::WebIdentity
    } else if is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    {
        CredentialsSource::Container
    } else if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true")) {
        CredentialsSource::Nowhere
    } else {
        CredentialsSource::Machine
    })
}

/// Reads a file of profiles. The one of settings, `config`, may be everybody's as long as it has no secret in
/// it.
fn read(file: &Path, is_config: bool) -> Result<String, SecretFileError> {
    match secret::read_text(file, MOST) {
        Err(SecretFileError::Mode { .. } | SecretFileError::Owner { .. }) if is_config => {
            let unreadable = |source| SecretFileError::Unreadable { path: file.to_owned(), source };
            let text = std::fs::read_to_string(file).map_err(unreadable)?;
            if text.contains("aws_secret_access_key") { secret::read_text(file, MOST) } else { Ok(text) }
        }
        read => read,
    }
}

/// Whether a file has a profile: `[name]`, or in the file of settings `[profile name]`.
fn has_profile(text: &str, name: &str, is_config: bool) -> bool {
    text.lines().any(|line| {
        let Some(section) = line.trim_start().strip_prefix('[').and_then(|rest| rest.split(']').next())
        else {
            return false;
        };
        let section = section.trim();
        let of_config = section.strip_prefix("profile").is_some_and(|rest| rest.trim() == name);
        if is_config && name != "default" { of_config } else { section == name || (is_config && of_config) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt;

    struct Home(tempfile::TempDir);

    impl Home {
        fn with(files: &[(&str, &str)]) -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(home.0.path().join(".aws")).unwrap();
            for (name, text) in files {
                std::fs::write(home.path(name), text).unwrap();
                set_permissions(home.path(name), Permissions::from_mode(0o600)).unwrap();
            }
            home
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(".aws").join(name)
        }

        fn find(&self, options: &S3Options, variables: &[(&str, &str)]) -> Result<String, String> {
            let home = self.0.path().display().to_string();
            let variable = |name: &str| {
                let all =
                    variables.iter().chain([("HOME", home.as_str())].iter()).copied().collect::<Vec<_>>();
                all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
            };
            find_in(options, &variable).map(|found| found.to_string()).map_err(|error| error.to_string())
        }
    }

    fn profile(name: &str) -> S3Options {
        S3Options { profile: Some(name.to_owned()), ..S3Options::default() }
    }

    #[test]
    fn they_are_looked_for_where_aws_looks() {
        let any = S3Options::default();
        let home = Home::with(&[
            ("credentials", "[default]\naws_access_key_id = A\n[ backups ]\naws_access_key_id = B\n"),
            ("config", "[default]\n[profile role]\nrole_arn = arn\n"),
        ]);
        let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B")];
        assert_eq!(home.find(&any, &keys).unwrap(), "credentials from the environment");
        let of = |name: &str, file: &str| {
            format!("credentials from profile {name} of {}", home.path(file).display())
        };
        assert_eq!(home.find(&any, &[]).unwrap(), of("default", "credentials"));
        assert_eq!(home.find(&any, &[("AWS_PROFILE", "backups")]).unwrap(), of("backups", "credentials"));
        // What is named comes before the environment.
        assert_eq!(home.find(&profile("backups"), &keys).unwrap(), of("backups", "credentials"));
        assert_eq!(home.find(&profile("role"), &[]).unwrap(), of("role", "config"));
        let told = home.find(&profile("nobody"), &keys).unwrap();
        assert!(told.contains("there is no profile nobody in ") && told.contains(".aws/"), "{told}");

        let empty = Home::with(&[]);
        for (variables, said) in [
            (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t")][..], "web identity"),
            (&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://x")], "container"),
            (&[("AWS_EC2_METADATA_DISABLED", "true")], "no credentials in the environment or in a file"),
            (&[], "metadata service is asked"),
            (&keys[..1], "metadata service is asked"),
        ] {
            let told = empty.find(&any, variables).unwrap();
            assert!(told.contains(said), "{told}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_no_value_told() {
        let home = Home::with(&[("credentials", "[default]\naws_secret_access_key = SWORDFISH\n")]);
        let mode = |name: &str, mode| set_permissions(home.path(name), Permissions::from_mode(mode)).unwrap();
        mode("credentials", 0o644);
        let named = S3Options { credentials_file: Some(home.path("credentials")), ..S3Options::default() };
        for options in [&S3Options::default(), &named] {
            let error = home.find(options, &[]).unwrap_err();
            let command = format!("`chmod 600 {}`", home.path("credentials").display());
            assert!(error.contains(&command) && !error.contains("SWORD"), "{error}");
        }
        // It is not looked at where it is not used.
        let keys = [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B")];
        assert!(home.find(&S3Options::default(), &keys).is_ok());
        let nowhere = S3Options { credentials_file: Some("/nonexistent".into()), ..S3Options::default() };
        assert!(home.find(&nowhere, &[]).unwrap_err().contains("cannot read /nonexistent"));
        // Settings without a secret are no secret.
        let home = Home::with(&[("config", "[default]\nregion = x\n")]);
        let config = home.path("config");
        set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
        assert!(home.find(&S3Options::default(), &[]).unwrap().contains("profile default"));
        std::fs::write(&config, "[default]\naws_secret_access_key = SWORDFISH\n").unwrap();
        assert!(home.find(&S3Options::default(), &[]).unwrap_err().contains("chmod 600"));
    }
}
