//! Archives of 0.5's single-file backups: whatever is in one, nothing is made or changed outside of the
//! directory it is unpacked into.
#![no_main]

use convoy_tree::{TreeWriter, unpack_tar};
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
    if unpack_tar(bytes, &writer, &|| true).is_ok() {
        let _ = writer.finish();
    }
    let names = fs::read_dir(place.path()).expect("the directory").count();
    assert_eq!(names, 2, "something was made outside");
    assert_eq!(fs::read(&beside).expect("the file beside"), b"precious");
    assert_eq!(fs::metadata(&beside).expect("the file beside").modified().expect("its time"), before);
});
