//! EC2 for one instance: moto behind a door that makes the volumes real and checks what moto lets pass.

use crate::metadata::Metadata;
use crate::moto::Moto;
use crate::schema;
use convoy_cloud_lab::http::{Line, Reply, Request, Server};
use convoy_cloud_lab::kernel::{self, Kernel, Plugged};
use convoy_cloud_lab::world::{self, Action};
use convoy_driver_ebs::provider::Ec2Cloud;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const ACCESS_KEY: &str = "ASIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI_bPxRfiCYEXAMPLEKEY_secret";
pub(crate) const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2Vj_session_token_secret";
pub(crate) const REGION: &str = "us-east-1";
pub(crate) const ZONE: &str = "us-east-1a";
const MODEL: &str = "Amazon Elastic Block Store";

pub(crate) struct Volume {
    pub(crate) zone: String,
    pub(crate) attached: Option<(String, String)>,
    pub(crate) plugged: Option<Plugged>,
    stuck: bool,
}

pub(crate) struct State {
    pub(crate) volumes: BTreeMap<String, Volume>,
    pub(crate) snapshots: BTreeSet<String>,
    pub(crate) violations: Vec<String>,
    /// Every action asked for, in order.
    pub(crate) actions: Vec<String>,
    /// NVMe devices that carry their volume's id, or devices by name only.
    pub(crate) nitro: bool,
    /// Whether udev makes by-id links.
    pub(crate) udev: bool,
    pub(crate) show_devices: bool,
    /// Whether new volumes have something on them.
    stained: bool,
    pub(crate) attach_limit: usize,
    /// How many of the next attachments get stuck.
    pub(crate) stuck: usize,
    /// How long new volumes are not seen.
    pub(crate) lag: Duration,
    /// How many descriptions show a snapshot as pending.
    pub(crate) pending: usize,
    hidden: BTreeMap<String, Instant>,
    tokens: BTreeMap<String, Reply>,
    disks: TempDir,
    kernel: Arc<Kernel>,
    moto: Moto,
    client: reqwest::blocking::Client,
    pub(crate) instance: String,
}

pub(crate) struct Aws {
    pub(crate) server: Server,
    pub(crate) metadata: Metadata,
    pub(crate) other_instance: String,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl world::Cloud for Aws {
    type Provider = Ec2Cloud;
    const REGION: &'static str = REGION;
    const SNAPSHOT_ID: &'static str = "EBSSnapshotID";

    fn start(kernel: Arc<Kernel>) -> Self {
        Self::start(kernel)
    }

    fn options(&self, _scratch: &Path) -> BTreeMap<String, String> {
        world::options(&[
            ("ebs.endpoint", self.server.url().unwrap().as_str()),
            ("ebs.metadata-endpoint", self.metadata.server.url().unwrap().as_str()),
            ("ebs.defaultvolumesize", "1G"),
            ("ebs.tags", "team=storage,cost centre=42"),
        ])
    }

    fn line(&self) -> &Line {
        &self.server.line
    }

    fn volumes(&self) -> BTreeSet<String> {
        self.state().volumes.keys().cloned().collect()
    }

    fn snapshots(&self) -> BTreeSet<String> {
        self.state().snapshots.clone()
    }

    fn stain(&self) {
        self.state().stained = true;
    }

    fn asks_for(action: Action, request: &Request) -> bool {
        String::from_utf8_lossy(&request.body).starts_with(&format!("Action={action:?}&"))
    }

    fn refusal() -> Reply {
        refusal("UnauthorizedOperation", "You are not authorized")
    }

    fn violations(&self) -> Vec<String> {
        let mut violations = std::mem::take(&mut self.state().violations);
        violations.extend(self.metadata.violations());
        violations
    }
}

/// Every text between these tags.
pub(crate) fn texts<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    xml.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0)).collect()
}

