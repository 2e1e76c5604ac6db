//! Killed at any moment: what was acknowledged is there, what was not is there whole or not at all, and
//! nothing else is left.
//!
//! Two ways: a storm of operations killed at some moment, and single operations killed at each of their
//! system calls.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use convoy_driver_sdk::protocol::{CloneVolume, DeleteKept, FinishRestore, ResizeVolume, RevertVolume};

use crate::support::{Bed, Client, builtin, name};

const PLACE: &str = "CONVOY_TEST_PLACE";
const STEP: &str = "CONVOY_TEST_STEP";
/// What clones are made of.
const ORIGIN: &str = "origin";
const THREADS: usize = 4;
const VOLUMES: usize = 3;

/// What one thread does to one of its volumes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Create,
    CreateImage,
    /// With a size that the file system enforces, if it can.
    CreateSized,
    /// So many MiB.
    Resize(u32),
    Write(u32),
    Snapshot(u32),
    DropSnapshot(u32),
    Forget,
    DropKept,
    Delete,
    Restore(u32),
    Revert(u32),
    /// From a snapshot of another volume, which has that value.
    Clone(u32),
}

/// What is known of a volume. A kept one has data and does not exist.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    exists: bool,
    data: bool,
    value: Option<u32>,
    snapshots: BTreeMap<u32, Option<u32>>,
}

impl State {
    /// The state after a step; none when the step makes no sense now.
    fn after(&self, step: Step) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Step::Create | Step::CreateImage | Step::CreateSized if !self.exists => {
                (next.exists, next.data) = (true, true);
            }
            Step::Resize(_) if self.exists => {}
            Step::Write(value) if self.exists => next.value = Some(value),
            Step::Snapshot(name) if self.exists && !self.snapshots.contains_key(&name) => {
                next.snapshots.insert(name, self.value);
            }
            Step::DropSnapshot(name) if self.exists => drop(next.snapshots.remove(&name)?),
            Step::Forget if self.exists => next.exists = false,
            Step::DropKept if self.data && !self.exists => next = Self::default(),
            Step::Delete if self.exists => next = Self::default(),
            Step::Restore(value) if !self.data => {
                next = Self { exists: true, data: true, value: Some(value), ..Self::default() };
            }
            Step::Revert(name) if self.exists => next.value = *self.snapshots.get(&name)?,
            Step::Clone(value) if !self.data => {
                next = Self { exists: true, data: true, value: Some(value), ..Self::default() };
            }
            _ => return None,
        }
        Some(next)
    }
}

/// A small generator of our own: the storm must be repeatable from a number.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 % u64::from(below)).unwrap()
    }

    fn step(&mut self) -> Step {
        let n = self.next(1000);
        match self.next(12) {
            0 => Step::Create,
            1 => Step::CreateImage,
            2 | 3 => Step::Write(n),
            4 | 5 => Step::Snapshot(n % 4),
            6 => Step::DropSnapshot(n % 4),
            7 => Step::Forget,
            8 => Step::Delete,
            9 => Step::Revert(n % 4),
            10 => Step::DropKept,
            _ => Step::Restore(n),
        }
    }
}

fn volume(thread: usize, number: usize) -> String {
    format!("vol-{thread}-{number}")
}

fn perform(bed: &Path, client: &Client, volume: &str, step: Step) {
    let write = |dir: PathBuf, value: u32| {
        fs::write(dir.join("value.new"), value.to_string()).unwrap();
        fs::rename(dir.join("value.new"), dir.join("value")).unwrap();
    };
    let snapshot = |n: u32| format!("snap{n}");
    match step {
        Step::Create => drop(client.create(volume).unwrap()),
        Step::CreateImage => drop(client.create_with(volume, Some(1 << 20), &[("vm", "true")]).unwrap()),
        Step::CreateSized => drop(client.create_with(volume, Some(8 << 20), &[]).unwrap()),
        Step::Resize(mib) => {
            let size = u64::from(mib) << 20;
            drop(client.call(ResizeVolume { name: name(volume), size }).unwrap());
        }
        Step::Write(value) => write(bed.join("volumes").join(volume), value),
        Step::Snapshot(n) => drop(client.snapshot(volume, &snapshot(n)).unwrap()),
        Step::DropSnapshot(n) => client.drop_snapshot(volume, &snapshot(n)).unwrap(),
        Step::Forget => client.delete(volume, true).unwrap(),
        Step::DropKept => drop(client.call(DeleteKept { name: name(volume) }).unwrap()),
        Step::Delete => client.delete(volume, false).unwrap(),
        Step::Revert(n) => {
            drop(client.call(RevertVolume { name: name(volume), snapshot: name(&snapshot(n)) }).unwrap());
        }
        Step::Clone(_) => {
            let request = CloneVolume {
                name: name(volume),
                source: name(ORIGIN),
                snapshot: name("snap0"),
                size: None,
                options: BTreeMap::new(),
            };
            drop(client.call(request).unwrap());
        }
        Step::Restore(value) => {
            let (prepared, path) = client.prepare(volume, &[]).unwrap();
            write(path, value);
            client.call(FinishRestore { handle: prepared.handle }).unwrap();
        }
    }
}

