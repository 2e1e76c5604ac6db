//! A tree as a tar archive: POSIX headers, with PAX records for what they cannot hold.

use std::fmt::Write as _;
use std::io::Write;

use convoy_tree::{Entry, Kind, RelPath, Timestamp};
use tar::{EntryType, Header};

use super::dump::{Entries, Outcome, unwritten};
use crate::browse::Node;
use crate::error::BackupResult;

const BLOCK: usize = 512;
const ZEROS: [u8; 8 * BLOCK] = [0; 8 * BLOCK];

/// The largest number of 7 and of 11 octal digits.
const OCTAL_7: u64 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// See the [module](self).
pub(super) struct Tar<'a> {
    out: &'a mut dyn Write,
    /// Bytes of data since the last header.
    written: u64,
}

impl<'a> Tar<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, written: 0 }
    }

    fn write(&mut self, bytes: &[u8]) -> BackupResult<()> {
        self.out.write_all(bytes).map_err(unwritten)
    }

    fn zeros(&mut self, mut count: u64) -> BackupResult<()> {
        while count > 0 {
            let piece = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(ZEROS.get(..piece).unwrap_or_default())?;
            count -= piece as u64;
        }
        Ok(())
    }

    /// Fills the last block of so many bytes.
    fn pad(&mut self, bytes: u64) -> BackupResult<()> {
        self.zeros(bytes.next_multiple_of(BLOCK as u64) - bytes)
    }

    fn header(&mut self, entry: &Entry, kind: EntryType, size: u64, link: Option<&[u8]>) -> BackupResult<()> {
        let mut name = name(&entry.path);
        if entry.is_dir() {
            name.push(b'/');
        }
        let records = records(entry, &name, size, link);
        if !records.is_empty() {
            let mut header = Header::new_ustar();
            put(&mut header.as_old_mut().name, b"convoy/pax");
            header.set_entry_type(EntryType::XHeader);
            header.set_mode(0o644);
            header.set_size(records.len() as u64);
            header.set_cksum();
            self.write(header.as_bytes())?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut header = Header::new_ustar();
        put(&mut header.as_old_mut().name, &name);
        if let Some(link) = link {
            put(&mut header.as_old_mut().linkname, link);
        }
        header.set_entry_type(kind);
        header.set_mode(u32::from(entry.mode));
        header.set_uid(u64::from(entry.uid).min(OCTAL_7));
        header.set_gid(u64::from(entry.gid).min(OCTAL_7));
        header.set_size(size.min(OCTAL_11));
        header.set_mtime(u64::try_from(entry.mtime.sec).unwrap_or(0).min(OCTAL_11));
        if let Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } = entry.kind
            && let Some(ustar) = header.as_ustar_mut()
        {
            ustar.set_device_major(major);
            ustar.set_device_minor(minor);
        }
        header.set_cksum();
        self.write(header.as_bytes())
    }
}

impl Entries for Tar<'_> {
    fn link(&mut self, node: &Node, first: &RelPath) -> BackupResult<bool> {
        self.header(&node.entry, EntryType::Link, 0, Some(&name(first)))?;
        Ok(true)
    }

    fn begin(&mut self, node: &Node) -> BackupResult<()> {
        self.written = 0;
        self.header(&node.entry, EntryType::Regular, node.entry.size, None)
    }

    fn data(&mut self, bytes: &[u8]) -> BackupResult<()> {
        self.written += bytes.len() as u64;
        self.write(bytes)
    }

    fn end(&mut self, missing: u64) -> BackupResult<()> {
        self.zeros(missing)?;
        self.pad(self.written + missing)
    }

    fn other(&mut self, node: &Node) -> BackupResult<Outcome> {
        let entry = &node.entry;
        let (kind, link) = match &entry.kind {
            Kind::File | Kind::Dir => (EntryType::Directory, None),
            Kind::Symlink { target } => (EntryType::Symlink, Some(target.as_bytes())),
            Kind::CharDevice { .. } => (EntryType::Char, None),
            Kind::BlockDevice { .. } => (EntryType::Block, None),
            Kind::Fifo => (EntryType::Fifo, None),
            Kind::Socket => return Ok(Outcome::LeftOut("a socket, which no tar holds")),
        };
        self.header(entry, kind, 0, link)?;
        Ok(Outcome::Whole)
    }

    fn finish(&mut self) -> BackupResult<()> {
        self.zeros(2 * BLOCK as u64)
    }
}

