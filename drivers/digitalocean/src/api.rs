//! The HTTP client: one token, bounded requests, retries of what is safe to repeat, all pages of a listing.

use crate::model::{Page, Refusal};
use convoy_driver_cloud::causes;
use convoy_driver_cloud::wait::{self, Backoff};
use convoy_driver_sdk::{Context, DriverError, ErrorKind};
use reqwest::blocking::{Client, Response};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use url::Url;
use zeroize::Zeroizing;

/// Where the API is.
pub const ENDPOINT: &str = "https://api.digitalocean.com";
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How often a request that may be repeated is tried.
const TRIES: u32 = 6;
/// The longest wait for the rate limit to be lifted; beyond that the call fails and says when.
const LONGEST_THROTTLE: Duration = Duration::from_secs(120);
/// The largest page.
const PER_PAGE: u64 = 200;

/// The API token. Never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// Takes a token; white space around it is no part of it.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    fn header(&self) -> Result<HeaderValue> {
        let text = Zeroizing::new(format!("Bearer {}", self.0.as_str()));
        let mut value = HeaderValue::from_str(&text).map_err(|_| ApiError::BadToken)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum ApiError {
    #[error("expected a DigitalOcean API token, found text that cannot be one")]
    BadToken,
    #[error("cannot make HTTP requests: {0}")]
    Client(reqwest::Error),
    /// No answer: it is unknown whether the request was carried out, unless `sent` says it was not even sent.
    #[error("no answer from DigitalOcean to {what}: {reason}")]
    Silent {
        what: String,
        reason: String,
        /// Whether it can have been carried out.
        sent: bool,
        /// Whether it was the call's own time that was over.
        late: bool,
    },
    /// The answer is an error.
    #[error("DigitalOcean refused {what}: {status} {message}{}", request_id.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default())]
    Refused {
        what: String,
        status: u16,
        message: String,
        request_id: Option<String>,
        /// How long it asks to wait, if it did nothing for want of requests left.
        wait: Option<Duration>,
    },
    #[error("cannot understand DigitalOcean's answer to {what}: {reason}")]
    Malformed { what: String, reason: String },
    /// The call ended first.
    #[error("{0}")]
    Ended(DriverError),
}

impl ApiError {
    /// Whether it is a refusal with this status and, in lower case, these words.
    pub fn is(&self, status: u16, words: &str) -> bool {
        matches!(self, Self::Refused { status: found, message, .. }
            if *found == status && message.to_lowercase().contains(words))
    }

