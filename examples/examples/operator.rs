//! An operator's program on `derms-client`: lists the assets, looks at what 5 MW for 20 s would do
//! to the first battery, orders them, follows the order until it is in force, ends it after a
//! moment, and reads what the battery did.
//!
//! Start a headend with agents, then this; another address may be given as an argument:
//! ```text
//! cargo run -p agent_launcher -- --with-headend
//! cargo run -p derms-examples --example operator -- http://127.0.0.1:3001
//! ```
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::time::Duration;

use derms_client::proto::{
    AssetKind, Dispatch, DispatchStatus, NewDispatch, Power, Telemetry, TelemetryHistoryItem,
};
use derms_client::{Client, TelemetryHistoryQuery};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("http://127.0.0.1:3001");
    let client = Client::new(address.parse()?)?;

    let assets = client.assets().await?;
    for status in &assets {
        let asset = &status.asset;
        let link = if status.connected {
            "connected"
        } else {
            "offline"
        };
        println!(
            "{:<12} {:<10} {:>6} .. {:>6} MW  {link}",
            asset.name,
            format!("{:?}", asset.kind),
            asset.min_mw.mw(),
            asset.max_mw.mw(),
        );
    }
    let battery = assets
        .iter()
        .map(|status| &status.asset)
        .find(|asset| asset.kind == AssetKind::Battery)
        .ok_or("the fleet has no battery")?;

    let order = NewDispatch::asset(battery.id, Power::from_mw(5.0))
        .lasting(Duration::from_secs(20))
        .waiting_at_most(Duration::from_secs(60));
    let preview = client.preview(&order).await?;
    for share in &preview.assets {
        let old = share.supersedes.len();
        println!("\n{} would take the place of {old} orders", share.mw);
    }
    let dispatch = client.dispatch(&order).await?;
    println!(
        "\n{} is to give 5 MW for 20 s: {}",
        battery.name, dispatch.id
    );

    let dispatch = client.wait_until_active(dispatch.id).await?;
    show(&dispatch);
    if dispatch.status == DispatchStatus::Active {
        tokio::time::sleep(Duration::from_secs(2)).await;
        client.cancel(dispatch.id).await?;
        show(&client.wait(dispatch.id).await?);
    }

    let newest = client.telemetry(battery.id).await?;
    println!("\n{} now, {:.1} s old:", battery.name, newest.age_s);
    print(&newest.telemetry);
    println!("since the order, newest first:");
    let since = TelemetryHistoryQuery::new().from(dispatch.created_at);
    let mut history = client.telemetry_history(battery.id, since).items();
    while let Some(item) = history.next().await {
        if let TelemetryHistoryItem::Measurement(telemetry) = item? {
            print(&telemetry);
        }
    }
    Ok(())
}

fn show(dispatch: &Dispatch) {
    let text = dispatch.text.as_deref();
    let text = text.map_or_else(String::new, |text| format!(": {text}"));
    println!("{:?}{text}", dispatch.status);
}

fn print(telemetry: &Telemetry) {
    let values = &telemetry.measurements;
    // What was not measured is absent, never 0.
    let power = values
        .mw
        .map_or("-".to_owned(), |power| format!("{:.3}", power.mw()));
    let soc = values
        .soc_pct
        .map_or("-".to_owned(), |soc| format!("{soc:.2}"));
    println!("  {}  {power:>8} MW  {soc:>6} %", telemetry.measured_at);
}
