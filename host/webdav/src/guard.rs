//! Who is answered.

use std::net::IpAddr;

use headers::authorization::{Authorization, Basic};
use headers::{HeaderMapExt, Host};
use http::Request;

/// The name that clients give with the password.
const USER: &str = "convoy";

/// Why a request is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no password, or another.
    Password,
    /// It is for another name than that of this host: a page on the web may have sent it.
    Host,
    /// It asks for everything below a directory.
    Depth,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password => "the user convoy and the password are needed",
            Self::Host => {
                "without a password only requests for localhost or an address of this host are answered"
            }
            Self::Depth => "directories are listed one by one: expected Depth 0 or 1",
        })
    }
}

/// Lets in whoever knows the password; without one, whoever reaches the address by its number or as `localhost`.
#[derive(Debug, Default)]
pub struct Guard {
    password: Option<blake3::Hash>,
}

impl Guard {
    /// Asks for this password.
    #[must_use]
    pub fn with_password(password: &str) -> Self {
        Self { password: Some(blake3::hash(password.as_bytes())) }
    }

    /// Decides about a request by its head.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        match &self.password {
            Some(password) => {
                let given = request.headers().typed_get::<Authorization<Basic>>().ok_or(Refusal::Password)?;
                // Comparing hashes takes the same time wherever they differ.
                let same = blake3::hash(given.password().as_bytes()) == *password;
                if !same || given.username() != USER {
                    return Err(Refusal::Password);
                }
            }
            None if !is_local(request) => return Err(Refusal::Host),
            None => {}
        }
        let depth = request.headers().get("depth").map(http::HeaderValue::as_bytes);
        if request.method().as_str() == "PROPFIND" && !matches!(depth, Some(b"0" | b"1")) {
            return Err(Refusal::Depth);
        }
        Ok(())
    }
}

/// Whether a request is for an address or for `localhost`: a page on the web that has its own name point here
/// sends that name.
fn is_local<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().typed_get::<Host>() else { return false };
    let name = host.hostname();
    let number = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || number.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn a_password_is_asked_for_and_compared() {
        let guard = Guard::with_password("secret:word");
        let check = |value: &str| guard.check(&request("GET", &[("authorization", value)]));
        // Of `base64`: convoy:secret:word, other:secret:word, convoy:secret.
        assert_eq!(check("Basic Y29udm95OnNlY3JldDp3b3Jk"), Ok(()));
        assert_eq!(check("Basic b3RoZXI6c2VjcmV0OndvcmQ="), Err(Refusal::Password));
        assert_eq!(check("Basic Y29udm95OnNlY3JldA=="), Err(Refusal::Password));
        assert_eq!(check("Bearer x"), Err(Refusal::Password));
        assert_eq!(guard.check(&request("GET", &[("host", "127.0.0.1")])), Err(Refusal::Password));
        assert!(!format!("{guard:?}").contains("secret"));
    }

    #[test]
    fn without_a_password_names_that_others_can_give_are_refused() {
        let guard = Guard::default();
        for (host, answered) in [
            ("127.0.0.1:8080", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:8080", true),
            ("evil.example:8080", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(guard.check(&request("GET", &[("host", host)])).is_ok(), answered, "{host}");
        }
        assert_eq!(guard.check(&request("GET", &[])), Err(Refusal::Host));
    }

    #[test]
    fn nobody_lists_everything_at_once() {
        let guard = Guard::default();
        let check = |depth: &[(&str, &str)]| {
            guard.check(&request("PROPFIND", &[&[("host", "localhost")], depth].concat()))
        };
        assert_eq!((check(&[("depth", "0")]), check(&[("depth", "1")])), (Ok(()), Ok(())));
        assert_eq!(check(&[("depth", "infinity")]), Err(Refusal::Depth));
        assert_eq!(check(&[]), Err(Refusal::Depth), "which means infinity");
    }
}
