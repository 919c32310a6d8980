//! Which database a headend has shows in none of its answers.

use std::collections::HashMap;
use std::time::Duration;

use derms_proto::Timestamp;
use derms_tests::{FREE, Folder, HeadendProcess, PostgresServer, Program, call, until};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(60);
const UNKNOWN: &str = "00000000-0000-0000-0000-000000000001";

// Calls: the status, the method (CSV: a GET that asks for that; KEYED: a POST with a key), the
// path, the body.

const FLEET: &str = "
200 GET /readyz
200 GET /agents
200 GET /agents?all=true
200 GET /agents/history
200 GET /heartbeat/$on
200 GET /heartbeat/$on/history?limit=1
200 CSV /heartbeat/$on/history?limit=1
404 GET /heartbeat/$off";

const MEASURED: &str = "
200 GET /sites
200 GET /assets
200 GET /assets/$off
404 GET /assets/$nobody
200 GET /telemetry
200 GET /telemetry/$on
404 GET /telemetry/$off
200 GET /telemetry/$off/history
404 GET /telemetry/$nobody/history
400 GET /telemetry/$on/history?step=0
400 GET /telemetry/$on/history?cursor=x
400 GET /telemetry/$on/history?cursor=d.1.1.1
400 GET /telemetry/$on/history?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z";

const FIRST: &str = r#"202 KEYED /dispatch?wait_s=30 {"asset_id":"$on","mw":5,"duration_s":900}"#;

const ORDERED: &str = r#"
202 KEYED /dispatch?wait_s=30 {"asset_id":"$on","mw":5,"duration_s":900}
409 KEYED /dispatch {"asset_id":"$on","mw":6,"duration_s":900}
200 POST /dispatch/preview {"asset_id":"$off","mw":-2.5}
202 POST /dispatch {"asset_id":"$off","mw":-2.5,"ttl_s":900}
404 POST /dispatch {"asset_id":"$nobody","mw":5}
422 POST /dispatch {"asset_id":"$on","mw":500}
400 POST /dispatch {"asset_id":"$on","mw":"five"}
200 GET /dispatch/history?status=active
404 GET /dispatch/$nobody
200 DELETE /dispatch/$dispatch
200 DELETE /dispatch/$dispatch
200 GET /dispatch/$KEYED
200 DELETE /dispatch/$KEYED?wait_s=30
201 POST /limits {"asset_id":"$off","max_mw":3,"duration_s":3600}
200 GET /limits
202 DELETE /limits/$limits
202 POST /stop {"asset_id":"$off","reason":"a drill","confirm":"stop"}
200 GET /stop
202 DELETE /stop/$stop?return_within_s=5
200 GET /events?source=agent&severity=warning&acknowledged=false
200 POST /events/$event/ack {"note":"a crew is on its way"}
404 POST /events/$nobody/ack {}"#;

/// What only the store knows once the headend has started again.
const KEPT: &str = "
200 GET /agents/history
200 CSV /agents/history
200 GET /telemetry/$on/history?$range
200 CSV /telemetry/$on/history?$range
200 GET /telemetry/$on/history?$range&limit=2
200 GET /telemetry/$on/history?$range&limit=2&cursor=$cursor
200 GET /telemetry/$on/history?$range&step=86400
200 CSV /telemetry/$on/history?$range&step=86400
200 GET /dispatch/$KEYED
200 GET /dispatch/$dispatch
200 GET /dispatch/history?limit=1
200 GET /dispatch/history?limit=1&cursor=$cursor
200 CSV /dispatch/history
200 GET /dispatch/history?asset_id=$off&status=cancelled
200 GET /limits/$limits
200 GET /limits/history
200 GET /stop/$stop
200 GET /stop/history
200 GET /events?source=agent&limit=1
200 GET /events?source=agent&limit=1&cursor=$cursor
200 CSV /events?source=agent
200 GET /events/$event
200 GET /audit?limit=2
200 GET /audit?limit=50&cursor=$cursor";

