//! What a call costs through each carrier: `cargo run --release -p convoy-drivers --example latency`.
//!
//! Prints a JSON object a line: `name`, `p50_us`, `p99_us` of one call after another, or `us_per_call` and
//! what is idle of the machine with many at once. The call does nothing (`driver.probe` of the test driver);
//! the listing is 10,000 volumes long.

#[path = "misbehaving/driver.rs"]
mod driver;

use convoy_driver_sdk::Name;
use convoy_driver_sdk::dispatch::Dispatcher;
use convoy_driver_sdk::protocol::{ListVolumes, Open, Probe};
use convoy_drivers::{DriverHandle, DriverSpec, Drivers, RequestContext, SearchPath};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const CALLS: usize = 20_000;
const AT_ONCE: [usize; 4] = [1, 2, 8, 32];
const LISTINGS: usize = 30;
const VOLUMES: u32 = 10_000;

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let dir = built_drivers()?;
    let root = std::env::temp_dir().join(format!("convoy-latency-{}", std::process::id()));
    std::fs::create_dir_all(&root)?;
    let drivers = Drivers::new(SearchPath::only(&[dir]))
        .builtin(Name::from_static("misbehaving"), || Arc::new(Dispatcher::<driver::Misbehaving>::new()));
    for carrier in ["builtin", "library", "process"] {
        let driver = drivers.load(&format!("{carrier}:misbehaving").parse::<DriverSpec>()?).await?;
        let open = Open::new(root.join(carrier));
        driver.open(open, RequestContext::new("open")).await?;
        // On a thread of the runtime, as the handlers of the host are.
        tokio::spawn({
            let driver = driver.clone();
            async move { measure(carrier, &driver).await.map_err(|error| error.to_string()) }
        })
        .await??;
        driver.stop(Duration::from_secs(5)).await;
    }
    std::fs::remove_dir_all(&root)?;
    Ok(())
}

async fn measure(carrier: &str, driver: &DriverHandle) -> Result<(), Failure> {
    if carrier != "process" {
        // The carrier itself: serialise, cross, dispatch, and back, on the caller's thread.
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let begun = Instant::now();
            driver.call_blocking(&Probe::new(), &RequestContext::new("x"))?;
            times.push(begun.elapsed());
        }
        report(&format!("{carrier}_call"), times);
    }
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        driver.call(Probe::new(), RequestContext::new("x").within(Duration::from_secs(5))).await?;
        times.push(begun.elapsed());
    }
    report(&format!("{carrier}_async_call"), times);

    let mut times = Vec::with_capacity(LISTINGS);
    for _ in 0..LISTINGS {
        let begun = Instant::now();
        let request = ListVolumes::new().limit(Some(VOLUMES));
        driver.call(request, RequestContext::new("list")).await?;
        times.push(begun.elapsed());
    }
    report(&format!("{carrier}_list_{VOLUMES}"), times);

    for at_once in AT_ONCE {
        many(carrier, driver, at_once).await?;
    }
    Ok(())
}

/// So many callers at once: what a call takes of the clock, and how much of the machine is idle meanwhile.
async fn many(carrier: &str, driver: &DriverHandle, at_once: usize) -> Result<(), Failure> {
    let (idle, begun) = (idle_and_all()?, Instant::now());
    let callers: Vec<_> = (0..at_once)
        .map(|_| {
            let driver = driver.clone();
            tokio::spawn(async move {
                for _ in 0..CALLS / at_once {
                    driver.call(Probe::new(), RequestContext::new("x")).await?;
                }
                Ok::<_, convoy_driver_sdk::DriverError>(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    let each = begun.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(CALLS)?);
    let now = idle_and_all()?;
    let idle = (now.0 - idle.0) / (now.1 - idle.1).max(1.0) * 100.0;
    println!(
        r#"{{"name":"{carrier}_{at_once}_at_once","us_per_call":{each:.2},"calls_per_s":{:.0},"idle_percent":{idle:.0}}}"#,
        1e6 / each
    );
    Ok(())
}

/// The ticks that the processors were idle, and all, since the machine started.
fn idle_and_all() -> Result<(f64, f64), Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    Ok((ticks.iter().skip(3).take(2).sum(), ticks.iter().sum()))
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    println!(r#"{{"name":"{name}","p50_us":{:.2},"p99_us":{:.2}}}"#, at(50), at(99));
}

/// Where the test driver was built beside this program; builds it if it was not.
fn built_drivers() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe()?;
    let dir = own.parent().ok_or("this program is in no directory")?.to_owned();
    let there = |file: &str| dir.join(file).exists();
    if !there("libconvoy_driver_misbehaving.so") || !there("convoy-driver-misbehaving") {
        let mut cargo =
            std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--package", "convoy-drivers", "--examples"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        if !cargo.status()?.success() {
            return Err("the test driver could not be built".into());
        }
    }
    Ok(dir)
}
