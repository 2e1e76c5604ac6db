//! From a spec to a driver that can be called.

use crate::answer;
use crate::context::RequestContext;
use crate::error::LoadError;
use crate::handle::{DriverHandle, RunningDriver};
use crate::library::Library;
use crate::local::{Builtin, Local, LocalDriver};
use crate::process::{Process, check_name};
use crate::restart::RestartPolicy;
use crate::search::SearchPath;
use crate::spec::{Carrier, DriverSpec, file_name, name_of_file};
use crate::trust::Trust;
use convoy_driver_sdk::Name;
use convoy_driver_sdk::dispatch::Dispatch;
use convoy_driver_sdk::protocol::{Describe, Request};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a library may take to be loaded, and any driver in this program to describe itself.
const LOADING: Duration = Duration::from_secs(10);

type Factory = Arc<dyn Fn() -> Arc<dyn Dispatch> + Send + Sync>;

/// Everything that could be loaded.
#[derive(Clone)]
pub struct Drivers {
    search: SearchPath,
    trust: Trust,
    restarts: RestartPolicy,
    builtins: BTreeMap<Name, Factory>,
}

/// A driver that is there to be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Its name; a library's has underscores where the driver's may have dashes.
    pub name: Name,
    /// How it would be reached.
    pub carrier: Carrier,
    /// Its file; none for a builtin.
    pub path: Option<PathBuf>,
    /// Why it would be refused, and what to do.
    pub problem: Option<String>,
}

impl std::fmt::Debug for Drivers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drivers")
            .field("search", &self.search)
            .field("builtins", &self.builtins.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Drivers {
    /// Looks there, and trusts those who may write this program.
    pub fn new(search: SearchPath) -> Self {
        Self {
            search,
            trust: Trust::of_this_program(),
            restarts: RestartPolicy::default(),
            builtins: BTreeMap::new(),
        }
    }

    /// Trusts these users and groups instead of the usual ones.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// Starts processes again in this manner.
    #[must_use]
    pub fn restarts(mut self, policy: RestartPolicy) -> Self {
        self.restarts = policy;
        self
    }

    /// Adds a driver that is compiled in.
    #[must_use]
    pub fn builtin<F>(mut self, name: Name, make: F) -> Self
    where
        F: Fn() -> Arc<dyn Dispatch> + Send + Sync + 'static,
    {
        self.builtins.insert(name, Arc::new(make));
        self
    }

    /// Everything there is, sorted by name. Nothing is loaded.
    pub fn installed(&self) -> Vec<Installed> {
        let files = self.search.list().into_iter().map(|(name, carrier, path)| {
            let problem = self.trust.check(&path).err().map(|error| format!("{error}; {}", error.hint()));
            Installed { name, carrier, path: Some(path), problem }
        });
        let builtins = self.builtins.keys().map(|name| Installed {
            name: name.clone(),
            carrier: Carrier::Builtin,
            path: None,
            problem: None,
        });
        let mut all: Vec<_> = files.chain(builtins).collect();
        all.sort_by(|a, b| (&a.name, a.carrier).cmp(&(&b.name, b.carrier)));
        all
    }

    /// Loads a driver: by the carrier that is asked for, or as a library, a process or a builtin, whichever
    /// is there first. A file that is there but cannot be used is an error; nothing else is taken in its
    /// place.
    pub async fn load(&self, spec: &DriverSpec) -> Result<DriverHandle, LoadError> {
        match spec {
            DriverSpec::File { path, carrier } => self.load_file(path, *carrier, spec.name().as_ref()).await,
            DriverSpec::Named { name, carrier } => {
                let wanted = |candidate| carrier.is_none_or(|carrier| carrier == candidate);
                for candidate in [Carrier::Library, Carrier::Process] {
                    if wanted(candidate)
                        && let Some(path) = self.search.find(name, candidate)
                    {
                        return self.load_file(&path, candidate, Some(name)).await;
                    }
                }
                match self.builtins.get(name) {
                    Some(make) if wanted(Carrier::Builtin) => {
                        load_local(Arc::new(Builtin(make())), Carrier::Builtin, None, Some(name)).await
                    }
                    _ => Err(self.not_found(spec, name, *carrier)),
                }
            }
        }
    }

    async fn load_file(
        &self,
        path: &Path,
        carrier: Carrier,
        expected: Option<&Name>,
    ) -> Result<DriverHandle, LoadError> {
        let real = self.trust.check(path)?;
        if carrier == Carrier::Process {
            let (process, description) = Process::load(&real, expected, self.restarts).await?;
            return Ok(DriverHandle::new(description, carrier, Some(real), RunningDriver::Process(process)));
        }
        let name = expected.cloned().or_else(|| name_of_file(&real).map(|(name, _)| name));
        let name = name.unwrap_or_else(|| Name::from_static("unnamed"));
        let file = real.clone();
        let failed = |reason: String| LoadError::Start { action: "load", path: real.clone(), reason };
        let loading = tokio::task::spawn_blocking(move || Library::load(&file, &name));
        let library = tokio::time::timeout(LOADING, loading)
            .await
            .map_err(|_| failed(format!("it was not loaded within {} s", LOADING.as_secs())))?
            .map_err(|error| failed(error.to_string()))??;
        load_local(Arc::new(library), carrier, Some(real), expected).await
    }

    fn not_found(&self, spec: &DriverSpec, name: &Name, carrier: Option<Carrier>) -> LoadError {
        let carriers = [Carrier::Library, Carrier::Process].into_iter();
        let files = carriers.filter(|candidate| carrier.is_none_or(|carrier| carrier == *candidate));
        let mut wanted: Vec<_> = files.filter_map(|candidate| file_name(name, candidate)).collect();
        if wanted.is_empty() {
            wanted.push(format!("a builtin of that name (there are: {})", self.builtin_names()));
        }
        LoadError::NotFound { spec: spec.to_string(), wanted, searched: self.search.dirs().to_vec() }
    }

    fn builtin_names(&self) -> String {
        let names: Vec<_> = self.builtins.keys().map(Name::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

/// Asks a driver in this program who it is.
async fn load_local(
    local: Arc<dyn Local>,
    carrier: Carrier,
    path: Option<PathBuf>,
    expected: Option<&Name>,
) -> Result<DriverHandle, LoadError> {
    let what =
        path.as_ref().map_or_else(|| format!("{carrier} {expected:?}"), |path| path.display().to_string());
    let provisional = expected.cloned().unwrap_or_else(|| Name::from_static("unnamed"));
    let asked = LocalDriver::new(provisional.clone(), Arc::clone(&local));
    let call = RequestContext::new("describe").within(LOADING);
    let description = asked.call(Describe::METHOD, "{}".into(), call).await;
    let description = description
        .and_then(|json| {
            answer::read(&Describe::new(), &json)
                .map_err(|broken| broken.error(&provisional, Describe::METHOD))
        })
        .map_err(|error| LoadError::Describe { what, error })?;
    check_name(path.as_deref().unwrap_or(Path::new("builtin")), expected, &description)?;
    let backend = RunningDriver::Local(LocalDriver::new(description.name.clone(), local));
    Ok(DriverHandle::new(description, carrier, path, backend))
}
