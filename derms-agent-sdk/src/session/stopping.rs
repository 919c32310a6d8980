//! The end of an agent: devices to their defaults, logs sent, `Close(NORMAL)`.

use std::time::Duration;

use derms_proto::link::{AgentMessage, Close};
use derms_proto::{AssetId, CloseReason};

use super::asset::AssetMachine;
use super::link::State;
use super::{Output, Session};
use crate::AgentEvent;
use crate::clock::{MonoTime, Now};

/// How long devices may take to go to their defaults.
const SETTLE: Duration = Duration::from_millis(3_000);
/// How long it may take in all until `Close` is queued; the stream has the rest of 5 s.
const ALL: Duration = Duration::from_millis(3_900);

/// An agent that stops.
#[derive(Debug)]
pub(super) struct Stopping {
    settle_until: MonoTime,
    until: MonoTime,
    /// Devices are settled, or had their time.
    settled: bool,
    unsettled: Vec<AssetId>,
    over: bool,
}

impl Stopping {
    pub(super) fn deadline(&self) -> Option<MonoTime> {
        match (self.over, self.settled) {
            (true, _) => None,
            (false, true) => Some(self.until),
            (false, false) => Some(self.settle_until),
        }
    }
}

impl Session {
    /// Begins to stop: no new orders, no new connection. What is in force ends as `failed`
    /// (interrupted), for nobody could end its lease any more.
    pub(super) fn shutdown(&mut self, now: Now) {
        if self.stopping.is_some() {
            return;
        }
        self.event(AgentEvent::Stopping);
        self.stopping = Some(Stopping {
            settle_until: now.mono + SETTLE,
            until: now.mono + ALL,
            settled: false,
            unsettled: Vec::new(),
            over: false,
        });
        self.each_asset(now, AssetMachine::stop);
    }

    /// Devices first, then logs, then the last word.
    pub(super) fn advance_stop(&mut self, now: Now) {
        let Some(mut stopping) = self.stopping.take() else {
            return;
        };
        if !stopping.settled {
            let all = self.assets.values().all(AssetMachine::is_stopped);
            if all || stopping.settle_until <= now.mono {
                stopping.settled = true;
                let unsettled = self.assets.values().filter(|asset| !asset.is_stopped());
                stopping.unsettled = unsettled.map(AssetMachine::id).collect();
                self.each_asset(now, AssetMachine::give_up);
                self.send_logs(now);
            }
        }
        let said = !self.link.is_active() || self.all_is_said();
        if stopping.settled && !stopping.over && (said || stopping.until <= now.mono) {
            stopping.over = true;
            if self.link.has_stream() {
                let close = Close::new(CloseReason::Normal, "the agent stops");
                self.send(AgentMessage::Close(close));
            }
            self.live = None;
            self.link.state = State::Stopped;
            self.out.push_back(Output::Disconnect);
            let unsettled = std::mem::take(&mut stopping.unsettled);
            self.event(AgentEvent::Stopped { unsettled });
            self.out.push_back(Output::Stopped);
        }
        self.stopping = Some(stopping);
    }

    /// Whether all reports are acknowledged and all samples sent.
    fn all_is_said(&self) -> bool {
        let sent = |live: &super::Live| live.telemetry.next() >= self.telemetry.next_seq();
        self.reports.depth() == 0 && self.live.as_ref().is_none_or(sent)
    }
}