impl Aws {
    pub(crate) fn start(kernel: Arc<Kernel>) -> Self {
        // The client of the test's own requests needs it too.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut state = State {
            volumes: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            violations: Vec::new(),
            actions: Vec::new(),
            nitro: true,
            udev: true,
            show_devices: true,
            stained: false,
            attach_limit: 27,
            stuck: 0,
            lag: Duration::ZERO,
            pending: 0,
            hidden: BTreeMap::new(),
            tokens: BTreeMap::new(),
            disks: TempDir::with_prefix("convoy-disks-").unwrap(),
            kernel,
            moto: Moto::start(),
            client: reqwest::blocking::Client::builder().no_proxy().build().unwrap(),
            instance: String::new(),
        };
        let run = |zone: &str| {
            let body = format!(
                "Action=RunInstances&Version=2016-11-15&ImageId=ami-12c6146b&MinCount=1&MaxCount=1&InstanceType=m5.large\
                 &Placement.AvailabilityZone={zone}"
            );
            let xml = state.ask(REGION, &body);
            texts(&xml, "instanceId")[0].to_owned()
        };
        let (instance, other_instance) = (run(ZONE), run(ZONE));
        state.instance.clone_from(&instance);
        let state = Arc::new(Mutex::new(state));
        let known = Arc::clone(&state);
        let server = Server::start(move |request| lock(&known).answer(request)).unwrap();
        let metadata = Metadata::start(&instance, REGION, ZONE);
        Self { server, metadata, other_instance, state }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The actions asked for since the last time.
    pub(crate) fn actions(&self) -> Vec<String> {
        std::mem::take(&mut self.state().actions)
    }

    /// A volume that is there already, with an empty disk.
    pub(crate) fn add(&self, zone: &str, gib: u64, tags: &[(&str, &str)], attached: Option<&str>) -> String {
        let mut state = self.state();
        let mut body = format!("Action=CreateVolume&Version=2016-11-15&AvailabilityZone={zone}&Size={gib}");
        if !tags.is_empty() {
            body.push_str("&TagSpecification.1.ResourceType=volume");
        }
        for (number, (key, value)) in tags.iter().enumerate() {
            let tag = format!("TagSpecification.1.Tag.{}", number + 1);
            body.push_str(&format!("&{tag}.Key={key}&{tag}.Value={value}"));
        }
        let xml = state.ask(REGION, &body);
        let id = texts(&xml, "volumeId")[0].to_owned();
        kernel::grow_disk(&state.disk(&id), gib << 30).unwrap();
        let attachment = attached.map(|instance| (instance.to_owned(), "/dev/sdf".to_owned()));
        if let Some((instance, device)) = &attachment {
            let body = format!(
                "Action=AttachVolume&Version=2016-11-15&VolumeId={id}&InstanceId={instance}&Device={device}"
            );
            state.ask(REGION, &body);
        }
        let volume = Volume { zone: zone.to_owned(), attached: attachment, plugged: None, stuck: false };
        state.volumes.insert(id.clone(), volume);
        id
    }

    /// A snapshot in another region, with the disk of a volume.
    pub(crate) fn snapshot_abroad(&self, region: &str, gib: u64, disk_of: &str) -> String {
        let mut state = self.state();
        let volume = state.ask(
            region,
            &format!("Action=CreateVolume&Version=2016-11-15&AvailabilityZone={region}a&Size={gib}"),
        );
        let volume = texts(&volume, "volumeId")[0];
        let snapshot = state.ask(
            region,
            &format!(
                "Action=CreateSnapshot&Version=2016-11-15&VolumeId={volume}&TagSpecification.1.ResourceType=snapshot\
                 &TagSpecification.1.Tag.1.Key=ConvoyVolumeName&TagSpecification.1.Tag.1.Value=far\
                 &TagSpecification.1.Tag.2.Key=ConvoySnapshotName&TagSpecification.1.Tag.2.Value=away"
            ),
        );
        let id = texts(&snapshot, "snapshotId")[0].to_owned();
        kernel::copy_disk(&state.disk(disk_of), &state.disk(&id)).unwrap();
        state.snapshots.insert(id.clone());
        id
    }
}

fn error(code: &str, message: &str) -> Reply {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Response><Errors><Error><Code>{code}</Code><Message>{message}</Message>\
         </Error></Errors><RequestID>7a62c49f-347e-4fc4-9331-6e8eEXAMPLE</RequestID></Response>"
    );
    let status = match code {
        "RequestLimitExceeded" => 503,
        "InternalError" => 500,
        _ => 400,
    };
    Reply::new(status, xml).header("content-type", "text/xml")
}

pub(crate) fn refusal(code: &str, message: &str) -> Reply {
    error(code, message)
}

impl State {
    pub(crate) fn disk(&self, id: &str) -> PathBuf {
        self.disks.path().join(id)
    }