/// The name of a path in an archive: the root is the directory to unpack in.
fn name(path: &RelPath) -> Vec<u8> {
    if path.is_root() { b".".to_vec() } else { path.as_bytes().to_vec() }
}

/// Puts as much of a name into a field as fits.
fn put(field: &mut [u8], name: &[u8]) {
    field.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte);
}

/// The PAX records: what the header has no room for.
fn records(entry: &Entry, name: &[u8], size: u64, link: Option<&[u8]>) -> Vec<u8> {
    let mut records = Vec::new();
    // The fields hold 100 bytes; and what is no text is safer in a record than for readers to guess.
    let odd = |text: &[u8]| text.len() > 100 || !text.is_ascii();
    if odd(name) {
        add(&mut records, b"path", name);
    }
    if let Some(link) = link.filter(|link| odd(link)) {
        add(&mut records, b"linkpath", link);
    }
    if size > OCTAL_11 {
        add(&mut records, b"size", size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", entry.uid), (b"gid", entry.gid)] {
        if u64::from(id) > OCTAL_7 {
            add(&mut records, key, id.to_string().as_bytes());
        }
    }
    if entry.mtime.nsec != 0 || u64::try_from(entry.mtime.sec).map_or(true, |sec| sec > OCTAL_11) {
        add(&mut records, b"mtime", seconds(entry.mtime).as_bytes());
    }
    for (xattr, value) in &entry.xattrs {
        let key: Vec<u8> = [b"SCHILY.xattr.", &*keyword(xattr.as_bytes())].concat();
        add(&mut records, &key, value.as_bytes());
    }
    records
}

/// The name of an attribute as GNU tar writes it: `=` would end it.
fn keyword(name: &[u8]) -> Vec<u8> {
    let mut keyword = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => keyword.extend(b"%25"),
            b'=' => keyword.extend(b"%3D"),
            byte => keyword.push(*byte),
        }
    }
    keyword
}

/// Seconds with a fraction, negative before 1970.
fn seconds(time: Timestamp) -> String {
    let total = i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let (sign, total) = (if total < 0 { "-" } else { "" }, total.unsigned_abs());
    let mut text = format!("{sign}{}", total / 1_000_000_000);
    // Writing to a string cannot fail.
    let _ = write!(text, ".{:09}", total % 1_000_000_000);
    text
}

