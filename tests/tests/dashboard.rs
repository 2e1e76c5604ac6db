//! `docs/grafana-dashboard.json` and the alerts of `docs/monitoring.md`, asked of a real Prometheus that
//! scrapes a real daemon while it works: every panel has something to show.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use convoy_tests::child::Child;
use convoy_tests::error::{Context, check};
use convoy_tests::{Carrier, Convoy, Error, Lab, Result, Setup, patience, run};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../docs/grafana-dashboard.json");
const MONITORING: &str = include_str!("../../docs/monitoring.md");
const DRIVER: &str = include_str!("../../examples/python/convoy-driver-folder");

/// What the driver says of itself, and of a pool, which it does not have.
const INFO: &str = r#""info": {"#;
const POOL: &str = r#""info": {"PoolDataUsed": "25", "PoolDataTotal": "100", "PoolMetadataUsed": "1", "PoolMetadataTotal": "8", "#;

/// How long a panel may stay empty, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A question of the dashboard.
#[derive(Debug)]
struct Query {
    panel: String,
    expression: String,
    /// The labels that its legend names.
    labels: Vec<String>,
}

/// Every question, with what Grafana puts into it for all jobs, all instances and a scrape each second.
fn queries() -> Result<Vec<Query>> {
    let dashboard: Value = serde_json::from_str(DASHBOARD)
        .map_err(|error| Error::Unexpected(format!("the dashboard: {error}")))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = text(&target["expr"]).replace("$job", ".*").replace("$instance", ".*");
            let expression = expression.replace("$__rate_interval", "1m");
            check(!expression.is_empty() && !expression.contains('$'), || format!("{panel}"))?;
            let legend = text(&target["legendFormat"]);
            let labels =
                legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.to_owned()));
            queries.push(Query { panel: text(&panel["title"]), expression, labels: labels.collect() });
        }
    }
    Ok(queries)
}

/// The alerts that are recommended.
fn alerts() -> Vec<&'static str> {
    let (_, after) = MONITORING.split_once("What to be woken for:\n\n").unwrap_or_default();
    let lines = after.lines().take_while(|line| line.starts_with("    "));
    lines.map(|line| line.split('#').next().unwrap_or_default().trim()).collect()
}

/// A port that nobody listens at.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").during(|| "no port".to_owned())?;
    Ok(listener.local_addr().during(|| "no address".to_owned())?.port())
}

/// A Prometheus server that reads the daemon's metrics.
struct Prometheus {
    _child: Child,
    url: String,
}

