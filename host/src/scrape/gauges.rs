//! Numbers that are looked up for one answer.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

type Labels = Vec<(String, String)>;

/// By name, each with its help and its samples.
type Named<M> = BTreeMap<&'static str, (&'static str, Family<Labels, M>)>;

/// Numbers by name and labels, made for one answer.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    gauges: Named<Gauge<f64, AtomicU64>>,
    counters: Named<Counter<f64, AtomicU64>>,
}

impl Gauges {
    /// Sets a number that goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (_, family) = self.gauges.entry(name).or_insert_with(|| (help, Family::default()));
        family.get_or_create(&owned(labels)).set(value);
    }

    /// Adds to a number that only grows.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let (_, family) = self.counters.entry(name).or_insert_with(|| (help, Family::default()));
        family.get_or_create(&owned(labels)).inc_by(value);
    }

    /// Gives them to whoever writes them as text.
    pub(super) fn into_registry(self) -> Registry {
        let mut registry = Registry::default();
        for (name, (help, family)) in self.gauges {
            registry.register(name, help, family);
        }
        for (name, (help, family)) in self.counters {
            registry.register(name, help, family);
        }
        registry
    }
}

fn owned(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Metrics are floating-point numbers: above 2^53 they are not exact, and need not be.
#[allow(clippy::cast_precision_loss)]
pub(super) fn as_float(number: u64) -> f64 {
    number as f64
}
