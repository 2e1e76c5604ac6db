//! Which settings are not to be shown.

/// Whether a key of the file names something that is not to be shown.
pub fn is_secret(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or(key);
    // Where a secret is found is none.
    if ["-file", "_file", "-env", "-command", "-credential", "_credential"]
        .iter()
        .any(|end| last.ends_with(end))
    {
        return false;
    }
    // A password stands in the URL of a proxy or a webhook, in the header of a request, in a hook's
    // environment.
    key.contains(".headers.")
        || ["secret", "password", "token", "passphrase", "key", "proxy", "webhook", "environment"]
            .iter()
            .any(|word| last.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for secret in [
            "destinations.s3.secret-access-key",
            "a.password",
            "a.passphrase",
            "driver-options.do.token",
            "schedule.0.notify.0.headers.X",
            "schedule.0.notify.0.webhook",
            "schedule.0.before.0.environment",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for plain in [
            "destinations.s3.url",
            "a.encryption-key-file",
            "a.passphrase_file",
            "a.passphrase_credential",
            "root",
            "a.token-env",
        ] {
            assert!(!is_secret(plain), "{plain}");
        }
    }
}
