//! The instance metadata service, version 2, which checks that it is spoken to as documented; and what
//! follows from its answers.

use crate::aws::{ACCESS_KEY, SECRET_KEY, SESSION_TOKEN};
use crate::world::{World, expect};
use convoy_cloud_lab::http::{Fault, Reply, Request, Server};
use convoy_driver_sdk::ErrorKind;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TOKEN: &str = "AQAEAK_metadata_token";

pub(crate) struct Metadata {
    pub(crate) server: Server,
    violations: Arc<Mutex<Vec<String>>>,
}

impl Metadata {
    pub(crate) fn start(instance: &str, region: &str, zone: &str) -> Self {
        let violations = Arc::new(Mutex::new(Vec::new()));
        let document = json!({
            "accountId": "123456789012", "architecture": "x86_64", "availabilityZone": zone, "instanceId": instance,
            "instanceType": "m5.large", "region": region, "version": "2017-09-30",
        });
        let wrong = Arc::clone(&violations);
        let server = Server::start(move |request| {
            let mut complain = |text: &str| wrong.lock().unwrap().push(format!("{}: {text}", request.line()));
            answer(request, &document.to_string(), &mut complain)
        });
        Self { server: server.unwrap(), violations }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        std::mem::take(&mut self.violations.lock().unwrap())
    }
}

fn answer(request: &Request, document: &str, complain: &mut dyn FnMut(&str)) -> Reply {
    if request.line() == "PUT /latest/api/token" {
        let ttl = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds");
        return match ttl.and_then(|text| text.parse::<u32>().ok()) {
            Some(1..=21600) => {
                Reply::new(200, TOKEN).header("x-aws-ec2-metadata-token-ttl-seconds", ttl.unwrap())
            }
            _ => {
                complain("no time to live");
                Reply::new(400, "")
            }
        };
    }
    if request.headers.get("x-aws-ec2-metadata-token").map(String::as_str) != Some(TOKEN) {
        complain("no token");
        return Reply::new(401, "");
    }
    match request.line().as_str() {
        "GET /latest/dynamic/instance-identity/document" => Reply::new(200, document),
        "GET /latest/meta-data/iam/security-credentials/" => Reply::new(200, "convoy-role"),
        "GET /latest/meta-data/iam/security-credentials/convoy-role" => {
            let credentials = json!({
                "Code": "Success", "LastUpdated": "2026-01-01T00:00:00Z", "Type": "AWS-HMAC",
                "AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": SESSION_TOKEN,
                "Expiration": "2099-01-01T00:00:00Z",
            });
            Reply::new(200, credentials.to_string())
        }
        _ => Reply::new(404, ""),
    }
}

#[test]
fn without_an_instance_there_is_no_driver() {
    let world = World::new();
    let line = &world.cloud.metadata.server.line;
    // It stumbles, but answers.
    line.fail(0, 1, Fault::Answer(Reply::new(503, "")), |request| request.method == "GET");
    world.open_with(world.config(&[])).unwrap();
    line.fail(0, usize::MAX, Fault::Answer(Reply::new(403, "")), |_| true);
    expect(world.open_with(world.config(&[])), ErrorKind::Unavailable, "hop limit of 2");
    line.heal();
    line.fail(0, usize::MAX, Fault::Delay(Duration::from_secs(120)), |_| true);
    let begin = std::time::Instant::now();
    expect(world.open_with(world.config(&[])), ErrorKind::Unavailable, "which EC2 instance this is");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