/// The child of the other test: one step, or only the opening.
#[test]
#[ignore = "run by the other test, as a process to kill"]
fn single() {
    let Some(bed) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let open = serde_json::from_slice(&fs::read(bed.join("open.json")).unwrap()).unwrap();
    let client = builtin();
    client.open(open).unwrap();
    if let Ok(step) = std::env::var(STEP) {
        let (word, n) = step.split_once(' ').unwrap();
        perform(&bed, &client, "vol1", decode(word, n.parse().unwrap()));
    }
}

/// Calls that change what is on disk. (A name that a machine does not have is preceded by `?`.)
const CALLS: [&str; 17] = [
    "?rename",
    "renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?rmdir",
    "?mkdir",
    "mkdirat",
    "linkat",
    "?mknodat",
    "fsync",
    "syncfs",
    "ftruncate",
    "copy_file_range",
    "fchown",
    "utimensat",
    "flock",
];

/// Runs [`single`] and kills it as it enters its `at`th `call`. Whether it was killed.
fn killed_at(bed: &Bed, step: Option<Step>, call: &str, at: usize) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={at}")]);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::single", "--ignored", "--nocapture"]);
    command.env(PLACE, bed.path()).stdout(Stdio::null());
    if let Some(step) = step {
        command.env(STEP, encode(step));
    }
    let out = command.output().unwrap();
    // strace ends as what it traced.
    let killed = out.status.signal() == Some(9) || out.status.code() == Some(137);
    assert!(killed || out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    killed
}

/// One operation after others, killed at one point; whether it came to that. `look` sees what is left of it.
pub(crate) fn survive(
    before: &[Step],
    step: Step,
    (call, at): (&str, usize),
    look: &dyn Fn(&Bed, &Client),
) -> bool {
    let bed = Bed::new(builtin);
    fs::write(bed.path().join("open.json"), serde_json::to_vec(&bed.request()).unwrap()).unwrap();
    let client = bed.open();
    let mut state = State::default();
    let mut names = vec!["vol1".to_owned()];
    if let Step::Clone(value) = step {
        for made in [Step::Create, Step::Write(value), Step::Snapshot(0)] {
            perform(bed.path(), &client, ORIGIN, made);
        }
        names.push(ORIGIN.to_owned());
    }
    for done in before {
        perform(bed.path(), &client, "vol1", *done);
        state = state.after(*done).unwrap();
    }
    client.close();
    let killed = killed_at(&bed, Some(step), call, at);
    // Putting things right is cut off as well.
    if killed {
        killed_at(&bed, None, "?rename,?unlink,unlinkat,?rmdir,?mkdir,fsync", 1 + at % 3);
    }
    let next = state.after(step).unwrap();
    let (client, opened) = bed.open_with(bed.request()).unwrap();
    assert_eq!(opened.warnings, Vec::<String>::new());
    let found = observed(&bed, &client, "vol1");
    let allowed = if killed { vec![state, next] } else { vec![next] };
    assert!(allowed.contains(&found), "{step:?} killed at {call} {at}: {found:?} of {allowed:?}");
    nothing_unknown(&bed, &client, &names);
    look(&bed, &client);
    killed
}

