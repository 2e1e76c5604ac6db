//! The messages of JSON-RPC, written and read.

use convoy_driver_sdk::wire::{MAX_FRAME_BYTES, code};
use convoy_driver_sdk::{DriverError, ErrorKind, Result};
use jsonrpsee_types::error::{INVALID_PARAMS_CODE, METHOD_NOT_FOUND_CODE, OVERSIZED_REQUEST_CODE};
use jsonrpsee_types::{ErrorObject, Id, Notification, Request};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;

/// How much of a message that is none an error quotes, in bytes.
const QUOTED: usize = 120;

/// What a driver sent.
pub(super) enum Incoming<'a> {
    /// To a call.
    Answer {
        /// Of the call.
        id: u64,
        /// The result as JSON.
        answer: Result<Vec<u8>>,
    },
    /// An error about a message without id.
    Refused(DriverError),
    /// A notification.
    Note {
        /// Which.
        method: Cow<'a, str>,
        /// JSON.
        params: &'a str,
    },
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
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(borrow, default)]
    error: Option<ErrorObject<'a>>,
}

/// A request as a line.
pub(super) fn request(id: u64, method: &str, params: &impl Serialize) -> Result<Vec<u8>> {
    let params = to_raw_value(params).map_err(|error| unwritable(method, &error))?;
    line(method, &Request::borrowed(method, Some(&params), Id::Number(id)))
}

/// A notification as a line.
pub(super) fn notification(method: &'static str, params: &impl Serialize) -> Result<Vec<u8>> {
    line(method, &Notification::new(method.into(), params))
}

fn line(method: &str, message: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message).map_err(|error| unwritable(method, &error))?;
    bytes.push(b'\n');
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(DriverError::new(
            ErrorKind::InvalidArgument,
            format!(
                "the request of {method} has {} bytes, more than the {MAX_FRAME_BYTES} of a message",
                bytes.len()
            ),
        ));
    }
    Ok(bytes)
}

fn unwritable(method: &str, error: &serde_json::Error) -> DriverError {
    DriverError::new(ErrorKind::Internal, format!("cannot write the request of {method}: {error}"))
}

/// Reads a line. The error says what was found instead of a message.
pub(super) fn parse(line: &[u8]) -> std::result::Result<Incoming<'_>, String> {
    let garbage = |expected: &str| {
        let start = String::from_utf8_lossy(line.get(..QUOTED).unwrap_or(line));
        format!("the process broke the protocol: expected {expected}, found {start:?}")
    };
    let members: Members<'_> = serde_json::from_slice(line).map_err(|_| garbage("a JSON-RPC 2.0 message"))?;
    match members {
        Members { method: Some(method), id: None, params, .. } => {
            Ok(Incoming::Note { method, params: params.map_or("{}", RawValue::get) })
        }
        Members { method: None, id: Some(Id::Number(id)), result: Some(result), error: None, .. } => {
            let json: Box<str> = result.into();
            Ok(Incoming::Answer { id, answer: Ok(json.into_boxed_bytes().into_vec()) })
        }
        Members { method: None, id: Some(Id::Number(id)), result: None, error: Some(error), .. } => {
            Ok(Incoming::Answer { id, answer: Err(driver_error(&error)) })
        }
        Members { method: None, error: Some(error), .. } => Ok(Incoming::Refused(driver_error(&error))),
        _ => Err(garbage("a response or a notification")),
    }
}

/// The driver's own error if it is in `data`, or what the code says.
fn driver_error(error: &ErrorObject<'_>) -> DriverError {
    if let Some(data) = error.data()
        && let Ok(own) = serde_json::from_str::<DriverError>(data.get())
    {
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

    fn answer(text: &str) -> Result<Vec<u8>> {
        match parse(text.as_bytes()).unwrap() {
            Incoming::Answer { id: 7, answer } => answer,
            _ => panic!("expected an answer to 7"),
        }
    }

    #[test]
    fn errors_keep_their_kind_or_get_it_from_the_code() {
        let full = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32000,"message":"m","data":{"kind":"busy","message":"m","retryable":false,"hint":"h"}}}"#;
        let error = answer(full).unwrap_err();
        assert_eq!((error.kind, error.retryable, error.hint.as_deref()), (ErrorKind::Busy, false, Some("h")));
        let plain = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"no such method"}}"#;
        assert_eq!(answer(plain).unwrap_err().kind, ErrorKind::Unsupported);
        assert_eq!(answer(r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#).unwrap(), br#"{"a":1}"#);
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
            let Err(reason) = parse(bad.as_bytes()) else { panic!("{bad} was taken") };
            assert!(reason.contains(&format!("found {bad:?}")), "{reason}");
        }
        let Err(reason) = parse(&b"x".repeat(10_000)) else { panic!("taken") };
        assert!(reason.len() < 300);
    }
}