    /// Asks moto as somebody else would.
    pub(crate) fn ask(&self, region: &str, body: &str) -> String {
        let scope = format!("AWS4-HMAC-SHA256 Credential=AKIA/20260101/{region}/ec2/aws4_request");
        let reply = self.forward(&[("authorization".to_owned(), scope)], body.as_bytes());
        let text = String::from_utf8(reply.body).unwrap();
        assert_eq!(reply.status, 200, "{body}: {text}");
        text
    }

    fn forward(&self, headers: &[(String, String)], body: &[u8]) -> Reply {
        let mut request =
            self.client.post(format!("http://127.0.0.1:{}/", self.moto.port)).body(body.to_vec());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = request
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .send()
            .unwrap();
        let status = answer.status().as_u16();
        Reply::new(status, answer.bytes().unwrap()).header("content-type", "text/xml")
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let params: BTreeMap<String, String> =
            url::form_urlencoded::parse(&request.body).into_owned().collect();
        let action = params.get("Action").cloned().unwrap_or_default();
        self.actions.push(action.clone());
        let authorization = request.headers.get("authorization").cloned().unwrap_or_default();
        let signed = authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/"))
            && authorization.contains("/ec2/aws4_request");
        let token = request.headers.get("x-amz-security-token").map(String::as_str);
        if !signed || token != Some(SESSION_TOKEN) || request.line() != "POST /" {
            self.violations.push(format!("{action}: not signed with the role's credentials"));
            return error("AuthFailure", "AWS was not able to validate the provided access credentials");
        }
        if let Err(wrong) = schema::check(&action, &params) {
            self.violations.push(format!("{action}: {wrong}"));
            return error("InvalidParameterCombination", &wrong);
        }
        if params.contains_key("DryRun") {
            // Permitted, as everything is here; moto knows dry runs of some actions only.
            return error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.");
        }
        if let Some(refused) = self.check(&action, &params) {
            return refused;
        }
        let headers: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| ["authorization", "x-amz-date"].contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut reply = self.forward(&headers, &request.body);
        if reply.status == 200 {
            self.carry_out(&action, &params, &mut reply);
        }
        reply
    }

    /// What EC2 refuses and moto does not.
    fn check(&mut self, action: &str, params: &BTreeMap<String, String>) -> Option<Reply> {
        let volume = params.get("VolumeId").and_then(|id| self.volumes.get(id));
        match action {
            "CreateVolume" => self.tokens.get(params.get("ClientToken")?).cloned(),
            "AttachVolume" => {
                let volume = volume?;
                let (instance, device) = (&params["InstanceId"], &params["Device"]);
                let on_it = self.volumes.values().filter_map(|volume| volume.attached.as_ref());
                let on_it: Vec<_> = on_it.filter(|(other, _)| other == instance).collect();
                if let Some((other, _)) = &volume.attached {
                    return Some(error("VolumeInUse", &format!("the volume is already attached to {other}")));
                }
                if volume.zone != ZONE {
                    return Some(error("InvalidVolume.ZoneMismatch", "not in the same availability zone"));
                }
                if on_it.iter().any(|(_, name)| name == device) {
                    let text = format!(
                        "Invalid value '{device}' for unixDevice. Attachment point is already in use"
                    );
                    return Some(error("InvalidParameterValue", &text));
                }
                (on_it.len() >= self.attach_limit)
                    .then(|| error("AttachmentLimitExceeded", "too many volumes on this instance"))
            }
            "DetachVolume" if volume.is_some_and(|volume| volume.attached.is_none()) => {
                Some(error("IncorrectState", "the volume is in the 'available' state"))
            }
            "CopySnapshot" => {
                let signed = params.get("PresignedUrl").and_then(|url| url::Url::parse(url).ok());
                let query: BTreeMap<_, _> =
                    signed.iter().flat_map(|url| url.query_pairs().into_owned()).collect();
                let right = query.get("SourceSnapshotId") == params.get("SourceSnapshotId")
                    && query.get("Action").is_some_and(|action| action == "CopySnapshot")
                    && query.get("X-Amz-Credential").is_some_and(|scope| {
                        scope.starts_with(ACCESS_KEY)
                            && scope.contains(&format!("/{}/ec2/", params["SourceRegion"]))
                    })
                    && query.get("X-Amz-Signature").is_some_and(|signature| signature.len() == 64);
                (!right).then(|| error("InvalidParameter", "the presigned URL is not for this copy"))
            }
            "DescribeVolumes" => {
                self.hidden.retain(|_, until| *until > Instant::now());
                let named = params.values().any(|value| self.hidden.contains_key(value));
                let by_tag =
                    params.values().any(|value| value.starts_with("tag:")) && !self.hidden.is_empty();
                (named || by_tag).then(|| {
                    let xml = "<DescribeVolumesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>0\
                               </requestId><volumeSet/></DescribeVolumesResponse>";
                    Reply::new(200, xml).header("content-type", "text/xml")
                })
            }
            _ => None,
        }
    }