/// Adds a record: its length, which counts itself, a key and a value.
fn add(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length < rest + length.to_string().len() {
        length += 1;
    }
    records.extend(length.to_string().bytes());
    records.push(b' ');
    records.extend(key);
    records.push(b'=');
    records.extend(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::dump::{Archive, dump};
    use super::super::memory::{Memory, path, trees};
    use super::*;
    use crate::error::BackupError;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use tokio_util::sync::CancellationToken;

    fn dumped(tree: &Memory, top: &str) -> (Vec<u8>, BackupResult<super::super::Dumped>) {
        let mut out = Vec::new();
        let result = dump(tree, &path(top), Archive::Tar, &mut out, &CancellationToken::new());
        (out, result)
    }

    /// Entries as the crate `tar` reads them: type, link, data, mode.
    type Read = BTreeMap<Vec<u8>, (EntryType, Option<Vec<u8>>, Vec<u8>, u32)>;

    fn unpacked(bytes: &[u8]) -> Read {
        assert!(bytes.len().is_multiple_of(BLOCK) && bytes.ends_with(&[0; 2 * BLOCK]));
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            let link = entry.link_name_bytes().map(|link| link.into_owned());
            let header = entry.header();
            (entry.path_bytes().into_owned(), (header.entry_type(), link, data, header.mode().unwrap()))
        });
        entries.collect()
    }

    #[test]
    fn everything_of_a_tree_is_in_the_archive() {
        let mut tree = Memory::default();
        let long = "n".repeat(200);
        tree.dir("d");
        tree.file("d/a", &[7; 700]).xattrs.insert("user.a=b%".into(), b"x\ny".to_vec().into());
        tree.link("d/b", "d/a");
        tree.raw_file(RelPath::new(b"d/odd\xff\n".to_vec()).unwrap(), b"odd");
        let entry = tree.file(&long, b"");
        (entry.uid, entry.mtime) = (u32::MAX - 1, Timestamp { sec: -2, nsec: 500_000_000 });
        tree.put(path("link"), Kind::Symlink { target: long.clone().into() });
        tree.put(path("null"), Kind::CharDevice { major: 1, minor: 3 });
        tree.put(path("pipe"), Kind::Fifo);
        tree.put(path("sock"), Kind::Socket);
        let (bytes, result) = dumped(&tree, "");
        assert_eq!(result.unwrap().left_out.to_string(), "/sock (a socket, which no tar holds)");
        let read = unpacked(&bytes);
        assert_eq!(read.len(), 9);
        assert_eq!(read[&b"d/a"[..]], (EntryType::Regular, None, vec![7; 700], 0o644));
        assert_eq!(read[&b"d/b"[..]], (EntryType::Link, Some(b"d/a".to_vec()), vec![], 0o644));
        assert_eq!(read[&b"d/odd\xff\n"[..]].2, b"odd");
        assert_eq!(read[&b"link"[..]].1.as_deref(), Some(long.as_bytes()));
        assert_eq!(read[&b"./"[..]].0, EntryType::Directory);
        let text = String::from_utf8_lossy(&bytes);
        for record in
            ["32 SCHILY.xattr.user.a%3Db%25=x\ny\n", "20 uid=4294967294\n", "22 mtime=-1.500000000\n"]
        {
            let key = record.split_once(' ').unwrap().1;
            assert!(text.contains(key), "{record}");
        }
    }

    #[test]
    fn lengths_of_records_count_themselves() {
        for length in [0, 1, 85, 86, 87, 984, 985, 986, 987, 9980, 9981, 9982, 9983] {
            let mut records = Vec::new();
            add(&mut records, b"key", &vec![b'v'; length]);
            let said: usize = String::from_utf8_lossy(&records).split_once(' ').unwrap().0.parse().unwrap();
            assert_eq!(said, records.len(), "{length}");
        }
    }

    #[test]
    fn links_to_what_is_not_in_the_archive_become_the_file() {
        let mut tree = Memory::default();
        for dir in ["a", "b"] {
            tree.dir(dir);
        }
        tree.file("a/first", b"data");
        tree.link("b/second", "a/first");
        tree.link("b/third", "a/first");
        let read = unpacked(&dumped(&tree, "b").0);
        assert_eq!(read[&b"b/second"[..]].2, b"data");
        assert_eq!(read[&b"b/third"[..]].1.as_deref(), Some(&b"b/second"[..]));
        assert_eq!(unpacked(&dumped(&tree, "b/third").0)[&b"b/third"[..]].2, b"data");
    }

    #[test]
    fn what_is_damaged_is_named_at_the_end_and_all_else_is_there() {
        let mut tree = Memory::default();
        for name in ["a", "half", "none", "z"] {
            tree.file(name, name.as_bytes());
        }
        tree.link("of-none", "none");
        tree.damage.insert(path("half"), 3);
        tree.damage.insert(path("none"), 0);
        tree.damage.insert(path("of-none"), 0);
        let (bytes, result) = dumped(&tree, "");
        let error = result.unwrap_err();
        assert!(matches!(&error, BackupError::Incomplete { files } if files.count == 3), "{error}");
        for name in ["/half", "/none", "/of-none"] {
            assert!(error.to_string().contains(name), "{error}");
        }
        let read = unpacked(&bytes);
        assert_eq!(
            read.keys().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>(),
            ["./", "a", "half", "z"]
        );
        assert_eq!((&read[&b"half"[..]].2[..], &read[&b"z"[..]].2[..]), (&b"hal\0"[..], &b"z"[..]));
    }

    proptest! {
        #[test]
        fn an_archive_holds_what_the_tree_does(tree in trees()) {
            let read = unpacked(&dumped(&tree, "").0);
            prop_assert_eq!(read.len(), tree.nodes.len());
            for (path, data) in &tree.data {
                prop_assert_eq!(&read[path.as_bytes()].2, data);
            }
        }
    }
}
