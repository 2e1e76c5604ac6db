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
/// The Go example is the template: what is tested is what is written.
const GO: [(&str, &str); 3] = [
    ("go.mod", include_str!("../../../../examples/go/go.mod")),
    ("main.go", include_str!("../../../../examples/go/main.go")),
    ("wire.go", include_str!("../../../../examples/go/wire.go")),
];

const REPOSITORY: &str = env!("CARGO_PKG_REPOSITORY");

/// The oldest Rust that builds the SDK.
const RUST_VERSION: &str = env!("CARGO_PKG_RUST_VERSION");

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
        Language::Go => go(args)?,
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
    let (file, features, library, carrier) = match args.kind {
        Kind::Library => (
            "src/lib.rs",
            "library",
            "\n[lib]\ncrate-type = [\"cdylib\"]\n",
            format!("convoy_driver_sdk::export!({type_name});"),
        ),
        Kind::Process => (
            "src/main.rs",
            "process",
            "",
            format!(
                "fn main() -> std::process::ExitCode {{\n    \
                 convoy_driver_sdk::process::serve::<{type_name}>()\n}}"
            ),
        ),
    };
    let fill = |template: &str| {
        [
            ("name", args.name.as_str()),
            ("type", &type_name),
            ("sdk", &sdk),
            ("features", features),
            ("rust", RUST_VERSION),
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

/// In other languages a driver is a process, and needs no SDK.
fn is_process(args: &NewDriverArgs) -> Result<()> {
    let (message, hint) = if args.kind == Kind::Library {
        (
            "a shared library can be written in Rust only",
            "leave --kind library out: a driver is a process then",
        )
    } else if args.sdk.is_some() {
        ("--sdk is for drivers in Rust", "leave it out: the standard library is enough")
    } else {
        return Ok(());
    };
    Err(Failure::Other { message: message.to_owned(), hint: Some(hint.to_owned()) })
}

fn go(args: &NewDriverArgs) -> Result<Vec<File>> {
    is_process(args)?;
    let file = |(path, text): (&str, &str)| File {
        path: path.into(),
        text: text
            .replace("convoy-driver-shelf", &format!("convoy-driver-{}", args.name))
            .replace("\"shelf\"", &format!("{:?}", args.name)),
        mode: 0o644,
    };
    Ok(GO.map(file).into())
}

fn python(args: &NewDriverArgs) -> Result<Vec<File>> {
    is_process(args)?;
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
            hint: Some(format!(
                "say --sdk {REPOSITORY}, or --sdk DIRECTORY (driver-sdk in a checkout of convoy); \
                 or write it in another language: --lang python, --lang go"
            )),
        });
    };
    if source.contains("://") {
        return Ok(format!("git = {source:?}"));
    }
    if source.starts_with(|first: char| first.is_ascii_digit()) && !source.contains('/') {
        // Cargo would say so later, and not what to do.
        return Err(Failure::Other {
            message: format!("there is no convoy-driver-sdk {source} on crates.io yet"),
            hint: Some(format!("say --sdk {REPOSITORY}")),
        });
    }
    let directory = fs::canonicalize(source).ok().filter(|path| is_sdk(path));
    match directory.as_deref().and_then(Path::to_str) {
        Some(path) => Ok(format!("path = {path:?}")),
        None => Err(Failure::Other {
            message: format!("there is no crate convoy-driver-sdk at {source}"),
            hint: Some("name the directory driver-sdk of a checkout of convoy".to_owned()),
        }),
    }
}

/// Whether a directory is that of the SDK, and not of the whole checkout, or of something else.
fn is_sdk(directory: &Path) -> bool {
    let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line.trim() == "name = \"convoy-driver-sdk\"")
}

fn next_steps(args: &NewDriverArgs, directory: &Path) -> String {
    let (name, place) = (&args.name, directory.display().to_string());
    let (build, file) = match (args.lang, args.kind) {
        (Language::Python, _) => (String::new(), format!("./convoy-driver-{name}")),
        (Language::Go, _) => ("  go build\n".to_owned(), format!("./convoy-driver-{name}")),
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
                sdk: (lang == Language::Rust).then(|| "https://example.com/x".to_owned()),
                directory: None,
            };
            let files = rust(&args(Language::Rust)).unwrap();
            let lines: usize = files.iter().map(|file| file.text.lines().count()).sum();
            assert!(lines <= 100, "{lines}");
            assert!(files.iter().all(|file| !file.text.contains("{{")));
            assert!(files[1].text.contains("MyStoreDriver"));
        }
        let args = NewDriverArgs {
            name: "my-store".to_owned(),
            lang: Language::Go,
            kind: Kind::Process,
            sdk: None,
            directory: None,
        };
        let files = go(&args).unwrap();
        assert!(files[0].text.starts_with("module convoy-driver-my-store\n"));
        assert!(files[1].text.contains("\"name\": \"my-store\""));
        assert!(files.iter().all(|file| !file.text.contains("shelf")));
        assert!(files[2].text.lines().count() < 300, "what authors copy is short");
        assert!(PYTHON.lines().count() <= 100, "{}", PYTHON.lines().count());
    }

    #[test]
    fn names_and_sources_are_checked() {
        for bad in ["", "x", "My", "a_b", "9a", "a.b", "../x", "a-", "a--b", "-a", "convoy-driver-a1"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        check_name("my-store2").unwrap();
        assert!(sdk(Some("0.6")).unwrap_err().hint().unwrap().contains(REPOSITORY));
        let here = env!("CARGO_MANIFEST_DIR");
        let wrong = sdk(Some(here)).unwrap_err();
        assert!(wrong.to_string().contains("no crate convoy-driver-sdk"), "{wrong}");
        assert!(sdk(Some(&format!("{here}/../../driver-sdk"))).unwrap().ends_with("/driver-sdk\""));
        assert!(REPOSITORY.starts_with("https://") && RUST_VERSION.starts_with("1."));
        assert_eq!(sdk(Some("https://example.com/x")).unwrap(), "git = \"https://example.com/x\"");
        assert!(sdk(Some("/nowhere")).unwrap_err().hint().unwrap().contains("driver-sdk"));
        assert!(sdk(None).unwrap_err().to_string().contains("crates.io"));
    }
}
