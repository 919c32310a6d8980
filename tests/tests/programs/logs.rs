//! `docs/logs.md` is what the programs write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use derms_client::DispatchOptions;
use derms_proto::{AssetId, DispatchStatus, NewDispatch, NewLimit, NewStop, Power};
use derms_tests::{FREE, HeadendProcess, Program, root, until};
use serde_json::Value;

use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(20);

/// A documented line.
#[derive(Debug)]
struct Documented {
    levels: Vec<String>,
    fields: Vec<String>,
    optional: Vec<String>,
}

/// The tables of lines: of the headend, of the agent.
fn documented(of: &str) -> BTreeMap<String, Documented> {
    let text = std::fs::read_to_string(root().join("docs/logs.md")).unwrap();
    let part = text
        .split("\n## ")
        .find(|part| part.starts_with(of))
        .unwrap();
    let rows = part
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix('|'));
    let rows = rows.map(|row| row.split(" | ").map(str::trim).collect::<Vec<_>>());
    rows.filter(|row| row[0] != "level")
        .map(|row| {
            let (mut fields, mut optional) = (Vec::new(), Vec::new());
            for field in row
                .get(2)
                .into_iter()
                .flat_map(|fields| fields.split_whitespace())
            {
                let name = field.trim_matches(['(', ')', '`']).to_owned();
                if field.starts_with('(') {
                    optional.push(name);
                } else {
                    fields.push(name);
                }
            }
            let levels = row[0].split(", ").map(str::to_owned).collect();
            let message = row[1].trim_matches('`').to_owned();
            let documented = Documented {
                levels,
                fields,
                optional,
            };
            (message, documented)
        })
        .collect()
}

/// Checks each line; gives the documented messages that were said.
fn check<'a>(said: &str, of: &'a BTreeMap<String, Documented>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    for line in said.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        // What it says on stdout is no line of the log.
        if object.get("http_addr").is_some() && object.get("level").is_none() {
            continue;
        }
        for name in ["timestamp", "level", "message", "target"] {
            assert!(object[name].is_string(), "no {name}: {line}");
        }
        for name in ["agent", "asset", "dispatch", "limit", "stop"] {
            assert!(
                object.get(name).is_none(),
                "{name} is an id by another name: {line}"
            );
        }
        let Some((message, documented)) = of.get_key_value(object["message"].as_str().unwrap())
        else {
            continue;
        };
        let level = object["level"].as_str().unwrap();
        assert!(documented.levels.iter().any(|it| it == level), "{line}");
        for field in &documented.fields {
            assert!(
                object.get(field).is_some_and(|it| !it.is_null()),
                "no {field}: {line}"
            );
        }
        let known = |name: &String| {
            ["timestamp", "level", "message", "target", "span", "spans"].contains(&name.as_str())
                || documented.fields.contains(name)
                || documented.optional.contains(name)
        };
        for name in object.as_object().unwrap().keys() {
            assert!(known(name), "{name} is not in docs/logs.md: {line}");
        }
        seen.insert(message.as_str());
    }
    seen
}

#[tokio::test]
async fn every_line_is_an_object_and_has_the_fields_that_are_documented() {
    let program = Program::new("der_headend").args([
        "--http-addr",
        FREE,
        "--grpc-addr",
        FREE,
        "--database-url",
        "memory",
        "--log-format",
        "json",
    ]);
    let headend = HeadendProcess::of(program).await;
    let client = &headend.client;
    let agent = Program::new("edge_agent")
        .args(["--asset-id", BESS_1, "--headend", &headend.grpc])
        .env("LOG_FORMAT", "json")
        .start();
    let asset: AssetId = BESS_1.parse().unwrap();
    until("the agent", SOON, async || {
        client.asset(asset).await.ok()?.connected.then_some(())
    })
    .await;
    let wait = || DispatchOptions::new().wait(SOON);
    let lasting = NewDispatch::asset(asset, Power::from_mw(5.0)).lasting(SOON);
    let order = client.dispatch_with(&lasting, wait()).await.unwrap();
    assert_eq!(order.status, DispatchStatus::Active);
    client.cancel(order.id).await.unwrap();
    until("the end of the order", SOON, async || {
        let order = client.get_dispatch(order.id).await.ok()?;
        order.status.is_terminal().then_some(())
    })
    .await;
    // For nobody: superseded by the next.
    let offline: AssetId = BESS_2.parse().unwrap();
    for mw in [1.0, 2.0] {
        let order = NewDispatch::asset(offline, Power::from_mw(mw));
        client.dispatch(&order).await.unwrap();
    }
    let limit = NewLimit::at_most(asset, Power::from_mw(3.0));
    let limit = client.set_limit(&limit).await.unwrap();
    client.remove_limit(limit.id).await.unwrap();
    let stop = client.stop(&NewStop::asset(asset)).await.unwrap();
    client.resume(stop.id, Some(Duration::ZERO)).await.unwrap();
    until("the agent to go on", SOON, async || {
        let order = NewDispatch::asset(asset, Power::from_mw(1.0));
        let order = client.dispatch_with(&order, wait()).await.ok()?;
        (order.status == DispatchStatus::Active).then_some(())
    })
    .await;
    headend.process.signal(rustix::process::Signal::TERM);
    let (_, said) = headend.process.ended().await;
    let lines = documented("Lines of the headend");
    let seen = check(&said, &lines);
    for message in [
        "headend listens",
        "asked to stop; draining",
        "stopped",
        "agent connected",
        "agent disconnected",
        "dispatch committed",
        "dispatch sent",
        "dispatch moved on",
        "cancel taken",
        "release sent",
        "limit set",
        "limit removed",
        "stopping",
        "stop ended",
        "audit",
    ] {
        assert!(seen.contains(message), "not said: {message}\n{said}");
    }

    agent.signal(rustix::process::Signal::TERM);
    let (_, said) = agent.ended().await;
    let lines = documented("Lines of the agent");
    let seen = check(&said, &lines);
    for message in [
        "serving simulated devices",
        "connected",
        "disconnected, will try again",
        "order",
        "limits in force",
        "stopped by an operator",
        "stopped no more",
        "stopping",
        "stopped",
    ] {
        assert!(seen.contains(message), "not said: {message}\n{said}");
    }
    assert!(
        said.lines()
            .all(|line| line.contains(r#""agent_name":"BESS-1""#)),
        "{said}"
    );
}

#[test]
fn what_is_documented_is_in_the_code() {
    let mut code = String::new();
    let mut folders: Vec<_> = ["derms-headend-sdk/src", "derms-agent-sdk/src", "bins"]
        .map(|folder| root().join(folder))
        .into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                code.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    for of in ["Lines of the headend", "Lines of the agent"] {
        let lines = documented(of);
        assert!(lines.len() > 15, "{lines:?}");
        for message in lines.keys() {
            assert!(
                code.contains(&format!("\"{message}\"")),
                "nobody says `{message}`"
            );
        }
    }
}
