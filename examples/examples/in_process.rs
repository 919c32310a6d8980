//! The typed client plugged straight into a headend, without a socket: for tests of an integration,
//! and for programs that host the headend and use it too.
//!
//! Run with `cargo run -p derms-examples --example in_process`
#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use derms_client::proto::{DispatchStatus, LiveItem, LiveKind, NewDispatch, Power, ProblemCode};
use derms_client::{Client, LiveQuery};
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::Fleet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fleet = Fleet::load("assets.yaml")?;
    let battery = fleet.assets()[0].clone();
    let headend = Headend::builder(fleet).build().await?;
    let client = Client::with_service("/".parse()?, headend.rest_service())?;

    // What happens to orders, from the `Reset` on that comes first.
    let mut live = client.live(LiveQuery::new().kind(LiveKind::Dispatch));
    live.next().await.transpose()?;

    // Nobody serves the battery here, so the order waits.
    let wish = NewDispatch::asset(battery.id, Power::from_mw(5.0));
    let waiting = client.dispatch(&wish).await?;
    assert_eq!(waiting.status, DispatchStatus::Pending);
    println!("{}: 5 MW, {:?}", battery.name, waiting.status);

    match live.next().await.transpose()? {
        Some(LiveItem::Dispatch(told)) if told.id == waiting.id => println!("told as it happens"),
        other => return Err(format!("something else was told: {other:?}").into()),
    }
    // It would connect again for ever, and hold the headend.
    drop(live);

    // Refusals are the same as over a socket, with their code.
    let too_much = NewDispatch::asset(battery.id, battery.max_mw + Power::from_mw(1.0));
    let refused = client
        .dispatch(&too_much)
        .await
        .err()
        .ok_or("an order out of range was taken")?;
    assert_eq!(refused.code(), Some(ProblemCode::OutOfRange));
    println!("{}: 61 MW, {refused}", battery.name);

    headend.shutdown().await;
    Ok(())
}
