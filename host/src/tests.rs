//! Who may use whom: a module of the daemon uses those below it, and no files use each other in circles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The modules from the bottom up. One uses those of the layers below, and none beside it.
const LAYERS: [&[&str]; 9] = [
    &["docker", "listen", "logging", "notify"],
    &["config"],
    &["backups"],
    &["schedules"],
    &["reload", "show"],
    &["app"],
    &["doctor", "scrape"],
    &["api"],
    &["daemon"],
];

/// The name of a module: `["daemon", "serve"]`; that of the crate itself is empty.
type Module = Vec<String>;

/// The files of a crate by module, without tests.
fn files(src: &Path) -> BTreeMap<Module, PathBuf> {
    let mut all = BTreeMap::new();
    let mut open = vec![src.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name == "tests" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let dirs = dir.strip_prefix(src).unwrap().iter();
            let mut module: Module = dirs.map(|dir| dir.to_str().unwrap().to_owned()).collect();
            if name != "lib" && name != "main" {
                module.push(name);
            }
            all.entry(module).or_insert(path);
        }
    }
    all
}

/// Takes `a::{b, c::{d, e}}` apart.
fn paths(tree: &str, all: &mut Vec<String>) {
    let Some((before, rest)) = tree.split_once('{') else { return all.push(tree.trim().to_owned()) };
    let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in inner.char_indices().chain([(inner.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inner[begin..at].trim();
                if !part.is_empty() {
                    paths(&format!("{}{part}", before.trim()), all);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// The modules that a file uses.
fn used(module: &Module, path: &Path, files: &BTreeMap<Module, PathBuf>) -> BTreeSet<Module> {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut named = Vec::new();
    for statement in code.split(';') {
        let tree = statement.rsplit_once("use ").filter(|(before, _)| {
            before.lines().last().is_none_or(|line| line.trim().is_empty() || line.trim().starts_with("pub"))
        });
        tree.into_iter().for_each(|(_, tree)| paths(tree, &mut named));
    }
    for (at, _) in code.match_indices("crate::") {
        let path: String =
            code[at..].chars().take_while(|it| it.is_alphanumeric() || *it == '_' || *it == ':').collect();
        named.push(path);
    }
    let resolve = |path: &String| {
        let mut parts: Vec<&str> = path.split("::").collect();
        let mut at = module.clone();
        match parts[0] {
            "crate" => at.clear(),
            "super" | "self" => {}
            child if files.contains_key(&[&at[..], &[child.to_owned()]].concat()) => {
                parts.insert(0, "self");
            }
            _ => return None,
        }
        for part in &parts {
            match *part {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                child => {
                    let below = [&at[..], &[child.to_owned()]].concat();
                    if !files.contains_key(&below) {
                        break;
                    }
                    at = below;
                }
            }
        }
        (at != *module).then_some(at)
    };
    named.iter().filter_map(resolve).collect()
}

/// What a module uses, and what that uses, and so on.
fn reached(from: &Module, uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(module) = open.pop() {
        open.extend(uses[module].iter().filter(|other| seen.insert((*other).clone())));
    }
    seen
}

fn src(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

#[test]
fn no_module_uses_one_above_it() {
    let files = files(&src("src"));
    let layer = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    for (module, path) in files.iter().filter(|(module, _)| !module.is_empty()) {
        let own = layer(&module[0]);
        assert!(own.is_some(), "{}: say in LAYERS where this module stands", path.display());
        for other in used(module, path, &files).iter().filter(|other| other.first() != module.first()) {
            let name = other.first().map_or("the crate's own file", String::as_str);
            assert!(
                other.first().is_some_and(|name| layer(name) < own),
                "{} uses {name}. A module may use those of lower layers alone; from the bottom: {LAYERS:?}",
                path.display()
            );
        }
    }
}

#[test]
fn no_files_use_each_other_in_circles() {
    for of in ["src", "volumes/src", "activity/src"] {
        let files = files(&src(of));
        let uses: BTreeMap<Module, BTreeSet<Module>> =
            files.iter().map(|(module, path)| (module.clone(), used(module, path, &files))).collect();
        let circle: Vec<_> = uses
            .iter()
            .filter(|(module, _)| reached(module, &uses).contains(*module))
            .map(|(module, used)| {
                let back = used.iter().filter(|other| reached(other, &uses).contains(module));
                let back: Vec<_> = back.map(|other| other.join("::")).collect();
                format!("{} -> {}", files[module].display(), back.join(", "))
            })
            .collect();
        assert!(
            circle.is_empty(),
            "these files use each other in a circle, or those that do; move what both need into a file that \
             both use:\n{}",
            circle.join("\n")
        );
    }
}
