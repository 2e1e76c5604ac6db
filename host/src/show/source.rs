//! Where the backups are, as the command line and the settings say.

use super::error::ShowError;
use crate::backups::{AskedReader, Reader};
use crate::config::backups_of;
use crate::config::file::File;
use convoy_cli::args::{Show, ShowCommand};
use convoy_mount::{Kept, Listed, View};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How long locks may take to be given back.
const PATIENCE: Duration = Duration::from_secs(5);

/// Backups that are open to be shown.
pub(super) struct Source {
    pub(super) view: Arc<View>,
    runtime: Runtime,
    cancel: CancellationToken,
}

impl Source {
    /// Opens what was asked for, and starts threads.
    pub(super) fn open(asked: &Show, kept: Option<Arc<Kept>>) -> Result<Self, ShowError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(ShowError::system("start threads"))?;
        let (ShowCommand::Mount { url, how, .. } | ShowCommand::Serve { url, how, .. }) = &asked.command;
        let file = File::find(how.config.as_deref())?;
        let settings = backups_of(&file)?;
        let request = AskedReader {
            url: url.clone(),
            endpoint: asked.endpoint.clone(),
            encryption_key_file: text(asked.key.encryption_key_file.as_deref())?,
            passphrase_file: text(asked.key.passphrase_file.as_deref())?,
            allow_unencrypted: how.trust.allow_unencrypted,
        };
        let is_one = request.url.contains('?');
        let cancel = CancellationToken::new();
        let opened = Reader::open(request, &settings, kept, cancel.clone());
        let (reader, mut listed): (Reader, Vec<Listed>) = runtime.block_on(opened)?;
        let shelf = Arc::new(reader);
        let one = if is_one { listed.pop() } else { None };
        let view = match one {
            Some(one) => View::of_backup(one, shelf).map_err(crate::backups::shown_error)?,
            None => View::new(listed, shelf),
        };
        Ok(Self { view: Arc::new(view), runtime, cancel })
    }

    pub(super) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Ends every call that still waits for the store.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }

    /// Does that, and gives the locks there back.
    pub(super) fn close(self) {
        self.stop();
        self.view.close();
        drop(self.view);
        let metrics = self.runtime.metrics();
        self.runtime.block_on(async {
            let ended = async {
                while metrics.num_alive_tasks() > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            // What cannot be given back expires by itself.
            let _ = tokio::time::timeout(PATIENCE, ended).await;
        });
        self.runtime.shutdown_background();
    }
}

/// A path as a request has it.
fn text(path: Option<&Path>) -> Result<String, ShowError> {
    let Some(path) = path else { return Ok(String::new()) };
    let path = std::path::absolute(path).map_err(ShowError::system("find the directory of this process"))?;
    path.into_os_string().into_string().map_err(|path| ShowError::Path(path.display().to_string()))
}
