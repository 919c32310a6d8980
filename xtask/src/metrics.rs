//! What Prometheus makes of the metrics, the alert rules and the dashboard.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::headend::Headend;
use crate::shell::{self, Result};
use crate::system;
use crate::workspace::Workspace;

const RULES: &str = "docs/alerts/derms.rules.yml";
const RULE_TESTS: &str = "docs/alerts/derms.rules.test.yml";
const DASHBOARD: &str = "docs/grafana/dashboard.json";
const GUIDE: &str = "docs/metrics.md";

/// Metrics that a headend without TLS, and one that has just started, does not print.
const NOT_AT_ONCE: [&str; 1] = ["derms_certificate_expiry_timestamp_seconds"];

/// Checks rules, their tests, the metrics of a headend, and that whatever is asked for is there.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let promtool = promtool(workspace)?;
    let tool = || Command::new(&promtool);
    shell::run(tool().args(["check", "rules", RULES]))?;
    shell::run(tool().args(["test", "rules", RULE_TESTS]))?;
    let [rules, tests, dashboard] = [RULES, RULE_TESTS, DASHBOARD].map(read);
    let (rules, tests, dashboard) = (rules?, tests?, dashboard?);
    if let Some(alert) = untested(&rules, &tests) {
        return Err(format!("{alert} of {RULES} fires in no case of {RULE_TESTS}").into());
    }
    let shown = workspace.target().join("dashboard.rules.json");
    std::fs::write(&shown, as_rules(&dashboard)?)?;
    shell::run(tool().args(["check", "rules"]).arg(&shown))?;
    let headend = Headend::start(
        &workspace.built("der_headend"),
        &workspace.target().join("metrics-headend.log"),
    )?;
    // Twice: the second tells of the first.
    let text = headend
        .get("/metrics")
        .and_then(|_| headend.get("/metrics"));
    let text = text.map_err(|error| format!("{error}; {}", headend.see_log()))?;
    lint(&promtool, &text)?;
    let printed = names_of(&text, &read(GUIDE)?);
    for (file, asked) in [(RULES, &rules), (DASHBOARD, &dashboard)] {
        let missing: Vec<_> = asked_for(asked).difference(&printed).cloned().collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(format!("{file} asks for what nobody prints: {missing}").into());
        }
    }
    Ok(())
}

fn read(file: &str) -> Result<String> {
    std::fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}").into())
}

/// The first alert that no case expects.
fn untested<'a>(rules: &'a str, tests: &str) -> Option<&'a str> {
    let mut alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    alerts.find(|alert| !tests.contains(&format!("alertname=\"{alert}\"")))
}

/// The queries of the dashboard as rules, which promtool can read. JSON is YAML.
fn as_rules(dashboard: &str) -> Result<String> {
    let dashboard: Value = serde_json::from_str(dashboard)
        .map_err(|error| format!("{DASHBOARD} is no JSON: {error}"))?;
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries = targets.filter_map(|target| target["expr"].as_str());
    let rules: Vec<Value> = queries
        .enumerate()
        .map(|(number, query)| {
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*");
            json!({ "record": format!("query_{number}"), "expr": query })
        })
        .collect();
    if rules.is_empty() {
        return Err(format!("{DASHBOARD} asks for nothing").into());
    }
    let group = json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    Ok(group.to_string())
}

/// Every series name that is printed, or that the guide has of agents and of a headend with TLS.
fn names_of(text: &str, guide: &str) -> BTreeSet<String> {
    let printed = text.lines().filter_map(|line| {
        // Of a histogram: what texts call it, besides its series.
        let line = line.strip_prefix("# TYPE ").unwrap_or(line);
        line.split(['{', ' ']).next()
    });
    let rows = guide.lines().filter_map(|line| {
        let (name, _) = line.strip_prefix("| `")?.split_once('`')?;
        (name.starts_with("derms_agent_") || NOT_AT_ONCE.contains(&name)).then_some(name)
    });
    printed
        .chain(rows)
        .filter(|name| name.starts_with("derms_"))
        .map(str::to_owned)
        .collect()
}

/// The names of metrics in a text.
fn asked_for(text: &str) -> BTreeSet<String> {
    let word = |letter: char| !(letter.is_ascii_alphanumeric() || letter == '_');
    let words = text.split(word);
    words
        .filter(|word| word.starts_with("derms_"))
        .map(str::to_owned)
        .collect()
}

fn lint(promtool: &Path, text: &str) -> Result<()> {
    println!("$ curl /metrics | promtool check metrics");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or("promtool has no input")?;
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("promtool does not take what the headend prints: {status}").into())
    }
}

/// From the path, or from Debian's package. That is unpacked and not installed, for an installed
/// one starts a server.
fn promtool(workspace: &Workspace) -> Result<PathBuf> {
    let works = |tool: &Path| shell::probe(Command::new(tool).arg("--version")).is_some();
    let folder = workspace.target().join("prometheus");
    let unpacked = folder.join("usr/bin/promtool");
    for tool in [Path::new("promtool"), &unpacked] {
        if works(tool) {
            return Ok(tool.to_owned());
        }
    }
    system::unpack("prometheus", &folder)?;
    if works(&unpacked) {
        return Ok(unpacked);
    }
    Err("Debian's package prometheus has no promtool that runs here".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_are_found_in_expressions_and_in_json() {
        let text = r#"{"expr": "sum(rate(derms_a_total{x=\"y\"}[5m])) / derms_b > 1"}"#;
        assert_eq!(asked_for(text), set(&["derms_a_total", "derms_b"]));
    }

    #[test]
    fn an_alert_without_a_case_is_named() {
        let rules = "  - alert: A\n    expr: 1\n  - alert: B\n";
        let tests = "- {labels: '{alertname=\"A\"}', value: 1}";
        assert_eq!(untested(rules, tests), Some("B"));
    }

    #[test]
    fn the_queries_of_a_dashboard_become_rules() {
        let dashboard = r#"{"panels": [{"targets": [{"expr": "rate(x[$__rate_interval])"}]}, {}]}"#;
        let rules = as_rules(dashboard).unwrap();
        assert!(rules.contains("rate(x[5m])"), "{rules}");
        assert!(as_rules("{}").is_err());
    }

    #[test]
    fn a_histogram_is_known_by_its_series_and_an_agent_by_the_guide() {
        let text = "# TYPE derms_h histogram\nderms_h_bucket{le=\"1\"} 3\nderms_h_sum 2\n";
        let guide = "| `derms_agent_x` | gauge |\n| `derms_other` | gauge |\n";
        assert_eq!(
            names_of(text, guide),
            set(&["derms_h", "derms_h_bucket", "derms_h_sum", "derms_agent_x"])
        );
    }
}
