//! Archives of 0.5's single-file backups: whatever is in one, nothing is made or changed outside of the
//! directory it is unpacked into, and a reader of the archive tells what it makes.
#![no_main]

use convoy_tree::{Found, TreeWriter, WalkOptions, unpack_tar, walk};
use libfuzzer_sys::fuzz_target;
use std::fs;

fuzz_target!(|bytes: &[u8]| {
    // In memory where that is: thousands of directories a second.
    let memory = std::path::Path::new("/dev/shm");
    let place = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let place = place.expect("a directory");
    let (target, beside) = (place.path().join("target"), place.path().join("beside"));
    fs::create_dir(&target).expect("a directory");
    fs::write(&beside, "precious").expect("a file");
    let before = fs::metadata(&beside).expect("a file").modified().expect("its time");
    let writer = TreeWriter::new(&target).expect("a directory to write into");
    let unpacked = unpack_tar(bytes, &writer, &|| true).is_ok();
    let whole =
        unpacked.then(|| writer.finish()).and_then(Result::ok).is_some_and(|made| made.losses.count == 0);
    let told = convoy_backup::fuzz::archive(bytes, place.path());
    if whole {
        let made =
            walk(&target, WalkOptions::default()).expect("what was made").filter_map(|found| match found {
                Ok(Found::Entry(found)) => Some(found.entry),
                _ => None,
            });
        let size = |entry: &convoy_tree::Entry| if entry.is_file() { entry.size } else { 0 };
        let made: Vec<_> = made.map(|entry| (entry.path.clone(), size(&entry), entry.kind)).collect();
        let told = told.expect("what is restored is read");
        let told: Vec<_> =
            told.into_iter().map(|entry| (entry.path.clone(), size(&entry), entry.kind)).collect();
        assert_eq!(told, made);
    }
    let names = fs::read_dir(place.path()).expect("the directory").count();
    assert_eq!(names, 2, "something was made outside");
    assert_eq!(fs::read(&beside).expect("the file beside"), b"precious");
    assert_eq!(fs::metadata(&beside).expect("the file beside").modified().expect("its time"), before);
});
