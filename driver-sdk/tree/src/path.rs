//! Names as the kernel has them: bytes, not text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use percent_encoding::{percent_decode_str, percent_encode_byte};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A path that cannot be inside a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Absolute, or with an empty, `.` or `..` component.
    #[error("{0:?} is not a plain relative path: components must not be empty, '.' or '..'")]
    NotPlain(String),
    /// A NUL byte, which no name has.
    #[error("{0:?} contains a NUL byte")]
    Nul(String),
    /// A `%` that is not followed by two hexadecimal digits.
    #[error("{0:?} has a '%' without two hexadecimal digits")]
    Escape(String),
}

/// Bytes which are most often text: a name, the target of a link, an attribute.
///
/// In a text format (JSON) they are a string in which bytes that are not printable UTF-8, and `%`, are
/// written as `%XX`; in a binary format they are bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawBytes(Vec<u8>);

impl RawBytes {
    /// The path as bytes, which need not be UTF-8.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The path as bytes of its own.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl<T: Into<Vec<u8>>> From<T> for RawBytes {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

/// In the same order and as equal as the bytes.
impl std::borrow::Borrow<[u8]> for RawBytes {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RawBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for RawBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

impl fmt::Debug for RawBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", escape(&self.0))
    }
}

/// How many bytes two paths have in common at their beginnings.
pub(crate) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    // Long paths are compared as fast as the machine can, up to the piece where they differ.
    const PIECE: usize = 256;
    let same =
        one.chunks_exact(PIECE).zip(other.chunks_exact(PIECE)).take_while(|(a, b)| a == b).count() * PIECE;
    let rest = |bytes| <[u8]>::get(bytes, same..).unwrap_or_default();
    same + rest(one).iter().zip(rest(other)).take_while(|(a, b)| a == b).count()
}

/// How much of a path a message shows: of its beginning, and of its end.
const SHOWN: (usize, usize) = (200, 100);

/// A path for a message.
pub(crate) fn shorten(path: String) -> String {
    if path.len() <= 2 * (SHOWN.0 + SHOWN.1) {
        return path;
    }
    let begins = path.get(..path.floor_char_boundary(SHOWN.0)).unwrap_or_default();
    let ends = path.get(path.ceil_char_boundary(path.len() - SHOWN.1)..).unwrap_or_default();
    format!("{begins}... ({} bytes) ...{ends}", path.len())
}

fn escape(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.chars().any(|c| c == '%' || c.is_control())
    {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                let mut buffer = [0; 4];
                out.extend(c.encode_utf8(&mut buffer).bytes().map(percent_encode_byte));
            } else {
                out.push(c);
            }
        }
        out.extend(chunk.invalid().iter().map(|b| percent_encode_byte(*b)));
    }
    Cow::Owned(out)
}

fn unescape(text: &str) -> Result<Vec<u8>, PathError> {
    let whole =
        |at: usize| text.get(at + 1..at + 3).is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if !text.match_indices('%').all(|(at, _)| whole(at)) {
        return Err(PathError::Escape(text.to_owned()));
    }
    Ok(percent_decode_str(text).collect())
}

