//! Agents that are gone for longer than a reconnect takes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use derms_proto::{AgentId, AssetId, Severity};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{About, Events};
use crate::registry::Registry;

const EVERY: Duration = Duration::from_secs(5);
/// A reconnect after a lost link, a restart or an update takes less.
const LOST_AFTER: Duration = Duration::from_secs(60);

/// The agents that were connected in this life of the headend.
#[derive(Debug, Default)]
struct Presence(HashMap<AgentId, Known>);

#[derive(Debug)]
struct Known {
    assets: Vec<AssetId>,
    last: Instant,
    lost: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Lost(AgentId, Vec<AssetId>),
    Back(AgentId, Vec<AssetId>),
}

impl Presence {
    /// These are connected now, with their assets.
    fn look(&mut self, now: Instant, connected: Vec<(AgentId, Vec<AssetId>)>) -> Vec<Change> {
        let mut changes = Vec::new();
        for (agent, assets) in connected {
            let known = self.0.entry(agent).or_insert_with(|| Known {
                assets: Vec::new(),
                last: now,
                lost: false,
            });
            known.last = now;
            if std::mem::take(&mut known.lost) {
                changes.push(Change::Back(agent, assets.clone()));
            }
            known.assets = assets;
        }
        for (agent, known) in &mut self.0 {
            if !known.lost && now.saturating_duration_since(known.last) >= LOST_AFTER {
                known.lost = true;
                changes.push(Change::Lost(*agent, known.assets.clone()));
            }
        }
        changes
    }
}

/// Tells of agents that are gone and back, until `stop`; nothing while all are sent away.
pub(crate) async fn watch(
    events: Arc<Events>,
    registry: Arc<Registry>,
    drain: CancellationToken,
    stop: CancellationToken,
) {
    let mut presence = Presence::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = drain.cancelled() => return,
            () = stop.cancelled() => return,
        }
        let sessions = registry.sessions();
        let connected = sessions.iter().map(|it| (it.agent_id, it.assets()));
        for change in presence.look(Instant::now(), connected.collect()) {
            events.changed(change);
        }
    }
}

impl Events {
    fn changed(&self, change: Change) {
        let about = |agent, assets: &[AssetId]| About::agent(agent, assets, &self.fleet);
        match change {
            Change::Lost(agent, assets) => {
                let text = format!(
                    "the agent has been away for {} s, and with it {} assets",
                    LOST_AFTER.as_secs(),
                    assets.len()
                );
                let about = about(agent, &assets);
                self.raise(Severity::Warning, "agent_lost", text, about);
            }
            Change::Back(agent, assets) => {
                let about = about(agent, &assets);
                self.raise(Severity::Info, "agent_back", "the agent is back", about);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::kit::{new_agent, new_asset};

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_lost_once_when_it_is_gone_for_long_and_back_once() {
        let (agent, asset) = (new_agent(), new_asset());
        let mut presence = Presence::default();
        let start = Instant::now();
        let mut look = |second: u64, there: bool| {
            let connected = if there {
                vec![(agent, vec![asset])]
            } else {
                Vec::new()
            };
            presence.look(start + Duration::from_secs(second), connected)
        };
        assert_eq!(look(0, false), []);
        assert_eq!(look(5, true), []);
        assert_eq!(look(64, false), []);
        assert_eq!(look(65, true), []);
        assert_eq!(look(125, false), [Change::Lost(agent, vec![asset])]);
        assert_eq!(look(200, false), []);
        assert_eq!(look(205, true), [Change::Back(agent, vec![asset])]);
        assert_eq!(look(210, true), []);
    }
}
