use super::*;
use convoy_tree::{Found, WalkOptions, walk};
use proptest::prelude::*;
use std::fs;

fn rules(patterns: &[&str]) -> ExcludeRules {
    ExcludeRules { patterns: patterns.iter().map(|p| (*p).to_owned()).collect(), ..ExcludeRules::default() }
}

/// What is kept of a tree, and what the rules say that they left out.
fn kept(root: &Path, rules: &ExcludeRules) -> (Vec<String>, Excluded) {
    let excludes = Excludes::new(rules, root, |text| panic!("{text}")).unwrap();
    let (mut kept, mut walk) = (Vec::new(), walk(root, WalkOptions::default()).unwrap());
    while let Some(found) = walk.next() {
        let Found::Entry(found) = found.unwrap() else { panic!("the tree changes") };
        match excludes.of(&found).unwrap() {
            Verdict::Keep => kept.push(found.entry.path.shown()),
            Verdict::LeaveOut => walk.skip_children(),
            Verdict::OnlyMarker(marker) => {
                walk.skip_children();
                kept.extend([found.entry.path.shown(), marker.entry.path.shown()]);
            }
        }
    }
    kept.retain(|path| !path.is_empty() && path != "." && path != "/");
    (kept, excludes.excluded())
}

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let files =
        ["a.tmp", "keep.tmp", "cache/x", "sub/cache/x", "sub/a.tmp", "build/out", "sub/build", "#odd"];
    let dir = tree(&files.map(|file| (file, "")));
    let left = |patterns: &[&str]| kept(dir.path(), &rules(patterns)).0;
    assert_eq!(
        left(&["*.tmp", "!keep.tmp", "/cache/", "build/", "\\#odd"]),
        ["keep.tmp", "sub", "sub/build", "sub/cache", "sub/cache/x"]
    );
    // What is in a directory that is left out is not brought back.
    assert!(!left(&["cache", "!cache/x"]).iter().any(|path| path.contains("cache")));
    assert_eq!(left(&["/*", "!/sub", "/sub/*", "!/sub/a.tmp"]), ["sub", "sub/a.tmp"]);
    let (_, excluded) = kept(dir.path(), &rules(&["*.tmp", "cache/", "never"]));
    assert_eq!((excluded.files, excluded.directories), (3, 2));
    let by: Vec<_> = excluded.rules.iter().map(|by| (&*by.rule, by.files, by.directories)).collect();
    assert_eq!(by, [("*.tmp", 3, 0), ("cache/", 0, 2)]);
}

#[test]
fn of_a_directory_with_a_marker_itself_and_the_marker_are_kept() {
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n# by a test";
    let dir = tree(&[
        ("one/.nobackup", "why"),
        ("one/data", ""),
        ("one/deep/data", ""),
        ("cache/CACHEDIR.TAG", tag),
        ("cache/data", ""),
        ("no-cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc56"),
        ("no-cache/data", ""),
        ("two/data", ""),
    ]);
    std::os::unix::fs::symlink("../cache/CACHEDIR.TAG", dir.path().join("two/CACHEDIR.TAG")).unwrap();
    let all = ExcludeRules {
        if_present: vec![".nobackup".to_owned(), ".other".to_owned()],
        caches: true,
        ..ExcludeRules::default()
    };
    let (left, excluded) = kept(dir.path(), &all);
    let expected = [
        "cache",
        "cache/CACHEDIR.TAG",
        "no-cache",
        "no-cache/CACHEDIR.TAG",
        "no-cache/data",
        "one",
        "one/.nobackup",
        "two",
        "two/CACHEDIR.TAG",
        "two/data",
    ];
    assert_eq!(left, expected);
    let by: Vec<_> = excluded.rules.iter().map(|by| (&*by.rule, by.files, by.directories)).collect();
    assert_eq!(by, [("CACHEDIR.TAG", 0, 1), ("has .nobackup", 0, 1)]);
    // The whole volume, if its root has one.
    fs::write(dir.path().join(".nobackup"), "").unwrap();
    assert_eq!(kept(dir.path(), &all).0, [".nobackup"]);
}

