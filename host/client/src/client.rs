//! Calls of the admin API.

use crate::error::{Error, Result, ServerError};
use crate::raw::RawBody;
use crate::stream::Stream;
use crate::types::{
    AcceptRestore, AddKey, BackupInfo, BackupRef, CancelJob, CompareTrees, CountBackups, CreateBackup,
    CreateSnapshot, CreateVolume, CreatedBackup, DeleteKept, DeleteVolume, DriverStatus, DumpTree,
    EventFilter, Examine, FindFiles, Info, Job, LabelBackup, ListBackups, ListFiles, ListKeys, ListedKept,
    MountVolume, PruneBackups, ReadFile, RemoveKey, ResizeVolume, RestoreParts, RetainSchedule, RetainVolume,
    RevertSnapshot, RunSchedule, ScheduleStatus, SnapshotRef, UnmountVolume, VerifyBackups, Volume,
    VolumeRef,
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

/// The trailer of raw bytes that are not all of what was asked for: the error, percent-encoded.
pub const ERROR_TRAILER: &str = "convoy-error";

/// The trailer of raw bytes with what was left out of them, percent-encoded.
pub const LEFT_OUT_TRAILER: &str = "convoy-left-out";

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
    /// Method and path, for messages.
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// `GET /volumes/list`; with `driver_form`, what the drivers say of their volumes and nothing else.
    pub fn list_volumes(driver_form: bool) -> Self {
        Self::get(if driver_form { "/v1/volumes/list?driver=1" } else { "/v1/volumes/list" })
    }
    /// `GET /volumes/list`; with `details`, what 0.5 did not tell: in what is said of a volume `Used` and
    /// `LastBackup...`, in what is said of a snapshot `Bytes` and `Files`.
    pub fn list_volumes_with(details: bool) -> Self {
        Self::get(if details { "/v1/volumes/list?details=1" } else { "/v1/volumes/list" })
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
        Self::get(format!("/v1/events?{}", query.join("&")))
    }

    fn get(path: impl Into<Cow<'static, str>>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }
}

/// Makes the constructors of calls, each of a row: its name, what it is asked with, method and path.
macro_rules! calls {
    ($($(#[$doc:meta])+ $name:ident$(($body:ty))?: $method:ident $path:literal;)+) => {
        impl Call {
            $(
                $(#[$doc])+
                #[doc = concat!("\n\n`", stringify!($method), " ", $path, "`")]
                pub fn $name($(body: &$body)?) -> Self {
                    let body = None$(.or_else(|| json::<$body>(body)))?;
                    Self { method: Method::$method, path: concat!("/v1", $path).into(), body }
                }
            )+
        }
    };
}

fn json<T: Serialize>(body: &T) -> Option<Vec<u8>> {
    // The requests are structures with text keys: serialising them cannot fail. An empty body, which the
    // daemon refuses by name, is the honest answer if one ever could.
    Some(serde_json::to_vec(body).unwrap_or_default())
}

calls! {
    /// Asks for the settings of the daemon and its drivers.
    info: GET "/info";
    /// Asks for every setting and where its value comes from.
    config: GET "/config";
    /// Reads `convoy.toml` again.
    reload_config: POST "/config/reload";
    /// Asks for one volume.
    inspect_volume(VolumeRef): GET "/volumes/";
    /// Creates a volume, or restores one from a backup.
    create_volume(CreateVolume): POST "/volumes/create";
    /// Deletes a volume.
    delete_volume(DeleteVolume): DELETE "/volumes/";
    /// Asks what is kept of volumes that were forgotten.
    list_kept: GET "/volumes/kept";
    /// Deletes what is kept of a volume that was forgotten.
    delete_kept(DeleteKept): DELETE "/volumes/kept";
    /// Mounts a volume.
    mount_volume(MountVolume): POST "/volumes/mount";
    /// Unmounts a volume.
    unmount_volume(UnmountVolume): POST "/volumes/umount";
    /// Changes the size of a volume.
    resize_volume(ResizeVolume): POST "/volumes/resize";
    /// Sets what Docker's remove does to the data of a volume.
    retain_volume(RetainVolume): POST "/volumes/retain";
    /// Takes a snapshot.
    create_snapshot(CreateSnapshot): POST "/snapshots/create";
    /// Asks for one snapshot.
    inspect_snapshot(SnapshotRef): GET "/snapshots/";
    /// Deletes a snapshot.
    delete_snapshot(SnapshotRef): DELETE "/snapshots/";
    /// Takes a volume back to a snapshot.
    revert_snapshot(RevertSnapshot): POST "/snapshots/revert";
    /// Backs up a snapshot.
    create_backup(CreateBackup): POST "/backups/create";
    /// Deletes a backup.
    delete_backup(BackupRef): DELETE "/backups";
    /// Changes the tags, the note and the pin of a backup.
    label_backup(LabelBackup): POST "/backups/labels";
    /// Asks for one backup.
    inspect_backup(BackupRef): GET "/backups/inspect";
    /// Asks for the backups of a destination.
    list_backups(ListBackups): GET "/backups/list";
    /// Checks what a destination has.
    verify_backups(VerifyBackups): POST "/backups/verify";
    /// Counts what the backups at a destination are, and what they take.
    count_backups(CountBackups): POST "/backups/stats";
    /// Removes what no backup of a destination needs.
    prune_backups(PruneBackups): POST "/backups/prune";
    /// Brings parts of a backup or snapshot back into a volume.
    restore_parts(RestoreParts): POST "/restores";
    /// Takes a half restored volume as it is.
    accept_restore(AcceptRestore): DELETE "/restores";
    /// Asks for the keys of a destination.
    list_keys(ListKeys): GET "/backups/keys";
    /// Adds a key to a destination.
    add_key(AddKey): POST "/backups/keys/add";
    /// Removes a key from a destination.
    remove_key(RemoveKey): POST "/backups/keys/remove";
    /// Lists what is in a backup or snapshot.
    list_files(ListFiles): GET "/browse/list";
    /// Finds files in backups or snapshots.
    find_files(FindFiles): GET "/browse/find";
    /// Compares backups and snapshots.
    compare_trees(CompareTrees): GET "/browse/diff";
    /// Asks for the bytes of a file in a backup or snapshot.
    read_file(ReadFile): GET "/browse/cat";
    /// Asks for an archive of what is in a backup or snapshot.
    dump_tree(DumpTree): GET "/browse/dump";
    /// Asks for the jobs that run or ran.
    list_jobs: GET "/jobs";
    /// Cancels a job.
    cancel_job(CancelJob): POST "/jobs/cancel";
    /// Asks for the drivers and how they are.
    list_drivers: GET "/drivers";
    /// Asks for the schedules and their last runs.
    list_schedules: GET "/schedules";
    /// Runs a schedule now.
    run_schedule(RunSchedule): POST "/schedules/run";
    /// Applies what a schedule keeps, without a new backup.
    retain_schedule(RetainSchedule): POST "/schedules/retain";
    /// Examines the daemon, its volumes and destinations.
    examine(Examine): POST "/doctor";
    /// Asks for the metrics, in the format of Prometheus.
    metrics: GET "/metrics";
    /// Follows the events.
    events: GET "/events";
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
    pub async fn text(&self, call: Call) -> Result<String> {
        let name = call.name();
        let response = self.send(&call, &[]).await?;
        self.body(&name, response).await
    }

    /// The answer's body piece by piece, for calls that are answered with raw bytes.
    ///
    /// # Errors
    /// Any [`Error`] but `Answer`.
    pub async fn bytes(&self, call: Call) -> Result<RawBody> {
        let name = call.name();
        let response = self.send(&call, &[(header::TE, "trailers")]).await?;
        Ok(RawBody::new(self.socket.clone(), name, response.into_body()))
    }

    /// The same call with progress, where the daemon has any to tell.
    pub async fn stream(&self, call: Call) -> Result<Stream> {
        let name = call.name();
        let response = self.send(&call, &[(header::ACCEPT, NDJSON)]).await?;
        let streams = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(NDJSON.as_bytes()));
        if streams {
            return Ok(Stream::new(self.socket.clone(), name, response.into_body()));
        }
        Ok(Stream::finished(self.socket.clone(), name.clone(), self.body(&name, response).await?))
    }

    /// Reads the answer as JSON, of the type that the call is answered with.
    pub async fn json<T: DeserializeOwned>(&self, call: Call) -> Result<T> {
        let name = call.name();
        let text = self.text(call).await?;
        serde_json::from_str(&text).map_err(|source| Error::Answer { call: name, source })
    }

    async fn send(
        &self,
        call: &Call,
        headers: &[(header::HeaderName, &'static str)],
    ) -> Result<Response<Incoming>> {
        let agent = (header::USER_AGENT, USER_AGENT);
        let headers: Vec<_> = [agent].into_iter().chain(headers.iter().cloned()).collect();
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

/// Calls that are made often, with typed answers; any other by [`Client::json`]. Each fails with any
/// [`Error`].
impl Client {
    /// The daemon's settings and its drivers'.
    pub async fn info(&self) -> Result<Info> {
        self.json(Call::info()).await
    }
    /// All volumes by name.
    pub async fn list_volumes(&self) -> Result<BTreeMap<String, Volume>> {
        self.json(Call::list_volumes(false)).await
    }
    /// Describes a volume.
    pub async fn inspect_volume(&self, name: &str) -> Result<Volume> {
        self.json(Call::inspect_volume(&VolumeRef { volume_name: name.to_owned(), ..VolumeRef::default() }))
            .await
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
    /// Mounts a volume in the driver's own place and answers where.
    pub async fn mount_volume(&self, name: &str) -> Result<String> {
        let request = MountVolume { volume_name: name.to_owned(), ..MountVolume::default() };
        self.text(Call::mount_volume(&request)).await
    }
    /// Backs a snapshot up and answers the backup's URL, with a plain `&`.
    pub async fn create_backup(&self, request: &CreateBackup) -> Result<String> {
        let call = Call::create_backup(&CreateBackup { verbose: true, ..request.clone() });
        self.json::<CreatedBackup>(call).await.map(|created| created.url)
    }
    /// The backups at a destination, by URL.
    pub async fn list_backups(&self, request: &ListBackups) -> Result<BTreeMap<String, BackupInfo>> {
        self.json(Call::list_backups(request)).await
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
pub(crate) fn decode(bytes: &[u8]) -> String {
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
