use std::time::Duration;

use derms_client::proto::{AssetId, LiveItem, LiveKind, ResetReason};
use derms_client::{Client, Live, LiveQuery};
use derms_tests::{HeadendProcess, Process, lasting_address};
use rustix::process::Signal;
use tokio::time::timeout;

use crate::BESS_1;

const SOON: Duration = Duration::from_secs(60);

/// Reads up to an item that is wanted, and gives what was wanted of it.
async fn until<T>(live: &mut Live, wanted: impl Fn(&LiveItem) -> Option<T>) -> T {
    let found = timeout(SOON, async {
        loop {
            let item = live.next().await.expect("it goes on for ever").unwrap();
            if let Some(found) = wanted(&item) {
                return found;
            }
        }
    });
    match found.await {
        Ok(found) => found,
        Err(_) => panic!("nothing came: {:?}", live.trouble()),
    }
}

async fn measured(live: &mut Live, asset: AssetId) {
    until(live, |item| match item {
        LiveItem::Telemetry(telemetry) => (telemetry.asset_id == asset).then_some(()),
        _ => None,
    })
    .await;
}

async fn reset(live: &mut Live) -> ResetReason {
    until(live, |item| match item {
        LiveItem::Reset { reason } => Some(*reason),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn a_stream_outlives_a_headend_that_was_killed_and_says_that_something_may_be_missing() {
    let (http, grpc) = (lasting_address().to_string(), lasting_address().to_string());
    let headend = HeadendProcess::at(&http, &grpc, "memory").await;
    let asset: AssetId = BESS_1.parse().unwrap();
    let agent = Process::start("edge_agent", &["--asset-id", BESS_1, "--headend", &grpc]);
    let client = Client::new(format!("http://{http}").parse().unwrap()).unwrap();
    let mut live = client.live(LiveQuery::new().asset(asset));
    let mut sessions = client.live(LiveQuery::new().kind(LiveKind::Session));
    assert_eq!(reset(&mut live).await, ResetReason::Began);
    assert_eq!(reset(&mut sessions).await, ResetReason::Began);
    measured(&mut live, asset).await;

    headend.process.signal(Signal::KILL);
    assert_eq!(headend.process.ended().await.0, None);
    let headend = HeadendProcess::at(&http, &grpc, "memory").await;
    assert_eq!(reset(&mut live).await, ResetReason::Restarted);
    measured(&mut live, asset).await;
    assert!(live.trouble().is_none());
    assert_eq!(reset(&mut sessions).await, ResetReason::Restarted);

    // A drain is told, and the stream goes on trying.
    assert_eq!(headend.process.terminated().await, Some(0));
    let headend = HeadendProcess::at(&http, &grpc, "memory").await;
    assert_eq!(reset(&mut live).await, ResetReason::Restarted);
    assert_eq!(agent.terminated().await, Some(0));
    assert_eq!(headend.process.terminated().await, Some(0));
}
