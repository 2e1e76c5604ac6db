//! Calls of the admin API.

use crate::error::{Error, Result, ServerError};
use crate::stream::Stream;
use crate::types::{
    AddKey, BackupInfo, BackupRef, CancelJob, CreateBackup, CreateSnapshot, CreateVolume, CreatedBackup,
    DeleteKept, DeleteVolume, DriverStatus, EventFilter, Examine, Info, Job, LabelBackup, ListBackups,
    ListKeys, ListedKept, MountVolume, Pairs, PruneBackups, PruneReport, RemoveKey, ResizeVolume,
    RetainSchedule, RetainVolume, RevertSnapshot, RunSchedule, ScheduleStatus, Snapshot, SnapshotRef,
    UnmountVolume, VerifyBackups, VerifyReport, Volume, VolumeRef,
};
use crate::unix::{self, SendError};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode, header};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the daemon listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/convoy/convoy.sock";

/// What a client says it is: the daemon refuses another version.
pub const USER_AGENT: &str = "Convoy-Client/1";

/// The media type of progress and events: a JSON value per line.
pub const NDJSON: &str = "application/x-ndjson";

/// The header in which the daemon names the kind of an error.
pub const KIND_HEADER: &str = "convoy-error-kind";

/// The header in which the daemon says what to do about an error, percent-encoded.
pub const HINT_HEADER: &str = "convoy-hint";

/// The header with what people are told in the place of the words that scripts have always been given,
/// percent-encoded; missing where both are the same.
pub const PLAIN_HEADER: &str = "convoy-plain";

/// The header in which the daemon names the request, as its log does.
pub const REQUEST_ID_HEADER: &str = "convoy-request-id";

/// A call: what to send where. Made by the constructors, sent by a [`Client`].
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: Cow<'static, str>,
    body: Option<Vec<u8>>,
}

impl Call {
    fn bare(method: Method, path: &'static str) -> Self {
        Self { method, path: path.into(), body: None }
    }

    fn with<T: Serialize>(method: Method, path: &'static str, body: &T) -> Self {
        // The requests are structures with text keys: serialising them cannot fail. An empty body, which the
        // daemon refuses by name, is the honest answer if one ever could.
        Self { method, path: path.into(), body: Some(serde_json::to_vec(body).unwrap_or_default()) }
    }

