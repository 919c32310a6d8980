//! Why an asset gives no data, from metrics and REST alone: what docs/runbook.md does by hand.

use derms_proto::Timestamp;
use serde_json::Value;

use crate::source::Source;

/// Clocks that are further apart are wrong.
const APART_S: i64 = 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There is data.
    Healthy,
    StoreDown,
    /// Nothing runs at the site.
    AgentDown,
    /// The agent runs and looks for the headend in the wrong place.
    WrongPort,
    /// The headend turned a caller of the agent link away.
    Refused,
    ClockOff,
    AdapterFailing,
    /// None of these.
    Unknown,
}

/// `agent`: where the agent of the asset serves its metrics.
pub(crate) async fn diagnose(headend: &Source, agent: &Source, asset: &str) -> Cause {
    let (status, ready) = headend.json("/readyz").await;
    if status == 503 && ready["code"] == "store_unavailable" {
        return Cause::StoreDown;
    }
    let (_, agents) = headend.json("/agents?all=true").await;
    let serves = |agent: &Value| {
        let mut assets = agent["assets"].as_array().into_iter().flatten();
        agent["connected"] == true && assets.any(|item| item["id"] == asset)
    };
    if !agents.as_array().into_iter().flatten().any(serves) {
        return not_connected(headend, agent).await;
    }
    let (_, heartbeat) = headend.json(&format!("/heartbeat/{asset}")).await;
    let (_, telemetry) = headend.json(&format!("/telemetry/{asset}")).await;
    match apart_s(&heartbeat) {
        None => return Cause::Unknown,
        Some(apart) if apart > APART_S => return Cause::ClockOff,
        Some(_) => {}
    }
    // A measurement that is not there is not fresh.
    let fresh = telemetry["stale"] == false;
    match heartbeat["read_errors"].as_u64() {
        _ if fresh => Cause::Healthy,
        Some(1..) => Cause::AdapterFailing,
        _ => Cause::Unknown,
    }
}

/// No session serves the asset.
async fn not_connected(headend: &Source, agent: &Source) -> Cause {
    let refused = ["handshake", "identity", "claim", "revoked"]
        .map(|what| format!("derms_link_refusals_total{{what=\"{what}\"}}"));
    let mut refusals = 0.0;
    for series in &refused {
        refusals += headend.metric(series).await.unwrap_or(0.0);
    }
    let (_, trail) = headend.json("/audit?action=refused_claim&limit=1").await;
    if refusals > 0.0
        && trail["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    {
        return Cause::Refused;
    }
    let Some(connected) = agent.metric("derms_agent_connected").await else {
        return Cause::AgentDown;
    };
    // Halted: what answers there is no agent link.
    let failures = agent.metric("derms_agent_connect_failures_total").await;
    let halts = agent.metric("derms_agent_halts_total").await;
    if connected == 0.0 && (failures > Some(0.0) || halts > Some(0.0)) {
        return Cause::WrongPort;
    }
    Cause::Unknown
}

/// How far the clocks of agent and headend are apart, seconds.
fn apart_s(heartbeat: &Value) -> Option<i64> {
    let time = |name: &str| heartbeat[name].as_str()?.parse::<Timestamp>().ok();
    let apart = time("received_at")?.unix_micros() - time("agent_time")?.unix_micros();
    Some(apart.abs() / 1_000_000)
}
