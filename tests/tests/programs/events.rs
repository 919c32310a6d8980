//! An alarm from the device to the operator, over the death of the headend.

use std::time::Duration;

use derms_client::{Client, EventHistoryQuery};
use derms_proto::{AssetId, Event, EventSource, Severity, Timestamp};
use derms_tests::{Folder, HeadendProcess, Process, lasting_address, until};
use rustix::process::Signal;

use crate::BESS_1;

const SOON: Duration = Duration::from_secs(30);

/// All events of this code.
async fn of(client: &Client, asset: AssetId, code: &str) -> Vec<Event> {
    let query = EventHistoryQuery::new()
        .asset(asset)
        .source(EventSource::Agent);
    let mut events = client.events(query).await.unwrap().items;
    events.retain(|event| event.code == code);
    events
}

async fn until_one(client: &Client, asset: AssetId, code: &str) -> Event {
    until(code, SOON, async || of(client, asset, code).await.pop()).await
}

#[tokio::test]
async fn an_event_is_acknowledged_survives_and_one_raised_without_a_link_comes_once_with_its_time()
{
    let (http, grpc) = (lasting_address().to_string(), lasting_address().to_string());
    let (folder, faults) = (Folder::new(), Folder::new());
    let database = format!("sqlite://{}", folder.file("derms.db").display());
    let asset: AssetId = BESS_1.parse().unwrap();
    let headend = HeadendProcess::at(&http, &grpc, &database).await;
    let dir = faults.path().display().to_string();
    let args = [
        "--asset-id",
        BESS_1,
        "--headend",
        &grpc,
        "--faults-dir",
        &dir,
    ];
    let mut agent = Process::start("edge_agent", &args);
    until("telemetry", SOON, async || {
        headend.client.telemetry(asset).await.ok()
    })
    .await;

    std::fs::write(faults.file(BESS_1), "the inverter is on fire").unwrap();
    let raised = until_one(&headend.client, asset, "read_failed").await;
    assert_eq!(raised.severity, Severity::Warning);
    assert_eq!(raised.text, "the inverter is on fire");
    let noted = headend
        .client
        .acknowledge(raised.id, Some("a crew is on its way"))
        .await;
    let noted = noted.unwrap();
    assert!(noted.acknowledged.is_some());

    headend.process.signal(Signal::KILL);
    assert_eq!(headend.process.ended().await.0, None);
    agent.says("will try again").await;
    let before = Timestamp::now();
    std::fs::remove_file(faults.file(BESS_1)).unwrap();
    agent.says("the device reads again").await;
    let after = Timestamp::now();

    let headend = HeadendProcess::at(&http, &grpc, &database).await;
    let client = &headend.client;
    assert_eq!(client.event(raised.id).await.unwrap(), noted);
    let late = until_one(client, asset, "read_recovered").await;
    let second = Duration::from_secs(1);
    let happened = before.saturating_sub(second)..after.saturating_add(second);
    assert!(
        happened.contains(&late.at),
        "{late:?} is not of {happened:?}"
    );
    assert!(late.received_at > after);

    // Another session brings nothing a second time.
    assert_eq!(agent.terminated().await, Some(0));
    let agent = Process::start("edge_agent", &args);
    until("the next agent", SOON, async || {
        let agents = client.agents().await.ok()?;
        (!agents.is_empty()).then_some(())
    })
    .await;
    assert_eq!(of(client, asset, "read_recovered").await, [late]);
    assert_eq!(of(client, asset, "read_failed").await, [noted]);
    assert_eq!(agent.terminated().await, Some(0));
    assert_eq!(headend.process.terminated().await, Some(0));
}