    /// What EC2 does and moto only writes down.
    fn carry_out(&mut self, action: &str, params: &BTreeMap<String, String>, reply: &mut Reply) {
        let xml = String::from_utf8(reply.body.clone()).unwrap();
        let id = params.get("VolumeId").cloned().unwrap_or_default();
        match action {
            "CreateVolume" => {
                let id = texts(&xml, "volumeId")[0].to_owned();
                if let Some(snapshot) = params.get("SnapshotId") {
                    kernel::copy_disk(&self.disk(snapshot), &self.disk(&id)).unwrap();
                }
                kernel::grow_disk(&self.disk(&id), params["Size"].parse::<u64>().unwrap() << 30).unwrap();
                if self.stained {
                    kernel::stain_disk(&self.disk(&id)).unwrap();
                }
                self.tokens.insert(params["ClientToken"].clone(), reply.clone());
                self.hidden.insert(id.clone(), Instant::now() + self.lag);
                let zone = params["AvailabilityZone"].clone();
                self.volumes.insert(id, Volume { zone, attached: None, plugged: None, stuck: false });
            }
            "AttachVolume" => {
                let stuck = self.stuck > 0;
                self.stuck -= usize::from(stuck);
                let (instance, device) = (params["InstanceId"].clone(), params["Device"].clone());
                let plugged = (!stuck && self.show_devices).then(|| self.plug(&id, &device));
                let volume = self.volumes.get_mut(&id).unwrap();
                volume.attached = Some((instance, device));
                volume.stuck = stuck;
                volume.plugged = plugged;
            }
            "DetachVolume" => {
                let volume = self.volumes.get_mut(&id).unwrap();
                volume.attached = None;
                volume.stuck = false;
                volume.plugged = None;
            }
            "DeleteVolume" => {
                self.volumes.remove(&id);
                std::fs::remove_file(self.disk(&id)).unwrap();
            }
            "ModifyVolume" => {
                let size = params["Size"].parse::<u64>().unwrap();
                kernel::grow_disk(&self.disk(&id), size << 30).unwrap();
                if let Some(plugged) = &self.volumes[&id].plugged {
                    plugged.notice_size().unwrap();
                }
            }
            "CreateSnapshot" | "CopySnapshot" => {
                let snapshot = texts(&xml, "snapshotId")[0].to_owned();
                let from = params.get("SourceSnapshotId").unwrap_or(&id);
                kernel::copy_disk(&self.disk(from), &self.disk(&snapshot)).unwrap();
                self.snapshots.insert(snapshot);
            }
            "DeleteSnapshot" => {
                self.snapshots.remove(&params["SnapshotId"]);
                std::fs::remove_file(self.disk(&params["SnapshotId"])).unwrap();
            }
            "DescribeVolumes" if texts(&xml, "volumeId").iter().any(|id| self.is_stuck(id)) => {
                reply.body =
                    xml.replace("<status>attached</status>", "<status>attaching</status>").into_bytes();
            }
            "DescribeSnapshots" if self.pending > 0 && xml.contains("<snapshotId>") => {
                self.pending -= 1;
                let pending = xml.replace("<status>completed</status>", "<status>pending</status>");
                reply.body =
                    pending.replace("<progress>100%</progress>", "<progress>42%</progress>").into_bytes();
            }
            _ => {}
        }
    }

    fn is_stuck(&self, id: &str) -> bool {
        self.volumes.get(id).is_some_and(|volume| volume.stuck)
    }

    fn plug(&self, id: &str, device: &str) -> Plugged {
        let disk = self.disk(id);
        if !self.nitro {
            return self.kernel.plug_named(&disk, device.trim_start_matches("/dev/")).unwrap();
        }
        let serial = id.replacen('-', "", 1);
        let link = format!("nvme-Amazon_Elastic_Block_Store_{serial}");
        self.kernel.plug_nvme(&disk, &serial, MODEL, self.udev.then_some(link.as_str())).unwrap()
    }
}
