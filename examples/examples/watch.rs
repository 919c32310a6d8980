//! A program that watches a fleet on `derms-client`: reads what there is, and then prints what
//! happens. It goes on over restarts of the headend; Ctrl-C ends it.
//!
//! Start a headend with agents, then this; another address may be given as an argument:
//! ```text
//! cargo run -p agent_launcher -- --with-headend
//! cargo run -p derms-examples --example watch -- http://127.0.0.1:3001
//! ```
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::collections::HashMap;

use derms_client::proto::{AssetId, LiveItem, Power};
use derms_client::{Client, Error, LiveQuery};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("http://127.0.0.1:3001");
    let client = Client::new(address.parse()?)?;
    watch(&client, |line| println!("{line}")).await?;
    Ok(())
}

/// Tells what happens, line by line, until the headend refuses to.
pub(crate) async fn watch(client: &Client, mut say: impl FnMut(String)) -> Result<(), Error> {
    let mut fleet = Fleet::default();
    let mut live = client.live(LiveQuery::new());
    while let Some(item) = live.next().await {
        match item? {
            LiveItem::Reset { .. } => {
                fleet = Fleet::read(client).await?;
                say(format!("{} assets, {}", fleet.names.len(), fleet.sum()));
            }
            LiveItem::Telemetry(telemetry) => {
                if let Some(power) = telemetry.measurements.mw {
                    fleet.powers.insert(telemetry.asset_id, power);
                    let name = fleet.name(telemetry.asset_id);
                    say(format!("{name}: {power}; all {}", fleet.sum()));
                }
            }
            LiveItem::Dispatch(dispatch) => {
                let name = dispatch.asset_id.map_or("?", |asset| fleet.name(asset));
                say(format!(
                    "{name}: order {:?}, {}",
                    dispatch.status, dispatch.mw
                ));
            }
            LiveItem::Session(session) => {
                let names = session.assets.iter().map(|asset| fleet.name(*asset));
                let names = names.collect::<Vec<_>>().join(", ");
                match session.cause {
                    None => say(format!("{names}: connected")),
                    Some(cause) => say(format!("{names}: disconnected, {cause:?}")),
                }
            }
            LiveItem::Event(event) => {
                let name = event.asset_id.map_or("?", |asset| fleet.name(asset));
                say(format!(
                    "{name}: {:?}, {}: {}",
                    event.severity, event.code, event.text
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is known of the fleet now.
#[derive(Debug, Default)]
struct Fleet {
    names: HashMap<AssetId, String>,
    powers: HashMap<AssetId, Power>,
}

impl Fleet {
    async fn read(client: &Client) -> Result<Self, Error> {
        let assets = client.assets().await?.into_iter();
        let snapshots = client.telemetry_all().await?.into_iter();
        let power = |telemetry: derms_client::proto::Telemetry| {
            Some((telemetry.asset_id, telemetry.measurements.mw?))
        };
        Ok(Self {
            names: assets.map(|it| (it.asset.id, it.asset.name)).collect(),
            powers: snapshots.filter_map(|it| power(it.telemetry)).collect(),
        })
    }

    fn name(&self, asset: AssetId) -> &str {
        self.names.get(&asset).map_or("?", String::as_str)
    }

    fn sum(&self) -> Power {
        let sum = self
            .powers
            .values()
            .fold(0.0, |sum, power| sum + power.mw());
        Power::from_mw(sum)
    }
}
