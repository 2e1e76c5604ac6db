//! Replies of a driver, for scripts and for people.

use crate::error::Result;
use crate::output::Output;
use crate::output::table::{heading, pairs, table};
use convoy_client::gojson;
use convoy_driver_sdk::protocol::{Health, ListedVolumes};
use serde::Serialize;
use serde_json::Value;

/// Any reply: to scripts the JSON of the protocol, to people keys and values.
pub(super) fn reply<T: Serialize>(output: &mut Output, reply: &T) -> Result<()> {
    if !output.is_for_people() {
        return output.line(gojson::to_string(reply)?);
    }
    match serde_json::to_value(reply)? {
        Value::Object(members) if members.is_empty() => output.line("done"),
        value => output.styled(&text(&value)),
    }
}

pub(super) fn volumes(output: &mut Output, listed: &ListedVolumes) -> Result<()> {
    if !output.is_for_people() {
        return output.line(gojson::to_string(listed)?);
    }
    let rows = listed.volumes.iter().map(|volume| {
        let mounted = volume.mountpoint.as_deref().map_or("-".to_owned(), |path| path.display().to_string());
        let health = match &volume.health {
            Health::Good => "good".to_owned(),
            Health::Damaged(why) => format!("damaged: {why}"),
        };
        let snapshots = volume.snapshots.len().to_string();
        vec![volume.name.to_string(), volume.size.to_string(), snapshots, mounted, health]
    });
    output.styled(&table(&["NAME", "BYTES", "SNAPSHOTS", "MOUNTED AT", "HEALTH"], rows))?;
    for warning in &listed.warnings {
        output.aside("warning", warning);
    }
    Ok(())
}

/// A word of the protocol: the name of a capability, or of a kind of error.
pub(super) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => "unknown".to_owned(),
    }
}

/// Plain members first, then a table for each list of objects.
fn text(value: &Value) -> String {
    let Value::Object(members) = value else { return format!("{value}\n") };
    let is_table = |value: &Value| value.as_array().is_some_and(|list| list.iter().any(Value::is_object));
    let mut plain: Vec<_> = members.iter().filter(|(_, value)| !is_table(value)).collect();
    // What a thing is called stands first.
    plain.sort_by_key(|(key, _)| *key != "name");
    let mut text = pairs(plain.into_iter().map(|(key, value)| (key.as_str(), short(value))));
    for (key, value) in members.iter().filter(|(_, value)| is_table(value)) {
        let rows: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
        let mut columns: Vec<&str> = rows.iter().flat_map(|row| row.keys().map(String::as_str)).collect();
        columns.sort_unstable();
        columns.dedup();
        columns.sort_by_key(|column| *column != "name");
        text += &heading(key);
        let rows = rows
            .iter()
            .map(|row| columns.iter().map(|column| row.get(*column).map_or("-".to_owned(), short)).collect());
        text += &table(&columns, rows);
    }
    text
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) if list.is_empty() => "-".to_owned(),
        Value::Array(list) => list.iter().map(short).collect::<Vec<_>>().join(", "),
        Value::Object(members) if members.is_empty() => "-".to_owned(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| format!("{key}={}", short(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn replies_are_keys_values_and_tables() {
        let volume = json!({"name": "v1", "size": 0, "info": {}, "health": {"damaged": "it is gone"},
            "snapshots": [{"name": "monday", "volume": "v1"}, {"name": "tuesday", "extra": true}]});
        let text = anstream::adapter::strip_str(&text(&volume)).to_string();
        assert_eq!(
            text,
            "name:    v1\nhealth:  damaged=it is gone\ninfo:    -\nsize:    0\n\nsnapshots\n\
             name      extra   volume\nmonday    -       v1\ntuesday   true    -\n"
        );
    }
}
