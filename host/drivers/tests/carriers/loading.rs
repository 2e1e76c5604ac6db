//! What is found, what is refused, and what it says.

use crate::support::{built, drivers};
use convoy_drivers::{Carrier, Drivers, LoadError, SearchPath};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

async fn load(drivers: &Drivers, spec: &str) -> Result<Carrier, LoadError> {
    drivers.load(&spec.parse().unwrap()).await.map(|driver| driver.carrier())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_is_preferred_to_a_process_and_both_to_a_builtin() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |file: &str| std::fs::copy(built()[0].join(file), dir.path().join(file)).unwrap();
    let only = |dir: &Path| {
        let own = SearchPath::only(&[dir.to_owned()]);
        let make = || -> std::sync::Arc<dyn convoy_driver_sdk::dispatch::Dispatch> {
            std::sync::Arc::new(convoy_driver_sdk::dispatch::Dispatcher::<crate::driver::Misbehaving>::new())
        };
        Drivers::new(own).builtin(convoy_driver_sdk::Name::from_static("misbehaving"), make)
    };
    assert_eq!(load(&only(dir.path()), "misbehaving").await.unwrap(), Carrier::Builtin);
    copy("convoy-driver-misbehaving");
    assert_eq!(load(&only(dir.path()), "misbehaving").await.unwrap(), Carrier::Process);
    copy("libconvoy_driver_misbehaving.so");
    assert_eq!(load(&only(dir.path()), "misbehaving").await.unwrap(), Carrier::Library);
    assert_eq!(load(&only(dir.path()), "builtin:misbehaving").await.unwrap(), Carrier::Builtin);
    let carriers: Vec<_> = only(dir.path()).installed().into_iter().map(|one| one.carrier).collect();
    assert_eq!(carriers, [Carrier::Library, Carrier::Process, Carrier::Builtin]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_names_where_it_was_looked_for() {
    let error = load(&drivers(), "process:nothing").await.unwrap_err();
    assert!(matches!(error, LoadError::NotFound { .. }));
    let text = error.to_string();
    let dir = built()[0].display().to_string();
    assert!(text.contains("convoy-driver-nothing in ") && text.contains(&dir), "{text}");
    // A path is taken as it is: what is told is what is wrong with it.
    let at = tempfile::tempdir().unwrap();
    let path = |name: &str| at.path().join(name).display().to_string();
    for (name, text, mode) in
        [("convoy-driver-text", "", 0o644), ("convoy-driver-alone", "#!/no/such/program\n", 0o755)]
    {
        std::fs::write(path(name), text).unwrap();
        std::fs::set_permissions(path(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    for (given, told, way_out) in [
        ("nothing", "there is no file", "see convoy driver list"),
        (".", "no regular file", "what cargo built in target/"),
        ("convoy-driver-text", "it is not executable", "chmod +x"),
        ("convoy-driver-alone", "the program that runs it is not there", "after #!"),
    ] {
        let error = load(&drivers(), &path(given)).await.unwrap_err();
        let (text, hint) = (error.to_string(), error.hint());
        assert!(text.contains(told) && hint.contains(way_out), "{given}: {text}: {hint}");
    }
    let text = load(&drivers(), "builtin:nothing").await.unwrap_err().to_string();
    assert!(text.contains("there are: misbehaving, tmpfs"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_can_write_is_refused_and_nothing_taken_instead() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["libconvoy_driver_misbehaving.so", "convoy-driver-misbehaving"] {
        std::fs::copy(built()[0].join(file), dir.path().join(file)).unwrap();
    }
    let library = dir.path().join("libconvoy_driver_misbehaving.so");
    std::fs::set_permissions(&library, PermissionsExt::from_mode(0o666)).unwrap();
    let drivers = Drivers::new(SearchPath::only(&[dir.path().to_owned()]));
    let error = load(&drivers, "misbehaving").await.unwrap_err();
    assert!(matches!(error, LoadError::Untrusted { .. }), "{error:?}");
    assert!(drivers.installed()[0].problem.as_ref().unwrap().contains("written by everybody"));
    assert_eq!(load(&drivers, "process:misbehaving").await.unwrap(), Carrier::Process);
}

/// Compiles C into a library under a driver's name, or gives `None` where there is no compiler.
fn compile(dir: &Path, source: &str) -> Option<String> {
    let file = dir.join("libconvoy_driver_strange.so");
    let text = dir.join("strange.c");
    std::fs::write(&text, source).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&file).arg(&text).status();
    compiled.ok().filter(std::process::ExitStatus::success)?;
    Some(format!("library:{}", file.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn libraries_of_other_kinds_are_refused_with_what_to_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("libconvoy_driver_broken.so");
    std::fs::write(&broken, "not ELF").unwrap();
    let error = load(&drivers(), &format!("library:{}", broken.display())).await.unwrap_err();
    assert!(matches!(error, LoadError::Start { .. }), "{error:?}");
    assert!(error.to_string().contains("broken.so"), "{error}");

    // A compiler is there wherever Rust links.
    let spec = compile(dir.path(), "int answer(void) { return 42; }").unwrap();
    let error = load(&drivers(), &spec).await.unwrap_err();
    assert!(matches!(error, LoadError::NotADriver { .. }), "{error:?}");
    assert!(error.to_string().contains("convoy_driver_root_convoy_driver_strange"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let source = r#"
        struct { char magic[32]; unsigned major, minor; char rest[512]; }
        convoy_driver_root_convoy_driver_strange = { "abi stable library for Rust", 0, 9 };
    "#;
    let spec = compile(other.path(), source).unwrap();
    let error = load(&drivers(), &spec).await.unwrap_err();
    assert!(matches!(error, LoadError::Abi { .. }), "{error:?}");
    assert!(error.to_string().contains("expected library ABI 1.0.0"), "{error}");
    assert!(error.hint().contains("rebuild the driver with convoy-driver-sdk"), "{}", error.hint());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_library_of_another_abi_is_told_what_to_be_rebuilt_with() {
    for (name, found) in
        [("oldabi", "library ABI 0.5.0"), ("otherlayout", "library ABI 1.0.0 with another layout")]
    {
        let error = load(&drivers(), &format!("library:{name}")).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("expected library ABI 1.0.0 (convoy-driver-sdk"), "{text}");
        assert!(text.contains(&format!("found {found}")), "{text}");
        assert!(text.len() < 400 && text.lines().count() == 1, "{text}");
        assert!(error.hint().contains("rebuild the driver"), "{}", error.hint());
        let LoadError::Abi { detail, .. } = error else { panic!("{error:?}") };
        assert_eq!(detail.is_some(), name == "otherlayout", "{detail:?}");
    }
}
