//! Commands that run before and after a snapshot, each with a time limit, what they print bounded.

use crate::docker::{Docker, DockerError, Tail};
use convoy_schedule::schedule::{Hook, Variable, Where};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// How long after the end of a command its output is waited for: what it left running may hold the pipe open.
const LINGER: Duration = Duration::from_secs(2);

/// A command that did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub(super) enum HookError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program, with the container if it runs in one.
        program: String,
        /// The error of the system call.
        source: std::io::Error,
    },
    /// It took too long and was ended.
    #[error("{program} took longer than {} s{rest}", limit.as_secs())]
    TooLong {
        /// The program, with the container if it runs in one.
        program: String,
        /// How long it may take.
        limit: Duration,
        /// What became of it.
        rest: &'static str,
    },
    /// It says that it failed.
    #[error("{program} failed ({how}){}", said(output))]
    Failed {
        /// The program, with the container if it runs in one.
        program: String,
        /// With which code, or by which signal.
        how: String,
        /// What it printed at the end.
        output: String,
    },
    /// Docker did not run it.
    #[error(transparent)]
    Docker(#[from] DockerError),
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!(": {output}") }
}

/// What a program on the host finds of the daemon's environment. What the daemon knows beside it
/// (credentials, sockets that systemd handed over) is nobody's business unless the settings name it.
const INHERITED: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Where programs are looked for when the daemon itself does not know.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Environment variables: names and values.
pub(super) type Environment = Vec<(String, OsString)>;

/// What the settings name and, over that, what tells a program what it runs for.
pub(super) fn environment(variables: &[Variable], own: &[(&'static str, String)]) -> Environment {
    let named = variables.iter().filter_map(|variable| {
        let value = match &variable.value {
            Some(value) => Some(value.into()),
            None => std::env::var_os(&variable.name),
        };
        Some((variable.name.clone(), value?))
    });
    named.chain(own.iter().map(|(name, value)| ((*name).to_owned(), value.into()))).collect()
}

/// Runs a hook. `own` tells it what it runs for.
pub(super) async fn run(
    hook: &Hook,
    docker: &Docker,
    volume: &str,
    own: &[(&'static str, String)],
) -> Result<(), HookError> {
    let environment = environment(&hook.environment, own);
    match &hook.place {
        Where::Host => {
            let output = on_host(&hook.command, hook.timeout, &environment, None).await?;
            tracing::info!(program = hook.command[0], output = output.text(), "a hook ran");
            Ok(())
        }
        Where::Containers { labels, any, user } => {
            let used = (!any).then_some(volume);
            let containers = docker.containers(labels, used).await?;
            if containers.is_empty() {
                // What does not run has nothing to say, and changes nothing.
                tracing::info!(program = hook.command[0], volume, "no running container is meant by a hook");
            }
            let environment: Vec<String> =
                environment.iter().map(|(key, value)| format!("{key}={}", value.to_string_lossy())).collect();
            for container in containers {
                let program = || format!("{} in container {}", hook.command[0], container.name());
                let running = docker.exec(&container.id, &hook.command, &environment, user.as_deref());
                let ended =
                    tokio::time::timeout(hook.timeout, running).await.map_err(|_| HookError::TooLong {
                        program: program(),
                        limit: hook.timeout,
                        rest: " and is left alone: Docker has no way to end it",
                    })??;
                let output = ended.output.text();
                if ended.code != 0 {
                    return Err(HookError::Failed {
                        program: program(),
                        how: format!("exit code {}", ended.code),
                        output,
                    });
                }
                tracing::info!(program = hook.command[0], container = container.name(), output, "a hook ran");
            }
            Ok(())
        }
    }
}

/// Runs a program on the host, `input` on its standard input, and answers the end of what it printed.
pub(super) async fn on_host(
    command: &[String],
    limit: Duration,
    environment: &[(String, OsString)],
    input: Option<&str>,
) -> Result<Tail, HookError> {
    let program = command.first().cloned().unwrap_or_default();
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let mut child = Command::new(&program)
        .args(command.get(1..).unwrap_or_default())
        .env_clear()
        .env("PATH", PATH)
        .envs(inherited)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: what it starts is ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| HookError::Start { program: program.clone(), source })?;
    let group = Group(child.id());
    let output = Mutex::new(Tail::default());
    let ended = tokio::time::timeout(limit, talk(&mut child, input, &output)).await;
    drop(group);
    let output = output.into_inner();
    match ended {
        Err(_) => Err(HookError::TooLong { program, limit, rest: " and was killed" }),
        Ok(Err(source)) => Err(HookError::Start { program, source }),
        Ok(Ok(status)) if status.success() => Ok(output),
        Ok(Ok(status)) => Err(HookError::Failed { program, how: status.to_string(), output: output.text() }),
    }
}

/// Feeds a child and reads what it prints until it ends, and a little longer.
async fn talk(child: &mut Child, input: Option<&str>, output: &Mutex<Tail>) -> std::io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feeding = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that does not read is free not to.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let reading = async { tokio::join!(feeding, read(stdout, output), read(stderr, output)) };
    let mut reading = std::pin::pin!(reading);
    let status = tokio::select! {
        _ = &mut reading => return child.wait().await,
        status = child.wait() => status?,
    };
    let _ = tokio::time::timeout(LINGER, reading).await;
    Ok(status)
}

async fn read(from: Option<impl AsyncRead + Unpin>, output: &Mutex<Tail>) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 8192];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        output.lock().push(&buffer[..count]);
    }
}

