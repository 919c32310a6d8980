//! A stop that holds, and which of its assets are known to be stopped.

use std::collections::HashMap;

use derms_proto::link::{Control, LimitPhase, LimitReport};
use derms_proto::{AssetId, ControlSource, Stop};

#[derive(Debug)]
pub(super) struct Holding {
    pub(super) stop: Stop,
    assets: HashMap<AssetId, Reach>,
}

/// How far a stop has come to one of its assets.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// It holds in limits from this revision on.
    revision: u64,
    reached: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsaid,
    Confirmed,
    NotObeyed,
}

impl Holding {
    /// Without assets yet; what an earlier life of the headend counted is counted anew.
    pub(super) fn new(mut stop: Stop) -> Self {
        (stop.assets, stop.reached, stop.confirmed, stop.not_obeyed) = (0, 0, 0, 0);
        Self {
            stop,
            assets: HashMap::new(),
        }
    }

    pub(super) fn add(&mut self, asset: AssetId, revision: u64) {
        let reach = Reach {
            revision,
            reached: false,
            state: State::Unsaid,
        };
        if self.assets.insert(asset, reach).is_none() {
            self.stop.assets += 1;
        }
    }

    pub(super) fn assets(&self) -> impl Iterator<Item = AssetId> {
        self.assets.keys().copied()
    }

    /// Assets whose agents were not told.
    pub(super) fn unreached(&self) -> Vec<AssetId> {
        let unreached = self.assets.iter().filter(|(_, reach)| !reach.reached);
        unreached.map(|(asset, _)| *asset).collect()
    }

    /// Its agent was told. `true`: that is new.
    pub(super) fn reached(&mut self, asset: AssetId) -> bool {
        let Some(reach) = self.assets.get_mut(&asset) else {
            return false;
        };
        let new = !std::mem::replace(&mut reach.reached, true);
        self.stop.reached += u64::from(new);
        new
    }

    /// Its agent keeps to limits of this revision, and says what the asset is doing. `true`: that
    /// changed something.
    pub(super) fn said(&mut self, asset: AssetId, revision: u64, control: &Control) -> bool {
        if !self.holds_in(asset, revision) {
            return false;
        }
        let new = self.reached(asset);
        // A power stands there only when the device has accepted it.
        let stopped = control.source == ControlSource::Stop && control.power.is_some();
        (stopped && self.set(asset, State::Confirmed)) || new
    }

    /// Its agent has reported on limits. `true`: that changed something.
    pub(super) fn reported(&mut self, asset: AssetId, report: &LimitReport) -> bool {
        if !self.holds_in(asset, report.revision) {
            return false;
        }
        let state = match report.phase {
            LimitPhase::InForce => State::Confirmed,
            _ => State::NotObeyed,
        };
        let new = self.reached(asset);
        if state == State::NotObeyed && self.set(asset, state) {
            tracing::error!(stop_id = %self.stop.id, asset_id = %asset, phase = %report.phase, text = report.text,
                "an asset does not obey a stop");
            return true;
        }
        self.set(asset, state) || new
    }

    fn holds_in(&self, asset: AssetId, revision: u64) -> bool {
        self.assets
            .get(&asset)
            .is_some_and(|reach| reach.revision <= revision)
    }

    fn set(&mut self, asset: AssetId, state: State) -> bool {
        let Some(reach) = self.assets.get_mut(&asset) else {
            return false;
        };
        let before = std::mem::replace(&mut reach.state, state);
        if before == state {
            return false;
        }
        let stop = &mut self.stop;
        match before {
            State::Unsaid => {}
            State::Confirmed => stop.confirmed -= 1,
            State::NotObeyed => stop.not_obeyed -= 1,
        }
        match state {
            State::Unsaid => {}
            State::Confirmed => stop.confirmed += 1,
            State::NotObeyed => stop.not_obeyed += 1,
        }
        true
    }
}
