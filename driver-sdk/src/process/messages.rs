//! The messages of JSON-RPC, read and written.

use crate::wire::{MAX_FRAME_BYTES, code};
use crate::{DriverError, Result};
use jsonrpsee_types::{ErrorObject, Id, Notification, Response, ResponsePayload};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A request or, without an id, a notification.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(super) id: Option<Id<'a>>,
    #[serde(borrow)]
    pub(super) method: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) params: Option<&'a RawValue>,
}

/// Tells an id of `null` from no id.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Id<'de>>, D::Error> {
    Id::deserialize(deserializer).map(Some)
}

impl<'a> Message<'a> {
    pub(super) fn params<P: Deserialize<'a>>(&self) -> Result<P> {
        let text = self.params.map_or("{}", RawValue::get);
        serde_json::from_str(text).map_err(|error| {
            DriverError::invalid(format!("cannot read the parameters of {}: {error}", self.method))
        })
    }
}

pub(super) fn response(id: Id<'_>, outcome: Result<Vec<u8>>) -> Vec<u8> {
    let written = outcome.and_then(|json| {
        let raw = String::from_utf8(json)
            .map_err(|error| error.to_string())
            .and_then(|text| RawValue::from_string(text).map_err(|error| error.to_string()))
            .map_err(|error| DriverError::internal(format!("the reply is not JSON: {error}")))?;
        to_bytes(&Response::new(ResponsePayload::success(raw), id.clone()))
    });
    match written {
        // One byte for the newline.
        Ok(bytes) if bytes.len() < MAX_FRAME_BYTES => bytes,
        Ok(bytes) => failure(
            id,
            code::REPLY_TOO_LARGE,
            &DriverError::exhausted(format!(
                "the reply has {} bytes, more than the {MAX_FRAME_BYTES} of a message",
                bytes.len()
            ))
            .hint("ask for a smaller page"),
        ),
        Err(error) => failure(id, code::DRIVER, &error),
    }
}

/// The response to a call that failed.
pub(super) fn failure(id: Id<'_>, code: i32, error: &DriverError) -> Vec<u8> {
    let object = ErrorObject::owned(code, error.message.clone(), Some(error));
    to_bytes(&Response::<()>::new(ResponsePayload::error(object), id)).unwrap_or_default()
}

pub(super) fn notification(method: &'static str, params: &impl Serialize) -> Option<Vec<u8>> {
    to_bytes(&Notification::new(method.into(), params)).ok().filter(|bytes| bytes.len() < MAX_FRAME_BYTES)
}

fn to_bytes(message: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(message)
        .map_err(|error| DriverError::internal(format!("cannot write a message: {error}")))
}
