//! Drivers that lie: for each lie the case that is there for it fails, with the rule that is broken. Every
//! case has one that it finds. Run as root.

#![allow(clippy::unwrap_used, clippy::panic)]

mod liar;

use convoy_driver_kit::{Options, Report, Verdict, run, run_with};
use convoy_driver_loop::LoopImages;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::dispatch::{Dispatch, Dispatcher};
use convoy_driver_vfs::VfsDriver;
use convoy_drivers::{Drivers, SearchPath};
use convoy_tests::{Lab, Storage};
use liar::Liar;
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A lie, the case that finds it, and the rule it breaks.
type Lie = (&'static str, &'static str, &'static str);

/// Told by a driver of directories.
const OF_DIRECTORIES: &[Lie] = &[
    ("declares too much", "copy.clone", "R3"),
    ("declares too little", "identity.undeclared", "R3"),
    ("creates twice", "volume.twice", "R10"),
    ("deletes what is not there", "volume.life", "R11"),
    ("has one kind of error", "volume.unknown", "R9"),
    ("has one kind of error", "snapshot.unknown", "R9"),
    ("takes any name", "volume.names", "R6"),
    ("takes any option", "volume.create-options", "R4"),
    ("mounts elsewhere each time", "volume.mount", "R14"),
    ("informs in a list", "identity.state", "R46"),
    ("is never well", "identity.state", "R49"),
    ("is born again", "volume.born", "R50"),
    ("counts anew", "list.generation", "R17"),
    ("gives what it does not take", "restore.options", "R48"),
    ("clones over anything", "copy.kept", "R13"),
    ("lists backwards", "list.pages", "R16"),
    ("lists one page", "list.pages", "R16"),
    ("never changes", "list.generation", "R17"),
    ("keeps nothing", "volume.keep", "R13"),
    ("deletes volumes as kept", "volume.kept", "R53"),
    ("hides what it keeps", "volume.kept", "R53"),
    ("takes a snapshot twice", "snapshot.life", "R21"),
    ("reads the live volume", "data.tree", "R23"),
    ("deletes what is read", "snapshot.open", "R22"),
    ("aborts nothing", "restore.abort", "R29"),
    ("finishes once", "restore.tree", "R27"),
    ("restores over anything", "restore.taken", "R28"),
    ("reverts by halves", "copy.revert-ended", "R31"),
    ("repairs unasked", "copy.check", "R42"),
    ("has one lock", "calls.independent", "R30"),
    ("has one volume", "calls.concurrent", "R30"),
    ("is deaf", "calls.deadline", "R31"),
    ("is deaf", "calls.cancel", "R32"),
];

/// Told by a driver of block devices.
const OF_DEVICES: &[Lie] = &[
    ("misses a change", "data.changed", "R26"),
    ("misses what is in use", "restore.block", "R27"),
    ("gives extents backwards", "data.block", "R24"),
    ("discards content", "data.changed", "R26"),
    ("hands over one kind", "data.either", "R45"),
    ("reverts to nothing", "copy.revert", "R41"),
    ("takes any size", "volume.sizes", "R7"),
    ("belittles", "volume.size", "R19"),
    ("deletes what is in use", "volume.in-use", "R12"),
    ("grows on paper", "volume.resize-offline", "R20"),
    ("grows on paper", "volume.resize-online", "R20"),
];

/// Told by a process.
const OF_PROCESSES: &[Lie] = &[
    ("rude", "identity.hello", "R1"),
    ("fickle", "identity.describe", "R2"),
    ("careless", "identity.options", "R4"),
    ("unhelpful", "identity.newer", "R5"),
    ("codeless", "identity.newer", "R8"),
    ("repetitive", "identity.repeated", "R47"),
    ("talkative", "identity.secrets", "R37"),
    ("attached", "backup.life", "R44"),
    ("obliging", "backup.unknown", "R43"),
    ("forgetful", "crash.durable", "R33"),
    ("forgetful", "volume.files", "R14"),
    ("hasty volume.create", "crash.create", "R34"),
    ("hasty volume.delete", "crash.delete", "R34"),
    ("hasty volume.mount", "crash.mount", "R34"),
    ("hasty volume.unmount", "crash.unmount", "R34"),
    ("hasty volume.resize", "crash.resize", "R34"),
    ("hasty snapshot.create", "crash.snapshot", "R34"),
    ("hasty snapshot.delete", "crash.snapshot-delete", "R34"),
    ("hasty snapshot.open", "crash.reading", "R34"),
    ("hasty restore.prepare", "crash.restore", "R34"),
    ("hasty volume.clone", "crash.clone", "R34"),
    ("hasty volume.revert", "crash.revert", "R34"),
    ("hasty backup.create", "crash.backup", "R34"),
    ("hasty driver.open", "crash.open", "R34"),
    ("untidy", "crash.tidy", "R51"),
    ("greedy", "volume.adopted", "R52"),
    ("hoarding", "volume.life", "R11"),
    ("sulking", "end.goodbye", "R35"),
    ("clinging", "end.hangup", "R36"),
];

/// Descriptors are counted by the process, in which nothing else may open any meanwhile.
const OF_ONE_ALONE: &[Lie] = &[("keeps files open", "end.leaks", "R38")];

fn test<D: Dispatch>(name: &'static str, lie: &'static str, make: fn() -> D, options: &Options) -> Report {
    let drivers = Drivers::new(SearchPath::only(&[]))
        .builtin(Name::from_static(name), move || Arc::new(Liar::new(lie, make())));
    run_with(drivers, format!("builtin:{name}").parse().unwrap(), options).unwrap()
}

/// The case failed, by this rule.
fn caught(report: &Report, (lie, case, rule): Lie) {
    let found = report.cases.iter().find(|found| found.id == case).unwrap();
    match &found.verdict {
        Verdict::Failed { rule: broken, .. } if broken == rule => {}
        other => panic!("{lie:?}, {case}: expected it to fail by {rule}, found {other:?}"),
    }
}

/// Several at once: most of their time is spent waiting. More than there are cores for would wait for each other
/// longer than a driver may take.
fn each(lies: &[Lie], run: impl Fn(&Lie) -> Report + Sync) {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(lie) = lies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    caught(&run(lie), *lie);
                }
            });
        }
    });
}

