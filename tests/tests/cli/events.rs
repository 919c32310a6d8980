//! Alarms and changes of state.

use crate::world::{BESS_1, World};

#[tokio::test]
async fn events_are_chosen_by_what_they_are_and_one_is_acknowledged_once() {
    let world = World::start().await;
    let [failed, recovered] = world.trouble("the inverter is hot\u{1b}[2J").await;
    let ids = async |filter: &[&str]| -> Vec<String> {
        let events = world.json(&[&["events"], filter].concat()).await;
        let ids = events.as_array().unwrap().iter().map(|it| &it["id"]);
        ids.map(|id| id.as_str().unwrap().to_owned()).collect()
    };
    let (warning, info) = (failed.id.to_string(), recovered.id.to_string());
    let at = failed.at.to_string();
    for (filter, wanted) in [
        (&["--asset", "BESS-1"][..], &[info.as_str(), &warning][..]),
        (&["--asset", "BESS-1", "--limit", "1"], &[&info]),
        (&["--severity", "warning", "--source", "agent"], &[&warning]),
        (&["--asset", "BESS-1", "--source", "headend"], &[]),
        (&["--asset", "PV-1"], &[]),
        (&["--site", "Jersey", "--to", &at], &[]),
        (&["--acknowledged"], &[]),
    ] {
        assert_eq!(ids(filter).await, *wanted, "{filter:?}");
    }

    let note = "a crew is on its way";
    let first = world
        .said(&["events", "ack", &warning, "--note", note])
        .await;
    assert!(
        first.contains("note          a crew is on its way"),
        "{first}"
    );
    // Not taken for the first.
    let again = world
        .json(&["events", "ack", &warning, "--note", "me too"])
        .await;
    assert_eq!(again["acknowledged"]["note"], note);
    let open = ["--unacknowledged", "--asset", "BESS-1"];
    assert_eq!(ids(&open).await, [info.as_str()]);
    assert_eq!(ids(&["--acknowledged"]).await, [warning.as_str()]);

    let shown = world.json(&["events", "show", &warning]).await;
    assert_eq!(shown["asset_id"], BESS_1);
    let table = world.said(&["events", "--asset", "BESS-1"]).await;
    let row = table.lines().find(|row| row.contains("read_failed"));
    let row = row.unwrap_or_else(|| panic!("{table}"));
    let row: Vec<&str> = row.split_whitespace().collect();
    let row = row.join(" ");
    let words = "warning BESS-1 read_failed the inverter is hot\\u{1b}[2J";
    assert!(row.contains(words), "{table}");
    let noted = again["acknowledged"]["at"].as_str().unwrap();
    assert!(row.contains(&noted[..19]), "{table}");
    let unknown = "01990000-0000-7000-8000-000000000001";
    let line = world.refused(&["events", "ack", unknown], 2).await;
    assert!(line.contains("[unknown_event]"), "{line}");
    let line = world.refused(&["events", "show", "ffff"], 64).await;
    assert!(line.contains("derms events shows them"), "{line}");
}
