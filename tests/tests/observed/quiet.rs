//! Telemetry makes no noise.

use derms_client::TelemetryHistoryQuery;
use derms_tests::until;

use crate::rig::{ASSET, Log, Rig, SOON};

#[tokio::test]
async fn a_hundred_samples_are_no_line_of_the_log() {
    let log = Log::start();
    let rig = Rig::start().await;
    let stored = async || {
        let query = TelemetryHistoryQuery::new().limit(1_000);
        let page = rig.client.telemetry_history(ASSET, query).await;
        page.ok().map_or(0, |page| page.items.len())
    };
    until("the first sample", SOON, async || {
        (stored().await > 0).then_some(())
    })
    .await;
    let (samples, lines) = (stored().await, log.lines().len());
    until("a hundred samples", SOON, async || {
        (stored().await >= samples + 100).then_some(())
    })
    .await;
    let new = &log.lines()[lines..];
    assert!(new.is_empty(), "{new:?}");
    assert_eq!(log.said("agent connected").len(), 1, "the log is kept");
    rig.stop().await;
}
