//! What DigitalOcean's published description of its API says of the operations that the driver uses: which parameters
//! and fields there are, which are required, and of what type. In a form of our own.

use convoy_cloud_lab::http::Request;
use serde_json::Value;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Integer,
    Number,
    Texts,
    Integers,
    Uuid,
    Time,
    TimeOrNull,
    OneOf(&'static [&'static str]),
    Object(&'static [Field]),
}

/// A field: its name, its type, whether it must be there.
pub(crate) type Field = (&'static str, Kind, bool);

/// An operation: method, path (`{}` is a parameter), query parameters, body, status of success, answer.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) query: &'static [&'static str],
    pub(crate) bodies: &'static [&'static [Field]],
    pub(crate) status: u16,
    pub(crate) answer: Option<(&'static str, bool, &'static [Field])>,
}

use Kind::{Integer, Integers, Number, Object, OneOf, Text, Texts, Time, TimeOrNull, Uuid};

const REGION: &[Field] = &[("slug", Text, true), ("name", Text, true), ("available", Kind::Text, false)];

const VOLUME: &[Field] = &[
    ("id", Uuid, true),
    ("droplet_ids", Integers, true),
    ("name", Text, true),
    ("description", Text, true),
    ("size_gigabytes", Integer, true),
    ("created_at", Time, true),
    ("filesystem_type", Text, true),
    ("filesystem_label", Text, true),
    ("tags", Texts, true),
    ("region", Object(REGION), true),
];

const SNAPSHOT: &[Field] = &[
    ("id", Uuid, true),
    ("name", Text, true),
    ("created_at", Time, true),
    ("regions", Texts, true),
    ("min_disk_size", Integer, true),
    ("size_gigabytes", Number, true),
    ("resource_id", Text, true),
    ("resource_type", OneOf(&["droplet", "volume"]), true),
    ("tags", Texts, true),
];

const ACTION: &[Field] = &[
    ("id", Integer, true),
    ("status", OneOf(&["in-progress", "completed", "errored"]), true),
    ("type", Text, true),
    ("started_at", Time, true),
    ("completed_at", TimeOrNull, true),
    ("resource_type", Text, true),
    ("region", Object(REGION), true),
    ("region_slug", Text, true),
];

const NEW_VOLUME: &[Field] = &[
    ("name", Text, true),
    ("size_gigabytes", Integer, true),
    ("region", Text, true),
    ("description", Text, false),
    ("snapshot_id", Text, false),
    ("filesystem_type", OneOf(&["ext4", "xfs"]), false),
    ("filesystem_label", Text, false),
    ("tags", Texts, false),
];

const ATTACH: &[Field] = &[
    ("type", OneOf(&["attach"]), true),
    ("droplet_id", Integer, true),
    ("region", Text, false),
    ("tags", Texts, false),
];
const DETACH: &[Field] =
    &[("type", OneOf(&["detach"]), true), ("droplet_id", Integer, true), ("region", Text, false)];
const RESIZE: &[Field] =
    &[("type", OneOf(&["resize"]), true), ("size_gigabytes", Integer, true), ("region", Text, false)];

const NEW_SNAPSHOT: &[Field] = &[("name", Text, true), ("tags", Texts, false)];

const PAGING: [&str; 2] = ["per_page", "page"];

/// The operations. Anything else is not asked for.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation {
        method: "GET",
        path: "/v2/volumes",
        query: &["name", "region", PAGING[0], PAGING[1]],
        bodies: &[],
        status: 200,
        answer: Some(("volumes", true, VOLUME)),
    },
    Operation {
        method: "POST",
        path: "/v2/volumes",
        query: &[],
        bodies: &[NEW_VOLUME],
        status: 201,
        answer: Some(("volume", false, VOLUME)),
    },
    Operation {
        method: "GET",
        path: "/v2/volumes/snapshots/{}",
        query: &[],
        bodies: &[],
        status: 200,
        answer: Some(("snapshot", false, SNAPSHOT)),
    },
    Operation {
        method: "DELETE",
        path: "/v2/volumes/snapshots/{}",
        query: &[],
        bodies: &[],
        status: 204,
        answer: None,
    },
    Operation {
        method: "GET",
        path: "/v2/volumes/{}",
        query: &[],
        bodies: &[],
        status: 200,
        answer: Some(("volume", false, VOLUME)),
    },
    Operation {
        method: "DELETE",
        path: "/v2/volumes/{}",
        query: &[],
        bodies: &[],
        status: 204,
        answer: None,
    },
    Operation {
        method: "POST",
        path: "/v2/volumes/{}/actions",
        query: &PAGING,
        bodies: &[ATTACH, DETACH, RESIZE],
        status: 202,
        answer: Some(("action", false, ACTION)),
    },
    Operation {
        method: "GET",
        path: "/v2/volumes/{}/actions/{}",
        query: &PAGING,
        bodies: &[],
        status: 200,
        answer: Some(("action", false, ACTION)),
    },
    Operation {
        method: "GET",
        path: "/v2/volumes/{}/snapshots",
        query: &PAGING,
        bodies: &[],
        status: 200,
        answer: Some(("snapshots", true, SNAPSHOT)),
    },
    Operation {
        method: "POST",
        path: "/v2/volumes/{}/snapshots",
        query: &[],
        bodies: &[NEW_SNAPSHOT],
        status: 201,
        answer: Some(("snapshot", false, SNAPSHOT)),
    },
    Operation {
        method: "GET",
        path: "/v2/snapshots",
        query: &["resource_type", PAGING[0], PAGING[1]],
        bodies: &[],
        status: 200,
        answer: Some(("snapshots", true, SNAPSHOT)),
    },
];