    /// Method and path, for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Asks for the settings of the daemon and its drivers: `GET /info`.
    pub fn info() -> Self {
        Self::bare(Method::GET, "/v1/info")
    }
    /// Asks for every setting and where its value comes from: `GET /config`.
    pub fn config() -> Self {
        Self::bare(Method::GET, "/v1/config")
    }
    /// Reads `convoy.toml` again: `POST /config/reload`.
    pub fn reload_config() -> Self {
        Self::bare(Method::POST, "/v1/config/reload")
    }
    /// `GET /volumes/list`; with `driver_form`, what the drivers say of their volumes and nothing else.
    pub fn list_volumes(driver_form: bool) -> Self {
        Self::bare(Method::GET, if driver_form { "/v1/volumes/list?driver=1" } else { "/v1/volumes/list" })
    }
    /// `GET /volumes/list`; with `details`, what 0.5 did not tell: `Used` in what is said of a mounted
    /// volume.
    pub fn list_volumes_with(details: bool) -> Self {
        Self::bare(Method::GET, if details { "/v1/volumes/list?details=1" } else { "/v1/volumes/list" })
    }
    /// Asks for one volume: `GET /volumes/`.
    pub fn inspect_volume(body: &VolumeRef) -> Self {
        Self::with(Method::GET, "/v1/volumes/", body)
    }
    /// Creates a volume, or restores one from a backup: `POST /volumes/create`.
    pub fn create_volume(body: &CreateVolume) -> Self {
        Self::with(Method::POST, "/v1/volumes/create", body)
    }
    /// Deletes a volume: `DELETE /volumes/`.
    pub fn delete_volume(body: &DeleteVolume) -> Self {
        Self::with(Method::DELETE, "/v1/volumes/", body)
    }
    /// Asks what is kept of volumes that were forgotten: `GET /volumes/kept`.
    pub fn list_kept() -> Self {
        Self::bare(Method::GET, "/v1/volumes/kept")
    }
    /// Deletes what is kept of a volume that was forgotten: `DELETE /volumes/kept`.
    pub fn delete_kept(body: &DeleteKept) -> Self {
        Self::with(Method::DELETE, "/v1/volumes/kept", body)
    }
    /// Mounts a volume: `POST /volumes/mount`.
    pub fn mount_volume(body: &MountVolume) -> Self {
        Self::with(Method::POST, "/v1/volumes/mount", body)
    }
    /// Unmounts a volume: `POST /volumes/umount`.
    pub fn unmount_volume(body: &UnmountVolume) -> Self {
        Self::with(Method::POST, "/v1/volumes/umount", body)
    }
    /// Changes the size of a volume: `POST /volumes/resize`.
    pub fn resize_volume(body: &ResizeVolume) -> Self {
        Self::with(Method::POST, "/v1/volumes/resize", body)
    }
    /// Sets what Docker's remove does to the data of a volume: `POST /volumes/retain`.
    pub fn retain_volume(body: &RetainVolume) -> Self {
        Self::with(Method::POST, "/v1/volumes/retain", body)
    }
    /// Takes a snapshot: `POST /snapshots/create`.
    pub fn create_snapshot(body: &CreateSnapshot) -> Self {
        Self::with(Method::POST, "/v1/snapshots/create", body)
    }
    /// Asks for one snapshot: `GET /snapshots/`.
    pub fn inspect_snapshot(body: &SnapshotRef) -> Self {
        Self::with(Method::GET, "/v1/snapshots/", body)
    }
    /// Deletes a snapshot: `DELETE /snapshots/`.
    pub fn delete_snapshot(body: &SnapshotRef) -> Self {
        Self::with(Method::DELETE, "/v1/snapshots/", body)
    }
    /// Takes a volume back to a snapshot: `POST /snapshots/revert`.
    pub fn revert_snapshot(body: &RevertSnapshot) -> Self {
        Self::with(Method::POST, "/v1/snapshots/revert", body)
    }
    /// Backs up a snapshot: `POST /backups/create`.
    pub fn create_backup(body: &CreateBackup) -> Self {
        Self::with(Method::POST, "/v1/backups/create", body)
    }
    /// Deletes a backup: `DELETE /backups`.
    pub fn delete_backup(body: &BackupRef) -> Self {
        Self::with(Method::DELETE, "/v1/backups", body)
    }
    /// Changes the tags, the note and the pin of a backup: `POST /backups/labels`.
    pub fn label_backup(body: &LabelBackup) -> Self {
        Self::with(Method::POST, "/v1/backups/labels", body)
    }
    /// Asks for one backup: `GET /backups/inspect`.
    pub fn inspect_backup(body: &BackupRef) -> Self {
        Self::with(Method::GET, "/v1/backups/inspect", body)
    }
    /// Asks for the backups of a destination: `GET /backups/list`.
    pub fn list_backups(body: &ListBackups) -> Self {
        Self::with(Method::GET, "/v1/backups/list", body)
    }
    /// Checks what a destination has: `POST /backups/verify`.
    pub fn verify_backups(body: &VerifyBackups) -> Self {
        Self::with(Method::POST, "/v1/backups/verify", body)
    }
    /// Removes what no backup of a destination needs: `POST /backups/prune`.
    pub fn prune_backups(body: &PruneBackups) -> Self {
        Self::with(Method::POST, "/v1/backups/prune", body)
    }
    /// Asks for the keys of a destination: `GET /backups/keys`.
    pub fn list_keys(body: &ListKeys) -> Self {
        Self::with(Method::GET, "/v1/backups/keys", body)
    }
    /// Adds a key to a destination: `POST /backups/keys/add`.
    pub fn add_key(body: &AddKey) -> Self {
        Self::with(Method::POST, "/v1/backups/keys/add", body)
    }
    /// Removes a key from a destination: `POST /backups/keys/remove`.
    pub fn remove_key(body: &RemoveKey) -> Self {
        Self::with(Method::POST, "/v1/backups/keys/remove", body)
    }
    /// Asks for the jobs that run or ran: `GET /jobs`.
    pub fn list_jobs() -> Self {
        Self::bare(Method::GET, "/v1/jobs")
    }
    /// Cancels a job: `POST /jobs/cancel`.
    pub fn cancel_job(body: &CancelJob) -> Self {
        Self::with(Method::POST, "/v1/jobs/cancel", body)
    }
    /// Asks for the drivers and how they are: `GET /drivers`.
    pub fn list_drivers() -> Self {
        Self::bare(Method::GET, "/v1/drivers")
    }
    /// Asks for the schedules and their last runs: `GET /schedules`.
    pub fn list_schedules() -> Self {
        Self::bare(Method::GET, "/v1/schedules")
    }
    /// Runs a schedule now: `POST /schedules/run`.
    pub fn run_schedule(body: &RunSchedule) -> Self {
        Self::with(Method::POST, "/v1/schedules/run", body)
    }
    /// Applies what a schedule keeps, without a new backup: `POST /schedules/retain`.
    pub fn retain_schedule(body: &RetainSchedule) -> Self {
        Self::with(Method::POST, "/v1/schedules/retain", body)
    }
    /// Examines the daemon, its volumes and destinations: `POST /doctor`.
    pub fn examine(body: &Examine) -> Self {
        Self::with(Method::POST, "/v1/doctor", body)
    }
    /// Asks for the metrics, in the format of Prometheus: `GET /metrics`.
    pub fn metrics() -> Self {
        Self::bare(Method::GET, "/v1/metrics")
    }
    /// Follows the events: `GET /events`.
    pub fn events() -> Self {
        Self::bare(Method::GET, "/v1/events")
    }
    /// `GET /events` that are wanted.
    pub fn some_events(filter: &EventFilter) -> Self {
        let fields = [
            ("since", &filter.since),
            ("kind", &filter.kind),
            ("volume", &filter.volume),
            ("driver", &filter.driver),
            ("follow", &filter.follow),
        ];
        let given = fields.iter().filter(|(_, value)| !value.is_empty());
        let query: Vec<String> = given.map(|(key, value)| format!("{key}={}", encode_query(value))).collect();
        let path = format!("/v1/events?{}", query.join("&"));
        Self { method: Method::GET, path: path.into(), body: None }
    }
}

