//! What the lies are, in Rust: an honest driver, of whose messages something else is made.

use convoy_driver_sdk::dispatch::Dispatch;
use convoy_driver_sdk::{Context, DriverError, ErrorKind, Name, Timestamp};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

/// An honest driver, and what is made of its messages.
pub(super) struct Liar<D> {
    lie: &'static str,
    honest: D,
    lock: Mutex<u32>,
    first: Mutex<Option<Value>>,
}

impl<D: Dispatch> Liar<D> {
    pub(super) fn new(lie: &'static str, honest: D) -> Self {
        Self { lie, honest, lock: Mutex::default(), first: Mutex::default() }
    }

    fn ask(&self, method: &str, request: &Value, context: &Context) -> Result<Value, DriverError> {
        let reply = self.honest.dispatch(method, request.to_string().as_bytes(), context)?;
        Ok(serde_json::from_slice(&reply).unwrap())
    }

    fn lie(&self, method: &str, mut request: Value, context: &Context) -> Result<Value, DriverError> {
        let changed = |reply: Result<Value, DriverError>, change: fn(&mut Value)| {
            reply.map(|mut reply| {
                change(&mut reply);
                reply
            })
        };
        let name = json!({ "name": request["name"] });
        match (self.lie, method) {
            ("declares too much", "volume.clone") => Err(DriverError::unsupported("volumes from snapshots")),
            ("declares too little", "driver.describe") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["capabilities"]
                        .as_array_mut()
                        .unwrap()
                        .retain(|capability| capability != "restore_tree");
                })
            }
            ("creates twice", "volume.create") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::AlreadyExists => {
                    self.ask("volume.get", &name, context)
                }
                other => other,
            },
            ("deletes what is not there", "volume.delete") => {
                Ok(self.ask(method, &request, context).unwrap_or(json!({})))
            }
            ("has one kind of error", "volume.get" | "volume.mount" | "snapshot.get") => {
                self.ask(method, &request, context).map_err(|error| DriverError::internal(error.message))
            }
            ("takes any name", "volume.create")
                if request["name"].as_str().is_none_or(|name| Name::parse(name).is_err()) =>
            {
                let good = json!({ "name": "kit-any" });
                let _ = self.ask("volume.create", &good, context);
                self.ask("volume.get", &good, context)
            }
            ("takes any option", "volume.create") => {
                request["options"] = json!({});
                self.ask(method, &request, context)
            }
            ("mounts elsewhere each time", "volume.mount") => {
                let mut mounted = self.ask(method, &request, context)?;
                let mut times = self.lock.lock().unwrap();
                *times += 1;
                let path = mounted["mountpoint"].as_str().unwrap();
                let last = Path::new(path).file_name().unwrap().display().to_string();
                mounted["mountpoint"] =
                    format!("{path}{}", format!("/../{last}").repeat(*times as usize)).into();
                Ok(mounted)
            }
            ("never changes", "volume.list") if request["generation"] == "1" => {
                Ok(json!({ "volumes": [], "generation": "1", "unchanged": true }))
            }
            ("never changes", "volume.list") => {
                request["generation"] = Value::Null;
                changed(self.ask(method, &request, context), |reply| reply["generation"] = "1".into())
            }
            ("takes a snapshot twice", "snapshot.create") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::AlreadyExists => {
                    let again = json!({ "volume": request["volume"], "snapshot": request["snapshot"] });
                    self.ask("snapshot.get", &again, context)
                }
                other => other,
            },
            ("restores over anything", "restore.prepare") => {
                let _ = self.ask("volume.delete", &name, context);
                self.ask(method, &request, context)
            }
            // Something is taken away first, and stays away when the call is ended.
            ("reverts by halves", "volume.revert") => {
                let mounted = self.ask("volume.mount", &name, context)?;
                let volume = Path::new(mounted["mountpoint"].as_str().unwrap());
                for file in std::fs::read_dir(volume).unwrap().flatten().filter(|file| file.path().is_file())
                {
                    std::fs::remove_file(file.path()).unwrap();
                }
                self.ask("volume.unmount", &name, context)?;
                for _ in 0..40 {
                    context.check()?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                self.ask(method, &request, context)
            }
            ("repairs unasked", "driver.check") => changed(self.ask(method, &request, context), |reply| {
                reply["findings"] = json!([{ "severity": "warning", "subject": "volume v1", "message": "was odd", "repaired": true, "repairable": true }]);
            }),
            ("has one volume", "volume.mount") => {
                let mounted = self.ask(method, &request, context)?;
                Ok(self.first.lock().unwrap().get_or_insert(mounted).clone())
            }
            // Between what each volume is written and what is read of it.
            ("has one volume", "volume.list") => {
                std::thread::sleep(Duration::from_secs(1));
                self.ask(method, &request, context)
            }
            ("hands over one kind", "snapshot.open") => {
                request["kind"] = Value::Null;
                self.ask(method, &request, context)
            }
            ("takes any size", "volume.create") => {
                request["size"] = Value::Null;
                self.ask(method, &request, context)
            }
            ("belittles", "volume.get") => changed(self.ask(method, &request, context), |reply| {
                reply["size"] = (reply["size"].as_u64().unwrap() / 2).into();
            }),
            ("deletes what is in use", "volume.delete") => {
                let _ = self.ask("volume.unmount", &name, context);
                self.ask(method, &request, context)
            }
            ("informs in a list", "driver.info") => Ok(json!({ "info": ["Path", "/srv"] })),
            ("is never well", "driver.probe") => Ok(json!({ "healthy": false, "message": "I feel odd" })),
            ("is born again", "volume.get") => changed(self.ask(method, &request, context), |reply| {
                reply["created"] = serde_json::to_value(Timestamp::now()).unwrap();
            }),
            // How many changes there were in this life.
            ("counts anew", "volume.create" | "volume.delete" | "snapshot.create") => {
                *self.lock.lock().unwrap() += 1;
                self.ask(method, &request, context)
            }
            ("counts anew", "volume.list") => {
                let now = Value::from(self.lock.lock().unwrap().to_string());
                if request["generation"] == now {
                    return Ok(json!({ "volumes": [], "generation": now, "unchanged": true }));
                }
                request["generation"] = Value::Null;
                let mut listed = self.ask(method, &request, context)?;
                listed["generation"] = now;
                Ok(listed)
            }
            ("gives what it does not take", "snapshot.open") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["restore_options"] = json!({ "colour": "red" });
                })
            }
            ("clones over anything", "volume.clone") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::AlreadyExists => {
                    let mut made = self.ask("volume.create", &name, context)?;
                    made["snapshots"] = json!([]);
                    Ok(made)
                }
                other => other,
            },
            ("lists backwards", "volume.list") => changed(self.ask(method, &request, context), |reply| {
                reply["volumes"].as_array_mut().unwrap().reverse();
            }),
            ("lists one page", "volume.list") => {
                changed(self.ask(method, &request, context), |reply| reply["more"] = false.into())
            }
            ("keeps nothing", "volume.delete") => {
                request["reference_only"] = false.into();
                self.ask(method, &request, context)
            }
            ("deletes volumes as kept", "kept.delete") => self.ask("volume.delete", &name, context),
            ("hides what it keeps", "kept.list") => Ok(json!({ "kept": [], "more": false })),
            ("reads the live volume", "snapshot.open") => {
                let mounted = self.ask("volume.mount", &json!({ "name": request["volume"] }), context)?;
                let mut opened = self.ask(method, &request, context)?;
                opened["location"]["path"] = mounted["mountpoint"].clone();
                Ok(opened)
            }
            ("deletes what is read", "snapshot.delete") => match self.ask(method, &request, context) {
                Err(error) if error.kind == ErrorKind::InUse => Ok(json!({})),
                other => other,
            },
            ("aborts nothing", "restore.abort") => Ok(json!({})),
            ("finishes once", "restore.finish") => {
                let mut finished = self.lock.lock().unwrap();
                *finished += 1;
                if *finished > 1 {
                    return Err(DriverError::not_found("there is no such restore"));
                }
                self.ask(method, &request, context)
            }
            ("has one lock", _) => {
                let _lock = self.lock.lock().unwrap();
                if method == "volume.create" {
                    std::thread::sleep(Duration::from_secs(1));
                }
                self.ask(method, &request, context)
            }
            ("is deaf", "volume.create") => {
                // Longer than the kit waits for a call that is to end.
                std::thread::sleep(Duration::from_secs(7));
                self.ask(method, &request, &Context::new("deaf"))
            }
            ("keeps files open", "volume.create") => {
                std::mem::forget([(); 6].map(|()| std::fs::File::open("/dev/null").unwrap()));
                self.ask(method, &request, context)
            }
            ("misses a change", "snapshot.open") => {
                *self.lock.lock().unwrap() = u32::from(!request["base"].is_null());
                self.ask(method, &request, context)
            }
            ("misses a change", "snapshot.extents") if *self.lock.lock().unwrap() == 0 => {
                self.ask(method, &request, context)
            }
            ("misses a change" | "misses what is in use", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    let extents = reply["extents"].as_array_mut().unwrap();
                    extents.retain(|extent| extent["offset"].as_u64().unwrap() < 64 << 10);
                })
            }
            ("gives extents backwards", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["extents"].as_array_mut().unwrap().reverse();
                })
            }
            ("discards content", "snapshot.extents") => {
                changed(self.ask(method, &request, context), |reply| {
                    reply["discarded"] = std::mem::take(&mut reply["extents"]);
                    reply["extents"] = json!([]);
                })
            }
            ("reverts to nothing", "volume.revert") => self.ask("volume.get", &name, context),
            ("grows on paper", "volume.resize") => {
                let mut volume = self.ask("volume.get", &name, context)?;
                volume["size"] = request["size"].clone();
                Ok(volume)
            }
            _ => self.ask(method, &request, context),
        }
    }
}

impl<D: Dispatch> Dispatch for Liar<D> {
    fn dispatch(&self, method: &str, request: &[u8], context: &Context) -> Result<Vec<u8>, DriverError> {
        let request = serde_json::from_slice(request).unwrap();
        self.lie(method, request, context).map(|reply| reply.to_string().into_bytes())
    }
}
