//! Files of a history.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use derms_client::proto::{NewDispatch, Power, Timestamp};
use derms_tests::Folder;

use crate::world::{BESS_1, World};

/// What the headend itself writes as CSV.
fn csv(world: &World, target: &str) -> String {
    let http = &world.headend.http;
    let mut stream = TcpStream::connect(http).unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: {http}\r\naccept: text/csv\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(!head.contains("chunked"), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn a_file_has_the_rows_and_columns_that_the_headend_itself_writes() {
    let world = World::start().await;
    let folder = Folder::new();
    for _ in 0..3 {
        let order = NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(1.0));
        let given = world.client().dispatch(&order).await.unwrap();
        world.client().cancel(given.id).await.unwrap();
        world.client().wait(given.id).await.unwrap();
    }
    // A row that a spreadsheet would run, and one over two lines.
    world.trouble("=1+1,\"\n\"").await;
    let to = Timestamp::now().to_string();
    for (what, target) in [
        (
            &["telemetry", "--asset", "BESS-1"][..],
            format!("/telemetry/{BESS_1}/history?"),
        ),
        (&["dispatches"], "/dispatch/history?".to_owned()),
        (&["sessions"], "/agents/history?".to_owned()),
        (&["audit"], "/audit?".to_owned()),
        (
            &["events", "--asset", "BESS-1"],
            format!("/events?asset_id={BESS_1}&"),
        ),
    ] {
        let file = folder.file("out.csv");
        let out = ["export", "--to", &to, "--out", file.to_str().unwrap()];
        let said = world.said(&[&out[..1], what, &out[1..]].concat()).await;
        let written = std::fs::read_to_string(&file).unwrap();
        let rows = csv::Reader::from_reader(written.as_bytes())
            .into_records()
            .count();
        assert!(rows > 0, "{what:?}: {written}");
        assert!(said.starts_with(&format!("{rows} row")), "{said}");
        assert_eq!(
            written,
            csv(&world, &format!("{target}to={to}&limit=1000")),
            "{what:?}"
        );
    }
}

#[tokio::test]
async fn a_file_that_did_not_become_whole_has_not_the_name_of_one() {
    let world = World::start().await;
    let folder = Folder::new();
    let file = folder.file("out.csv");
    std::fs::write(&file, "of yesterday").unwrap();
    let path = file.to_str().unwrap();
    let bad = [
        "export",
        "sessions",
        "--out",
        path,
        "--headend-url",
        "127.0.0.1:1",
    ];
    world.refused(&bad, 3).await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "of yesterday");
    assert!(!folder.file("out.csv.part").exists());
    let nowhere = ["export", "sessions", "--out", "/nowhere/out.csv"];
    assert!(world.refused(&nowhere, 1).await.contains("check --out"));
    let senseless = ["export", "audit", "--site", "Jersey", "--out", path];
    world.refused(&senseless, 64).await;
}
