//! A DigitalOcean of our own: one droplet, its region's volumes and snapshots, with real disks behind them.

use crate::openapi;
use convoy_cloud_lab::http::{Line, Reply, Request, Server};
use convoy_cloud_lab::kernel::{self, Kernel, Plugged};
use convoy_cloud_lab::world;
use convoy_driver_digitalocean::provider::DigitalOceanCloud;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const TOKEN: &str = "dop_v1_0123456789abcdef0123456789abcdef_secret";
pub(crate) const DROPLET: u64 = 4711;
pub(crate) const REGION: &str = "fra1";

/// A volume of the cloud.
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) gib: u64,
    pub(crate) region: String,
    pub(crate) droplet: Option<u64>,
    pub(crate) visible: Instant,
    pub(crate) tags: Value,
    plugged: Option<Plugged>,
}

/// A snapshot of the cloud.
pub(crate) struct Snapshot {
    pub(crate) name: String,
    pub(crate) volume: String,
    pub(crate) gib: u64,
    tags: Value,
}

struct Action {
    volume: String,
    kind: &'static str,
    ends: Option<Instant>,
    status: &'static str,
    gib: u64,
}

/// What can be changed from outside.
pub(crate) struct State {
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) snapshots: BTreeMap<String, Snapshot>,
    /// Every request with our answer to it, for the judge.
    exchanges: Vec<Value>,
    /// How long an action takes; `None`: for ever.
    pub(crate) action_time: Option<Duration>,
    /// How many of the next actions fail.
    pub(crate) failing_actions: u32,
    /// How long a new volume is not seen.
    pub(crate) lag: Duration,
    /// As many volumes fit on the droplet.
    pub(crate) attach_limit: usize,
    /// As many volumes fit on the account.
    pub(crate) volume_limit: usize,
    /// Whether new volumes have something on them.
    stained: bool,
    /// Whether the droplet's kernel shows what is attached.
    pub(crate) show_devices: bool,
    actions: BTreeMap<u64, Action>,
    disks: TempDir,
    kernel: Arc<Kernel>,
    last: u64,
}

/// The cloud and its server.
pub(crate) struct Cloud {
    pub(crate) server: Server,
    pub(crate) metadata: Server,
    state: Arc<Mutex<State>>,
}

