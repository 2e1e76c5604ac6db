//! What of a schema an older peer could not live with.
//!
//! Requests go from a host of one version to a driver of another, replies the other way, and either may be
//! the older one. So what holds for both directions is asked: nothing an older peer sends may be refused, and
//! nothing it reads may be missing or have changed.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Every difference that breaks peers of the old version, one line each.
pub(crate) fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Comparison { old, new, breaks: Vec::new() };
    for group in ["methods", "notifications"] {
        for (name, parts) in object(&old[group]) {
            match new[group].get(name) {
                None => found.say(name, "removed"),
                Some(now) => {
                    for (part, schema) in object(parts) {
                        found.compare(schema, &now[part], &format!("{name} {part}"));
                    }
                }
            }
        }
    }
    found.compare(&old["$defs"]["DriverError"], &new["$defs"]["DriverError"], "error");
    found.breaks
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    breaks: Vec<String>,
}

impl<'a> Comparison<'a> {
    fn say(&mut self, place: &str, what: &str) {
        self.breaks.push(format!("{place}: {what}"));
    }

    fn compare(&mut self, old: &'a Value, new: &'a Value, place: &str) {
        let (old, new) = (resolve(self.old, old), resolve(self.new, new));
        for keyword in
            ["type", "format", "const", "enum", "pattern", "minLength", "maxLength", "minimum", "maximum"]
        {
            if types(&old[keyword]) != types(&new[keyword]) {
                self.say(place, &format!("{keyword} was {}, is {}", old[keyword], new[keyword]));
            }
        }
        self.members(old, new, place);
        self.variants(old, new, place);
        for nested in ["items", "additionalProperties"] {
            match (&old[nested], &new[nested]) {
                (was @ Value::Object(_), is @ Value::Object(_)) => {
                    self.compare(was, is, &format!("{place} {nested}"));
                }
                (was, is) if was != is => self.say(place, &format!("{nested} was {was}, is {is}")),
                _ => {}
            }
        }
    }

    fn members(&mut self, old: &'a Value, new: &'a Value, place: &str) {
        for (name, schema) in object(&old["properties"]) {
            match new["properties"].get(name) {
                None => self.say(place, &format!("member {name} was removed")),
                Some(now) => self.compare(schema, now, &format!("{place}.{name}")),
            }
        }
        let (was, is) = (names(&old["required"]), names(&new["required"]));
        for name in is.difference(&was) {
            self.say(place, &format!("member {name} became required"));
        }
        for name in was.difference(&is) {
            self.say(
                place,
                &format!("member {name} is no longer required, and older peers cannot do without"),
            );
        }
    }

    fn variants(&mut self, old: &'a Value, new: &'a Value, place: &str) {
        let (was, is) = (variants(self.old, old), variants(self.new, new));
        for (name, schema) in &was {
            match is.get(name) {
                None => self.say(place, &format!("{name} was removed")),
                Some(now) => self.compare(schema, now, &format!("{place} {name}")),
            }
        }
        // Whoever accepts any text ignores what is new.
        if !was.contains_key(OTHERS) {
            for name in is.keys().filter(|name| !was.contains_key(*name)) {
                self.say(place, &format!("{name} was added to a closed set"));
            }
        }
    }
}

/// The variant that stands for everything that is not known.
const OTHERS: &str = "any other";

/// The variants of a choice, by the value that tells them apart.
fn variants<'a>(root: &'a Value, schema: &'a Value) -> BTreeMap<String, &'a Value> {
    let list = |keyword: &str| schema[keyword].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    let name = |variant: &'a Value| {
        let body = resolve(root, variant);
        let tag = object(&body["properties"]).find_map(|(_, member)| member["const"].as_str());
        let member = || names(&body["required"]).into_iter().next();
        let reference = || variant["$ref"].as_str().map(str::to_owned);
        match (&body["const"], &body["type"]) {
            (Value::String(text), _) => text.clone(),
            (_, Value::String(kind)) if kind == "string" => OTHERS.to_owned(),
            (_, Value::String(kind)) if kind == "null" => kind.clone(),
            _ => tag.map(str::to_owned).or_else(reference).or_else(member).unwrap_or_default(),
        }
    };
    list("oneOf").chain(list("anyOf")).map(|variant| (name(variant), variant)).collect()
}

fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there")),
        None => schema,
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `["string", "null"]` in any order is the same.
fn types(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Null => BTreeSet::new(),
        Value::Array(_) => names(value),
        other => [other.to_string()].into(),
    }
}
