//! Much work at once in a daemon whose memory is bounded all the same.

use std::fs;
use std::time::{Duration, Instant};

use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Lab, Result, Setup, tree};

/// What the daemon may ever have had, with its settings as they are by default.
const MOST_KIB: u64 = 256 << 10;
/// How much is asked for at once.
const VOLUMES: usize = 6;

/// Bytes that do not compress, others for each seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let mut all = vec![0; bytes];
    for word in all.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    all
}

/// Runs a piece of work for every volume at once.
fn at_once<T: Send>(work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..VOLUMES)
            .map(|number| {
                let work = &work;
                scope.spawn(move || work(number))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

#[test]
fn six_backups_and_restores_at_once_stay_below_256_mib() -> Result<()> {
    Lab::run(|lab| {
        let store = lab.make("store")?;
        let passphrase = lab.secret("passphrase", "stretching takes memory too")?;
        // One of them is encrypted, and small: what is not optimized seals slowly.
        let sealed = lab.make("sealed")?;
        let settings = format!(
            "[destinations.\"vfs://{}/\"]\npassphrase_file = \"{}\"\n",
            sealed.display(),
            passphrase.display()
        );
        let file = lab.path("destinations.toml");
        fs::write(&file, settings).during(|| "write settings".to_owned())?;
        let setup = Setup::vfs(lab, Carrier::Builtin).with(&["--destinations", &file.display().to_string()]);
        let convoy = setup.start()?;
        let name = |number: usize| format!("data{number}");
        for number in 0..VOLUMES {
            convoy.ok(&["create", &name(number)])?;
            let place = convoy.setup().volumes.join(name(number));
            fs::write(place.join("file"), noise(number as u64, if number == 0 { 1 << 20 } else { 64 << 20 }))
                .during(|| "fill a volume".to_owned())?;
            convoy.ok(&["snapshot", "create", &name(number), "--name", &format!("snap{number}")])?;
        }
        let urls = at_once(|number| {
            let destination = format!("vfs://{}/", if number == 0 { &sealed } else { &store }.display());
            let snapshot = format!("snap{number}");
            Ok(convoy.ok(&["backup", "create", &snapshot, "--dest", &destination])?.replace("\\u0026", "&"))
        })?;
        let after_backups = convoy.peak_kib()?;
        at_once(|number| convoy.ok(&["create", &format!("copy{number}"), "--backup", &urls[number]]))?;
        let after_restores = convoy.peak_kib()?;
        at_once(|number| convoy.ok(&["backup", "verify", &urls[number], "--read-data"]))?;
        let peak = convoy.peak_kib()?;
        check(peak < MOST_KIB, || {
            format!(
                "peak in KiB: {after_backups} after backups, {after_restores} and restores, {peak} and checks"
            )
        })?;
        for number in 0..VOLUMES {
            let place = |name: String| convoy.setup().volumes.join(name);
            let (from, to) = (place(name(number)), place(format!("copy{number}")));
            check(tree::describe(&from)? == tree::describe(&to)?, || format!("{} differs", to.display()))?;
        }
        Ok(())
    })
}

#[test]
fn work_that_waits_for_memory_says_so_and_can_be_cancelled() -> Result<()> {
    Lab::run(|lab| {
        let store = lab.make("store")?;
        let file = lab.path("destinations.toml");
        // So slow that it is still under way when the other one is asked for.
        fs::write(&file, format!("[destinations.\"vfs://{}/\"]\nbandwidth = \"1M\"\n", store.display()))
            .during(|| "write settings".to_owned())?;
        let flags = ["--destinations", &file.display().to_string(), "--memory", "48M"];
        let convoy = Setup::vfs(lab, Carrier::Builtin).with(&flags).start()?;
        convoy.ok(&["create", "data"])?;
        fs::write(convoy.setup().volumes.join("data/file"), noise(1, 64 << 20))
            .during(|| "fill a volume".to_owned())?;
        convoy.ok(&["snapshot", "create", "data", "--name", "snap"])?;
        let destination = format!("vfs://{}/", store.display());
        let other = format!("vfs://{}/", lab.make("other")?.display());
        let job = |phase: &str| -> Result<String> {
            let end = Instant::now() + Duration::from_secs(30);
            loop {
                let text = convoy.ok(&["jobs"])?;
                let jobs: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let all = jobs.as_object().cloned().unwrap_or_default();
                let found = all.iter().find(|(_, job)| job["Progress"]["Phase"] == phase);
                if let Some((id, _)) = found {
                    return Ok(id.clone());
                }
                check(Instant::now() < end, || format!("no job is {phase}: {text}"))?;
                std::thread::sleep(Duration::from_millis(50));
            }
        };
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| convoy.run(&["backup", "create", "snap", "--dest", &destination]));
            let first = job("reading")?;
            let waits = scope.spawn(|| convoy.run(&["backup", "create", "snap", "--dest", &other]));
            let second = job("waiting")?;
            // What needs no memory goes on meanwhile.
            convoy.ok(&["create", "empty"])?;
            for id in [&second, &first] {
                convoy.ok(&["jobs", "cancel", id])?;
            }
            for ended in [waits, slow] {
                let Ok(output) = ended.join() else { return check(false, || "a client panicked".to_owned()) };
                let output = output?;
                check(output.status.code().is_some_and(|code| code != 0), || format!("{output:?}"))?;
            }
            Ok(())
        })?;
        // Its memory was given back.
        let quick = format!("vfs://{}/", lab.make("quick")?.display());
        convoy.ok(&["backup", "create", "snap", "--dest", &quick]).map(drop)
    })
}
