//! Looking into backups, beside restic: the same data, the same disk, one run, in turns.
//!
//! Each [`Task`] is one line of convoy and one of restic that answer the same question. Another one is
//! another entry of [`tasks`].

use std::path::{Path, PathBuf};
use std::process::Command;

use convoy_tests::error::Context;
use convoy_tests::{Carrier, Convoy, Error, Lab, Result, Setup};

use super::backup::data::{self, Data, Source};
use super::backup::restic::Restic;
use super::backup::{MEMORY, back_up, destination};
use super::settle;
use super::table::Row;
use super::usage::{self, Usage};

/// How often each task is measured; the median counts.
const ROUNDS: usize = 5;
/// How many backups `find` goes through.
const BACKUPS: u32 = 50;
/// Files of which each backup has other ones than the one before.
const CHANGED: u64 = 200;

/// A question that both are asked.
struct Task {
    what: String,
    convoy: Vec<String>,
    restic: Vec<String>,
    /// How often in a round: what takes little is not measured well once.
    often: u32,
    /// What is removed before each run.
    made: Vec<PathBuf>,
}

pub(super) fn run(lab: &Lab) -> Result<Vec<Row>> {
    let mut rows = of(lab, Data::Large, 2)?;
    rows.extend(of(lab, Data::Small, BACKUPS)?);
    Ok(rows)
}

/// A million files.
pub(super) fn many_files(lab: &Lab) -> Result<Vec<Row>> {
    let place = Place::new(lab, "million")?;
    data::million(&place.volume)?;
    place.back_up(0)?;
    let path = place.volume.join("directory500/file500");
    std::fs::write(&path, "changed").during(|| format!("write {}", path.display()))?;
    place.back_up(1)?;
    measure(&place, "1,000,000 files", tasks(&place, "1,000,000 files", "directory500", "file500", None)?)
}

fn of(lab: &Lab, data: Data, backups: u32) -> Result<Vec<Row>> {
    let place = Place::new(lab, data.name())?;
    data.fill(&place.volume)?;
    let small = place.volume.join("directory0/small");
    let write = |bytes: &[u8], path: &Path| -> Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(path))
            .during(|| format!("make {}", path.display()))?;
        std::fs::write(path, bytes).during(|| format!("write {}", path.display()))
    };
    write(&Source::new(7).bytes(4096, true), &small)?;
    for round in 0..backups {
        if round > 0 {
            let mut source = Source::new(100 + u64::from(round));
            match data {
                Data::Large => write(&source.bytes(1 << 20, true), &place.volume.join("directory0/added"))?,
                // Some in every tenth directory, others each time.
                Data::Small => {
                    for number in 0..CHANGED {
                        let directory = (number % 20) * 10 + u64::from(round) % 10;
                        let name = format!("directory{directory}/file{}", directory * 100 + number / 20);
                        write(&source.bytes(8192, true), &place.volume.join(name))?;
                    }
                }
            }
        }
        place.back_up(round)?;
    }
    let large = matches!(data, Data::Large).then_some("random");
    let tasks = tasks(&place, data.what(), "directory0", "small", large)?;
    measure(&place, data.what(), tasks)
}

/// A volume, with its backups in both stores.
struct Place<'a> {
    lab: &'a Lab,
    name: &'static str,
    convoy: Convoy,
    volume: PathBuf,
    store: String,
    restic: Restic,
    urls: std::cell::RefCell<Vec<String>>,
}

impl<'a> Place<'a> {
    fn new(lab: &'a Lab, name: &'static str) -> Result<Self> {
        let convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        convoy.ok(&["create", name])?;
        convoy.ok(&["create", "target"])?;
        let volume = convoy.setup().volumes.join(name);
        let (store, restic) = (destination(lab, &format!("{name}-browse"))?, Restic::new(lab, name)?);
        Ok(Self { lab, name, convoy, volume, store, restic, urls: Default::default() })
    }

    fn back_up(&self, number: u32) -> Result<()> {
        let (_, url) = back_up(&self.convoy, self.name, &number.to_string(), &self.store)?;
        self.urls.borrow_mut().push(url);
        self.restic.back_up(&self.volume)?;
        // The next one builds on the last; older ones only take room.
        match number.checked_sub(2) {
            Some(old) => self.convoy.ok(&["snapshot", "delete", &format!("{}-{old}", self.name)]).map(drop),
            None => Ok(()),
        }
    }
}

