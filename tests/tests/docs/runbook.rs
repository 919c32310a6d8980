//! docs/runbook.md: each metric, alert, path, code, log message and flag that it names exists.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use derms_tests::{Program, root};
use serde_json::Value;

use crate::page;

/// What the page names, each in backticks or typed in a block.
fn named(page: &str) -> Vec<String> {
    let mut named = Vec::new();
    for part in page::parts(page) {
        match part {
            page::Part::Text(line) | page::Part::Heading(line) => {
                named.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
            }
            page::Part::Block(language, lines) if language == "console" => {
                named.extend(
                    page::commands(&lines)
                        .into_iter()
                        .map(|command| command.typed),
                );
            }
            page::Part::Block(..) => {}
        }
    }
    named
}

/// All words between backticks, however they are joined there.
fn quoted_words(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.flat_map(|quoted| quoted.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
}

/// Names of properties and parameters, words of enums, and codes in descriptions.
fn words_of(document: &Value, words: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = fields.get("properties") {
                words.extend(properties.keys().cloned());
            }
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("enum", Value::Array(values)) => {
                        words.extend(
                            values
                                .iter()
                                .filter_map(|value| value.as_str().map(str::to_owned)),
                        );
                    }
                    ("name", Value::String(name)) => {
                        words.insert(name.clone());
                    }
                    ("description", Value::String(text)) => {
                        words.extend(quoted_words(text).map(str::to_owned));
                    }
                    _ => {}
                }
                words_of(value, words);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words_of(item, words)),
        _ => {}
    }
}

/// What there is.
struct Names {
    document: Value,
    /// Of REST, of labels of metrics, of fields of the log, of the fleet file.
    words: BTreeSet<String>,
    metrics: BTreeSet<String>,
    /// Of the log.
    messages: BTreeSet<String>,
    alerts: BTreeSet<String>,
    /// What all programs say about themselves.
    help: String,
}

impl Names {
    async fn read() -> Self {
        let file = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
        let document: Value = serde_json::from_str(&derms_headend_sdk::openapi_json()).unwrap();
        let (metrics, logs) = (page::read("metrics.md"), page::read("logs.md"));
        let mut words = BTreeSet::new();
        words_of(&document, &mut words);
        words.extend(
            quoted_words(&metrics)
                .chain(quoted_words(&logs))
                .map(str::to_owned),
        );
        let keys = file("assets.yaml");
        let keys = keys
            .lines()
            .filter_map(|line| line.trim_start_matches(['#', ' ', '-']).split_once(": "));
        words.extend(keys.map(|(key, _)| key.to_owned()));
        let first = |page: &str| -> BTreeSet<String> {
            let rows = page
                .lines()
                .filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
            rows.map(|(name, _)| name.to_owned()).collect()
        };
        // Level, message, fields.
        let rows = logs.lines().filter(|line| line.starts_with("| "));
        let messages = rows.filter_map(|line| line.split('|').nth(2)?.split('`').nth(1));
        let rules = file("docs/alerts/derms.rules.yml");
        let alerts = rules
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: "));
        let mut help = String::new();
        for program in ["der_headend", "edge_agent", "agent_launcher"] {
            write!(help, "{}", said(program, &[]).await.unwrap()).unwrap();
        }
        Self {
            document,
            words,
            metrics: first(&metrics),
            messages: messages.map(str::to_owned).collect(),
            alerts: alerts.map(str::to_owned).collect(),
            help,
        }
    }

    /// A call of REST, with what is behind the question mark.
    fn has_route(&self, method: &str, call: &str) -> bool {
        let (path, query) = call.split_once('?').unwrap_or((call, ""));
        let mut template = path.to_owned();
        for id in ["$ASSET_ID", "$DISPATCH_ID"] {
            template = template.replace(id, "{id}");
        }
        let Some(operation) = self.document["paths"][&template].get(method.to_lowercase()) else {
            return false;
        };
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        let known: Vec<&str> = parameters.filter_map(|one| one["name"].as_str()).collect();
        let mut asked = query.split('&').filter(|one| !one.is_empty());
        asked.all(|one| known.contains(&one.split('=').next().unwrap_or(one)))
    }

    /// Whether this help has this flag, and not only a longer one.
    fn has_flag(help: &str, flag: &str) -> bool {
        let mut words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
        words.any(|word| word == flag)
    }

