//! docs/api.md: each call is made, in the order of the page, against a headend with two agents.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use derms_agent_sdk::sim::{self, SimulatedDevice};
use derms_agent_sdk::{
    AdapterError, AgentRuntime, Applied, AssetEvents, DerAdapter, DeviceInfo, Reading, Setpoint,
    async_trait,
};
use derms_client::Client;
use derms_headend_sdk::Headend;
use derms_proto::{AssetId, Fleet, Power, Severity, Timestamp};
use derms_tests::{FREE, Folder, root, until};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::page::{self, Part};

const SOON: Duration = Duration::from_secs(30);
const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";

/// A block of calls that have one answer.
#[derive(Debug)]
struct Calls {
    /// `GET /assets/{id}`.
    route: String,
    commands: Vec<String>,
    status: u16,
    /// A line of the answer.
    line: Option<String>,
    /// Parts of the answers, in the order of the commands.
    shown: Vec<Value>,
}

/// The calls under headings of the form `` `GET /path` ``.
fn calls(page: &str) -> Vec<Calls> {
    let mut calls: Vec<Calls> = Vec::new();
    let mut route = None;
    for part in page::parts(page) {
        match part {
            Part::Heading(text) => {
                let name = text
                    .strip_prefix('`')
                    .and_then(|text| text.strip_suffix('`'));
                route = name.map(str::to_owned);
            }
            Part::Block(language, lines) if language == "console" => {
                let Some(route) = &route else { continue };
                let commands = page::commands(&lines).into_iter();
                calls.push(Calls {
                    route: route.clone(),
                    commands: commands.map(|command| command.typed).collect(),
                    status: 0,
                    line: None,
                    shown: Vec::new(),
                });
            }
            Part::Block(language, lines) => {
                assert_eq!(language, "json");
                let text = lines.join("\n");
                let shown = serde_json::from_str(&text);
                let shown = shown.unwrap_or_else(|error| panic!("{error} in:\n{text}"));
                calls.last_mut().unwrap().shown.push(shown);
            }
            Part::Text(text) => {
                let Some(status) = text.get(..3).and_then(|status| status.parse().ok()) else {
                    continue;
                };
                let last = calls.last_mut().unwrap();
                assert_eq!(last.status, 0, "one status for {:?}", last.commands);
                last.status = status;
                last.line = text.split('`').nth(1).map(str::to_owned);
            }
        }
    }
    calls
}

/// Method and path of a call of curl, an id as `{id}`.
fn route(command: &str) -> String {
    let method = if command.contains("-X DELETE") {
        "DELETE"
    } else if command.contains(" -d ") {
        "POST"
    } else {
        "GET"
    };
    let (_, path) = command
        .split_once("$DERMS_URL")
        .expect("a call of the headend");
    let end = path.find(['"', '?']).expect("an end of the URL");
    let mut path = path[..end].to_owned();
    for id in [
        "$ASSET_ID",
        "$DISPATCH_ID",
        "$EVENT_ID",
        "$LIMIT_ID",
        "$STOP_ID",
    ] {
        path = path.replace(id, "{id}");
    }
    format!("{method} {path}")
}

/// Whether an answer has all that is shown: keys and words as they are, ids, times, addresses and
/// numbers of the same kind. `…` stands for any text.
fn fits(shown: &Value, here: &Value) -> bool {
    match (shown, here) {
        (Value::Object(shown), Value::Object(here)) => shown
            .iter()
            .all(|(key, value)| here.get(key).is_some_and(|here| fits(value, here))),
        (Value::Array(shown), Value::Array(here)) => {
            let among = |item: &Value| here.iter().any(|here| fits(item, here));
            shown.iter().all(among) && (!shown.is_empty() || here.is_empty())
        }
        (Value::String(shown), Value::String(here)) => {
            let both = |is: fn(&str) -> bool| is(shown) && is(here);
            shown == here
                || shown == "…"
                || both(|text| text.parse::<AssetId>().is_ok())
                || both(|text| text.parse::<Timestamp>().is_ok())
                || both(|text| text.parse::<SocketAddr>().is_ok())
        }
        (Value::Number(_), Value::Number(_)) => true,
        _ => shown == here,
    }
}

/// A simulated device of which a fan has stopped.
struct Hot(SimulatedDevice);

#[async_trait]
impl DerAdapter for Hot {
    fn describe(&self) -> DeviceInfo {
        self.0.describe()
    }

    fn take_events(&self, events: AssetEvents) {
        events.raise(Severity::Alarm, "fan_stopped", "the fan has stopped");
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        self.0.read().await
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        self.0.apply(setpoint).await
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        self.0.go_to_default(default).await
    }
}

/// The sample fleet, of which two agents serve the first two batteries of Jersey.
struct World {
    /// What the shell knows.
    names: HashMap<&'static str, String>,
    /// Has a `.curlrc` by which curl tells the status.
    folder: Folder,
    _tasks: JoinSet<()>,
}