/// A name for a directory, or a file.
fn place((lie, case, _): &Lie) -> String {
    format!("{lie}-{case}").replace([' ', '.'], "-")
}

fn make(work: &Path, name: &str) -> PathBuf {
    let path = work.join(name);
    // Root's alone, or the driver would shelter it with a mount that stays.
    std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
    path
}

fn of_directories(work: &Path, lies: &[Lie]) {
    each(lies, |lie| {
        let path = make(work, &place(lie));
        let options =
            Options::default().option("vfs.path", path.display().to_string()).case(lie.1).work(work);
        test("vfs", lie.0, Dispatcher::<VfsDriver>::new, &options)
    });
}

#[test]
fn every_case_finds_a_lie() {
    let all = [OF_DIRECTORIES, OF_DEVICES, OF_PROCESSES, OF_ONE_ALONE].concat();
    let found: BTreeSet<&str> = all.iter().map(|(_, case, _)| *case).collect();
    let known: BTreeSet<&str> = convoy_driver_kit::list().map(|(id, _)| id).collect();
    assert_eq!(known, found, "each case of the kit needs a lie that it finds");
}

#[test]
fn lies_about_directories() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        of_directories(lab.directory(), OF_DIRECTORIES);
        Ok(())
    })
}

#[test]
fn lies_about_descriptors() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        of_directories(lab.directory(), OF_ONE_ALONE);
        Ok(())
    })
}

#[test]
fn lies_about_devices() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        let storage = Storage::new(lab, "xfs", 2 << 30, "")?;
        let (work, volumes) = (lab.directory(), storage.path());
        each(OF_DEVICES, |lie| {
            let path = volumes.join(place(lie)).display().to_string();
            let options = Options::default().option("loop.path", path).size(32 << 20);
            let options = options.case(lie.1).work(work);
            test("loop", lie.0, Dispatcher::<LoopImages>::new, &options)
        });
        Ok(())
    })
}

/// A process in another language that tells this lie.
fn liar(work: &Path, place: &str, lie: &str) -> PathBuf {
    let program = make(work, place).join("convoy-driver-liar");
    let text = include_str!("../liar.py").replace(r#"os.environ.get("LIAR_LIE", "")"#, &format!("{lie:?}"));
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn lies_of_processes() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        let work = lab.directory();
        each(OF_PROCESSES, |lie| {
            let program = liar(work, &place(lie), lie.0);
            let options = Options::default().case(lie.1).work(work);
            let adopted = make(work, &format!("of-{}", place(lie))).join("{name}").display().to_string();
            let adopts = lie.1 == "volume.adopted";
            run(program, &if adopts { options.adopt("path", adopted) } else { options }).unwrap()
        });
        Ok(())
    })
}

/// What a case finds it finds because of the lie: of the same driver, honest, it finds nothing.
#[test]
fn an_honest_stranger_passes() -> convoy_tests::Result<()> {
    Lab::run(|lab| {
        let options = Options::default().work(lab.directory()).kills(2);
        let report = run(liar(lab.directory(), "honest", ""), &options).unwrap();
        report.assert_passed();
        let sized = run(liar(lab.directory(), "sized", "sized"), &options.case("crash.resize")).unwrap();
        sized.assert_passed();
        // With everything that there is to know of a volume that adopts data.
        let path = make(lab.directory(), "of-adopting").join("{name}").display().to_string();
        let options = Options::default().work(lab.directory()).adopt("path", path);
        let adopting = run(liar(lab.directory(), "adopting", ""), &options.case("volume.")).unwrap();
        adopting.assert_passed();
        assert_eq!(std::fs::read_dir(lab.directory().join("of-adopting")).unwrap().count(), 0);
        let passed: BTreeSet<&str> = [&report, &sized, &adopting]
            .into_iter()
            .flat_map(|report| &report.cases)
            .filter(|case| case.verdict == Verdict::Passed)
            .map(|case| case.id.as_str())
            .collect();
        let lied_about: BTreeSet<&str> = OF_PROCESSES.iter().map(|(_, case, _)| *case).collect();
        let missing: Vec<_> = lied_about.difference(&passed).collect();
        assert!(missing.is_empty(), "{missing:?} did not pass: {report} {sized} {adopting}");
        Ok(())
    })
}
