//! `convoy driver new`: a project for a new driver, small enough to be read at once.

use crate::args::{Kind, Language, NewDriverArgs};
use crate::error::{Failure, Result};
use crate::output::{Output, values};
use convoy_driver_sdk::Name;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const MANIFEST: &str = include_str!("../../templates/Cargo.toml.txt");
const RUST: &str = include_str!("../../templates/driver.rs.txt");
const PYTHON: &str = include_str!("../../templates/driver.py.txt");

/// A file of a project.
struct File {
    path: PathBuf,
    text: String,
    mode: u32,
}

pub(super) fn new(args: &NewDriverArgs, output: &mut Output) -> Result<()> {
    check_name(&args.name)?;
    let directory = args.directory.clone().unwrap_or_else(|| format!("convoy-driver-{}", args.name).into());
    let files = match args.lang {
        Language::Rust => rust(args)?,
        Language::Python => python(args)?,
    };
    // Nothing of a project that is there already is written over.
    fs::create_dir(&directory).map_err(|error| Failure::Other {
        message: format!("cannot make {}: {error}", directory.display()),
        hint: Some("name another directory with --directory".to_owned()),
    })?;
    for File { path, text, mode } in files {
        let path = directory.join(path);
        let parent = path.parent().unwrap_or(&directory);
        fs::create_dir_all(parent)?;
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if !output.is_for_people() {
            output.line(path.display())?;
        }
    }
    if output.is_for_people() {
        output.line(next_steps(args, &directory))?;
    }
    Ok(())
}

/// The name of a driver becomes that of a crate and of a file.
fn check_name(name: &str) -> Result<()> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let fits = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.split('-').all(is_word)
        && Name::parse(name).is_ok();
    let rest = name.strip_prefix("convoy-driver-");
    if fits && rest.is_none() {
        return Ok(());
    }
    let hint = match rest {
        Some(rest) if check_name(rest).is_ok() => {
            format!("what comes after convoy-driver- is the name; say: convoy driver new {rest}")
        }
        _ => {
            "expected 2 or more small letters and digits, beginning with a letter; single dashes between them"
                .to_owned()
        }
    };
    Err(Failure::Other { message: format!("Invalid name {name:?}"), hint: Some(hint) })
}

fn rust(args: &NewDriverArgs) -> Result<Vec<File>> {
    let sdk = sdk(args.sdk.as_deref())?;
    let type_name: String = args.name.split('-').map(capitalised).collect();
    let type_name = format!("{type_name}Driver");
    let (file, library, carrier) = match args.kind {
        Kind::Library => (
            "src/lib.rs",
            "\n[lib]\ncrate-type = [\"cdylib\"]\n",
            format!("convoy_driver_sdk::export!({type_name});"),
        ),
        Kind::Process => (
            "src/main.rs",
            "",
            format!(
                "fn main() -> std::process::ExitCode {{\n    convoy_driver_sdk::process::serve::<{type_name}>()\n}}"
            ),
        ),
    };
    let fill = |template: &str| {
        [
            ("name", args.name.as_str()),
            ("type", &type_name),
            ("sdk", &sdk),
            ("lib", library),
            ("carrier", &carrier),
        ]
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("{{{{{key}}}}}"), value))
    };
    Ok(vec![
        File { path: "Cargo.toml".into(), text: fill(MANIFEST), mode: 0o644 },
        File { path: file.into(), text: fill(RUST), mode: 0o644 },
    ])
}

fn python(args: &NewDriverArgs) -> Result<Vec<File>> {
    if args.kind == Kind::Library {
        return Err(Failure::Other {
            message: "a shared library can be written in Rust only".to_owned(),
            hint: Some("leave --kind library out: in Python a driver is a process".to_owned()),
        });
    }
    let path = format!("convoy-driver-{}", args.name).into();
    Ok(vec![File { path, text: PYTHON.replace("{{name}}", &args.name), mode: 0o755 }])
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// How a manifest names the SDK.
fn sdk(given: Option<&str>) -> Result<String> {
    let Some(source) = given else {
        return Err(Failure::Other {
            message: "where is convoy-driver-sdk? It is not on crates.io yet".to_owned(),
            hint: Some(
                "say --sdk DIRECTORY (driver-sdk in a checkout of convoy) or --sdk URL (its git repository)"
                    .to_owned(),
            ),
        });
    };
    if source.contains("://") {
        return Ok(format!("git = {source:?}"));
    }
    if source.starts_with(|first: char| first.is_ascii_digit()) && !source.contains('/') {
        return Ok(format!("version = {source:?}"));
    }
    let directory = fs::canonicalize(source).ok().filter(|path| path.join("Cargo.toml").is_file());
    match directory.as_deref().and_then(Path::to_str) {
        Some(path) => Ok(format!("path = {path:?}")),
        None => Err(Failure::Other {
            message: format!("there is no crate at {source}"),
            hint: Some("name the directory driver-sdk of a checkout of convoy".to_owned()),
        }),
    }
}

fn next_steps(args: &NewDriverArgs, directory: &Path) -> String {
    let (name, place) = (&args.name, directory.display().to_string());
    let (build, file) = match (args.lang, args.kind) {
        (Language::Python, _) => (String::new(), format!("./convoy-driver-{name}")),
        (Language::Rust, Kind::Process) => {
            ("  cargo build\n".to_owned(), format!("target/debug/convoy-driver-{name}"))
        }
        (Language::Rust, Kind::Library) => (
            "  cargo build\n".to_owned(),
            format!("target/debug/libconvoy_driver_{}.so", name.replace('-', "_")),
        ),
    };
    format!(
        "Wrote the driver {name} into {place}. Try it, and test it:\n  cd {}\n{build}  \
         convoy driver run {file} -- create v1 -- list\n  convoy driver test {file}",
        values::word(&place)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_has_at_most_100_lines() {
        for kind in [Kind::Library, Kind::Process] {
            let args = |lang| NewDriverArgs {
                name: "my-store".to_owned(),
                lang,
                kind,
                sdk: Some("0.6".to_owned()),
                directory: None,
            };
            let files = rust(&args(Language::Rust)).unwrap();
            let lines: usize = files.iter().map(|file| file.text.lines().count()).sum();
            assert!(lines <= 100, "{lines}");
            assert!(files.iter().all(|file| !file.text.contains("{{")));
            assert!(files[1].text.contains("MyStoreDriver"));
        }
        assert!(PYTHON.lines().count() <= 100, "{}", PYTHON.lines().count());
    }

    #[test]
    fn names_and_sources_are_checked() {
        for bad in ["", "x", "My", "a_b", "9a", "a.b", "../x", "a-", "a--b", "-a", "convoy-driver-a1"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name("my-store2").unwrap();
        assert_eq!(sdk(Some("0.6")).unwrap(), "version = \"0.6\"");
        assert_eq!(sdk(Some("https://example.com/x")).unwrap(), "git = \"https://example.com/x\"");
        assert!(sdk(Some("/nowhere")).unwrap_err().hint().unwrap().contains("driver-sdk"));
        assert!(sdk(None).unwrap_err().to_string().contains("crates.io"));
    }
}
