//! A tree as a zip archive, written as it is read: what is not known yet follows the data.

use std::io::Write;

use convoy_tree::{Entry, Kind, RelPath};
use zip::result::ZipError;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::dump::{Entries, Outcome, unwritten};
use crate::browse::Node;
use crate::error::{BackupError, BackupResult};

/// Entries of one archive at most: its directory comes last, so all of it is held.
const MOST: usize = 200_000;

/// The longest target of a symbolic link.
const LONGEST: usize = 4096;

type Writer<'a> = ZipWriter<StreamWriter<&'a mut dyn Write>>;

/// See the [module](self).
pub(super) struct Zip<'a> {
    writer: Option<Writer<'a>>,
    entries: usize,
}

impl<'a> Zip<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { writer: Some(ZipWriter::new_stream(out)), entries: 0 }
    }

    fn next(&mut self) -> BackupResult<&mut Writer<'a>> {
        self.entries += 1;
        if self.entries > MOST {
            let text =
                format!("a zip of more than {MOST} entries is not made: say --format tar, or name a part");
            return Err(BackupError::Invalid(text));
        }
        self.writer()
    }

    fn writer(&mut self) -> BackupResult<&mut Writer<'a>> {
        self.writer.as_mut().ok_or_else(|| BackupError::Invalid("the archive has ended".to_owned()))
    }
}

impl Entries for Zip<'_> {
    fn link(&mut self, _: &Node, _: &RelPath) -> BackupResult<bool> {
        Ok(false)
    }

    fn begin(&mut self, node: &Node) -> BackupResult<()> {
        // Sizes of more than 4 GiB have another form, which has to be known before.
        let large = node.entry.size >= u64::from(u32::MAX);
        let options = options(&node.entry).large_file(large);
        self.next()?.start_file(name(&node.entry.path), options).map_err(failed)
    }

    fn data(&mut self, bytes: &[u8]) -> BackupResult<()> {
        self.writer()?.write_all(bytes).map_err(unwritten)
    }

    fn end(&mut self, _missing: u64) -> BackupResult<()> {
        Ok(())
    }

    fn other(&mut self, node: &Node) -> BackupResult<Outcome> {
        let (entry, name) = (&node.entry, name(&node.entry.path));
        match &entry.kind {
            Kind::Dir if entry.path.is_root() => {}
            Kind::Dir => self.next()?.add_directory(name, options(entry)).map_err(failed)?,
            Kind::Symlink { target } => match std::str::from_utf8(target.as_bytes()) {
                Ok(target) if target.len() <= LONGEST => {
                    self.next()?.add_symlink(name, target, options(entry)).map_err(failed)?;
                }
                _ => return Ok(Outcome::LeftOut("a link to a name that is no text, which no zip holds")),
            },
            Kind::File | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                return Ok(Outcome::LeftOut("a device, which no zip holds"));
            }
            Kind::Fifo => return Ok(Outcome::LeftOut("a named pipe, which no zip holds")),
            Kind::Socket => return Ok(Outcome::LeftOut("a socket, which no zip holds")),
        }
        Ok(Outcome::Whole)
    }

    fn finish(&mut self) -> BackupResult<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        writer.finish().map_err(failed)?.into_inner().flush().map_err(unwritten)
    }
}

/// The name in the archive, where a name is text: bytes that are none are written as `%XX`.
fn name(path: &RelPath) -> String {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => text.to_owned(),
        Err(_) => path.to_string(),
    }
}

fn options(entry: &Entry) -> SimpleFileOptions {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .unix_permissions(u32::from(entry.mode));
    match time(entry.mtime.sec) {
        Some(time) => options.last_modified_time(time),
        None => options,
    }
}

/// In UTC; none for years that a zip cannot tell.
fn time(seconds: i64) -> Option<DateTime> {
    let time = jiff::Timestamp::from_second(seconds).ok()?.to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let part = |part: i8| u8::try_from(part).ok();
    let (date, clock) = (time.date(), time.time());
    DateTime::from_date_and_time(
        u16::try_from(date.year()).ok()?,
        part(date.month())?,
        part(date.day())?,
        part(clock.hour())?,
        part(clock.minute())?,
        part(clock.second())?,
    )
    .ok()
}

fn failed(error: ZipError) -> BackupError {
    match error {
        ZipError::Io(error) => unwritten(error),
        other => BackupError::Invalid(format!("cannot write the zip: {other}; --format tar may do")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::dump::{Archive, dump};
    use super::super::memory::{Memory, path, trees};
    use super::*;
    use proptest::prelude::*;
    use std::io::{Cursor, Read as _};
    use tokio_util::sync::CancellationToken;

    type Opened = zip::ZipArchive<Cursor<Vec<u8>>>;

    fn dumped(tree: &Memory) -> (Opened, BackupResult<super::super::Dumped>) {
        let mut out = Vec::new();
        let cancel = CancellationToken::new();
        let result = dump(tree, &RelPath::root(), Archive::Zip, &mut out, &cancel);
        (zip::ZipArchive::new(Cursor::new(out)).unwrap(), result)
    }

    fn content(archive: &mut Opened, name: &str) -> Vec<u8> {
        let mut data = Vec::new();
        archive.by_name(name).unwrap().read_to_end(&mut data).unwrap();
        data
    }

    #[test]
    fn files_directories_and_links_are_in_it_and_what_is_not_is_told() {
        let mut tree = Memory::default();
        tree.dir("d");
        tree.file("d/a", b"data").mode = 0o4750;
        tree.link("d/b", "d/a");
        tree.put(path("link"), Kind::Symlink { target: "d/a".into() });
        tree.put(path("pipe"), Kind::Fifo);
        tree.raw_file(RelPath::new(b"odd\xff".to_vec()).unwrap(), b"odd");
        let (mut archive, result) = dumped(&tree);
        assert_eq!(result.unwrap().left_out.to_string(), "/pipe (a named pipe, which no zip holds)");
        for name in ["d/a", "d/b", "link"] {
            assert_eq!(content(&mut archive, name), if name == "link" { &b"d/a"[..] } else { b"data" });
        }
        assert_eq!(content(&mut archive, "odd%FF"), b"odd");
        assert!(archive.by_name("link").unwrap().is_symlink() && archive.by_name("d/").unwrap().is_dir());
        let file = archive.by_name("d/a").unwrap();
        assert_eq!(file.unix_mode().map(|mode| mode & 0o7777), Some(0o750));
        assert_eq!(file.last_modified().map(|time| time.year()), Some(2023));
    }

    #[test]
    fn what_is_damaged_is_named_and_all_else_is_there() {
        let mut tree = Memory::default();
        for name in ["a", "half", "z"] {
            tree.file(name, name.as_bytes());
        }
        tree.damage.insert(path("half"), 3);
        let (mut archive, result) = dumped(&tree);
        let error = result.unwrap_err();
        assert!(matches!(&error, BackupError::Incomplete { files } if files.count == 1), "{error}");
        assert_eq!(content(&mut archive, "half"), b"hal");
        assert_eq!(content(&mut archive, "z"), b"z");
    }

    proptest! {
        #[test]
        fn an_archive_holds_what_the_tree_does(tree in trees()) {
            let (mut archive, result) = dumped(&tree);
            result.unwrap();
            prop_assert_eq!(archive.len(), tree.nodes.len() - 1);
            for (path, data) in &tree.data {
                prop_assert_eq!(&content(&mut archive, &path.to_string()), data);
            }
        }
    }
}