type Answer = Result<(u16, Value), (u16, &'static str, String)>;

impl Cloud {
    pub(crate) fn start(kernel: Arc<Kernel>) -> Self {
        let state = Arc::new(Mutex::new(State {
            volumes: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            exchanges: Vec::new(),
            action_time: Some(Duration::from_millis(60)),
            failing_actions: 0,
            lag: Duration::ZERO,
            attach_limit: 15,
            volume_limit: 100,
            stained: false,
            show_devices: true,
            actions: BTreeMap::new(),
            disks: TempDir::with_prefix("convoy-disks-").unwrap(),
            kernel,
            last: 0,
        }));
        let known = Arc::clone(&state);
        let server = Server::start(move |request| lock(&known).answer(request)).unwrap();
        let metadata = Server::start(|request| match request.line().as_str() {
            "GET /metadata/v1.json" => {
                let known = json!({"droplet_id": DROPLET, "hostname": "a", "region": REGION, "tags": [], "features": {}});
                Reply::new(200, known.to_string()).header("content-type", "application/json")
            }
            _ => Reply::new(404, "not found"),
        })
        .unwrap();
        Self { server, metadata, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A volume that is there already, without convoy's doing; its disk is empty.
    pub(crate) fn add(&self, name: &str, gib: u64, description: &str, droplet: Option<u64>) -> String {
        let mut state = self.state();
        let id = state.id();
        kernel::grow_disk(&state.disk(&id), gib << 30).unwrap();
        let volume = Volume {
            name: name.to_owned(),
            description: description.to_owned(),
            gib,
            region: REGION.to_owned(),
            droplet,
            visible: Instant::now(),
            tags: json!([]),
            plugged: None,
        };
        state.volumes.insert(id.clone(), volume);
        id
    }
}

impl Cloud {
    /// Names of the volumes that there are, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.state().volumes.values().map(|volume| volume.name.clone()).collect();
        names.sort();
        names
    }

    /// The requests since the last time, as method and path.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.server.line.take_seen().iter().map(Request::line).collect()
    }
}

impl world::Cloud for Cloud {
    type Provider = DigitalOceanCloud;
    const REGION: &'static str = REGION;
    const SNAPSHOT_ID: &'static str = "ID";

    fn start(kernel: Arc<Kernel>) -> Self {
        Self::start(kernel)
    }

    fn options(&self, scratch: &Path) -> BTreeMap<String, String> {
        let token = scratch.join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        world::options(&[
            ("do.tokenfile", token.to_str().unwrap()),
            ("do.endpoint", self.server.url().unwrap().as_str()),
            ("do.metadata-endpoint", self.metadata.url().unwrap().as_str()),
            ("do.defaultvolumesize", "1G"),
        ])
    }

    fn line(&self) -> &Line {
        &self.server.line
    }

    fn volumes(&self) -> BTreeSet<String> {
        self.state().volumes.keys().cloned().collect()
    }

    fn snapshots(&self) -> BTreeSet<String> {
        self.state().snapshots.keys().cloned().collect()
    }

    fn stain(&self) {
        self.state().stained = true;
    }

    fn asks_for(action: world::Action, request: &Request) -> bool {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        match action {
            world::Action::CreateVolume => method == "POST" && path == "/v2/volumes",
            world::Action::DeleteVolume => method == "DELETE" && path.starts_with("/v2/volumes/"),
            world::Action::AttachVolume => method == "POST" && path.ends_with("/actions"),
            world::Action::CreateSnapshot => method == "POST" && path.ends_with("/snapshots"),
        }
    }

    fn refusal() -> Reply {
        Reply::new(403, r#"{"id":"forbidden","message":"You are missing the required permission"}"#)
    }

    fn calm(&self) {
        self.state().unstick();
        self.state().action_time = Some(Duration::from_millis(20));
    }

    fn violations(&self) -> Vec<String> {
        let exchanges = std::mem::take(&mut self.state().exchanges);
        openapi::complaints(&exchanges)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl State {
    pub(crate) fn disk(&self, id: &str) -> PathBuf {
        self.disks.path().join(id)
    }

    fn id(&mut self) -> String {
        self.last += 1;
        format!("7724db7c-e098-11e5-b522-{:012x}", self.last)
    }

    fn answer(&mut self, request: &Request) -> Reply {
        self.settle();
        let authorised =
            request.headers.get("authorization").map(String::as_str) == Some(&format!("Bearer {TOKEN}"));
        let answer = if authorised {
            self.act(request)
        } else {
            Err((401, "unauthorized", "Unable to authenticate you".to_owned()))
        };
        let (status, body) = match answer {
            Ok((status, Value::Null)) => (status, String::new()),
            Ok((status, body)) => (status, body.to_string()),
            Err((status, id, message)) => {
                (status, json!({"id": id, "message": message, "request_id": "4d9d8375"}).to_string())
            }
        };
        let headers = BTreeMap::from([
            ("content-type", "application/json"),
            ("ratelimit-limit", "5000"),
            ("ratelimit-remaining", "4990"),
            ("ratelimit-reset", "1900000000"),
        ]);
        self.exchanges.push(json!({
            "method": request.method, "path": request.path, "query": request.query, "headers": request.headers,
            "body": String::from_utf8_lossy(&request.body), "status": status, "answer_headers": headers,
            "answer": body,
        }));
        let reply = Reply::new(status, body);
        headers.into_iter().fold(reply, |reply, (name, value)| reply.header(name, value))
    }

    fn act(&mut self, request: &Request) -> Answer {
        let query = &request.query;
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        let path: Vec<_> = request.path.split('/').skip(1).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("GET", ["v2", "volumes"]) => {
                let shown = self.volumes.iter().filter(|(_, volume)| {
                    volume.visible <= Instant::now()
                        && query.get("name").is_none_or(|name| volume.name == *name)
                        && query.get("region").is_none_or(|region| volume.region == *region)
                });
                page("volumes", shown.map(|(id, volume)| show(id, volume)).collect(), query)
            }
            ("POST", ["v2", "volumes"]) => self.create(&body),
            ("GET", ["v2", "volumes", id]) => match self.seen(id) {
                Some(volume) => Ok((200, json!({"volume": show(id, volume)}))),
                None => Err(not_found()),
            },
            ("DELETE", ["v2", "volumes", id]) => match self.volumes.get(*id) {
                None => Err(not_found()),
                Some(volume) if volume.droplet.is_some() => {
                    Err((409, "conflict", "attached volume cannot be deleted".to_owned()))
                }
                Some(_)
                    if self
                        .actions
                        .values()
                        .any(|action| action.volume == *id && action.status == "in-progress") =>
                {
                    Err((422, "unprocessable_entity", "the volume has a pending event".to_owned()))
                }
                Some(_) => {
                    self.volumes.remove(*id);
                    std::fs::remove_file(self.disk(id)).unwrap();
                    Ok((204, Value::Null))
                }
            },
            ("POST", ["v2", "volumes", id, "actions"]) => self.begin(id, &body),
            ("GET", ["v2", "volumes", id, "actions", number]) => {
                let number = number.parse().unwrap_or(0);
                match self.actions.get(&number) {
                    Some(action) if action.volume == *id => {
                        Ok((200, json!({"action": show_action(number, action)})))
                    }
                    _ => Err(not_found()),
                }
            }
            ("GET", ["v2", "volumes", id, "snapshots"]) => {
                let shown = self.snapshots.iter().filter(|(_, snapshot)| snapshot.volume == *id);
                page("snapshots", shown.map(|(id, snapshot)| show_snapshot(id, snapshot)).collect(), query)
            }
            ("POST", ["v2", "volumes", id, "snapshots"]) => self.snapshot(id, &body),
            ("GET", ["v2", "volumes", "snapshots", id]) => match self.snapshots.get(*id) {
                Some(snapshot) => Ok((200, json!({"snapshot": show_snapshot(id, snapshot)}))),
                None => Err(not_found()),
            },
            ("DELETE", ["v2", "volumes", "snapshots", id]) => match self.snapshots.remove(*id) {
                Some(_) => {
                    std::fs::remove_file(self.disk(id)).unwrap();
                    Ok((204, Value::Null))
                }
                None => Err(not_found()),
            },
            ("GET", ["v2", "snapshots"]) => page(
                "snapshots",
                self.snapshots.iter().map(|(id, snapshot)| show_snapshot(id, snapshot)).collect(),
                query,
            ),
            _ => Err((404, "not_found", format!("no operation {}", request.line()))),
        }
    }

    fn seen(&self, id: &str) -> Option<&Volume> {
        self.volumes.get(id).filter(|volume| volume.visible <= Instant::now())
    }

    fn create(&mut self, body: &Value) -> Answer {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let (name, region) = (text("name"), text("region"));
        let gib = body["size_gigabytes"].as_u64().unwrap_or(0);
        let good = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !good || !(1..=16384).contains(&gib) || region != REGION {
            return Err((422, "unprocessable_entity", format!("invalid name, size or region: {body}")));
        }
        if self.volumes.values().any(|volume| volume.name == name && volume.region == region) {
            return Err((
                409,
                "conflict",
                "a volume with the same name already exists in this region".to_owned(),
            ));
        }
        if self.volumes.len() >= self.volume_limit {
            return Err((
                403,
                "forbidden",
                "failed to create volume: volume/snapshot capacity limit exceeded".to_owned(),
            ));
        }
        let id = self.id();
        if let Some(snapshot) = body["snapshot_id"].as_str() {
            match self.snapshots.get(snapshot) {
                Some(found) if found.gib <= gib => {}
                _ => {
                    return Err((
                        422,
                        "unprocessable_entity",
                        "no such snapshot, or it is larger".to_owned(),
                    ));
                }
            }
            kernel::copy_disk(&self.disk(snapshot), &self.disk(&id)).unwrap();
        }
        kernel::grow_disk(&self.disk(&id), gib << 30).unwrap();
        if self.stained {
            kernel::stain_disk(&self.disk(&id)).unwrap();
        }
        let volume = Volume {
            name,
            description: body["description"].as_str().unwrap_or_default().to_owned(),
            gib,
            region,
            droplet: None,
            visible: Instant::now() + self.lag,
            tags: body.get("tags").cloned().unwrap_or(json!([])),
            plugged: None,
        };
        let shown = show(&id, &volume);
        self.volumes.insert(id, volume);
        Ok((201, json!({"volume": shown})))
    }

    fn snapshot(&mut self, of: &str, body: &Value) -> Answer {
        let Some(volume) = self.volumes.get(of) else { return Err(not_found()) };
        let gib = volume.gib;
        let name = body["name"].as_str().unwrap_or_default().to_owned();
        if self.snapshots.values().filter(|snapshot| snapshot.volume == of).count() >= 25 {
            return Err((422, "unprocessable_entity", "snapshot limit exceeded for this volume".to_owned()));
        }
        let id = self.id();
        kernel::copy_disk(&self.disk(of), &self.disk(&id)).unwrap();
        let tags = body.get("tags").cloned().unwrap_or(json!([]));
        let snapshot = Snapshot { name, volume: of.to_owned(), gib, tags };
        let shown = show_snapshot(&id, &snapshot);
        self.snapshots.insert(id, snapshot);
        Ok((201, json!({"snapshot": shown})))
    }

    fn begin(&mut self, id: &str, body: &Value) -> Answer {
        let refused = |message: &str| Err((422, "unprocessable_entity", message.to_owned()));
        let attached = self.volumes.values().filter(|volume| volume.droplet == Some(DROPLET)).count();
        let pending = self.actions.values().any(|action| action.status == "in-progress");
        let Some(volume) = self.volumes.get(id) else { return Err(not_found()) };
        let kind = body["type"].as_str().unwrap_or_default();
        let droplet = body["droplet_id"].as_u64();
        if pending {
            return refused("Droplet already has a pending event.");
        }
        let kind = match kind {
            "attach" if volume.droplet.is_some() => return refused("This volume is already attached"),
            "attach" if droplet != Some(DROPLET) => return refused("no such droplet in this region"),
            "attach" if attached >= self.attach_limit => {
                return refused("cannot attach more volumes to the Droplet");
            }
            "attach" => "attach_volume",
            "detach" if volume.droplet.is_none() || volume.droplet != droplet => {
                return refused("Attachment not found");
            }
            "detach" => "detach_volume",
            _ if body["size_gigabytes"].as_u64().unwrap_or(0) <= volume.gib => {
                return refused("volumes can only grow");
            }
            _ => "resize_volume",
        };
        self.last += 1;
        let action = Action {
            volume: id.to_owned(),
            kind,
            ends: self.action_time.map(|time| Instant::now() + time),
            status: "in-progress",
            gib: body["size_gigabytes"].as_u64().unwrap_or(0),
        };
        let shown = show_action(self.last, &action);
        self.actions.insert(self.last, action);
        Ok((202, json!({"action": shown})))
    }

    /// Ends what is due.
    pub(crate) fn settle(&mut self) {
        let due: Vec<_> = self
            .actions
            .iter()
            .filter(|(_, action)| {
                action.status == "in-progress" && action.ends.is_some_and(|ends| ends <= Instant::now())
            })
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let action = self.actions.get_mut(&id).unwrap();
            if self.failing_actions > 0 {
                self.failing_actions -= 1;
                action.status = "errored";
                continue;
            }
            action.status = "completed";
            let (kind, gib, volume_id) = (action.kind, action.gib, action.volume.clone());
            let disk = self.disks.path().join(&volume_id);
            let Some(volume) = self.volumes.get_mut(&volume_id) else { continue };
            match kind {
                "attach_volume" => {
                    volume.droplet = Some(DROPLET);
                    if self.show_devices {
                        let link = format!("scsi-0DO_Volume_{}", volume.name);
                        volume.plugged = Some(self.kernel.plug_scsi(&disk, &link).unwrap());
                    }
                }
                "detach_volume" => {
                    volume.droplet = None;
                    volume.plugged = None;
                }
                _ => {
                    volume.gib = gib;
                    kernel::grow_disk(&disk, gib << 30).unwrap();
                    if let Some(plugged) = &volume.plugged {
                        plugged.notice_size().unwrap();
                    }
                }
            }
        }
    }

    /// A stuck action comes to an end.
    pub(crate) fn unstick(&mut self) {
        self.action_time = Some(Duration::ZERO);
        for action in self.actions.values_mut().filter(|action| action.status == "in-progress") {
            action.ends = Some(Instant::now());
        }
        self.settle();
    }
}

fn show_region(slug: &str) -> Value {
    json!({"slug": slug, "name": "Frankfurt 1", "sizes": [], "features": ["metadata"], "available": true})
}

fn show(id: &str, volume: &Volume) -> Value {
    json!({
        "id": id, "name": volume.name, "description": volume.description, "size_gigabytes": volume.gib,
        "droplet_ids": volume.droplet.into_iter().collect::<Vec<_>>(), "created_at": "2026-03-02T17:00:49Z",
        "filesystem_type": "", "filesystem_label": "", "tags": volume.tags, "region": show_region(&volume.region),
    })
}

fn show_snapshot(id: &str, snapshot: &Snapshot) -> Value {
    json!({
        "id": id, "name": snapshot.name, "created_at": "2026-03-02T17:05:00Z", "regions": [REGION],
        "min_disk_size": snapshot.gib, "size_gigabytes": 0.5, "resource_id": snapshot.volume,
        "resource_type": "volume", "tags": snapshot.tags,
    })
}

fn show_action(id: u64, action: &Action) -> Value {
    let ended = (action.status != "in-progress").then_some("2026-03-02T17:00:50Z");
    json!({
        "id": id, "status": action.status, "type": action.kind, "started_at": "2026-03-02T17:00:49Z",
        "completed_at": ended, "resource_type": "volume", "region": show_region(REGION), "region_slug": REGION,
    })
}

fn page(key: &str, all: Vec<Value>, query: &BTreeMap<String, String>) -> Answer {
    let number =
        |name: &str, default: usize| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (per_page, page) = (number("per_page", 20), number("page", 1));
    let total = all.len();
    let shown: Vec<_> = all.into_iter().skip(per_page * (page - 1)).take(per_page).collect();
    let link = |page: usize| format!("https://api.digitalocean.com/v2/{key}?page={page}&per_page={per_page}");
    let pages = match (page > 1, per_page * page < total) {
        (false, false) => json!({}),
        (false, true) => json!({"next": link(page + 1), "last": link(total.div_ceil(per_page))}),
        (true, false) => json!({"first": link(1), "prev": link(page - 1)}),
        (true, true) => {
            json!({"first": link(1), "prev": link(page - 1), "next": link(page + 1), "last": link(total.div_ceil(per_page))})
        }
    };
    Ok((200, json!({key: shown, "links": {"pages": pages}, "meta": {"total": total}})))
}

fn not_found() -> (u16, &'static str, String) {
    (404, "not_found", "The resource you requested could not be found.".to_owned())
}
