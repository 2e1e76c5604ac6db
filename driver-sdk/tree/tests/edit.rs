//! Changing a tree that others use.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use convoy_tree::{
    Dir, Entry, Found, Place, Placing, RelPath, TreeEditor, TreeError, WalkOptions, is_draft, walk,
};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn editor(root: &Path) -> (TreeEditor, Place) {
    let mut editor = TreeEditor::new(Dir::open(root).unwrap());
    let place = editor.enter(&RelPath::root()).unwrap().unwrap();
    (editor, place)
}

/// What a walk finds at a path.
fn entry(root: &Path, at: &str) -> Entry {
    walk(root, WalkOptions::default())
        .unwrap()
        .find_map(|found| match found.unwrap() {
            Found::Entry(found) if found.entry.path == path(at) => Some(found.entry),
            _ => None,
        })
        .unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A tree with a file, a directory, a link and a pipe that have all they can have.
fn models() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "new").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    symlink("to", dir.path().join("link")).unwrap();
    let cwd = rustix::fs::CWD;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(cwd, dir.path().join("pipe"), fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    for (name, mode) in [("file", 0o4751), ("dir", 0o3770), ("pipe", 0o620)] {
        std::os::unix::fs::chown(dir.path().join(name), Some(7), Some(8)).unwrap();
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::lchown(dir.path().join("link"), Some(9), Some(9)).unwrap();
    dir
}

/// What a restore gives back of an entry.
fn given(entry: &Entry) -> (u16, u32, u32, u64, convoy_tree::Timestamp, convoy_tree::Kind) {
    let size = if entry.is_file() { entry.size } else { 0 };
    (entry.mode, entry.uid, entry.gid, size, entry.mtime, entry.kind.clone())
}

#[test]
fn nothing_is_seen_of_a_draft_until_it_is_in_its_place_with_all_it_has() {
    let (models, tree) = (models(), tempfile::tempdir().unwrap());
    let (mut editor, place) = editor(tree.path());
    for name in ["file", "dir", "link", "pipe"] {
        let model = entry(models.path(), name);
        let draft = editor.draft(&place, &model).unwrap();
        if let Some(mut file) = draft.file() {
            file.write_all(b"new").unwrap();
        }
        editor.complete(&draft, &model).unwrap();
        let there = names(tree.path());
        assert!(!there.contains(&name.to_owned()));
        assert_eq!(there.iter().filter(|name| is_draft(name.as_bytes())).count(), 1);
        draft.place(name.as_bytes(), Placing::New).unwrap();
        editor.finish_dir(&path(name), &model).unwrap();
        assert_eq!(given(&entry(tree.path(), name)), given(&model), "{name}");
    }
    assert_eq!(names(tree.path()), ["dir", "file", "link", "pipe"]);
    // One that is given up leaves nothing.
    for name in ["file", "dir", "link", "pipe"] {
        drop(editor.draft(&place, &entry(models.path(), name)).unwrap());
    }
    drop(place.draft_link(&place, b"file").unwrap());
    assert_eq!(names(tree.path()), ["dir", "file", "link", "pipe"]);
}

#[test]
fn what_is_there_is_replaced_only_as_it_was_asked() {
    let (models, tree) = (models(), tempfile::tempdir().unwrap());
    let (editor, place) = editor(tree.path());
    let [file, dir] = ["file", "dir"].map(|name| entry(models.path(), name));
    fs::write(tree.path().join("old"), "old").unwrap();
    fs::create_dir(tree.path().join("full")).unwrap();
    fs::write(tree.path().join("full/in"), "old").unwrap();
    let refused = |model: &Entry, name: &str, how| {
        let error = editor.draft(&place, model).unwrap().place(name.as_bytes(), how).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name}: {error}");
    };
    for model in [&file, &dir] {
        refused(model, "old", Placing::New);
        refused(model, "full", Placing::New);
    }
    refused(&file, "full", Placing::Over);
    refused(&dir, "full", Placing::Over);
    assert_eq!(fs::read_to_string(tree.path().join("old")).unwrap(), "old");
    assert_eq!(fs::read_to_string(tree.path().join("full/in")).unwrap(), "old");
    assert_eq!(names(tree.path()), ["full", "old"], "no draft is left");
    editor.draft(&place, &file).unwrap().place(b"old", Placing::Over).unwrap();
    assert_eq!(fs::metadata(tree.path().join("old")).unwrap().len(), 0);
    editor.draft(&place, &dir).unwrap().place(b"old", Placing::Over).unwrap();
    assert!(tree.path().join("old").is_dir());
    // A further name over another of the same file: both are there, and no draft.
    fs::write(tree.path().join("one"), "").unwrap();
    fs::hard_link(tree.path().join("one"), tree.path().join("two")).unwrap();
    place.draft_link(&place, b"one").unwrap().place(b"two", Placing::Over).unwrap();
    assert_eq!(fs::metadata(tree.path().join("two")).unwrap().nlink(), 2);
    assert_eq!(names(tree.path()), ["full", "old", "one", "two"]);
}

