//! In which order the containers of a Compose project stop and start.

use std::collections::{BTreeMap, BTreeSet};

/// The labels by which Compose knows its containers.
pub(super) const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// A service of a project.
pub(super) type Service = (String, String);

/// Which service of which project a container is of, as its labels say.
pub(super) fn service(labels: &BTreeMap<String, String>) -> Option<Service> {
    Some((labels.get(PROJECT)?.clone(), labels.get(SERVICE)?.clone()))
}

/// The services that others wait for, by service.
#[derive(Debug, Default)]
pub(super) struct Dependencies(BTreeMap<Service, BTreeSet<Service>>);

impl Dependencies {
    /// Takes what the labels of a container say: `db:service_healthy:false,cache:service_started:true`.
    pub(super) fn add(&mut self, labels: &BTreeMap<String, String>) {
        let Some(of) = service(labels) else { return };
        let text = labels.get(DEPENDS_ON).map(String::as_str).unwrap_or_default();
        let names = text.split(',').filter_map(|one| one.split(':').next()).map(str::trim);
        let needed = names.filter(|name| !name.is_empty()).map(|name| (of.0.clone(), name.to_owned()));
        self.0.entry(of.clone()).or_default().extend(needed);
    }

    /// How many services have to start, one after the other, before each: 0 for one that waits for none. A
    /// circle, which Compose refuses, has some order.
    pub(super) fn depths(&self) -> BTreeMap<Service, usize> {
        let mut depths: BTreeMap<Service, usize> = self.0.keys().map(|of| (of.clone(), 0)).collect();
        // Without a circle nothing changes any more after as many rounds as there are services.
        for _ in 0..self.0.len() {
            let mut changed = false;
            for (of, needed) in &self.0 {
                let depth = needed.iter().filter_map(|one| depths.get(one)).max().map_or(0, |most| most + 1);
                changed |= depths.insert(of.clone(), depth) != Some(depth);
            }
            if !changed {
                break;
            }
        }
        depths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: &str, needs: &str) -> BTreeMap<String, String> {
        let all = [(PROJECT, "shop"), (SERVICE, service), (DEPENDS_ON, needs)];
        all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn whoever_is_waited_for_starts_first_also_by_way_of_others() {
        let mut all = Dependencies::default();
        for (service, needs) in [
            ("web", "cache:service_started:false,db:service_healthy:true"),
            ("cache", "db:service_started:false"),
            ("db", ""),
        ] {
            all.add(&labels(service, needs));
        }
        let depths = all.depths();
        let depth = |service: &str| depths[&("shop".to_owned(), service.to_owned())];
        assert_eq!((depth("db"), depth("cache"), depth("web")), (0, 1, 2));
    }

    #[test]
    fn a_circle_ends() {
        let mut all = Dependencies::default();
        all.add(&labels("a", "b"));
        all.add(&labels("b", "a:service_started:false"));
        assert_eq!(all.depths().len(), 2);
    }
}