    /// Whether the request may have been carried out all the same.
    pub fn is_ambiguous(&self) -> bool {
        match self {
            Self::Silent { .. } | Self::Malformed { .. } => true,
            Self::Refused { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether there is no such thing.
    pub fn is_not_found(&self) -> bool {
        self.is(404, "")
    }
}

impl From<ApiError> for DriverError {
    fn from(error: ApiError) -> Self {
        let text = error.to_string();
        let lower = text.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        match error {
            ApiError::Ended(error) => error,
            ApiError::BadToken => Self::new(ErrorKind::InvalidArgument, text)
                .hint("set DO_TOKEN, or do.tokenfile, to a token of the control panel's API page"),
            ApiError::Client(_) | ApiError::Malformed { .. } => Self::new(ErrorKind::Internal, text),
            ApiError::Silent { late: true, .. } => Self::new(ErrorKind::DeadlineExceeded, text),
            ApiError::Silent { .. } => Self::new(ErrorKind::Unavailable, text),
            ApiError::Refused { status, .. } => match status {
                _ if has(&[
                    "limit exceeded",
                    "quota",
                    "cannot attach more",
                    "exceed",
                    "too many snapshots",
                ]) && status != 429 =>
                {
                    Self::new(ErrorKind::Exhausted, text)
                        .hint("delete what is not needed, or ask DigitalOcean to raise the limit")
                }
                401 => Self::new(ErrorKind::PermissionDenied, text)
                    .hint("the token is wrong, expired or revoked: set DO_TOKEN, or do.tokenfile, anew"),
                403 => Self::new(ErrorKind::PermissionDenied, text).hint(
                    "the token needs the scopes block_storage, block_storage_action and \
                     block_storage_snapshot (create, read, delete)",
                ),
                404 => Self::new(ErrorKind::NotFound, text),
                409 if has(&["already exists"]) => Self::new(ErrorKind::AlreadyExists, text),
                409 => Self::new(ErrorKind::InUse, text),
                422 if has(&["already exists"]) => Self::new(ErrorKind::AlreadyExists, text),
                422 if has(&["pending event"]) => Self::new(ErrorKind::Busy, text),
                422 if has(&["already attached"]) => Self::new(ErrorKind::InUse, text),
                429 => Self::new(ErrorKind::Unavailable, text)
                    .hint("the rate limit of the account is used up: wait"),
                400..=499 => Self::new(ErrorKind::InvalidArgument, text),
                _ => Self::new(ErrorKind::Unavailable, text),
            },
        }
    }
}

/// A result of this module.
pub type Result<T> = std::result::Result<T, ApiError>;

/// A client of the API that keeps to its rate limit.
#[derive(Debug)]
pub struct Api {
    client: Client,
    base: Url,
    remaining: AtomicU64,
    requests: AtomicU64,
}

impl Api {
    /// A client for an endpoint.
    ///
    /// # Errors
    /// [`ApiError::BadToken`], [`ApiError::Client`].
    pub fn new(base: Url, token: &Token) -> Result<Self> {
        // Another part of the process may have chosen a provider already: any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, token.header()?)]);
        let client = Client::builder()
            .default_headers(headers)
            .user_agent(concat!("convoy/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            // A redirect could carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ApiError::Client)?;
        Ok(Self { client, base, remaining: AtomicU64::new(u64::MAX), requests: AtomicU64::new(0) })
    }

    /// What is left of the hour's requests, as last said.
    pub fn remaining(&self) -> Option<u64> {
        Some(self.remaining.load(Ordering::Relaxed)).filter(|left| *left != u64::MAX)
    }

    /// Requests made so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Reads something.
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        context: &Context,
    ) -> Result<T> {
        let what = format!("GET {path}");
        let answer =
            self.repeat(&what, true, context, || self.send(Method::GET, path, query, None, context))?;
        parse(&what, answer, context)
    }

    /// Reads all pages of a listing.
    pub fn list<P: Page>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        context: &Context,
    ) -> Result<Vec<P::Item>> {
        let per_page = PER_PAGE.to_string();
        let mut all = Vec::new();
        for page in 1u64.. {
            let number = page.to_string();
            let mut query = query.to_vec();
            query.extend([("per_page", per_page.as_str()), ("page", number.as_str())]);
            let (items, total) = self.get::<P>(path, &query, context)?.items();
            let last = items.is_empty() || page.saturating_mul(PER_PAGE) >= total;
            all.extend(items);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// Asks for something to be made or done. Repeated only when it certainly was not carried out.
    pub fn post<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        context: &Context,
    ) -> Result<T> {
        let what = format!("POST {path}");
        let body = serde_json::to_vec(body)
            .map_err(|error| ApiError::Malformed { what: what.clone(), reason: error.to_string() })?;
        let send = || self.send(Method::POST, path, &[], Some(body.clone()), context);
        parse(&what, self.repeat(&what, false, context, send)?, context)
    }

    /// Deletes something.
    pub fn delete(&self, path: &str, context: &Context) -> Result<()> {
        let what = format!("DELETE {path}");
        self.repeat(&what, true, context, || self.send(Method::DELETE, path, &[], None, context))?;
        Ok(())
    }

    fn repeat(
        &self,
        what: &str,
        harmless: bool,
        context: &Context,
        mut send: impl FnMut() -> Result<Response>,
    ) -> Result<Response> {
        let mut backoff = Backoff::brief();
        for attempt in 1.. {
            context.check().map_err(ApiError::Ended)?;
            let error = match send().and_then(|answer| check(what, answer)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = match &error {
                ApiError::Refused { wait: Some(wait), .. } => Some(*wait),
                ApiError::Refused { status, .. } if harmless && *status >= 500 => Some(backoff.pause()),
                ApiError::Silent { sent, .. } if harmless || !sent => Some(backoff.pause()),
                _ => None,
            };
            let Some(pause) = pause.filter(|pause| attempt < TRIES && *pause <= LONGEST_THROTTLE) else {
                return Err(error);
            };
            tracing::debug!(what, %error, ?pause, attempt, "asking DigitalOcean again");
            wait::sleep(pause, context).map_err(ApiError::Ended)?;
        }
        Err(ApiError::Malformed { what: what.to_owned(), reason: "no answer was ever given".to_owned() })
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
        context: &Context,
    ) -> Result<Response> {
        let what = format!("{method} {path}");
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let limit = context.remaining().map_or(REQUEST_LIMIT, |remaining| remaining.min(REQUEST_LIMIT));
        let mut request = self.client.request(method, url).timeout(limit);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = request.send().map_err(|error| {
            let sent = !error.is_connect() && !error.is_builder();
            let late = is_late(&error, context);
            // The URL may say more than a log should.
            let reason = causes(&error.without_url());
            ApiError::Silent { what, reason, sent, late }
        })?;
        if let Some(left) = number(answer.headers(), "ratelimit-remaining") {
            self.remaining.store(left, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// Whether a request was given up because the time of the call was over: the limit of a request is what is
/// left of that, at most.
fn is_late(error: &reqwest::Error, context: &Context) -> bool {
    // The client's clock may be a little ahead.
    const NEARLY: Duration = Duration::from_millis(20);
    error.is_timeout() && context.remaining().is_some_and(|left| left < NEARLY)
}

fn check(what: &str, answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let wait = (status == StatusCode::TOO_MANY_REQUESTS).then(|| throttled_for(answer.headers()));
    let refusal: Refusal =
        answer.bytes().ok().and_then(|body| serde_json::from_slice(&body).ok()).unwrap_or_default();
    let message = if refusal.message.is_empty() {
        status.canonical_reason().unwrap_or("no reason given").to_owned()
    } else {
        refusal.message
    };
    Err(ApiError::Refused {
        what: what.to_owned(),
        status: status.as_u16(),
        message,
        request_id: refusal.request_id,
        wait,
    })
}

/// How long to wait after being told "too many requests".
fn throttled_for(headers: &HeaderMap) -> Duration {
    if let Some(seconds) = number(headers, "retry-after") {
        return Duration::from_secs(seconds);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match number(headers, "ratelimit-reset") {
        Some(reset) if number(headers, "ratelimit-remaining") == Some(0) && reset > now => {
            Duration::from_secs(reset - now)
        }
        // The limit of a minute, not of the hour.
        _ => Duration::from_secs(5),
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn parse<T: DeserializeOwned>(what: &str, answer: Response, context: &Context) -> Result<T> {
    let body = answer.bytes().map_err(|error| ApiError::Silent {
        what: what.to_owned(),
        late: is_late(&error, context),
        reason: causes(&error.without_url()),
        sent: true,
    })?;
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::Malformed { what: what.to_owned(), reason: error.to_string() })
}