    async fn has(&self, name: &str) -> bool {
        let word = |text: &str| {
            text.is_empty()
                || text.parse::<f64>().is_ok()
                || self.words.contains(text)
                || ["true", "false"].contains(&text)
        };
        if let Some((_, call)) = name.split_once("$DERMS_URL") {
            let call = call.split('"').next().unwrap_or_default();
            return self.has_route("GET", call);
        }
        for method in ["GET", "POST", "DELETE"] {
            if let Some(call) = name
                .strip_prefix(method)
                .and_then(|rest| rest.strip_prefix(' '))
            {
                return self.has_route(method, call);
            }
        }
        if let Some((program, rest)) = name
            .split_once(' ')
            .filter(|(program, _)| ["der_headend", "edge_agent", "derms"].contains(program))
        {
            let rest: Vec<&str> = rest.split(' ').collect();
            let flags = rest
                .iter()
                .position(|word| word.starts_with('-'))
                .unwrap_or(rest.len());
            let Some(help) = said(program, &rest[..flags]).await else {
                return false;
            };
            return rest[flags..].iter().all(|flag| Self::has_flag(&help, flag));
        }
        if name.starts_with("--") {
            return Self::has_flag(&self.help, name);
        }
        if name.starts_with("derms_") {
            return self
                .metrics
                .contains(name.strip_suffix("_bucket").unwrap_or(name));
        }
        if name.starts_with("Derms") {
            return self.alerts.contains(name);
        }
        if self.messages.contains(name) {
            return true;
        }
        if let Some((field, value)) = name.split_once(": ").or_else(|| name.split_once('=')) {
            return word(field) && word(value.trim_matches('"'));
        }
        let own = name.starts_with("DERMS_URL")
            || ["der_headend", "edge_agent", "VACUUM INTO"].contains(&name);
        own || word(name) || self.has_route("GET", name)
    }
}

/// The help of a task of a program; `None` if it has no such task.
async fn said(program: &str, task: &[&str]) -> Option<String> {
    let all = task.iter().copied().chain(["--help"]);
    let output = Program::new(program).args(all).run().await;
    (output.code == Some(0)).then_some(output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_runbook_names_is_there() {
    let names = Names::read().await;
    let named = named(&page::read("runbook.md"));
    assert!(named.len() > 200, "{} names", named.len());
    let mut absent = BTreeSet::new();
    for name in &named {
        // Spelled as in a shell.
        if !name.starts_with("DERMS_URL=") && !names.has(name).await {
            absent.insert(name);
        }
    }
    assert!(absent.is_empty(), "{absent:#?}");
    let missing: Vec<&String> = names
        .alerts
        .iter()
        .filter(|alert| !named.contains(alert))
        .collect();
    assert!(missing.is_empty(), "alerts without a section: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_found_out() {
    let names = Names::read().await;
    for good in [
        "derms_store_errors_total",
        "derms_store_call_duration_seconds_bucket",
        "GET /agents",
        "curl -s \"$DERMS_URL/agents?all=true\"",
        "DELETE /stop/{id}",
        "store_unavailable",
        "agent refused",
        "can't store; acknowledging nothing",
        "--tls-cert",
        "der_headend db prune --dry-run",
        "DermsNotReady",
        "reason=\"incompatible\"",
        "stale: true",
    ] {
        assert!(names.has(good).await, "{good}");
    }
    for bad in [
        "derms_store_error_total",
        "derms_ready_bucket_total",
        "GET /agent",
        "PUT /agents",
        "curl -s \"$DERMS_URL/agents?every=true\"",
        "store_unavailabel",
        "agent was refused",
        "--tls-certs",
        "der_headend db shrink",
        "der_headend db prune --wet-run",
        "derms events --unacknowleged",
        "DermsNotReadyAtAll",
        "reason=\"incompatibel\"",
    ] {
        assert!(!names.has(bad).await, "{bad}");
    }
}

/// As a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_of_the_new_pages_lead_somewhere() {
    let mut dead = Vec::new();
    let mut links = 0;
    for name in ["api.md", "commissioning.md", "runbook.md"] {
        for part in page::parts(&page::read(name)) {
            let page::Part::Text(line) = part else {
                continue;
            };
            for link in line
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split(')').next())
            {
                if link.contains("://") {
                    continue;
                }
                links += 1;
                let (file, place) = link.split_once('#').unwrap_or((link, ""));
                let file = if file.is_empty() { name } else { file };
                let there = root().join("docs").join(file).exists();
                let heads = || page::parts(&page::read(file)).into_iter();
                let placed =
                    |part| matches!(part, page::Part::Heading(text) if anchor(&text) == place);
                if !there || (!place.is_empty() && !heads().any(placed)) {
                    dead.push(format!("{name}: {link}"));
                }
            }
        }
    }
    assert!(links > 30, "{links} links");
    assert!(dead.is_empty(), "{dead:#?}");
}