/// What both are asked of a volume with the directory `directory`, in it `file`, and at its top the file
/// `large`.
fn tasks(
    place: &Place<'_>,
    what: &str,
    directory: &str,
    file: &str,
    large: Option<&str>,
) -> Result<Vec<Task>> {
    let urls = place.urls.borrow();
    let [.., before, last] = urls.as_slice() else {
        return Err(Error::Unexpected("there are fewer than two backups".to_owned()));
    };
    let snapshots = place.restic.snapshots()?;
    let [.., old, new] = snapshots.as_slice() else {
        return Err(Error::Unexpected("restic has fewer than two snapshots".to_owned()));
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let inside = |path: &str| place.volume.join(path).display().to_string();
    let task = |name: String, convoy: &[&str], restic: &[&str], often: u32| Task {
        what: format!("{what}: {name}"),
        convoy: words(convoy),
        restic: words(restic),
        often,
        made: Vec::new(),
    };
    let many = urls.len();
    let mut tasks = vec![
        task(
            "ls of a directory".to_owned(),
            &["backup", "ls", last, directory, "-l"],
            &["ls", "--long", "latest", &inside(directory)],
            5,
        ),
        task(
            "ls of everything".to_owned(),
            &["backup", "ls", last, "-R", "-l"],
            &["ls", "--long", "latest"],
            1,
        ),
        task(
            format!("find of a name in {many} backups"),
            &["backup", "find", &place.store, file],
            &["find", file],
            1,
        ),
        task("diff of two backups".to_owned(), &["backup", "diff", before, last], &["diff", old, new], 1),
    ];
    let target = place.lab.path("restic-target");
    let path = format!("{directory}/{file}");
    let mut restores = vec![(path.as_str(), "a small file", 5)];
    restores.extend(large.map(|large| (large, "a file of 512 MiB", 1)));
    for (path, name, often) in restores {
        let mut task = task(
            format!("restore of {name}"),
            &["restore", last, "--path", path, "--into", "target"],
            &["restore", "latest", "--include", &inside(path), "--target", &target.display().to_string()],
            often,
        );
        task.made = vec![place.convoy.setup().volumes.join("target").join(path), target.clone()];
        tasks.push(task);
    }
    Ok(tasks)
}

/// Measures both in turns.
fn measure(place: &Place<'_>, what: &str, tasks: Vec<Task>) -> Result<Vec<Row>> {
    let mut all: Vec<[Vec<Usage>; 2]> = tasks.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    settle();
    for _ in 0..ROUNDS {
        for (task, [ours, restics]) in tasks.iter().zip(&mut all) {
            let convoy = || -> Result<Command> {
                clear(task)?;
                place.convoy.setup().client(&task.convoy.iter().map(String::as_str).collect::<Vec<_>>())
            };
            let restic = || {
                clear(task)?;
                Ok(place.restic.command(&task.restic.iter().map(String::as_str).collect::<Vec<_>>()))
            };
            ours.push(usage::of(&convoy, task.often, Some(&place.convoy))?);
            restics.push(usage::of(&restic, task.often, None)?);
        }
    }
    let mut rows = Vec::new();
    for (task, [ours, restics]) in tasks.iter().zip(&all) {
        let figure = |usages: &[Usage], of: fn(&Usage) -> f64| median(usages.iter().map(of).collect());
        for (name, unit, of) in [
            ("", "s", (|usage| usage.wall) as fn(&Usage) -> f64),
            (", processors", "s", |usage| usage.cpu),
            (", memory", "MiB", |usage| usage.peak),
        ] {
            let beside = figure(restics, of);
            let goal = if unit == "MiB" { MEMORY } else { beside };
            rows.push(Row::new(format!("{}{name}", task.what), figure(ours, of), unit).goal(goal));
            rows.push(Row::new("  restic", beside, unit));
        }
    }
    if rows.is_empty() {
        return Err(Error::Unexpected(format!("{what}: nothing was measured")));
    }
    Ok(rows)
}

fn clear(task: &Task) -> Result<()> {
    for path in task.made.iter().filter(|path| path.exists()) {
        let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        removed.during(|| format!("remove {}", path.display()))?;
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