impl World {
    async fn start() -> Self {
        let fleet = Fleet::load(root().join("assets.yaml")).unwrap();
        let headend = Headend::builder(fleet.clone())
            .telemetry_interval(Duration::from_millis(200))
            .heartbeat_interval(Duration::from_secs(1))
            .build()
            .await
            .unwrap();
        let listener = Headend::bind(FREE.parse().unwrap()).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let service = headend.service();
        tasks.spawn(async move {
            let never = std::future::pending();
            headend.serve(vec![(listener, service)], never).await;
        });
        for id in [BESS_1, BESS_2] {
            let asset = fleet.asset(id.parse().unwrap()).unwrap().clone();
            let device = Hot(sim::for_asset(&asset, 1));
            let agent = AgentRuntime::builder(url.parse().unwrap()).adapter(asset, device);
            let agent = agent.build().unwrap();
            tasks.spawn(async move { agent.run().await.unwrap() });
        }
        let client = Client::new(url.parse().unwrap()).unwrap();
        until("measurements and heartbeats of both", SOON, async || {
            for id in [BESS_1, BESS_2] {
                let id: AssetId = id.parse().unwrap();
                client.telemetry(id).await.ok()?;
                client.heartbeat(id).await.ok()?;
            }
            Some(())
        })
        .await;
        let folder = Folder::new();
        std::fs::write(folder.file(".curlrc"), "write-out = \"\\n%{http_code}\"\n").unwrap();
        let names = [
            ("DERMS_URL", url),
            ("ASSET_ID", BESS_1.into()),
            ("SITE_ID", JERSEY.into()),
        ];
        Self {
            names: names.into(),
            folder,
            _tasks: tasks,
        }
    }

    /// The answer to a command of the page and its status.
    async fn run(&self, command: &str) -> (String, u16) {
        let output = tokio::process::Command::new("sh")
            .args(["-c", command])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("CURL_HOME", self.folder.path())
            .envs(&self.names)
            .output()
            .await
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let (body, status) = said
            .rsplit_once('\n')
            .unwrap_or_else(|| panic!("{command}: no answer"));
        (body.to_owned(), status.parse().unwrap())
    }
}

/// Whether a command was answered as the page shows.
fn as_shown(calls: &Calls, which: usize, body: &str, status: u16) -> bool {
    status == calls.status
        && calls
            .line
            .as_ref()
            .is_none_or(|line| body.lines().any(|here| here == line))
        && calls.shown.get(which).is_none_or(|shown| {
            serde_json::from_str(body).is_ok_and(|here: Value| fits(shown, &here))
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_the_page_is_answered_as_the_page_shows() {
    let mut world = World::start().await;
    let calls = calls(&page::read("api.md"));
    assert!(calls.len() >= 30, "{} calls", calls.len());
    for calls in calls {
        assert!(
            calls.status > 0,
            "no status is stated for {:?}",
            calls.commands
        );
        for (which, command) in calls.commands.iter().enumerate() {
            assert_eq!(route(command), calls.route, "under its own heading");
            let mut answer = world.run(command).await;
            // What was ordered a moment ago may not have come through.
            let end = tokio::time::Instant::now() + SOON;
            while calls.route.starts_with("GET ")
                && !as_shown(&calls, which, &answer.0, answer.1)
                && tokio::time::Instant::now() < end
            {
                answer = world.run(command).await;
            }
            let (body, status) = answer;
            assert!(
                as_shown(&calls, which, &body, status),
                "`{command}` was answered {status}:\n{body}\nthe page shows {}: {:#?}",
                calls.status,
                calls.shown.get(which)
            );
            let (name, place) = match calls.route.as_str() {
                "POST /dispatch" => ("DISPATCH_ID", "/id"),
                "POST /limits" => ("LIMIT_ID", "/id"),
                "POST /stop" => ("STOP_ID", "/id"),
                "GET /events" => ("EVENT_ID", "/items/0/id"),
                _ => continue,
            };
            let answer: Value = serde_json::from_str(&body).unwrap();
            if let Some(id) = answer.pointer(place).and_then(Value::as_str) {
                world.names.insert(name, id.to_owned());
            }
        }
    }
}

#[test]
fn the_page_has_a_section_for_each_path_and_method_and_no_other() {
    let sections: BTreeSet<String> = calls(&page::read("api.md"))
        .into_iter()
        .map(|calls| calls.route)
        .collect();
    let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
    let mut served = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                served.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    assert_eq!(sections, served);
}

#[test]
fn what_is_shown_fits_what_has_more_and_other_values_of_the_same_kind() {
    let here = json!({"id": BESS_1, "mw": 5.0, "status": "active", "text": null, "list": [1, {"a": true}]});
    for shown in [
        json!({"id": JERSEY, "mw": 1}),
        json!({"status": "active", "text": null}),
        json!({"status": "…", "list": [{"a": true}]}),
    ] {
        assert!(fits(&shown, &here), "{shown}");
    }
    for shown in [
        json!({"status": "sent"}),
        json!({"id": "x"}),
        json!({"mw": null}),
        json!({"text": "x"}),
        json!({"absent": null}),
        json!({"list": [{"a": false}]}),
        json!({"list": []}),
    ] {
        assert!(!fits(&shown, &here), "{shown}");
    }
}