#[test]
fn what_makes_way_takes_nobodys_name() {
    let tree = tempfile::tempdir().unwrap();
    let (_editor, place) = editor(tree.path());
    for (name, content) in [("a", "first"), ("a.old", "taken")] {
        fs::write(tree.path().join(name), content).unwrap();
    }
    assert_eq!(place.name_aside(b"a", ".old").unwrap(), path("a.old-2"));
    assert_eq!(place.move_aside(b"a", ".old").unwrap(), Some(path("a.old-2")));
    assert_eq!(place.move_aside(b"a", ".old").unwrap(), None, "it is gone");
    assert_eq!(fs::read_to_string(tree.path().join("a.old")).unwrap(), "taken");
    assert_eq!(fs::read_to_string(tree.path().join("a.old-2")).unwrap(), "first");
    fs::create_dir_all(tree.path().join("d/e")).unwrap();
    assert_eq!(place.move_aside(b"d", ".old").unwrap(), Some(path("d.old")));
    assert!(tree.path().join("d.old/e").is_dir());
}

#[test]
fn drafts_of_the_dead_are_removed_and_nothing_else() {
    let tree = tempfile::tempdir().unwrap();
    let (_editor, place) = editor(tree.path());
    let draft = |digit: u8| format!(".convoy-restoring-{digit:016x}");
    fs::write(tree.path().join(draft(1)), "half").unwrap();
    fs::create_dir(tree.path().join(draft(2))).unwrap();
    symlink("/etc", tree.path().join(draft(3))).unwrap();
    // No restore makes a directory that is not empty.
    fs::create_dir(tree.path().join(draft(4))).unwrap();
    fs::write(tree.path().join(draft(4)).join("mine"), "mine").unwrap();
    for name in ["a", ".convoy-restoring-1", ".convoy-restoring-000000000000000G"] {
        fs::write(tree.path().join(name), "mine").unwrap();
    }
    assert_eq!(place.remove_drafts().unwrap(), 3);
    let mut left = vec![".convoy-restoring-000000000000000G".to_owned(), ".convoy-restoring-1".to_owned()];
    left.extend([draft(4), "a".to_owned()]);
    left.sort();
    assert_eq!(names(tree.path()), left);
    fs::create_dir(tree.path().join("empty")).unwrap();
    fs::write(tree.path().join("empty").join(draft(5)), "half").unwrap();
    assert!(place.is_empty_dir(b"empty").unwrap() && place.remove_empty_dir(b"empty").unwrap());
    assert!(!place.remove_empty_dir(draft(4).as_bytes()).unwrap());
}

#[test]
fn a_directory_keeps_its_mark_until_it_is_finished() {
    let (models, tree) = (models(), tempfile::tempdir().unwrap());
    let (mut editor, place) = editor(tree.path());
    let model = entry(models.path(), "dir");
    editor.draft(&place, &model).unwrap().place(b"dir", Placing::New).unwrap();
    assert!(editor.is_unfinished(&path("dir")).unwrap());
    assert!(entry(tree.path(), "dir").xattrs.is_empty(), "the mark is not of the tree");
    editor.finish_dir(&path("dir"), &model).unwrap();
    assert!(!editor.is_unfinished(&path("dir")).unwrap());
}

#[test]
fn no_link_and_no_mount_is_entered() {
    let (tree, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(outside.path().join("dir")).unwrap();
    fs::create_dir(tree.path().join("mounted")).unwrap();
    symlink(outside.path(), tree.path().join("link")).unwrap();
    symlink(outside.path(), tree.path().join("mounted.link")).unwrap();
    let (mut editor, place) = editor(tree.path());
    for name in ["link", "link/dir", "nothing", "nothing/below"] {
        assert!(editor.enter(&path(name)).unwrap().is_none(), "{name}");
    }
    place.remove(b"link", &|| true).unwrap();
    assert!(outside.path().join("dir").is_dir(), "the link is removed, and not what it leads to");
    let at = tree.path().join("mounted");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", &at, "tmpfs", flags, None).unwrap();
    fs::write(at.join("theirs"), "").unwrap();
    let entered = editor.enter(&path("mounted"));
    let removed = place.remove(b"mounted", &|| true);
    let theirs = at.join("theirs").exists();
    rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(matches!(entered, Err(TreeError::MountPoint { .. })), "{entered:?}");
    assert!(matches!(removed, Err(TreeError::MountPoint { .. })) && theirs, "{removed:?}");
}
