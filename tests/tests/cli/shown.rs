//! What stands on stdout, whoever reads it.

use std::process::{Command, Stdio};

use derms_tests::{build_programs, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _};

use crate::world::World;

/// `derms` whose stdout is a pipe of ours.
fn piped(world: &World, args: &[&str]) -> std::process::Child {
    build_programs();
    Command::new(program("derms"))
        .env_clear()
        .env("DERMS_URL", world.url())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reader_that_goes_away_ends_a_watch_without_a_word() {
    let world = World::start().await;
    let mut watch = piped(&world, &["watch", "--json"]);
    let mut stdout = BufReader::new(watch.stdout.take().unwrap());
    let mut next = || -> Value {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(next(), json!({"kind": "reset", "reason": "began"}));
    let first = next();
    assert_eq!(first["kind"], "telemetry");
    assert!(
        first["mw"].is_number() && first["asset_id"].is_string(),
        "{first}"
    );
    drop(stdout);
    let status = watch.wait().unwrap();
    let mut stderr = String::new();
    watch.stderr.unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_watch_into_a_pipe_is_a_line_for_each_measurement_and_ends_when_asked() {
    let world = World::start().await;
    let mut watch = piped(&world, &["watch", "--asset", "BESS-1"]);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let two = [
        lines.next().unwrap().unwrap(),
        lines.next().unwrap().unwrap(),
    ];
    for line in &two {
        assert!(line.contains(" BESS-1 ") && line.contains(" MW"), "{line}");
    }
    assert_ne!(two[0], two[1], "the same measurement twice");
    let pid = Pid::from_raw(watch.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(watch.wait().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn events_and_orders_are_told_when_they_come_and_nothing_else_if_that_is_asked_for() {
    let world = World::start().await;
    let kinds = [
        "watch",
        "--json",
        "--asset",
        "BESS-1",
        "--kind",
        "event,dispatch",
    ];
    let mut watch = piped(&world, &kinds);
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["kind"], "reset");
    let [failed, recovered] = world.trouble("the inverter is hot").await;
    for event in [failed, recovered] {
        let told = next();
        assert_eq!(told["kind"], "event");
        assert_eq!(told["id"], event.id.to_string());
    }
    world
        .said(&["dispatch", "--asset", "BESS-1", "5", "--yes"])
        .await;
    let mut statuses = Vec::new();
    while statuses.last().is_none_or(|last| last != "active") {
        let told = next();
        assert_eq!(told["kind"], "dispatch");
        statuses.push(told["status"].clone());
    }
    assert_eq!(statuses, ["pending", "sent", "received", "active"]);
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[tokio::test]
async fn a_text_with_escape_codes_reaches_no_terminal() {
    let world = World::start().await;
    let hostile = "fire\u{1b}[2J\u{9b}31m";
    let stop = ["stop", "--asset", "BESS-1", "--reason", hostile, "--yes"];
    let stop = world.json(&stop).await;
    assert_eq!(stop["reason"], hostile);
    for args in [&["stop", "list"][..], &["stop", "list", "--json"]] {
        let said = world.said(args).await;
        assert!(said.contains("fire"), "{said}");
        let acts = |c: char| c.is_control() && c != '\n';
        assert!(!said.contains(acts), "{said:?}");
    }
}

#[tokio::test]
async fn what_is_seen_is_told_as_the_api_has_it() {
    let world = World::start().await;
    let client = world.client();
    let ids = |json: &Value| -> Vec<String> {
        let items = json.as_array().unwrap().iter();
        items
            .map(|it| it["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let assets = client.assets().await.unwrap();
    let assets: Vec<String> = assets.iter().map(|it| it.asset.id.to_string()).collect();
    assert_eq!(ids(&world.json(&["assets"]).await), assets);
    let sites = client.sites().await.unwrap();
    let sites: Vec<String> = sites.iter().map(|it| it.site.id.to_string()).collect();
    assert_eq!(ids(&world.json(&["sites"]).await), sites);
    assert_eq!(world.json(&["assets", "BESS-1"]).await["name"], "BESS-1");
    assert_eq!(world.json(&["agents"]).await[0]["mode"], "gateway");
    let all = world.json(&["agents", "--all"]).await;
    assert!(all.as_array().unwrap().len() > 1);
    let sessions = world.json(&["agents", "--history"]).await;
    assert_eq!(sessions[0]["assets"].as_array().unwrap().len(), 3);
    assert_eq!(
        world.json(&["telemetry", "BESS-1"]).await["site_id"],
        crate::world::JERSEY
    );
    let buckets = ["telemetry", "history", "BESS-1", "--step", "1h"];
    assert!(world.json(&buckets).await[0]["count"].as_u64() >= Some(1));
    let table = world.said(&["telemetry"]).await;
    assert_eq!(table.lines().count(), 12, "{table}");
    for row in table.lines().skip(1) {
        let measured = row.contains("BESS-") && row.contains("Jersey");
        assert_eq!(
            row.contains(" MW"),
            measured,
            "what was not measured is no 0:\n{row}"
        );
    }
}
