use derms_proto::{AssetId, Measurements, SiteId, Timestamp};

use super::*;

const ALL: &[LiveKind] = &LiveKind::ALL;

fn hub(items: usize) -> Hub {
    let bytes = 1 << 20;
    Hub::new(Bounds { items, bytes })
}

fn telemetry(number: i64) -> Telemetry {
    Telemetry {
        asset_id: AssetId::new(Uuid::from_u128(1)),
        site_id: SiteId::new(Uuid::from_u128(2)),
        measured_at: Timestamp::from_unix_micros(number),
        received_at: Timestamp::from_unix_micros(number),
        measurements: Measurements::default(),
    }
}

#[tokio::test]
async fn all_readers_are_sent_the_same_bytes() {
    let hub = hub(10);
    let (mut one, _) = hub.subscribe(None, ALL);
    let (mut two, _) = hub.subscribe(None, ALL);
    hub.telemetry(&telemetry(1));
    let (one, two) = (one.take(9).unwrap(), two.take(9).unwrap());
    assert_eq!(one[0].frame.as_ptr(), two[0].frame.as_ptr());
}

#[tokio::test]
async fn a_reader_is_woken_for_what_it_has_not_taken() {
    let hub = hub(10);
    let (mut reader, _) = hub.subscribe(None, ALL);
    assert_eq!(reader.take(9).unwrap().len(), 0);
    hub.telemetry(&telemetry(1));
    reader.changed().await;
    assert_eq!(reader.take(9).unwrap().len(), 1);
    let waiting = tokio::time::timeout(Duration::ZERO, reader.changed());
    assert!(waiting.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_down_while_nobody_has_watched_for_some_time() {
    let hub = hub(10);
    hub.telemetry(&telemetry(1));
    assert_eq!(hub.ring.borrow().len(), 0);
    let (reader, _) = hub.subscribe(None, ALL);
    hub.telemetry(&telemetry(2));
    let last = reader.id();
    drop(reader);

    hub.telemetry(&telemetry(3));
    tokio::time::advance(LINGER - Duration::from_secs(1)).await;
    hub.telemetry(&telemetry(4));
    let (mut reader, reset) = hub.subscribe(Some(&last), ALL);
    assert_eq!(reset, None, "it came back in time");
    assert_eq!(reader.take(9).unwrap().len(), 3);
    let last = reader.id();
    drop(reader);

    hub.telemetry(&telemetry(5));
    tokio::time::advance(LINGER).await;
    hub.telemetry(&telemetry(6));
    assert_eq!(hub.ring.borrow().len(), 0, "memory is given back");
    hub.telemetry(&telemetry(7));
    assert_eq!(hub.ring.borrow().len(), 0);
    let (_, reset) = hub.subscribe(Some(&last), ALL);
    assert_eq!(reset, Some(ResetReason::TooOld));
}

#[tokio::test]
async fn a_reader_that_was_told_everything_before_a_sleep_is_told_that_it_missed_something() {
    let hub = hub(10);
    let (reader, _) = hub.subscribe(None, ALL);
    let last = reader.id();
    drop(reader);
    hub.missed();
    assert_eq!(hub.subscribe(Some(&last), ALL).1, Some(ResetReason::TooOld));
}

#[tokio::test]
async fn changes_that_were_missed_are_no_silent_hole() {
    let hub = Arc::new(hub(10));
    let (sender, changes) = broadcast::channel(1);
    let (mut reader, _) = hub.subscribe(None, ALL);
    for _ in 0..3 {
        sender.send(Arc::new(dispatch())).unwrap();
    }
    drop(sender);
    run(Arc::clone(&hub), changes, |_| {}, CancellationToken::new()).await;
    assert_eq!(reader.take(9).unwrap_err(), Fallen);
}

fn dispatch() -> Dispatch {
    serde_json::from_value(serde_json::json!({
        "id": Uuid::from_u128(7), "parent_id": null, "asset_id": Uuid::from_u128(1),
        "site_id": Uuid::from_u128(2), "mw": 5.0, "duration_s": null, "ttl_s": 300.0,
        "revision": 1, "status": "sent", "in_doubt": false, "reason": null, "text": null,
        "applied_mw": null, "created_at": "2026-01-31T12:00:00Z",
        "expires_at": "2026-01-31T12:05:00Z", "principal": null, "transitions": [],
        "split": null, "children": [],
    }))
    .unwrap()
}