#[test]
fn every_point_of_every_operation() {
    if Command::new("strace").arg("-V").output().is_err() {
        println!("skipped: strace is not installed");
        return;
    }
    let existing = [Step::Create, Step::Write(1), Step::Snapshot(0), Step::Write(2), Step::Snapshot(1)];
    let kept = [&existing[..], &[Step::Forget]].concat();
    let image = [Step::CreateImage, Step::Snapshot(0)];
    let operations: [(&[Step], Step); 14] = [
        (&[], Step::Create),
        (&[], Step::CreateImage),
        (&[], Step::Restore(5)),
        (&existing, Step::Snapshot(2)),
        (&existing, Step::DropSnapshot(1)),
        (&existing, Step::Forget),
        (&existing, Step::Delete),
        (&kept, Step::Create),
        (&kept, Step::DropKept),
        (&image, Step::Snapshot(1)),
        (&image, Step::Delete),
        (&[], Step::Clone(7)),
        (&existing, Step::Revert(0)),
        (&image, Step::Revert(0)),
    ];
    // Each on a thread of its own: they wait for the disk most of the time.
    std::thread::scope(|scope| {
        for (before, step) in &operations {
            scope.spawn(move || {
                let points: usize = CALLS
                    .iter()
                    .map(|call| {
                        (1..).take_while(|at| survive(before, *step, (call, *at), &|_, _| ())).count()
                    })
                    .sum();
                assert!(points > 3, "{step:?} was killed at {points} points only");
            });
        }
    });
}

/// The child: steps until it is killed, and a line in the log before and after each.
#[test]
#[ignore = "run by the other test, as a process to kill"]
fn child() {
    let Some(bed) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    let open = serde_json::from_slice(&fs::read(bed.join("open.json")).unwrap()).unwrap();
    let client = builtin();
    client.open(open).unwrap();
    let log = Mutex::new(File::options().append(true).create(true).open(bed.join("log")).unwrap());
    let say = |line: String| log.lock().unwrap().write_all(line.as_bytes()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (bed, client, say) = (&bed, &client, &say);
            scope.spawn(move || {
                let seed = u64::from(std::process::id()) << 8 | thread as u64;
                let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
                let mut states = vec![State::default(); VOLUMES];
                loop {
                    let number = random.next(3) as usize;
                    let step = random.step();
                    let Some(next) = states[number].after(step) else { continue };
                    say(format!("{thread} {number} {}\n", encode(step)));
                    perform(bed, client, &volume(thread, number), step);
                    say(format!("{thread} done\n"));
                    states[number] = next;
                }
            });
        }
    });
}

fn encode(step: Step) -> String {
    match step {
        Step::Create => "create 0".to_owned(),
        Step::CreateImage => "image 0".to_owned(),
        Step::CreateSized => "sized 0".to_owned(),
        Step::Resize(n) => format!("resize {n}"),
        Step::Write(n) => format!("write {n}"),
        Step::Snapshot(n) => format!("snapshot {n}"),
        Step::DropSnapshot(n) => format!("drop {n}"),
        Step::Forget => "forget 0".to_owned(),
        Step::DropKept => "dropkept 0".to_owned(),
        Step::Delete => "delete 0".to_owned(),
        Step::Restore(n) => format!("restore {n}"),
        Step::Revert(n) => format!("revert {n}"),
        Step::Clone(n) => format!("clone {n}"),
    }
}

fn decode(word: &str, n: u32) -> Step {
    match word {
        "create" => Step::Create,
        "image" => Step::CreateImage,
        "sized" => Step::CreateSized,
        "resize" => Step::Resize(n),
        "write" => Step::Write(n),
        "snapshot" => Step::Snapshot(n),
        "drop" => Step::DropSnapshot(n),
        "forget" => Step::Forget,
        "dropkept" => Step::DropKept,
        "delete" => Step::Delete,
        "restore" => Step::Restore(n),
        "revert" => Step::Revert(n),
        "clone" => Step::Clone(n),
        other => panic!("{other}"),
    }
}