impl Serialize for RawBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&escape(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader {
            text: bool,
        }
        impl<'de> Visitor<'de> for Reader {
            type Value = RawBytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes, or text with bytes escaped as %XX")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawBytes, E> {
                if self.text {
                    unescape(text).map(RawBytes).map_err(E::custom)
                } else {
                    Ok(RawBytes(text.as_bytes().to_vec()))
                }
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<RawBytes, E> {
                Ok(RawBytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<RawBytes, E> {
                Ok(RawBytes(bytes))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<RawBytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(RawBytes(bytes))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Reader { text: true })
        } else {
            deserializer.deserialize_byte_buf(Reader { text: false })
        }
    }
}

/// A path inside a tree: relative, without empty, `.` or `..` components. The empty path is the root itself.
///
/// The type cannot hold anything else, also when it is read from a manifest that somebody else wrote.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct RelPath(RawBytes);

impl RelPath {
    /// The root of the tree.
    pub const fn root() -> Self {
        Self(RawBytes(Vec::new()))
    }

    /// Takes bytes that are a path within a tree.
    ///
    /// # Errors
    /// When the path is absolute, has an empty, `.` or `..` component, or a NUL byte.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        if bytes.contains(&0) {
            return Err(PathError::Nul(escape(&bytes).into_owned()));
        }
        let plain = bytes.is_empty() || bytes.split(|b| *b == b'/').all(|c| !matches!(c, b"" | b"." | b".."));
        if plain { Ok(Self(RawBytes(bytes))) } else { Err(PathError::NotPlain(escape(&bytes).into_owned())) }
    }

    /// Of bytes that came from a walk.
    pub(crate) fn trusted(bytes: Vec<u8>) -> Self {
        Self(RawBytes(bytes))
    }

    /// The path in a few words, for messages: the middle of a very long one is left out.
    pub fn shown(&self) -> String {
        shorten(self.to_string())
    }

    /// The path of `name`, one component, in this directory.
    ///
    /// # Errors
    /// When `name` is not one plain component.
    pub fn join(&self, name: &[u8]) -> Result<Self, PathError> {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') {
            return Err(PathError::NotPlain(escape(name).into_owned()));
        }
        if name.contains(&0) {
            return Err(PathError::Nul(escape(name).into_owned()));
        }
        let mut bytes = Vec::with_capacity(self.as_bytes().len() + 1 + name.len());
        bytes.extend_from_slice(self.as_bytes());
        if !self.is_root() {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        Ok(Self(RawBytes(bytes)))
    }

    /// The bytes, with `/` between components.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.as_bytes().is_empty()
    }

    /// The components, none for the root.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.as_bytes().split(|b| *b == b'/').filter(|c| !c.is_empty())
    }

    /// The directory and the name; none for the root.
    pub fn split(&self) -> Option<(RelPath, &[u8])> {
        let bytes = self.as_bytes();
        if bytes.is_empty() {
            return None;
        }
        Some(match bytes.iter().rposition(|b| *b == b'/') {
            Some(slash) => {
                let (parent, name) = bytes.split_at(slash);
                (Self(RawBytes(parent.to_vec())), name.strip_prefix(b"/").unwrap_or(name))
            }
            None => (Self::root(), bytes),
        })
    }

    /// As a path of the standard library.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.as_bytes()))
    }

    /// The path of this entry when the tree is at `root`. For messages and for trees nobody else writes to:
    /// following it later is not safe against links.
    pub fn below(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_owned() } else { root.join(self.as_path()) }
    }
}

/// The order of a walk: parents before children, names bytewise. (Plain byte order would put `a.b` between
/// `a` and `a/x`.)
impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.components().cmp(other.components())
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { self.0.fmt(f) }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for RelPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(RawBytes::deserialize(deserializer)?.into_bytes()).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for bad in ["/etc", "..", "a/../b", "a//b", "a/", "./a", ".", "a/.."] {
            assert!(RelPath::new(bad).is_err(), "{bad}");
            let json = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<RelPath>(&json).is_err(), "{bad}");
        }
        assert!(RelPath::new(b"a\0b".to_vec()).is_err());
        assert!(serde_json::from_str::<RelPath>("\"a%2F%2E%2E%2Fb\"").is_err(), "escaped dots");
        assert!(RelPath::new("a..b/.c/...").is_ok());
    }

    #[test]
    fn order_is_that_of_a_walk() {
        let mut paths: Vec<_> =
            ["b", "a.b", "a/x", "a", ""].iter().map(|p| RelPath::new(*p).unwrap()).collect();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(|p| p.as_path().to_str().unwrap().to_owned()).collect();
        assert_eq!(sorted, ["", "a", "a/x", "a.b", "b"]);
    }

    proptest! {
        #[test]
        fn bytes_survive_json(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let raw = RawBytes(bytes);
            let json = serde_json::to_string(&raw).unwrap();
            prop_assert_eq!(serde_json::from_str::<RawBytes>(&json).unwrap(), raw);
        }

        #[test]
        fn text_stays_readable(text in "[a-zA-Z0-9äö_./ -]{0,30}") {
            prop_assert_eq!(RawBytes::from(text.clone()).to_string(), text);
        }
    }
}
