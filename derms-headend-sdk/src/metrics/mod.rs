//! What a headend counts of itself, as Prometheus reads it.
//!
//! One [`Metrics`] per headend with a registry of its own, handed to those who know a fact when it
//! happens. What can be looked up (sessions, queues, limits) is read when somebody asks, in
//! [`scrape`]. No label names an asset or an agent. docs/metrics.md has every name.

mod http;
mod link;
mod scrape;
mod store;

#[cfg(test)]
mod tests;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use serde::Serialize;

pub(crate) use http::{HttpMetrics, NO_ROUTE};
pub(crate) use link::{LinkMetrics, LogMetrics};
pub(crate) use store::CountedStore;

use crate::error::BuildError;
use scrape::State;
use store::StoreMetrics;

/// The type of what [`Headend::metrics`](crate::Headend::metrics) gives.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) link: LinkMetrics,
    pub(crate) http: HttpMetrics,
    store: StoreMetrics,
    state: State,
}

impl Metrics {
    /// # Errors
    /// Two metrics have one name, or a name is none: a fault of this module.
    pub(crate) fn new() -> Result<Self, BuildError> {
        let made = || {
            let make = Make(Registry::new());
            let metrics = Self {
                link: LinkMetrics::new(&make)?,
                http: HttpMetrics::new(&make)?,
                store: StoreMetrics::new(&make)?,
                state: State::new(&make)?,
                registry: make.0,
            };
            Ok(metrics)
        };
        made().map_err(|error: prometheus::Error| BuildError::Metrics(error.into()))
    }
}

/// Makes metrics that a registry knows.
struct Make(Registry);

impl Make {
    fn add<T: Collector + Clone + 'static>(&self, metric: T) -> prometheus::Result<T> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        bounds: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }
}

/// The word for a value, as REST says it.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    let word = value.as_ref().and_then(serde_json::Value::as_str);
    word.unwrap_or("unknown").to_owned()
}