/// A client of one daemon. Cheap to make and to clone: every call has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens at this socket. Nothing is connected yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The daemon's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The answer's body as it is: a name, a mount point, JSON, or nothing.
    ///
    /// # Errors
    /// Any [`Error`] but `Answer`.
    pub async fn text(&self, call: Call) -> Result<String> {
        let name = call.name();
        let response = self.send(&call, None).await?;
        self.body(&name, response).await
    }

    /// The same call with progress, where the daemon has any to tell.
    ///
    /// # Errors
    /// Any [`Error`] but `Answer`.
    pub async fn stream(&self, call: Call) -> Result<Stream> {
        let name = call.name();
        let response = self.send(&call, Some(NDJSON)).await?;
        let streams = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(NDJSON.as_bytes()));
        if streams {
            return Ok(Stream::new(self.socket.clone(), name, response.into_body()));
        }
        Ok(Stream::finished(self.socket.clone(), name.clone(), self.body(&name, response).await?))
    }

    async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let name = call.name();
        let text = self.text(call).await?;
        serde_json::from_str(&text).map_err(|source| Error::Answer { call: name, source })
    }

    /// Sends a call and checks the answer's status.
    async fn send(&self, call: &Call, accept: Option<&'static str>) -> Result<Response<Incoming>> {
        let agent = (header::USER_AGENT, USER_AGENT);
        let headers: Vec<_> = [agent].into_iter().chain(accept.map(|kind| (header::ACCEPT, kind))).collect();
        let sent =
            unix::send(&self.socket, "convoy", call.method.clone(), &call.path, &headers, call.body.clone());
        let response = sent.await.map_err(|error| match error {
            SendError::Connect(source) => Error::connect(&self.socket, source),
            SendError::Broken(source) => self.broken(&call.name(), source),
        })?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(call, response).await) }
    }

    async fn body(&self, name: &str, response: Response<Incoming>) -> Result<String> {
        let collected = response.into_body().collect().await;
        let bytes = collected.map_err(|error| self.broken(name, error.into()))?.to_bytes();
        String::from_utf8(bytes.into()).map_err(|error| self.broken(name, error.into()))
    }

    /// Turns an answer that is no success into an error.
    async fn refusal(&self, call: &Call, response: Response<Incoming>) -> Error {
        let status = response.status();
        let header = |name| response.headers().get(name).map(|value| decode(value.as_bytes()));
        let (kind, hint) = (header(KIND_HEADER).unwrap_or_default(), header(HINT_HEADER));
        let plain = header(PLAIN_HEADER);
        let request_id = header(REQUEST_ID_HEADER).unwrap_or_default();
        let mut message = match self.body(&call.name(), response).await {
            Ok(message) => message,
            Err(error) => return error,
        };
        if message.ends_with('\n') {
            message.pop();
        }
        if status == StatusCode::NOT_FOUND && message.starts_with("Handler not found") {
            return Error::UnknownCall { call: call.name() };
        }
        if status == StatusCode::NOT_FOUND && message.starts_with("client version ") {
            return Error::Version(message);
        }
        if message.is_empty() {
            message = format!("the daemon answered {status} to {} and did not say why", call.name());
        }
        let error = ServerError { status: status.as_u16(), kind, message, plain, hint, request_id };
        Error::Server(error.into())
    }

    fn broken(&self, call: &str, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
        Error::Broken { socket: self.socket.clone(), call: call.to_owned(), source }
    }
}

