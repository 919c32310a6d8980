//! Asks the headend until it shows every asset as connected.

use std::collections::HashSet;
use std::time::Duration;

use derms_client::Client;
use derms_client::proto::{AgentStatus, Asset};
use tokio::time::{Instant, sleep};

const INTERVAL: Duration = Duration::from_millis(250);
/// After this long the user is told what is missing; the asking goes on, less often.
const SLOW: Duration = Duration::from_secs(30);
const SLOW_INTERVAL: Duration = Duration::from_secs(2);

/// Returns how long it took until all of `assets` were connected. Cancel-safe.
pub(crate) async fn all(client: &Client, assets: &[Asset]) -> Duration {
    let start = Instant::now();
    let mut told = false;
    loop {
        let why = match client.agents().await {
            Ok(agents) => match missing(&agents, assets).as_slice() {
                [] => return start.elapsed(),
                names => format!("not connected: {}", names.join(", ")),
            },
            Err(error) => format!("the headend does not say who is connected: {error}"),
        };
        let slow = start.elapsed() >= SLOW;
        if slow && !told {
            told = true;
            tracing::warn!("after {} s: {why}", SLOW.as_secs());
        }
        sleep(if slow { SLOW_INTERVAL } else { INTERVAL }).await;
    }
}

fn missing<'a>(agents: &[AgentStatus], assets: &'a [Asset]) -> Vec<&'a str> {
    let connected: HashSet<_> = agents
        .iter()
        .filter(|agent| agent.connected)
        .flat_map(|agent| agent.assets.iter().map(|asset| asset.id))
        .collect();
    assets
        .iter()
        .filter(|asset| !connected.contains(&asset.id))
        .map(|asset| asset.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use derms_client::proto::Fleet;

    use super::*;

    fn fleet() -> Fleet {
        Fleet::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml")).unwrap()
    }

    fn agent(asset: &Asset, connected: bool) -> AgentStatus {
        let json = serde_json::json!({
            "connected": connected,
            "assets": [{"id": asset.id, "name": asset.name}],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_asset_is_missing_until_a_live_session_serves_it() {
        let fleet = fleet();
        let assets = &fleet.assets()[..2];
        assert_eq!(missing(&[], assets), ["BESS-1", "BESS-2"]);
        let dead = [agent(&assets[0], false), agent(&assets[1], true)];
        assert_eq!(missing(&dead, assets), ["BESS-1"]);
        let live = [agent(&assets[0], true), agent(&assets[1], true)];
        assert!(missing(&live, assets).is_empty());
    }
}