/// Whether the clock and chance have a part in a number, or in its minimum, mean and maximum.
fn varies(key: &str) -> bool {
    let names = "age_s cell_temperature_c current_a energy_in_mwh energy_out_mwh frequency_hz \
                 remaining_s soc_pct uptime_s voltage_v";
    names.split(' ').any(|name| key.starts_with(name))
}

/// Takes out of answers what two headends can't have in common. One time or id that comes again
/// gets the same name again.
#[derive(Default)]
struct Names {
    given: HashMap<String, usize>,
    /// The answer is of the moment: whether a time in it came before depends on the machine.
    now: bool,
}

impl Names {
    fn name(&mut self, what: &str, text: &str) -> String {
        let next = self.given.len();
        let number = *self.given.entry(text.to_owned()).or_insert(next);
        format!("<{what} {number}>")
    }

    fn text(&mut self, key: &str, text: &str) -> String {
        match key {
            "peer" | "next_cursor" => return format!("<{key}>"),
            _ if text.parse::<Timestamp>().is_err() => {}
            _ if self.now || key == "last_seen" => return "<time>".into(),
            _ => return self.name("time", text),
        }
        let mut said = text.to_owned();
        for word in text.split(|c: char| !c.is_ascii_hexdigit() && c != '-') {
            // Those of the fleet file are of version 1.
            if word.parse().is_ok_and(|id: Uuid| id.get_version_num() == 7) {
                said = said.replace(word, &self.name("id", word));
            }
        }
        said
    }

    fn value(&mut self, key: &str, value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| {
                    let value = self.value(if varies(key) { key } else { &name }, value);
                    (name, value)
                });
                fields.collect()
            }
            Value::Array(items) => {
                let items = items.into_iter().map(|item| self.value(key, item));
                items.collect()
            }
            Value::String(text) => self.text(key, &text).into(),
            // The revision of a limit or a stop is the time at which it was made.
            Value::Number(number) if key == "revision" && number.as_u64() > Some(1 << 32) => {
                "<revision>".into()
            }
            Value::Number(number) if varies(key) && number.is_f64() => "<float>".into(),
            other => other,
        }
    }
}

/// The lines of a CSV, each cell with the name of its column.
fn table(text: &str) -> Value {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = reader.headers().unwrap().clone();
    let lines = reader.records().map(|line| {
        let line = line.unwrap();
        let cells = head.iter().zip(&line).map(|(name, cell)| {
            let value: Value = serde_json::from_str(cell).unwrap_or_else(|_| cell.into());
            json!({ name: value })
        });
        cells.collect::<Value>()
    });
    lines.collect()
}

/// The call with its status, the type of the body, the body.
type Answer = (String, String, Value);

/// A headend, what it has answered, and what of that is needed for other calls.
struct Side {
    headend: HeadendProcess,
    known: HashMap<String, String>,
    names: Names,
    answers: Vec<Answer>,
}

impl Side {
    async fn run(&mut self, script: &str) {
        for line in script.trim().lines() {
            let mut said = line.to_owned();
            for (name, value) in &self.known {
                said = said.replace(&format!("${name}"), value);
            }
            let mut words = said.splitn(4, ' ');
            let [status, verb, path, body] = std::array::from_fn(|_| words.next().unwrap_or(""));
            let (method, header) = match verb {
                "CSV" => ("GET", "accept: text/csv"),
                "KEYED" => ("POST", "idempotency-key: evening-peak-1"),
                _ => (verb, ""),
            };
            let (head, text) = call(&self.headend.http, method, path, header, body).await;
            let is_expected = head.starts_with(&format!("HTTP/1.1 {status} "));
            assert!(is_expected, "{line}: {head}\n{text}");
            let of_what = head.lines().find(|line| line.starts_with("content-type:"));
            let body = match verb {
                "CSV" => table(&text),
                _ => serde_json::from_str(&text).unwrap(),
            };
            let first = path.split(['/', '?']).nth(1).unwrap();
            let id = if verb == "POST" { first } else { verb };
            for (name, place) in [("cursor", "/next_cursor"), (id, "/id")] {
                if let Some(Value::String(text)) = body.pointer(place) {
                    self.known.insert(name.to_owned(), text.clone());
                }
            }
            let is_of_now = ["assets", "sites", "telemetry"].contains(&first);
            self.names.now = is_of_now && !path.contains("/history");
            let body = self.names.value("", body);
            self.answers
                .push((line.to_owned(), of_what.unwrap().to_owned(), body));
        }
    }

