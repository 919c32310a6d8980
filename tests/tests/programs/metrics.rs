//! `edge_agent --metrics-addr`, and `/metrics` of both programs over a socket.

use std::collections::BTreeSet;
use std::time::Duration;

use derms_tests::{HeadendProcess, Program, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{BESS_1, JERSEY};

const GUIDE: &str = include_str!("../../../docs/metrics.md");
const SOON: Duration = Duration::from_secs(30);

/// Head and body of an answer.
async fn asked(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

#[tokio::test]
async fn an_agent_tells_its_counters_where_it_was_told_to() {
    let headend = HeadendProcess::start().await;
    let mut agent = Program::new("edge_agent")
        .args(["--site-id", JERSEY, "--headend", &headend.grpc])
        .args(["--metrics-addr", "127.0.0.1:0"])
        .start();
    let address = |line: &str| {
        let (_, rest) = line.split_once("metrics_addr=")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let address = agent.line("where its metrics are", address).await;
    let acked = until("samples are acknowledged", SOON, async || {
        let (_, text) = asked(&address, "GET /metrics").await;
        let acked = value(&text, "derms_agent_samples_acked_total")?;
        (acked >= 3.0).then_some(text)
    });
    let text = acked.await;
    assert_eq!(value(&text, "derms_agent_connected"), Some(1.0));
    assert_eq!(value(&text, "derms_agent_connects_total"), Some(1.0));
    assert!(
        value(&text, "derms_agent_clock_offset_seconds")
            .unwrap()
            .abs()
            < 5.0
    );
    let (head, _) = asked(&address, "GET /metrics").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    let (head, _) = asked(&address, "GET /").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    let (head, _) = asked(&address, "POST /metrics").await;
    assert!(head.starts_with("HTTP/1.1 405"), "{head}");

    let (_, of_headend) = asked(&headend.http, "GET /metrics").await;
    assert!(value(&of_headend, "derms_connects_total").unwrap() >= 1.0);

    assert_eq!(headend.process.terminated().await, Some(0));
    let told = until("the end of the session is counted", SOON, async || {
        let (_, text) = asked(&address, "GET /metrics").await;
        let ended = value(&text, "derms_agent_disconnects_total{cause=\"draining\"}")?;
        (ended == 1.0).then_some(text)
    });
    let told = told.await;
    let printed: BTreeSet<(&str, &str)> = told
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let rows = GUIDE.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let (kind, _) = rest.split_once(" |")?;
        name.starts_with("derms_agent_").then_some((name, kind))
    });
    assert_eq!(printed, rows.collect());
    assert_eq!(agent.terminated().await, Some(0));
}

#[tokio::test]
async fn metrics_that_others_could_read_are_refused_unless_that_is_said() {
    let of = |more: &[&'static str]| {
        let args = ["--asset-id", BESS_1, "--headend", "127.0.0.1:9"];
        let open = ["--metrics-addr", "0.0.0.0:0"];
        Program::new("edge_agent")
            .args(args)
            .args(open)
            .args(more.to_vec())
    };
    let output = of(&[]).run().await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(64), ""));
    assert!(
        output.stderr.contains("--insecure-metrics"),
        "{}",
        output.stderr
    );
    let mut told = of(&["--insecure-metrics"]).start();
    told.says("metrics at /metrics").await;
    assert_eq!(told.terminated().await, Some(0));
}
