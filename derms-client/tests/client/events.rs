//! Events: listed, read, acknowledged.

use derms_client::EventHistoryQuery;
use derms_client::proto::{EventSource, Severity};
use serde_json::json;

use crate::fake::{Fake, ok};

const ID: &str = "01990000-0000-7000-8000-000000000001";

fn event() -> serde_json::Value {
    json!({
        "id": ID, "at": "2026-01-31T12:00:00Z", "received_at": "2026-01-31T12:00:01Z",
        "asset_id": null, "site_id": null, "agent_id": null, "severity": "deafening",
        "code": "too_hot", "text": "62 C", "source": "agent",
        "acknowledged": {"at": "2026-01-31T12:01:00Z", "by": "ann", "note": null},
    })
}

#[tokio::test]
async fn events_are_asked_for_by_what_they_are_and_a_newer_severity_is_read_past() {
    let fake = Fake::new([ok(&json!({"items": [event()], "next_cursor": null}))]);
    let query = EventHistoryQuery::new()
        .at_least(Severity::Alarm)
        .source(EventSource::Agent)
        .acknowledged(false)
        .limit(5);
    let page = fake.client().events(query).await.unwrap();
    assert_eq!(page.items[0].severity, Severity::Unknown);
    let expected = ["GET /events?severity=alarm&source=agent&acknowledged=false&limit=5"];
    assert_eq!(fake.targets(), expected);
}

#[tokio::test]
async fn an_acknowledgement_carries_its_note_and_answers_whose_it_is() {
    let fake = Fake::new([ok(&event()), ok(&event())]);
    let client = fake.client();
    let id = ID.parse().unwrap();
    let event = client.acknowledge(id, Some("seen")).await.unwrap();
    assert_eq!(event.acknowledged.unwrap().by.as_deref(), Some("ann"));
    client.event(id).await.unwrap();
    let expected = [
        format!("POST /events/{ID}/ack"),
        format!("GET /events/{ID}"),
    ];
    assert_eq!(fake.targets(), expected);
}