    /// Waits for so many items of a list.
    async fn items(&self, path: &str, count: usize) -> Vec<Value> {
        until(path, SOON, async || {
            let (_, text) = call(&self.headend.http, "GET", path, "", "").await;
            let mut page: Value = serde_json::from_str(&text).ok()?;
            let items = page.get_mut("items")?.as_array_mut()?;
            (items.len() >= count).then(|| std::mem::take(items))
        })
        .await
    }
}

async fn answers(database: [&str; 2]) -> Vec<Answer> {
    let start = async || {
        let addresses = ["--http-addr", FREE, "--grpc-addr", FREE];
        let program = Program::new("der_headend").args(addresses);
        HeadendProcess::of(program.args(["--telemetry-s", "1"]).args(database)).await
    };
    let known = [("on", BESS_1), ("off", BESS_2), ("nobody", UNKNOWN)];
    let mut side = Side {
        headend: start().await,
        known: known.map(|(name, id)| (name.into(), id.into())).into(),
        names: Names::default(),
        answers: Vec::new(),
    };
    let faults = Folder::new();
    let dir = faults.path().display().to_string();
    let args = ["--asset-id", BESS_1, "--faults-dir", &dir];
    let program = Program::new("edge_agent").args(args);
    let agent = program.args(["--headend", &side.headend.grpc]).start();

    side.items("/agents/history", 1).await;
    side.items(&format!("/heartbeat/{BESS_1}/history"), 1).await;
    side.run(FLEET).await;
    side.items(&format!("/telemetry/{BESS_1}/history"), 6).await;
    side.run(MEASURED).await;
    std::fs::write(faults.file(BESS_1), "the inverter is on fire").unwrap();
    let failed = side.items("/events?source=agent", 1).await;
    let id = failed[0]["id"].as_str().unwrap();
    side.known.insert("event".into(), id.into());
    std::fs::remove_file(faults.file(BESS_1)).unwrap();
    side.items("/events?source=agent", 2).await;
    side.run(FIRST).await;
    let order = side.known["KEYED"].parse().unwrap();
    until("the asset follows its order", SOON, async || {
        let order = side.headend.client.get_dispatch(order).await.ok()?;
        order.following.filter(|follows| *follows)
    })
    .await;
    side.run(ORDERED).await;
    // The oldest, seconds later: what was measured before them and came after them is there, too.
    let rows = side.items(&format!("/telemetry/{BESS_1}/history"), 8).await;
    let [to, .., from] = rows.last_chunk::<5>().unwrap();
    let [from, to] = [from, to].map(|row| row["measured_at"].as_str().unwrap());
    side.known
        .insert("range".into(), format!("from={from}&to={to}"));
    side.run(KEPT).await;

    assert_eq!(agent.terminated().await, Some(0));
    assert_eq!(side.headend.process.terminated().await, Some(0));
    side.headend = start().await;
    side.run(KEPT).await;
    side.answers
}

#[tokio::test]
async fn the_same_calls_get_the_same_answers_from_sqlite_and_from_postgres() {
    let (folder, server) = (Folder::new(), PostgresServer::start());
    let (data, url) = (folder.path().display().to_string(), server.database());
    let (sqlite, postgres) = tokio::join!(
        answers(["--data-dir", &data]),
        answers(["--database-url", &url])
    );
    assert_eq!(sqlite.len(), postgres.len());
    for (sqlite, postgres) in sqlite.iter().zip(&postgres) {
        assert_eq!(sqlite, postgres);
    }
}
