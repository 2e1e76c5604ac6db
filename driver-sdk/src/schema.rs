//! The JSON Schema (draft 2020-12) of every message of the protocol, made from the types.
//!
//! A line that goes over the socket of a process is valid under the root of the document, whichever side sent
//! it. Under `methods` and `notifications` stands what belongs to each; validators ignore these two members.
//! The requests and results are those of the library carrier, too.

use crate::protocol::{PROTOCOL_VERSION, Request, Visitor, visit};
use crate::wire::{Cancel, Envelope, Hello, LogRecord, ProgressNote, method};
use crate::{DriverError, Name, Timestamp};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// One method: what it is asked with and what a success carries.
struct Method {
    name: &'static str,
    params: Schema,
    result: Schema,
}

/// The methods that were visited, and what makes their schemas.
struct Methods {
    generator: SchemaGenerator,
    methods: Vec<Method>,
}

impl Visitor for Methods {
    fn request<R: Request + JsonSchema>(&mut self)
    where
        R::Reply: JsonSchema,
    {
        let params = self.generator.subschema_for::<Envelope<R>>();
        let result = self.generator.subschema_for::<R::Reply>();
        self.methods.push(Method { name: R::METHOD, params, result });
    }
}

/// The document for [`PROTOCOL_VERSION`].
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let hello = generator.subschema_for::<Hello>();
    let hello = Method { name: method::HELLO, params: hello.clone(), result: hello };
    let mut visited = Methods { generator, methods: vec![hello] };
    visit(&mut visited);
    let Methods { mut generator, methods } = visited;
    let notifications = [
        (method::GOODBYE, json_schema!({ "type": "object" })),
        (method::CANCEL, generator.subschema_for::<Cancel>()),
        (method::PROGRESS, generator.subschema_for::<ProgressNote>()),
        (method::LOG, generator.subschema_for::<LogRecord>()),
    ];
    let error = generator.subschema_for::<DriverError>();
    let lines = methods
        .iter()
        .map(|method| line(method.name, &method.params, true))
        .chain(notifications.iter().map(|(name, params)| line(name, params, false)))
        .chain([result(), failure(&error)]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("The convoy driver protocol, version {PROTOCOL_VERSION}"),
        "description": "One line over the socket of a process driver. See docs/driver-protocol.md.",
        "anyOf": lines.collect::<Vec<_>>(),
        "methods": methods
            .iter()
            .map(|method| (method.name.to_owned(), json!({ "params": method.params, "result": method.result })))
            .collect::<Map<_, _>>(),
        "notifications": notifications
            .iter()
            .map(|(name, params)| ((*name).to_owned(), json!({ "params": params })))
            .collect::<Map<_, _>>(),
        "$defs": generator.take_definitions(true),
    })
}

/// A request or a notification.
fn line(name: &str, params: &Schema, answered: bool) -> Value {
    let mut properties =
        json!({ "jsonrpc": { "const": "2.0" }, "method": { "const": name }, "params": params });
    let mut required = vec!["jsonrpc", "method", "params"];
    if answered {
        properties["id"] = json!({ "type": "integer", "minimum": 0 });
        required.push("id");
    }
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The answer of a call that succeeded: which call it was is known by its id alone.
fn result() -> Value {
    json!({
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "id": { "type": "integer", "minimum": 0 },
            "result": { "type": "object" },
        },
        "required": ["jsonrpc", "id", "result"],
    })
}

/// The answer of a call that failed; without id, to a line that could not be understood.
fn failure(error: &Schema) -> Value {
    json!({
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "id": { "type": ["integer", "null"] },
            "error": {
                "type": "object",
                "properties": { "code": { "type": "integer" }, "message": { "type": "string" }, "data": error },
                "required": ["code", "message"],
            },
        },
        "required": ["jsonrpc", "id", "error"],
    })
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A name of a volume, snapshot or driver: safe as one component of a path.",
            "type": "string",
            "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]+$",
            "maxLength": crate::name::MAX_NAME_BYTES,
        })
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A point in time, to the second, in UTC: 2026-11-23T08:38:07Z.",
            "type": "string",
            "format": "date-time",
        })
    }
}