/// For each volume: what it must be, or, when a step was under way, what it may be too.
fn expected(log: &str) -> BTreeMap<String, Vec<State>> {
    let mut states: BTreeMap<String, State> =
        (0..THREADS).flat_map(|t| (0..VOLUMES).map(move |n| (volume(t, n), State::default()))).collect();
    let mut under_way: BTreeMap<usize, (String, Step)> = BTreeMap::new();
    for line in log.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let thread = words[0].parse().unwrap();
        if words[1] == "done" {
            let (volume, step) = under_way.remove(&thread).unwrap();
            let next = states[&volume].after(step).unwrap();
            states.insert(volume, next);
        } else {
            let step = decode(words[2], words[3].parse().unwrap());
            under_way.insert(thread, (volume(thread, words[1].parse().unwrap()), step));
        }
    }
    let mut expected: BTreeMap<_, _> = states.into_iter().map(|(name, state)| (name, vec![state])).collect();
    for (volume, step) in under_way.into_values() {
        let allowed = expected.get_mut(&volume).unwrap();
        allowed.push(allowed[0].after(step).unwrap());
    }
    expected
}

fn value(dir: &Path) -> Option<u32> {
    Some(fs::read_to_string(dir.join("value")).ok()?.parse().unwrap())
}

fn observed(bed: &Bed, client: &Client, name: &str) -> State {
    let dir = bed.volume(name);
    let record = client.get(name).ok();
    let mut state =
        State { exists: record.is_some(), data: dir.is_dir(), value: value(&dir), ..State::default() };
    if let Some(record) = record {
        assert_eq!(record.health, convoy_driver_sdk::protocol::Health::Good, "{name}");
        for snapshot in record.snapshots {
            let (opened, path) = client.open_snapshot(name, &snapshot.name).unwrap();
            state
                .snapshots
                .insert(snapshot.name.strip_prefix("snap").unwrap().parse().unwrap(), value(&path));
            client.close_snapshot(opened);
        }
    } else if let Ok(text) = fs::read(bed.config().join(format!("vfs_kept_{name}.json"))) {
        let kept: serde_json::Value = serde_json::from_slice(&text).unwrap();
        for snapshot in kept["Snapshots"].as_object().unwrap().keys() {
            let path = bed.config().join(format!("snapshots/{name}/{snapshot}/tree"));
            assert!(path.is_dir());
            state.snapshots.insert(snapshot.strip_prefix("snap").unwrap().parse().unwrap(), value(&path));
        }
    }
    state
}

/// Nothing is on disk that nobody knows of.
fn nothing_unknown(bed: &Bed, client: &Client, names: &[String]) {
    client.close();
    bed.nothing_is_left();
    let client = bed.open();
    for dir in bed.volume_dirs() {
        assert!(names.contains(&dir), "{dir}");
    }
    for file in bed.own_files() {
        assert!(!file.ends_with(".lock") && !file.contains(".tmp"), "{file}");
    }
    for volume in fs::read_dir(bed.config().join("snapshots")).into_iter().flatten().flatten() {
        let name = volume.file_name().into_string().unwrap();
        let known = observed(bed, &client, &name).snapshots.len();
        assert_eq!(fs::read_dir(volume.path()).unwrap().count(), known, "{name}");
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nothing_is_lost_and_nothing_left() {
    let mut steps = 0;
    for round in 0..12u64 {
        let bed = Bed::new(builtin);
        fs::write(bed.path().join("open.json"), serde_json::to_vec(&bed.request()).unwrap()).unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child", "--ignored", "--nocapture"])
            .env(PLACE, bed.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        while !bed.path().join("log").exists() {
            assert!(child.0.try_wait().unwrap().is_none(), "the storm ended by itself");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(40 + round * 61 % 350));
        assert!(child.0.try_wait().unwrap().is_none(), "the storm ended by itself");
        drop(child);

        let log = fs::read_to_string(bed.path().join("log")).unwrap();
        steps += log.lines().count();
        let (client, opened) = bed.open_with(bed.request()).unwrap();
        assert_eq!(opened.warnings, Vec::<String>::new());
        let expected = expected(&log);
        for (name, allowed) in &expected {
            let found = observed(&bed, &client, name);
            assert!(allowed.contains(&found), "{name}: {found:?} of {allowed:?}, {:?}", opened.recovered);
        }
        nothing_unknown(&bed, &client, &expected.into_keys().collect::<Vec<_>>());
    }
    assert!(steps > 200, "only {steps} lines: the storm was too small to mean anything");
}