/// The calls with typed answers. Each fails with any [`Error`].
#[allow(clippy::missing_errors_doc)]
impl Client {
    /// The daemon's settings and its drivers'.
    pub async fn info(&self) -> Result<Info> {
        self.json(Call::info()).await
    }
    /// All volumes by name.
    pub async fn list_volumes(&self) -> Result<BTreeMap<String, Volume>> {
        self.json(Call::list_volumes(false)).await
    }
    /// What the drivers say of their volumes, by name.
    pub async fn list_driver_info(&self) -> Result<BTreeMap<String, Pairs>> {
        self.json(Call::list_volumes(true)).await
    }
    /// Describes a volume.
    pub async fn inspect_volume(&self, name: &str) -> Result<Volume> {
        self.json(Call::inspect_volume(&VolumeRef { volume_name: name.to_owned() })).await
    }
    /// Creates a volume, or restores one when the request names a backup.
    pub async fn create_volume(&self, request: &CreateVolume) -> Result<Volume> {
        self.json(Call::create_volume(&CreateVolume { verbose: true, ..request.clone() })).await
    }
    /// Deletes a volume and its data, or only forgets it.
    pub async fn delete_volume(&self, name: &str, reference_only: bool) -> Result<()> {
        let request = DeleteVolume { volume_name: name.to_owned(), reference_only };
        self.text(Call::delete_volume(&request)).await.map(drop)
    }
    /// What is kept of volumes that were forgotten.
    pub async fn list_kept(&self) -> Result<ListedKept> {
        self.json(Call::list_kept()).await
    }
    /// Deletes what is kept of a volume that was forgotten; an empty `driver`: the only one that keeps any.
    pub async fn delete_kept(&self, name: &str, driver: &str) -> Result<()> {
        let request = DeleteKept { volume_name: name.to_owned(), driver_name: driver.to_owned() };
        self.text(Call::delete_kept(&request)).await.map(drop)
    }
    /// Mounts a volume in the driver's own place and answers where.
    pub async fn mount_volume(&self, name: &str) -> Result<String> {
        let request = MountVolume { volume_name: name.to_owned(), ..MountVolume::default() };
        self.text(Call::mount_volume(&request)).await
    }
    /// Takes back a mount made by [`Self::mount_volume`]; with `force`, those of Docker as well.
    pub async fn unmount_volume(&self, name: &str, force: bool) -> Result<()> {
        let request = UnmountVolume { volume_name: name.to_owned(), force };
        self.text(Call::unmount_volume(&request)).await.map(drop)
    }
    /// Changes a volume's size, in bytes.
    pub async fn resize_volume(&self, name: &str, size: u64) -> Result<Volume> {
        let request = ResizeVolume { volume_name: name.to_owned(), size, verbose: true };
        self.json(Call::resize_volume(&request)).await
    }
    /// Makes a snapshot; an empty name is generated.
    pub async fn create_snapshot(&self, volume: &str, name: &str) -> Result<Snapshot> {
        let request = CreateSnapshot {
            name: name.to_owned(),
            volume_name: volume.to_owned(),
            verbose: true,
            freeze: false,
        };
        self.json(Call::create_snapshot(&request)).await
    }
    /// Describes a snapshot.
    pub async fn inspect_snapshot(&self, name: &str) -> Result<Snapshot> {
        self.json(Call::inspect_snapshot(&snapshot_ref(name))).await
    }
    /// Deletes a snapshot.
    pub async fn delete_snapshot(&self, name: &str) -> Result<()> {
        self.text(Call::delete_snapshot(&snapshot_ref(name))).await.map(drop)
    }
    /// Makes a volume's contents those of one of its snapshots.
    pub async fn revert_snapshot(&self, name: &str) -> Result<Volume> {
        let request =
            RevertSnapshot { snapshot_name: name.to_owned(), verbose: true, ..RevertSnapshot::default() };
        self.json(Call::revert_snapshot(&request)).await
    }
    /// Backs a snapshot up and answers the backup's URL, with a plain `&`.
    pub async fn create_backup(&self, request: &CreateBackup) -> Result<String> {
        let call = Call::create_backup(&CreateBackup { verbose: true, ..request.clone() });
        self.json::<CreatedBackup>(call).await.map(|created| created.url)
    }
    /// Deletes a backup.
    pub async fn delete_backup(&self, backup: &BackupRef) -> Result<()> {
        self.text(Call::delete_backup(backup)).await.map(drop)
    }
    /// Changes what is said of a backup and answers what is known of it then.
    pub async fn label_backup(&self, request: &LabelBackup) -> Result<BackupInfo> {
        self.json(Call::label_backup(request)).await
    }
    /// Describes a backup.
    pub async fn inspect_backup(&self, backup: &BackupRef) -> Result<BackupInfo> {
        self.json(Call::inspect_backup(backup)).await
    }
    /// The backups at a destination, by URL.
    pub async fn list_backups(&self, request: &ListBackups) -> Result<BTreeMap<String, BackupInfo>> {
        self.json(Call::list_backups(request)).await
    }
    /// Checks backups; damage is found in the report, not in an error.
    pub async fn verify_backups(&self, request: &VerifyBackups) -> Result<VerifyReport> {
        self.json(Call::verify_backups(request)).await
    }
    /// Removes what no backup refers to.
    pub async fn prune_backups(&self, request: &PruneBackups) -> Result<PruneReport> {
        self.json(Call::prune_backups(request)).await
    }
    /// Running work by id.
    pub async fn list_jobs(&self) -> Result<BTreeMap<String, Job>> {
        self.json(Call::list_jobs()).await
    }
    /// Asks for a job to stop.
    pub async fn cancel_job(&self, id: &str) -> Result<()> {
        self.text(Call::cancel_job(&CancelJob { id: id.to_owned() })).await.map(drop)
    }
    /// The drivers by name.
    pub async fn list_drivers(&self) -> Result<BTreeMap<String, DriverStatus>> {
        self.json(Call::list_drivers()).await
    }
    /// The schedules by name.
    pub async fn list_schedules(&self) -> Result<BTreeMap<String, ScheduleStatus>> {
        self.json(Call::list_schedules()).await
    }
    /// What happens from now on: read [`crate::types::Event`]s with [`Stream::next_value`].
    pub async fn events(&self) -> Result<Stream> {
        self.stream(Call::events()).await
    }
}