#[test]
fn the_volumes_own_file_is_followed_only_if_allowed_and_never_trusted() {
    let dir = tree(&[("a.tmp", ""), ("b.log", ""), (".convoyignore", "# mine\n\n*.tmp\n!b.log\n")]);
    assert_eq!(kept(dir.path(), &rules(&["*.log"])).0, [".convoyignore", "a.tmp"]);
    let allowed = ExcludeRules { ignore_file: true, ..rules(&["*.log"]) };
    // The operator's patterns come last: the volume brings nothing back.
    let (left, excluded) = kept(dir.path(), &allowed);
    assert_eq!(left, [".convoyignore"]);
    assert!(excluded.rules.iter().any(|by| by.rule == ".convoyignore: *.tmp"), "{excluded:?}");

    let told = |content: &[u8]| {
        fs::remove_file(dir.path().join(IGNORE_FILE)).ok();
        fs::write(dir.path().join(IGNORE_FILE), content).unwrap();
        let mut told = Vec::new();
        let excludes = Excludes::new(&allowed, dir.path(), |text| told.push(text)).unwrap();
        assert_eq!(excludes.patterns.num_ignores(), 1, "the operator's is followed all the same");
        assert_eq!(told.len(), 1, "{told:?}");
        told.remove(0)
    };
    assert!(told(&vec![b'x'; 20 << 10]).contains("more than 16384 bytes"));
    assert!(told("x\n".repeat(200).as_bytes()).contains("200 patterns"));
    assert!(told(b"\xff\xfe").contains("no UTF-8"));
    assert!(told(b"[z-a]\n").contains("a line of"));
    assert!(told("y".repeat(300).as_bytes()).contains("more than 256 bytes"));
    let file = dir.path().join(IGNORE_FILE);
    fs::remove_file(&file).unwrap();
    fs::write(dir.path().join("secret"), "*").unwrap();
    std::os::unix::fs::symlink("secret", &file).unwrap();
    let mut told = Vec::new();
    Excludes::new(&allowed, dir.path(), |text| told.push(text)).unwrap();
    assert!(told[0].contains("no regular file"), "{told:?}");
    // A pipe that nobody writes to does not keep the backup waiting.
    fs::remove_file(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    Excludes::new(&allowed, dir.path(), |text| told.push(text)).unwrap();
    assert!(told[1].contains("no regular file"), "{told:?}");
}

#[test]
fn what_is_no_rule_is_refused_and_there_are_not_many() {
    for (pattern, why) in [
        ("[z-a]", "invalid range"),
        ("{a,b", "unclosed"),
        ("# a comment", "it says nothing"),
        ("", "it says nothing"),
        ("!", "it says nothing"),
        ("a\nb", "control character"),
        (&"x".repeat(257), "more than 256 bytes"),
    ] {
        let error = rules(&[pattern]).check().unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("expected one as in"), "{pattern:?}: {error}");
        assert!(error.len() < 400, "{error}");
    }
    for marker in ["", ".", "..", "a/b", "/etc/passwd", "a\0", &"m".repeat(256)] {
        let error = ExcludeRules { if_present: vec![marker.to_owned()], ..ExcludeRules::default() }.check();
        assert!(matches!(error, Err(ExcludeError::Marker(_))), "{marker:?}");
    }
    let many: Vec<&str> = vec!["*.tmp"; 257];
    assert!(matches!(rules(&many).check(), Err(ExcludeError::TooMany { found: 257, most: 256, .. })));
    rules(&many[1..]).check().unwrap();
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c.tmp", "cache", "x y", "!odd", "#odd", "ä", ".hidden"])
        .prop_map(str::to_owned)
}

fn pattern() -> impl Strategy<Value = String> {
    let word =
        prop::sample::select(vec!["a", "b", "*.tmp", "cache", "x*", "?", "**", "*", "[a-b]", ".*", "\\!odd"]);
    (any::<bool>(), any::<bool>(), prop::collection::vec(word, 1..4), any::<bool>()).prop_map(
        |(not, rooted, words, dir)| {
            let signs = [if not { "!" } else { "" }, if rooted { "/" } else { "" }].concat();
            signs + &words.join("/") + if dir { "/" } else { "" }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The walk keeps what the crate's own matcher keeps, path by path: nothing at or above it is ignored.
    #[test]
    fn a_walk_keeps_what_the_matcher_keeps(
        paths in prop::collection::vec(prop::collection::vec(name(), 1..5), 1..25),
        patterns in prop::collection::vec(pattern(), 0..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        for path in &paths {
            let path = dir.path().join(path.join("/"));
            // What is a file already cannot be a directory.
            if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
                fs::write(path, "").unwrap();
            }
        }
        let mut builder = GitignoreBuilder::new("");
        for pattern in &patterns {
            builder.add_line(None, pattern).unwrap();
        }
        let matcher = builder.build().unwrap();
        let mut expected = Vec::new();
        for found in walk(dir.path(), WalkOptions::default()).unwrap() {
            let Found::Entry(found) = found.unwrap() else { continue };
            let path = found.entry.path.as_path().to_owned();
            let ignored = path.ancestors().filter(|part| !part.as_os_str().is_empty()).any(|part| {
                let is_dir = part != path || found.entry.is_dir();
                matcher.matched(part, is_dir).is_ignore()
            });
            if !ignored && !found.entry.path.is_root() {
                expected.push(found.entry.path.shown());
            }
        }
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        prop_assert_eq!(kept(dir.path(), &rules(&patterns)).0, expected);
    }
}