/// The operation of a request, and the parameters of its path.
pub(crate) fn operation(request: &Request) -> Option<(&'static Operation, Vec<String>)> {
    OPERATIONS.iter().filter(|operation| operation.method == request.method).find_map(|operation| {
        let (pattern, path): (Vec<_>, Vec<_>) =
            (operation.path.split('/').collect(), request.path.split('/').collect());
        let fits = pattern.len() == path.len()
            && pattern
                .iter()
                .zip(&path)
                .all(|(pattern, part)| pattern == part || (*pattern == "{}" && !part.is_empty()));
        let parameters = || {
            pattern
                .iter()
                .zip(&path)
                .filter(|(pattern, _)| **pattern == "{}")
                .map(|(_, part)| (*part).to_owned())
        };
        fits.then(|| (operation, parameters().collect()))
    })
}

/// What is wrong with a request, if anything.
pub(crate) fn check_request(operation: &Operation, request: &Request) -> Result<Option<Value>, String> {
    if let Some(unknown) = request.query.keys().find(|name| !operation.query.contains(&name.as_str())) {
        return Err(format!("unknown parameter {unknown}"));
    }
    if let Some(per_page) = request.query.get("per_page") {
        let number: u32 = per_page.parse().map_err(|_| format!("per_page {per_page}"))?;
        if !(1..=200).contains(&number) {
            return Err(format!("per_page {number}"));
        }
    }
    if operation.bodies.is_empty() {
        return if request.body.is_empty() { Ok(None) } else { Err("a body where there is none".to_owned()) };
    }
    if request.headers.get("content-type").map(String::as_str) != Some("application/json") {
        return Err("not application/json".to_owned());
    }
    let body: Value = serde_json::from_slice(&request.body).map_err(|error| error.to_string())?;
    let wrong: Vec<_> = operation.bodies.iter().map(|fields| check(fields, &body, true)).collect();
    if wrong.iter().any(Result::is_ok) { Ok(Some(body)) } else { Err(format!("{wrong:?}")) }
}

/// What is wrong with an answer, if anything.
pub(crate) fn check_answer(operation: &Operation, status: u16, body: &[u8]) -> Result<(), String> {
    if status != operation.status {
        let error: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        return check(
            &[("id", Text, true), ("message", Text, true), ("request_id", Text, false)],
            &error,
            true,
        );
    }
    let Some((key, many, fields)) = operation.answer else {
        return if body.is_empty() { Ok(()) } else { Err("a body where there is none".to_owned()) };
    };
    let body: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let value = &body[key];
    if !many {
        return check(fields, value, true);
    }
    let total = body["meta"]["total"].as_u64();
    if total.is_none() || !body["links"].is_object() {
        return Err("a page without meta and links".to_owned());
    }
    value.as_array().ok_or(format!("{key} is no list"))?.iter().try_for_each(|item| check(fields, item, true))
}

fn check(fields: &[Field], value: &Value, closed: bool) -> Result<(), String> {
    let object = value.as_object().ok_or(format!("no object: {value}"))?;
    for (name, kind, required) in fields {
        match object.get(*name) {
            None if *required => return Err(format!("{name} is missing")),
            None => {}
            Some(value) if is(*kind, value) => {}
            Some(value) => return Err(format!("{name}: expected {kind:?}, found {value}")),
        }
    }
    let unknown = object.keys().find(|name| !fields.iter().any(|(known, ..)| known == name));
    unknown.filter(|_| closed).map_or(Ok(()), |name| Err(format!("unknown field {name}")))
}

fn is(kind: Kind, value: &Value) -> bool {
    let list = |each: fn(&Value) -> bool| value.as_array().is_some_and(|list| list.iter().all(each));
    let text = |good: &dyn Fn(&str) -> bool| value.as_str().is_some_and(good);
    match kind {
        Text => value.is_string(),
        Integer => value.is_u64(),
        Number => value.is_number(),
        Texts => list(Value::is_string),
        Integers => list(Value::is_u64),
        Uuid => text(&|text| text.len() == 36 && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())),
        Time => text(&|text| convoy_driver_sdk::Timestamp::parse(text).is_ok()),
        TimeOrNull => value.is_null() || is(Time, value),
        OneOf(words) => text(&|text| words.contains(&text)),
        Object(fields) => check(fields, value, false).is_ok(),
    }
}
