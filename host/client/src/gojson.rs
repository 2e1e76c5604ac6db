//! JSON as a Go program prints and reads it, byte for byte where scripts look.
//!
//! Printing: tabs, `<`, `>` and `&` as `\u003c`, `\u003e` and `\u0026`, no newline at the end. Reading: the
//! first value counts and what follows it is ignored, keys match in any case, `null` is as good as missing.

use crate::types::Info;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// Prints with tabs.
///
/// # Errors
/// A map whose keys are no text, which no type of this crate has.
pub fn to_string<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<String> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter::default()))?;
    String::from_utf8(out).map_err(serde::ser::Error::custom)
}

/// Prints `GET /info`: objects side by side, not indented under the outer one.
pub fn info(info: &Info) -> serde_json::Result<String> {
    let mut text = format!("{{\n\"General\": {}", to_string(&info.general)?);
    if !info.settings.is_empty() {
        text.push_str(&format!(",\n\"Settings\": {}", to_string(&info.settings)?));
    }
    for (name, pairs) in &info.drivers {
        text.push_str(&format!(",\n{}: {}", to_string(name)?, to_string(pairs)?));
    }
    text.push_str("\n}");
    Ok(text)
}

/// A backup's URL as the bare answer to a create: `&` is `\u0026`, as in JSON.
pub fn escape_url(url: &str) -> String {
    url.replace('&', "\\u0026")
}

/// A body that is not the request it should be.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the text of an error names its fields")]
pub enum ParseError {
    /// Nothing at all.
    #[error("EOF")]
    Empty,
    #[error("invalid request: expected a JSON object, found {0}")]
    NoObject(&'static str),
    #[error("invalid request: field {field:?}: {source}")]
    Field { field: String, source: serde_json::Error },
    /// The body is not JSON.
    #[error("invalid request: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads a request.
///
/// # Errors
/// [`ParseError`], whose text says where and what.
pub fn parse<T: Serialize + DeserializeOwned + Default>(body: &[u8]) -> Result<T, ParseError> {
    let first = serde_json::Deserializer::from_slice(body).into_iter::<Value>().next();
    let value = match first.ok_or(ParseError::Empty)?? {
        Value::Object(fields) => Value::Object(known_spelling(fields, &T::default())?),
        // `null` is a request without fields.
        Value::Null => Value::Object(Map::new()),
        // Serde would take a sequence for a structure, field by field.
        other => return Err(ParseError::NoObject(kind_of(&other))),
    };
    read(value)
}

/// Reads the fields one at a time when the whole fails, to say which of them is wrong.
fn read<T: DeserializeOwned>(value: Value) -> Result<T, ParseError> {
    let whole = match T::deserialize(&value) {
        Ok(request) => return Ok(request),
        Err(error) => error,
    };
    if let Value::Object(fields) = value {
        for (field, value) in fields {
            if let Err(source) = T::deserialize(Value::Object([(field.clone(), value)].into_iter().collect()))
            {
                return Err(ParseError::Field { field, source });
            }
        }
    }
    Err(ParseError::Json(whole))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Gives the keys of a request the spelling of its type and drops those without a value.
fn known_spelling<T: Serialize>(
    fields: Map<String, Value>,
    default: &T,
) -> serde_json::Result<Map<String, Value>> {
    let Value::Object(known) = serde_json::to_value(default)? else { return Ok(fields) };
    let spell = |key: String| match known.keys().find(|known| known.eq_ignore_ascii_case(&key)) {
        Some(known) => known.clone(),
        None => key,
    };
    Ok(fields
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| (spell(key), value))
        .collect())
}

/// Serde's pretty printer with tabs and Go's escapes.
struct GoFormatter(PrettyFormatter<'static>);

impl Default for GoFormatter {
    fn default() -> Self {
        Self(PrettyFormatter::with_indent(b"\t"))
    }
}

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
        let mut rest = fragment;
        while let Some((before, c, after)) = rest
            .char_indices()
            .find(|(_, c)| special(*c))
            .map(|(at, c)| (&rest[..at], c, &rest[at + c.len_utf8()..]))
        {
            write!(out, "{before}\\u{:04x}", u32::from(c))?;
            rest = after;
        }
        out.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, out: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Backspace => out.write_all(b"\\u0008"),
            CharEscape::FormFeed => out.write_all(b"\\u000c"),
            other => self.0.write_char_escape(out, other),
        }
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }
    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }
    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }
    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }
    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }
    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }
    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }
    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}

#[cfg(test)]
mod tests;