/// A process group that is killed when this is dropped: after the end of its leader only what that left
/// running.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let pid = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // An error says that nobody is left.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::TAIL_BYTES;
    use std::time::Instant;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    async fn ran(script: &str, limit: u64) -> Result<String, String> {
        let environment = environment(&[], &[("CONVOY_VOLUME", "vol1".to_owned())]);
        let limit = Duration::from_millis(limit);
        let result = on_host(&shell(script), limit, &environment, Some("a report")).await;
        result.map(|output| output.text()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn output_and_failure_are_told() {
        // One stream a run: which of two is read first is nobody's promise.
        assert_eq!(ran("cat", 60_000).await.unwrap(), "a report");
        assert_eq!(ran("echo $CONVOY_VOLUME >&2", 60_000).await.unwrap(), "vol1");
        let error = ran("echo no room >&2; exit 3", 5000).await.unwrap_err();
        assert_eq!(error, "sh failed (exit status: 3): no room");
        let error = on_host(&["/nonexistent".to_owned()], LINGER, &[], None).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot run /nonexistent: "), "{error}");
    }

    #[tokio::test]
    async fn a_hook_finds_what_the_settings_name_and_nothing_else() {
        // Cargo sets it for tests: the daemon's environment has something that is nobody's business.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        let variables = |texts: &[(&str, Option<&str>)]| -> Vec<Variable> {
            let variable = |(name, value): &(&str, Option<&str>)| Variable {
                name: (*name).to_owned(),
                value: value.map(str::to_owned),
            };
            texts.iter().map(variable).collect()
        };
        let named = variables(&[
            ("PGPASSWORD", Some("a=b")),
            ("CARGO_PKG_NAME", None),
            ("NOBODY_SET_THIS", None),
            ("CONVOY_VOLUME", Some("another")),
        ]);
        let environment = environment(&named, &[("CONVOY_VOLUME", "vol1".to_owned())]);
        let output =
            on_host(&shell("env"), Duration::from_secs(60), &environment, None).await.unwrap().text();
        let names: Vec<&str> =
            output.lines().filter_map(|line| line.split_once('=')).map(|it| it.0).collect();
        for line in ["PGPASSWORD=a=b", "CARGO_PKG_NAME=convoy", "CONVOY_VOLUME=vol1"] {
            assert!(output.lines().any(|it| it == line), "{line}: {output}");
        }
        let known = ["PGPASSWORD", "CARGO_PKG_NAME", "CONVOY_VOLUME", "PWD", "SHLVL", "_", "OLDPWD"];
        let unknown: Vec<_> =
            names.iter().filter(|name| !known.contains(name) && !INHERITED.contains(name)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[tokio::test]
    async fn endless_output_is_bounded() {
        let output = ran("head -c 3000000 /dev/zero | tr '\\0' x; echo end", 20_000).await.unwrap();
        assert!(output.len() < TAIL_BYTES + 100 && output.ends_with("end"), "{}", output.len());
        assert!(output.starts_with("[2995908 bytes before] "), "{}", &output[..40]);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_it_started() {
        let began = Instant::now();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 600 & echo $! > {}; wait", file.display());
        let error = ran(&script, 500).await.unwrap_err();
        assert!(error.contains("was killed") && began.elapsed() < Duration::from_secs(20), "{error}");
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = std::path::PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let gone =
            |stat: &std::path::Path| std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z "));
        while !gone(&stat) {
            assert!(began.elapsed() < Duration::from_secs(20), "the grandchild lives");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn what_is_left_running_is_not_waited_for() {
        let began = Instant::now();
        assert_eq!(ran("sleep 600 & echo done", 60_000).await.unwrap(), "done");
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
