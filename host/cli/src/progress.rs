//! Long work: shown while it runs, cancelled by Ctrl-C.

use crate::args::ProgressForm;
use crate::error::{Failure, Result};
use crate::output::Output;
use convoy_client::client::Call;
use convoy_client::types::{Progress, StreamLine};
use convoy_client::{Client, Stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long to wait, after Ctrl-C, for the daemon to say what became of the work.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// Makes a call, shows its progress, and answers its result.
///
/// The first Ctrl-C asks the daemon to cancel and waits for what it says; the second does not wait.
pub(crate) async fn follow(
    client: &Client,
    call: Call,
    form: Option<ProgressForm>,
    output: &Output,
) -> Result<String> {
    output.debug(&call.name());
    let mut stop = Stop::new()?;
    let mut stream = tokio::select! {
        stream = client.stream(call) => stream?,
        () = stop.asked() => return Err(interrupted("before the daemon had answered; `convoy jobs` shows whether it works on it")),
    };
    let mut display = Display::new(form, output);
    let mut job = None;
    let mut warnings = Vec::new();
    loop {
        tokio::select! {
            line = stream.next() => match line? {
                Some(StreamLine::Result(answer)) => {
                    display.warn(&warnings);
                    return Ok(answer);
                }
                Some(line) => {
                    display.show(&line);
                    if let StreamLine::Progress(progress) = &line {
                        warnings.clone_from(&progress.warnings);
                    }
                    if let StreamLine::Job(id) = line {
                        job = Some(id);
                    }
                }
                None => return Err(interrupted("the daemon ended without a result")),
            },
            () = stop.asked() => {
                display.clear();
                return cancel(client, stream, job, &mut stop).await;
            }
        }
    }
}

/// Asks for the job to be cancelled and says what became of it: it may have been done already.
async fn cancel(client: &Client, stream: Stream, job: Option<String>, stop: &mut Stop) -> Result<String> {
    let Some(job) = job else {
        // Nothing but the connection tells the daemon.
        return Err(interrupted("the connection was closed, which cancels the work"));
    };
    if let Err(error) = client.cancel_job(&job).await {
        return Err(interrupted(&format!("the connection was closed, which cancels the work ({error})")));
    }
    tokio::select! {
        ended = tokio::time::timeout(CANCEL_PATIENCE, stream.result(drop)) => match ended {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_cancelled() => Err(interrupted(&error.to_string())),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(interrupted(&format!("job {job} was told to stop and has not yet: see `convoy jobs`"))),
        },
        () = stop.asked() => Err(interrupted(&format!("job {job} was told to stop: see `convoy jobs`"))),
    }
}

fn interrupted(what: &str) -> Failure {
    Failure::Interrupted { message: format!("interrupted: {what}") }
}

/// Ctrl-C and SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Where progress is shown.
enum Display {
    Nowhere,
    Lines,
    Bar(Bar),
}

impl Display {
    fn new(form: Option<ProgressForm>, output: &Output) -> Self {
        match form {
            Some(ProgressForm::Json) => Self::Lines,
            Some(ProgressForm::None) => Self::Nowhere,
            None if !output.is_for_people() => Self::Nowhere,
            // Indicatif draws nothing when standard error is no terminal.
            Some(ProgressForm::Bar) | None => Self::Bar(Bar::new()),
        }
    }

    fn show(&mut self, line: &StreamLine) {
        match (self, line) {
            (Self::Lines, line) => {
                if let Ok(text) = serde_json::to_string(line) {
                    // The work goes on although nobody can see it any more.
                    let _ = writeln!(std::io::stderr(), "{text}");
                }
            }
            (Self::Bar(bar), StreamLine::Progress(progress)) => bar.advance(progress),
            (Self::Bar(_) | Self::Nowhere, _) => {}
        }
    }

    /// Says what the work did not do, where the lines of progress have not said it.
    fn warn(&mut self, warnings: &[String]) {
        self.clear();
        if !matches!(self, Self::Lines) {
            for warning in warnings {
                // The work is done, although nobody can see this any more.
                let _ = writeln!(std::io::stderr(), "warning: {warning}");
            }
        }
    }

    fn clear(&mut self) {
        if let Self::Bar(bar) = self {
            bar.bar.finish_and_clear();
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.clear();
    }
}

const OF_UNKNOWN_SIZE: &str = "{spinner} {msg:<9} {bytes}  {prefix}{bytes_per_sec}  {elapsed}";
const OF_KNOWN_SIZE: &str = "{spinner} {msg:<9} [{wide_bar}] {percent:>3}%  {bytes} of {total_bytes}  \
    {prefix}{bytes_per_sec}  {eta} left";
/// The same for a terminal where that would not fit on a line: the percentage tells what the totals would.
const OF_KNOWN_SIZE_NARROW: &str =
    "{spinner} {msg:<9} [{wide_bar}] {percent:>3}%  {bytes}  {prefix}{bytes_per_sec}  {eta} left";
/// Columns for the whole of it with a bar of 20, for 1,000,000 files.
const WIDE: u16 = 120;

/// A bar, and how many columns it has.
struct Bar {
    bar: ProgressBar,
    columns: u16,
}

impl Bar {
    /// On standard error.
    fn new() -> Self {
        let (_, columns) = console::Term::stderr().size();
        Self::on(ProgressDrawTarget::stderr(), columns)
    }

    fn on(target: ProgressDrawTarget, columns: u16) -> Self {
        let bar = ProgressBar::with_draw_target(None, target)
            .with_style(style(OF_UNKNOWN_SIZE))
            .with_message("starting");
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, columns }
    }

    fn advance(&self, progress: &Progress) {
        let bar = &self.bar;
        let wide = self.columns >= WIDE;
        if bar.length() != progress.bytes_total {
            match progress.bytes_total {
                Some(total) => {
                    bar.set_style(style(if wide { OF_KNOWN_SIZE } else { OF_KNOWN_SIZE_NARROW }));
                    bar.set_length(total);
                }
                None => {
                    bar.set_style(style(OF_UNKNOWN_SIZE));
                    bar.unset_length();
                }
            }
        }
        bar.set_position(progress.bytes_done);
        if !progress.phase.is_empty() {
            bar.set_message(progress.phase.clone());
        }
        bar.set_prefix(match (progress.files_done, progress.files_total) {
            (Some(done), Some(total)) if wide => format!("{done} of {total} files  "),
            (Some(done), _) => format!("{done} files  "),
            (None, _) => String::new(),
        });
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;

    /// What is seen of very large work in a terminal of so many columns.
    fn seen(columns: u16, files: Option<u64>) -> String {
        let terminal = InMemoryTerm::new(5, columns);
        let bar = Bar::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())), columns);
        bar.bar.disable_steady_tick();
        bar.advance(&Progress {
            phase: "reading".to_owned(),
            bytes_done: 998 << 30,
            bytes_total: Some(999 << 30),
            files_done: files.map(|files| files - 1),
            files_total: files,
            ..Progress::default()
        });
        bar.bar.tick();
        terminal.contents()
    }

    #[test]
    fn it_is_one_line_whatever_the_width() {
        for columns in [80, 100, WIDE - 1, WIDE, 200] {
            for files in [None, Some(1_000_000)] {
                let text = seen(columns, files);
                assert!(!text.contains('\n') && text.contains(" reading "), "{columns}: {text:?}");
                assert!(text.ends_with(" left"), "{columns}: {text:?}");
            }
        }
        let (narrow, wide) = (seen(80, Some(1_000_000)), seen(WIDE, Some(1_000_000)));
        assert!(narrow.contains("998.00 GiB  999999 files  "), "{narrow}");
        assert!(wide.contains("998.00 GiB of 999.00 GiB  999999 of 1000000 files  "), "{wide}");
    }

    #[test]
    fn the_templates_are_understood() {
        for template in [OF_KNOWN_SIZE, OF_KNOWN_SIZE_NARROW, OF_UNKNOWN_SIZE] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
