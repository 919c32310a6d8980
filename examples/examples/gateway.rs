//! A gateway: three devices of one site, a PV plant, a battery and a meter, on one stream, and
//! what happens to it in its own words.
//!
//! Run with `cargo run -p der_headend` in one terminal and
//! `cargo run -p derms-examples --example gateway` in another, then order 3 MW from the site:
//! `curl -XPOST 'http://127.0.0.1:3001/dispatch?wait_s=5' -H 'content-type: application/json' \
//!    -d '{"site_id":"6ba7b811-9dad-11d1-80b4-00c04fd430c8","mw":3,"duration_s":20}'`
//! Stop the headend and start it again: the gateway tells, and comes back by itself.
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;

use derms_agent_sdk::proto::{AssetId, Fleet, SiteId};
use derms_agent_sdk::{AgentEvent, AgentEvents, AgentRuntime, sim};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let fleet = Fleet::load("assets.yaml")?;
    let newark: SiteId = "6ba7b811-9dad-11d1-80b4-00c04fd430c8".parse()?;
    let mut gateway = AgentRuntime::builder("http://127.0.0.1:50051".parse()?)
        .software("newark-gateway", "1.0")
        .shutdown_on_signal();
    for asset in fleet.assets_of(newark) {
        // The adapter of this device, of whatever type; a slow one delays no other.
        let device = sim::for_asset(asset, 7);
        gateway = gateway.adapter(asset.clone(), device);
    }
    let agent = gateway.build()?;
    let handle = agent.handle();
    let (ran, ()) = tokio::join!(agent.run(), tell(handle.subscribe(), &fleet));
    for asset in handle.status().assets {
        let name = name(&fleet, asset.asset_id);
        println!("{name}: {} failed reads", asset.read_errors);
    }
    Ok(ran?)
}

async fn tell(mut events: AgentEvents, fleet: &Fleet) {
    while let Some(event) = events.next().await {
        match event {
            AgentEvent::Connected {
                granted, claimed, ..
            } => {
                println!("connected; {granted} of {claimed} devices are ours");
            }
            AgentEvent::ConnectFailed { text, retry_in } => {
                println!("no headend ({text}); again in {retry_in:.1?}");
            }
            AgentEvent::Disconnected { reason, text, .. } => {
                println!("disconnected, {reason:?}: {text}");
            }
            AgentEvent::Order {
                asset_id,
                phase,
                applied,
                text,
                ..
            } => {
                let power = applied.map_or_else(String::new, |power| format!(" at {power}"));
                let words = text.map_or_else(String::new, |text| format!(": {text}"));
                println!("{}: order {phase:?}{power}{words}", name(fleet, asset_id));
            }
            AgentEvent::ReadFailed { asset_id, text }
            | AgentEvent::DeviceStuck { asset_id, text, .. } => {
                println!("{} NEEDS SOMEBODY: {text}", name(fleet, asset_id));
            }
            // New releases have new events.
            other => println!("{other:?}"),
        }
    }
}

fn name(fleet: &Fleet, asset: AssetId) -> &str {
    fleet.asset(asset).map_or("?", |asset| &asset.name)
}
