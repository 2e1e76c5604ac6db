//! One thing in a tree, and one directory page by page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use convoy_tree::{Dir, Found, Look, RelPath, TreeError, Walk, WalkOptions, limits};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn nearest(look: Look) -> RelPath {
    match look {
        Look::Nothing { nearest } => nearest,
        Look::Found(found) => panic!("{:?} is there", found.entry.path),
    }
}

#[test]
fn a_path_leads_to_what_is_there_or_to_the_nearest_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::write(dir.path().join("a/b/file"), "data").unwrap();
    std::os::unix::fs::symlink("a", dir.path().join("link")).unwrap();
    let root = Arc::new(Dir::open(dir.path()).unwrap());
    for there in ["", "a", "a/b", "a/b/file", "link"] {
        let Look::Found(found) = root.look(&path(there)).unwrap() else { panic!("{there}") };
        assert_eq!(found.entry.path, path(there));
    }
    let long = "n".repeat(300);
    for (absent, expected) in [
        ("x", ""),
        ("a/x/y", "a"),
        ("a/b/file/x", "a/b"),
        ("link/b", ""),
        (&long, ""),
        (&format!("a/{long}/b"), "a"),
    ] {
        assert_eq!(nearest(root.look(&path(absent)).unwrap()), path(expected), "{absent}");
    }
    let deep = RelPath::new("d/".repeat(limits::DEPTH + 1) + "f").unwrap();
    assert!(matches!(root.look(&deep), Err(TreeError::Limit { .. })));
}

#[test]
fn a_directory_of_any_size_is_listed_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3000 {
        std::fs::write(dir.path().join(format!("{:x}", n * 7919 % 3001)), []).unwrap();
    }
    let root = Dir::open(dir.path()).unwrap();
    assert!(root.listing(1000).unwrap().is_none(), "more names than memory");
    let listing = root.listing(1 << 20).unwrap().unwrap();
    let all: Vec<Box<[u8]>> = listing.after(None).map(Into::into).collect();
    assert!(all.len() == 3000 && all.is_sorted() && listing.memory() < 1 << 20);
    let mut pages = Vec::new();
    let mut after: Option<Box<[u8]>> = None;
    loop {
        let page = root.first_names(after.as_deref(), 701).unwrap();
        assert!(page.iter().map(|name| &**name).eq(listing.after(after.as_deref()).take(701)));
        after = page.last().cloned();
        pages.extend_from_slice(&page);
        if page.len() < 701 {
            break;
        }
    }
    assert_eq!(pages, all);
    assert_eq!(listing.after(Some(b"zz")).count(), 0);
}

#[test]
fn a_walk_passes_over_what_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    std::fs::create_dir(dir.path().join("z")).unwrap();
    std::fs::write(dir.path().join("a/file"), []).unwrap();
    let walk = |skip: &str| {
        let mut walk = Walk::new(Arc::new(Dir::open(dir.path()).unwrap()), WalkOptions::default());
        let mut seen = Vec::new();
        while let Some(found) = walk.next() {
            let Found::Entry(found) = found.unwrap() else { panic!("vanished") };
            if found.entry.path == path(skip) {
                walk.skip_children();
            }
            seen.push(found.entry.path.as_path().to_str().unwrap().to_owned());
        }
        seen
    };
    assert_eq!(walk("nothing"), ["", "a", "a/b", "a/b/c", "a/file", "z"]);
    assert_eq!(walk("a"), ["", "a", "z"]);
    assert_eq!(walk("a/b"), ["", "a", "a/b", "a/file", "z"]);
    assert_eq!(walk("z"), ["", "a", "a/b", "a/b/c", "a/file", "z"]);
    assert_eq!(walk("a/file"), ["", "a", "a/b", "a/b/c", "a/file", "z"]);
    assert_eq!(walk(""), [""]);
}
