//! What each command does: a call, and how its answer is shown.

use crate::Doctor;
use crate::args::{Cli, Command, ConfigArgs, ConfigCommand, EventsArgs, JobsCommand, ProgressArgs};
use crate::documents;
use crate::driver::{self, Installed};
use crate::error::{Failure, Result};
use crate::output::{Output, views};
use crate::progress;
use convoy_client::Client;
use convoy_client::client::Call;
use convoy_client::types::{CancelJob, Event};
use convoy_driver_sdk::Name;
use std::path::Path;
use std::process::ExitCode;

mod backup;
mod browse;
mod doctor;
mod restore;
mod schedule;
mod snapshot;
mod top;
mod volume;

/// Says that a command is none of the client's.
fn no_call() -> Failure {
    Failure::Other { message: "this command makes no call to the daemon".to_owned(), hint: None }
}

/// What every command works with.
struct Session<'a> {
    client: Client,
    verbose: bool,
    installed: Installed,
    /// For when no daemon runs.
    doctor: Option<Doctor>,
    output: &'a mut Output,
}

/// Runs a command to its end.
pub(crate) fn run(
    cli: Cli,
    installed: Installed,
    doctor: Option<Doctor>,
    output: &mut Output,
) -> Result<ExitCode> {
    match cli.command {
        Command::Completions { shell } => documents::completions(shell, output)?,
        Command::Man { directory } => documents::man(&directory, output)?,
        command => {
            let client = Client::new(cli.global.socket);
            let session = Session { client, verbose: cli.global.verbose, installed, doctor, output };
            // One thread is enough for one call, and quick to start.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let result = runtime.block_on(Box::pin(session.run(command)));
            // A driver that hangs in a call keeps its thread: the program ends without it.
            runtime.shutdown_background();
            return result;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Session<'_> {
    async fn run(mut self, command: Command) -> Result<ExitCode> {
        let width = self.output.width();
        match command {
            Command::Config(ConfigArgs { command: ConfigCommand::Reload }) => {
                self.show(Call::reload_config(), views::reloaded).await?;
            }
            Command::Config(_) => {
                self.show(Call::config(), |settings| views::config(settings, width)).await?;
            }
            Command::Info => self.show(Call::info(), views::info).await?,
            Command::Create(args) => self.create(args).await?,
            Command::Delete(args) => self.delete(args).await?,
            Command::Mount(args) => self.mount(args).await?,
            Command::Umount(args) => self.unmount(args).await?,
            Command::List(args) if args.driver => {
                self.show(Call::list_volumes(true), |volumes| views::driver_form(volumes, width)).await?;
            }
            Command::List(args) if args.kept => {
                self.show(Call::list_kept(), |listed| views::kept(listed, width)).await?;
            }
            Command::List(_) => {
                // What 0.5 did not tell is not for scripts.
                let call = Call::list_volumes_with(self.output.is_for_people());
                self.show(call, |volumes| views::volumes(volumes, width)).await?;
            }
            Command::Inspect(args) => self.inspect(args).await?,
            Command::Resize(args) => self.resize(args).await?,
            Command::Retain(args) => self.retain(args).await?,
            Command::Snapshot(args) => self.snapshot(args.command).await?,
            Command::Backup(args) => return self.backup(args).await,
            Command::Restore(args) => return self.restore(args).await,
            Command::Schedule(args) => return self.schedule(args).await,
            Command::Jobs(args) => match args.command.unwrap_or(JobsCommand::List) {
                JobsCommand::List => self.show(Call::list_jobs(), |jobs| views::jobs(jobs, width)).await?,
                JobsCommand::Cancel { id } => {
                    self.text(Call::cancel_job(&CancelJob { id: id.clone() })).await?;
                    self.output.done(format_args!("Job {id} was told to stop"))?;
                }
            },
            Command::Driver(args) => {
                return driver::run(args, self.installed, &self.client, self.output).await;
            }
            Command::Events(args) => self.events(&args).await?,
            Command::Metrics => {
                let text = self.text(Call::metrics()).await?;
                self.output.bytes(text.as_bytes())?;
            }
            Command::Doctor(args) => return self.doctor(&args).await,
            Command::Top(args) => self.top(&args).await?,
            Command::Daemon(_) | Command::Completions { .. } | Command::Man { .. } => {
                return Err(no_call());
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Makes a call whose answer is shown as it is.
    async fn text(&self, call: Call) -> Result<String> {
        self.output.debug(&call.name());
        Ok(self.client.text(call).await?)
    }

    /// Makes a call that may take long, and shows how far it is.
    async fn follow(&self, call: Call, args: &ProgressArgs) -> Result<String> {
        progress::follow(&self.client, call, args.progress, self.output).await
    }

    /// Makes a call and shows its JSON answer.
    async fn show<T: serde::de::DeserializeOwned>(
        &mut self,
        call: Call,
        view: impl FnOnce(&T) -> String,
    ) -> Result<()> {
        let text = self.text(call).await?;
        self.output.answer(&text, view)
    }

    /// Prints events until the daemon stops or the user does.
    async fn events(&mut self, args: &EventsArgs) -> Result<()> {
        let call = Call::some_events(&args.filter()?);
        self.output.debug(&call.name());
        let mut stream = self.client.stream(call).await?;
        while let Some(line) = stream.next_line().await? {
            if self.output.is_for_people() {
                let event: Event = serde_json::from_slice(&line)?;
                self.output.line(views::event(&event))?;
            } else {
                self.output.bytes(&line)?;
                self.output.bytes(b"\n")?;
            }
            self.output.finish()?;
        }
        Ok(())
    }
}

/// Checks a name before it is sent, as 0.5 did.
fn name(text: String) -> Result<String> {
    match Name::parse(text) {
        Ok(name) => Ok(name.into()),
        Err(source) => Err(Failure::Name { name: source.0.clone(), source }),
    }
}

/// The same for a name that may be missing; an empty one is (`convoy create "$NAME"`).
fn name_or_empty(text: Option<String>) -> Result<String> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) => name(text),
        None => Ok(String::new()),
    }
}

/// A path as the daemon is to see it: absolute, since the daemon runs in another directory.
fn path(path: Option<&Path>) -> Result<String> {
    let Some(path) = path else { return Ok(String::new()) };
    let absolute = std::path::absolute(path)?;
    absolute.into_os_string().into_string().map_err(|path| Failure::Other {
        message: format!("the path {} is not UTF-8", path.display()),
        hint: Some("name it by a path in UTF-8, such as a symbolic link".to_owned()),
    })
}