impl Prometheus {
    fn start(lab: &Lab, scraped: &str) -> Result<Self> {
        let file = lab.path("prometheus.yml");
        let settings = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs:\n  - job_name: convoy\n    static_configs: [{{ targets: [\"{scraped}\"] }}]\n"
        );
        fs::write(&file, settings).during(|| "cannot write the settings of Prometheus".to_owned())?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", lab.path("tsdb").display()));
        command.arg(format!("--web.listen-address={address}")).arg("--log.level=warn");
        lab.origin().mark(&mut command);
        let child = Child::start(&mut command, &lab.path("prometheus.log"))?;
        Ok(Self { _child: child, url: format!("http://{address}") })
    }

    /// The series that a question is answered with now.
    fn ask(&self, expression: &str) -> Result<Vec<Value>> {
        self.query(&["instant", &self.url, expression])
    }

    /// The series of the last minutes, as a panel shows them.
    fn ask_of_the_past(&self, expression: &str) -> Result<Vec<Value>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (start, end) = (format!("--start={}", now - 180), format!("--end={now}"));
        self.query(&["range", &start, &end, "--step=1s", &self.url, expression])
    }

    fn query(&self, words: &[&str]) -> Result<Vec<Value>> {
        let mut promtool = Command::new("promtool");
        promtool.args(["query", "-o", "json"]).args(words);
        let answer = run::capture(&mut promtool)?.ok()?;
        serde_json::from_str(&answer)
            .map_err(|error| Error::Unexpected(format!("{words:?}: {error}: {answer}")))
    }
}

/// The series with a number; a rate over too little is none yet.
fn shown(series: &[Value]) -> Vec<&Value> {
    let is_number =
        |pair: &Value| pair[1].as_str().and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite);
    let has_numbers =
        |one: &&Value| one["values"].as_array().is_some_and(|pairs| pairs.iter().any(is_number));
    series.iter().filter(has_numbers).collect()
}

/// A schedule whose runs take long enough to be seen running.
fn settings(lab: &Lab) -> Result<String> {
    let file = lab.path("convoy.toml");
    let store = lab.make("store")?;
    let text = format!(
        "[[schedule]]\nname = \"nightly\"\ncron = \"30 3 * * *\"\nvolumes = [\"db*\"]\nkind = \"backup\"\n\
         destination = \"vfs://{}\"\nkeep = {{ last = 2 }}\n\
         [[schedule.before]]\ncommand = [\"sleep\", \"1.5\"]\n",
        store.display()
    );
    fs::write(&file, text).during(|| "cannot write the settings".to_owned())?;
    Ok(file.display().to_string())
}

/// The driver in Python, with a pool.
fn driver(lab: &Lab) -> Result<String> {
    check(DRIVER.contains(INFO), || "the driver in Python has no info".to_owned())?;
    let file = lab.path("convoy-driver-folder");
    fs::write(&file, DRIVER.replacen(INFO, POOL, 1)).during(|| "cannot write the driver".to_owned())?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
        .during(|| "cannot allow it to run".to_owned())?;
    Ok(format!("process:{}", file.display()))
}

/// What a dashboard shows: a volume that is used, backups, and calls that fail.
fn work(convoy: &Convoy) -> Result<()> {
    convoy.refused(&["create", "odd", "--opt", "mode=odd"])?;
    convoy.refused(&["inspect", "nothing"])?;
    convoy.ok(&["schedule", "run", "nightly"])?;
    Ok(())
}

#[test]
fn every_panel_of_the_dashboard_has_something_to_show() -> Result<()> {
    Lab::run(|lab| {
        let address = format!("127.0.0.1:{}", free_port()?);
        let settings = settings(lab)?;
        let mut setup =
            Setup::vfs(lab, Carrier::Builtin).with(&["--metrics-listen", &address, "--config", &settings]);
        let drivers = setup.flags.iter().position(|flag| flag.starts_with("builtin:"));
        let drivers = drivers.ok_or_else(|| Error::Unexpected("no drivers".to_owned()))?;
        setup.flags[drivers] = format!("builtin:vfs,{}", driver(lab)?);
        let mut convoy = setup.start()?;
        let prometheus = Prometheus::start(lab, &address)?;
        patience::until("Prometheus has scraped the daemon", PATIENCE, || {
            Ok(prometheus.ask("convoy_build_info").is_ok_and(|series| !series.is_empty()))
        })?;
        convoy.ok(&["create", "db1"])?;
        convoy.ok(&["mount", "db1"])?;

        let mut empty = queries()?;
        assert!(empty.len() > 18, "{empty:?}");
        patience::until("something to show in every panel", PATIENCE, || {
            work(&convoy)?;
            let mut left = Vec::new();
            for query in empty.drain(..) {
                let series = prometheus.ask_of_the_past(&query.expression)?;
                let shown = shown(&series);
                if shown.is_empty() {
                    left.push(query);
                    continue;
                }
                let unlabelled =
                    |one: &&&Value| query.labels.iter().any(|label| one["metric"][label].is_null());
                check(!shown.iter().any(|one| unlabelled(&one)), || {
                    format!("the legend of {:?} names labels that are not there: {series:?}", query.panel)
                })?;
            }
            empty = left;
            Ok(empty.is_empty())
        })
        .map_err(|error| Error::Unexpected(format!("{error}; empty are {empty:#?}")))?;

        // What the variables of the dashboard are filled from, and the alerts, of which none wakes anybody.
        for one in prometheus.ask("convoy_build_info")? {
            assert_eq!(one["metric"]["job"], "convoy", "{one}");
            assert_eq!(one["metric"]["instance"], address, "{one}");
        }
        let alerts = alerts();
        assert_eq!(alerts.len(), 5, "{alerts:?}");
        for alert in &alerts {
            let series = prometheus.ask(alert)?;
            assert!(series.is_empty(), "{alert}: {series:?}");
        }
        // And they do wake: the first run that fails, seen as the second alert says.
        fs::remove_dir_all(lab.path("store")).during(|| "cannot remove the store".to_owned())?;
        convoy.run(&["schedule", "run", "nightly"])?;
        patience::until("the alert of a schedule that failed", PATIENCE, || {
            Ok(!prometheus.ask(alerts[1])?.is_empty())
        })?;
        convoy.ok(&["umount", "db1"])?;
        drop(prometheus);
        convoy.stop()
    })
}

/// Prometheus' own linter has nothing to say of what is told but one thing: it reads the older form, in which
/// a counter is described under its whole name.
#[test]
fn metrics_please_the_linter_of_prometheus() -> Result<()> {
    Lab::run(|lab| {
        let mut convoy = Setup::vfs(lab, Carrier::Builtin).start()?;
        convoy.ok(&["create", "db1"])?;
        let told = convoy.ok(&["metrics"])?;
        let mut promtool = Command::new("promtool");
        let said = run::feed(promtool.args(["check", "metrics"]), format!("{told}\n").into_bytes())?;
        let complaints: BTreeSet<&str> =
            said.stderr.lines().filter(|line| !line.ends_with("_total no help text")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
        convoy.stop()
    })
}
