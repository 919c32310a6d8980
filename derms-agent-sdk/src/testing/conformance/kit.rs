//! What is to be checked, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{Asset, AssetKind, Power};

use super::Rule;
use super::probe::{Probe, judge_polls};
use super::report::{Notes, Report};
use crate::DerAdapter;

type Opened = Pin<Box<dyn Future<Output = Arc<dyn DerAdapter>> + Send>>;

/// Puts a run of the kit together.
#[must_use = "a kit does nothing until `check`"]
pub struct Kit {
    pub(super) asset: Asset,
    pub(super) tolerance: Power,
    pub(super) settling: Duration,
    pub(super) call_limit: Duration,
    pub(super) response: Response,
    failing: Vec<(String, Box<dyn Fn() -> Opened + Send + Sync>)>,
}

/// How a device answers to a setpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Response {
    /// Its power becomes that of the setpoint.
    Follows,
    /// The setpoint is a limit: its power stays between 0 and that, for weather or a vehicle
    /// decides too.
    Limits,
}

impl Kit {
    /// For the device behind this asset; the setters state the defaults.
    pub fn new(asset: &Asset) -> Self {
        let (response, settling_s) = match asset.kind {
            AssetKind::Pv | AssetKind::Wind | AssetKind::EvCharger => (Response::Limits, 5),
            AssetKind::Genset => (Response::Follows, 60),
            _ => (Response::Follows, 5),
        };
        let rated_mw = asset.min_mw.abs().mw().max(asset.max_mw.abs().mw());
        Self {
            asset: asset.clone(),
            tolerance: Power::from_mw((rated_mw / 100.0).max(1e-4)),
            settling: Duration::from_secs(settling_s),
            call_limit: Duration::from_secs(10),
            response,
            failing: Vec::new(),
        }
    }

    /// How far a measured power may be from the applied one, MW as a magnitude. Default: 1 % of
    /// the larger limit of the asset, at least 0.1 kW.
    pub fn tolerance(mut self, tolerance: Power) -> Self {
        self.tolerance = tolerance.abs();
        self
    }

    /// How long the device may take until its power shows in a reading, beyond the way at the
    /// asset's ramp. Default 5 s; 60 s for a genset, which has to start.
    pub fn settling(mut self, settling: Duration) -> Self {
        self.settling = settling;
        self
    }

    /// The agent's adapter timeout, within which each call has to answer. Default 10 s.
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// How the device answers to a setpoint. Default: a setpoint limits `pv`, `wind` and
    /// `ev_charger`; everything else follows it.
    pub fn response(mut self, response: Response) -> Self {
        self.response = response;
        self
    }

    /// Adds an adapter whose device is broken in the way that `what` says: unplugged, a port that
    /// nobody listens on, one that takes a connection and stays silent. Without one
    /// [`Rule::FailureIsTold`] is not applicable.
    pub fn failing<A: DerAdapter, F: Future<Output = A> + Send + 'static>(
        mut self,
        what: impl Into<String>,
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        let open = move || -> Opened {
            let adapter = open();
            Box::pin(async { Arc::new(adapter.await) as Arc<dyn DerAdapter> })
        };
        self.failing.push((what.into(), Box::new(open)));
        self
    }

    /// Runs an adapter through every rule. `open` gives the adapter; it is called once for each
    /// part of the kit, after the adapter of the part before it was dropped.
    pub async fn check<A: DerAdapter>(&self, open: impl AsyncFn() -> A) -> Report {
        let mut notes = Notes::default();
        let mut polls = BTreeMap::new();
        let adapter: Arc<dyn DerAdapter> = Arc::new(open().await);
        let mut probe = Probe::open(adapter, self, &mut notes, &mut polls).await;
        let title = probe.describe().await;
        if self.asset.kind == AssetKind::Meter {
            probe.refuse_orders().await;
            probe.judge_calm();
        } else if probe.takes_orders().await {
            let followed = probe.sweep().await;
            probe.judge_calm();
            probe.leave().await;
            for part in Part::ALL {
                let adapter: Arc<dyn DerAdapter> = Arc::new(open().await);
                let mut probe = Probe::open(adapter, self, &mut notes, &mut polls).await;
                match part {
                    Part::Repeat => probe.repeat(followed).await,
                    Part::Ramp => probe.ramp(followed).await,
                    Part::LeaseEnd => probe.lease_end(followed).await,
                    Part::Drop => probe.drop_calls(followed).await,
                    Part::Beside => probe.read_beside(followed).await,
                }
                probe.leave().await;
            }
        }
        for (what, open) in &self.failing {
            let mut probe = Probe::open(open().await, self, &mut notes, &mut polls).await;
            probe.silence = Rule::FailureIsTold;
            probe.fail(what).await;
            probe.judge_events();
        }
        judge_polls(&polls, &mut notes);
        self.explain(&mut notes);
        notes.report(title)
    }

    /// Why rules were not tried, where it is known beforehand.
    fn explain(&self, notes: &mut Notes) {
        if self.failing.is_empty() {
            let why = "give the kit a device that does not answer: Kit::failing";
            notes.skip(Rule::FailureIsTold, why);
        }
        notes.skip(Rule::ErrorsSayWhat, "there was no error");
        notes.skip(Rule::NothingBlocks, "there was no call");
        for rule in [Rule::EventsSayWhat, Rule::EventsAreFew] {
            notes.skip(rule, "it raised nothing");
        }
        if self.asset.kind == AssetKind::Meter {
            for rule in Rule::ALL {
                notes.skip(*rule, "a meter takes no orders");
            }
        } else {
            notes.skip(Rule::ReadOnlyRefuses, "the asset takes orders");
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Repeat,
    Ramp,
    LeaseEnd,
    Drop,
    Beside,
}

impl Part {
    const ALL: [Self; 5] = [
        Self::Repeat,
        Self::Ramp,
        Self::LeaseEnd,
        Self::Drop,
        Self::Beside,
    ];
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("asset", &self.asset.name)
            .field("tolerance", &self.tolerance)
            .field("settling", &self.settling)
            .field("call_limit", &self.call_limit)
            .field("response", &self.response)
            .finish_non_exhaustive()
    }
}