fn snapshot_ref(name: &str) -> SnapshotRef {
    SnapshotRef { snapshot_name: name.to_owned(), ..SnapshotRef::default() }
}

/// What a query's value holds as it is: RFC 3986's unreserved characters.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// What a header holds as it is: printable ASCII, but for the sign of an escape.
const HEADER: &AsciiSet = &CONTROLS.add(b'%');

/// Percent-encodes a text as a value in a query.
pub fn encode_query(text: &str) -> String {
    utf8_percent_encode(text, QUERY).to_string()
}

/// Percent-encodes what a header cannot carry, for [`HINT_HEADER`].
pub fn encode_header(text: &str) -> String {
    utf8_percent_encode(text, HEADER).to_string()
}

/// Undoes [`encode_header`]; what is no percent-encoding stays as it is.
fn decode(bytes: &[u8]) -> String {
    percent_decode(bytes).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_hint_survives_a_header(text in "\\PC*") {
            let encoded = encode_header(&text);
            prop_assert!(hyper::header::HeaderValue::from_str(&encoded).is_ok());
            prop_assert_eq!(decode(encoded.as_bytes()), text);
        }
    }

    #[test]
    fn a_lone_percent_sign_is_kept() {
        assert_eq!(decode(b"50% of %4 %zz %C3%A4"), "50% of %4 %zz \u{e4}");
    }
}
