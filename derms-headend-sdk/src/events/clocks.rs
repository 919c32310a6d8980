//! Agents whose wall clock is off.

use std::collections::HashSet;
use std::time::Duration;

use derms_proto::{AgentId, AssetId, Severity, Timestamp};

use super::{About, Events};

/// A heartbeat that was held up on its way makes no clock wrong.
const OFF: Duration = Duration::from_secs(60);
/// Nearer than this it is right again.
const RIGHT: Duration = Duration::from_secs(30);

/// Those that are off.
#[derive(Debug, Default)]
pub(super) struct Clocks(HashSet<AgentId>);

impl Clocks {
    /// An agent's clock showed `theirs` at `ours`. `Some`: it is newly off, or right again.
    fn shown(&mut self, agent: AgentId, theirs: Timestamp, ours: Timestamp) -> Option<bool> {
        let by = theirs
            .saturating_since(ours)
            .max(ours.saturating_since(theirs));
        if by > OFF && self.0.insert(agent) {
            return Some(true);
        }
        (by < RIGHT && self.0.remove(&agent)).then_some(false)
    }
}

impl Events {
    /// An agent has told the time of its wall clock.
    pub(crate) fn clock_shown(
        &self,
        agent: AgentId,
        assets: impl FnOnce() -> Vec<AssetId>,
        theirs: Timestamp,
        ours: Timestamp,
    ) {
        let Some(off) = self.clocks.lock().shown(agent, theirs, ours) else {
            return;
        };
        let about = About::agent(agent, &assets(), &self.fleet);
        if off {
            let text = format!(
                "the wall clock of the agent shows {theirs} and that of the headend {ours}; orders \
                 and measurements do not depend on it, other programs there may"
            );
            self.raise(Severity::Warning, "clock_off", text, about);
        } else {
            let text = "the wall clock of the agent is right again";
            self.raise(Severity::Info, "clock_right", text, about);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::kit::new_agent;

    #[test]
    fn a_clock_is_off_once_and_right_once_and_between_the_bounds_it_stays_what_it_was() {
        let (mut clocks, agent) = (Clocks::default(), new_agent());
        let now = Timestamp::from_unix_micros(1_000_000_000_000);
        let mut shown = |by: i64| {
            let theirs = Timestamp::from_unix_micros(now.unix_micros() + by * 1_000_000);
            clocks.shown(agent, theirs, now)
        };
        assert_eq!(shown(59), None);
        assert_eq!(shown(-3_600), Some(true));
        assert_eq!(shown(3_600), None);
        assert_eq!(shown(45), None);
        assert_eq!(shown(-29), Some(false));
        assert_eq!(shown(45), None);
    }
}
