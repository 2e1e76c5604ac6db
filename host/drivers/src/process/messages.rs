//! The messages of JSON-RPC that a driver sends.

use crate::answer;
use convoy_driver_sdk::wire::code;
use convoy_driver_sdk::{DriverError, ErrorKind, Name};
use jsonrpsee_types::error::{INVALID_PARAMS_CODE, METHOD_NOT_FOUND_CODE, OVERSIZED_REQUEST_CODE};
use jsonrpsee_types::{ErrorObject, Id};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How much of a message that is none an error quotes, in bytes.
const QUOTED: usize = 120;

pub(super) enum Kind<'a> {
    /// To the request of this id; `jsonrpsee` reads it.
    Response(u64),
    /// An error about a message without id.
    Refused(DriverError),
    /// A message that is not answered.
    Note { method: Cow<'a, str>, params: &'a str },
}

/// Every member that a response or a notification can have.
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow, default)]
    id: Option<Id<'a>>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<ErrorObject<'a>>,
}

/// Tells what a line is. The error says what was found instead of a message.
pub(super) fn kind_of<'a>(driver: &Name, line: &'a [u8]) -> Result<Kind<'a>, String> {
    let garbage = |expected: &str| {
        let start = String::from_utf8_lossy(line.get(..QUOTED).unwrap_or(line));
        format!("the process broke the protocol: expected {expected}, found {start:?}")
    };
    let members: Members<'_> = serde_json::from_slice(line).map_err(|_| garbage("a JSON-RPC 2.0 message"))?;
    match members {
        Members { method: Some(method), id: None, params, .. } => {
            Ok(Kind::Note { method, params: params.map_or("{}", RawValue::get) })
        }
        Members { method: None, id: Some(Id::Number(id)), result: Some(_), error: None, .. }
        | Members { method: None, id: Some(Id::Number(id)), result: None, error: Some(_), .. } => {
            Ok(Kind::Response(id))
        }
        Members { method: None, id: None, result: None, error: Some(error), .. } => {
            Ok(Kind::Refused(driver_error(driver, &error)))
        }
        _ => Err(garbage("a response or a notification")),
    }
}

/// The id of a request that is about to be sent; `None` for a notification.
pub(super) fn id_of(message: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Request {
        id: Option<u64>,
    }
    serde_json::from_str::<Request>(message).ok()?.id
}

/// The driver's own error if it is in `data`, or what the code says.
pub(super) fn driver_error(driver: &Name, error: &ErrorObject<'_>) -> DriverError {
    if let Some(own) = error.data().and_then(|data| answer::error(driver, data.get().as_bytes())) {
        return own;
    }
    let kind = match error.code() {
        METHOD_NOT_FOUND_CODE => ErrorKind::Unsupported,
        INVALID_PARAMS_CODE | OVERSIZED_REQUEST_CODE => ErrorKind::InvalidArgument,
        code::REPLY_TOO_LARGE => ErrorKind::Exhausted,
        _ => ErrorKind::Internal,
    };
    DriverError::new(kind, error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    static NAME: std::sync::LazyLock<Name> = std::sync::LazyLock::new(|| Name::from_static("odd"));

    #[test]
    fn errors_keep_their_kind_or_get_it_from_the_code() {
        let error = |text: &str| driver_error(&NAME, &serde_json::from_str(text).unwrap());
        let full = error(
            r#"{"code":-32000,"message":"m","data":{"kind":"busy","message":"m","retryable":false,"hint":"h"}}"#,
        );
        assert_eq!((full.kind, full.retryable, full.hint.as_deref()), (ErrorKind::Busy, false, Some("h")));
        let strange =
            error(r#"{"code":-32000,"message":"m","data":{"kind":"gone_fishing","message":"away"}}"#);
        assert_eq!((strange.kind, strange.message.as_str()), (ErrorKind::Internal, "away"));
        assert!(strange.hint.unwrap().contains("gone_fishing"));
        assert_eq!(error(r#"{"code":-32601,"message":"no such method"}"#).kind, ErrorKind::Unsupported);
    }

    #[test]
    fn messages_are_told_apart() {
        let kind = |text: &'static str| kind_of(&NAME, text.as_bytes()).unwrap();
        assert!(matches!(kind(r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#), Kind::Response(7)));
        assert!(matches!(kind(r#"{"id":7,"error":{"code":1,"message":""}}"#), Kind::Response(7)));
        assert!(matches!(kind(r#"{"id":null,"error":{"code":1,"message":""}}"#), Kind::Refused(_)));
        assert!(matches!(kind(r#"{"method":"x"}"#), Kind::Note { params: "{}", .. }));
    }

    #[test]
    fn what_is_no_message_is_quoted() {
        for bad in [
            "",
            "hello world",
            "[]",
            "{}",
            r#"{"id":7}"#,
            r#"{"id":7,"result":1,"error":{"code":1,"message":""}}"#,
        ] {
            let Err(reason) = kind_of(&NAME, bad.as_bytes()) else { panic!("{bad} was taken") };
            assert!(reason.contains(&format!("found {bad:?}")), "{reason}");
        }
        let Err(reason) = kind_of(&NAME, &b"x".repeat(10_000)) else { panic!("taken") };
        assert!(reason.len() < 300);
    }
}
