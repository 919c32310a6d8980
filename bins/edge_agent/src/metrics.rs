//! `--metrics-addr`: the counters of the agent, as Prometheus reads them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use derms_agent_sdk::{AgentCounters, AgentHandle};
use derms_program::Failure;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A scraper needs one; what comes on top waits until one of them has ended.
const MOST_CONNECTIONS: usize = 16;
/// A client must send the head of a request within this.
const HEAD: Duration = Duration::from_secs(10);
/// A connection ends after this, idle or not.
const LIFE: Duration = Duration::from_secs(600);
/// After an accept that failed, for want of file handles for example.
const AGAIN: Duration = Duration::from_secs(1);

/// Why the agent does not open this address; `None`: it may.
pub(crate) fn refusal(address: SocketAddr, insecure: bool) -> Option<String> {
    let open = !address.ip().to_canonical().is_loopback();
    (open && !insecure).then(|| {
        format!(
            "refusing to start: the metrics can be read from other machines (--metrics-addr \
             {address}) and nobody is asked who he is; listen on 127.0.0.1, or say \
             --insecure-metrics (INSECURE_METRICS) if something else keeps strangers out"
        )
    })
}

pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let remedy = "choose another address with --metrics-addr (METRICS_ADDR)";
        Failure::start(format!(
            "can't listen on {address} for metrics: {error}; {remedy}"
        ))
    })
}

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, agent: AgentHandle) -> Infallible {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MOST_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, agent.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "can't take a connection for metrics");
                    tokio::time::sleep(AGAIN).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, agent: AgentHandle) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let response = answer(request.method(), request.uri().path(), &agent);
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // How a scraper goes is of no interest.
    let _ = tokio::time::timeout(LIFE, serving).await;
}

fn answer(method: &Method, path: &str, agent: &AgentHandle) -> Response<String> {
    let (status, body) = if path != "/metrics" {
        (StatusCode::NOT_FOUND, "only /metrics is here\n".to_owned())
    } else if method != Method::GET && method != Method::HEAD {
        let body = "only GET is known here\n".to_owned();
        (StatusCode::METHOD_NOT_ALLOWED, body)
    } else {
        match text(&agent.counters()) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => {
                tracing::error!(%error, "can't write the metrics");
                let body = "the log of the agent tells more\n".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, body)
            }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The counters with their names; docs/metrics.md has them too.
fn text(counted: &AgentCounters) -> prometheus::Result<String> {
    let registry = Registry::new();
    let counter = |name: &str, help: &str, value: u64| {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        registry.register(Box::new(counter))
    };
    let gauge = |name: &str, help: &str, value: u64| {
        let gauge = IntGauge::new(name, help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))
    };
    let by = |name: &str, help: &str, label: &str, values: &[(String, u64)]| {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for (word, value) in values {
            counters.with_label_values(&[word]).inc_by(*value);
        }
        registry.register(Box::new(counters))
    };

    let build = Opts::new(
        "derms_agent_build_info",
        "Always 1; the version of the agent is its label.",
    );
    let build = IntGauge::with_opts(build.const_label("version", env!("CARGO_PKG_VERSION")))?;
    build.set(1);
    registry.register(Box::new(build))?;

    gauge(
        "derms_agent_connected",
        "1 while a session is active, else 0.",
        u64::from(counted.connected),
    )?;
    counter(
        "derms_agent_connects_total",
        "Sessions that became active.",
        counted.connects,
    )?;
    counter(
        "derms_agent_connect_failures_total",
        "Attempts of which no session came.",
        counted.connect_failures,
    )?;
    let causes: Vec<_> = counted
        .disconnects
        .iter()
        .map(|(cause, times)| (word(&format!("{cause:?}")), *times))
        .collect();
    by(
        "derms_agent_disconnects_total",
        "Sessions that ended, by cause.",
        "cause",
        &causes,
    )?;
    counter(
        "derms_agent_halts_total",
        "Refusals by the headend that trying again can't mend.",
        counted.halts,
    )?;

    counter(
        "derms_agent_reads_total",
        "Reads of devices that came through.",
        counted.reads,
    )?;
    counter(
        "derms_agent_read_errors_total",
        "Reads that failed, those that took too long among them.",
        counted.read_errors,
    )?;
    counter(
        "derms_agent_read_timeouts_total",
        "Reads that took too long.",
        counted.read_timeouts,
    )?;
    counter(
        "derms_agent_commands_total",
        "Commands that a device has obeyed.",
        counted.commands,
    )?;
    counter(
        "derms_agent_command_errors_total",
        "Commands that failed, those that took too long among them.",
        counted.command_errors,
    )?;
    counter(
        "derms_agent_command_timeouts_total",
        "Commands that took too long.",
        counted.command_timeouts,
    )?;

    counter(
        "derms_agent_samples_taken_total",
        "Samples that went into the outbox.",
        counted.samples_taken,
    )?;
    counter(
        "derms_agent_samples_sent_total",
        "Samples that were sent from the outbox; sent again they count again.",
        counted.samples_sent,
    )?;
    counter(
        "derms_agent_samples_acked_total",
        "Samples that the headend has acknowledged.",
        counted.samples_acked,
    )?;
    counter(
        "derms_agent_samples_dropped_total",
        "Samples that had to go before they were acknowledged.",
        counted.samples_dropped,
    )?;
    gauge(
        "derms_agent_outbox_samples",
        "Samples in the outbox.",
        counted.outbox_depth,
    )?;
    gauge(
        "derms_agent_outbox_bytes",
        "What the outbox takes up in memory.",
        counted.outbox_bytes,
    )?;
    gauge(
        "derms_agent_unacknowledged_reports",
        "Reports that are not acknowledged.",
        counted.unacknowledged_reports,
    )?;
    counter(
        "derms_agent_entries_refused_total",
        "Entries of logs that the headend refused for good.",
        counted.entries_refused,
    )?;

    let orders = &counted.orders;
    let steps = [
        ("received", orders.received),
        ("started", orders.started),
        ("completed", orders.completed),
        ("superseded", orders.superseded),
        ("released", orders.released),
        ("rejected", orders.rejected),
        ("expired", orders.expired),
        ("failed", orders.failed),
    ]
    .map(|(step, times)| (step.to_owned(), times));
    by(
        "derms_agent_orders_total",
        "Steps of orders.",
        "step",
        &steps,
    )?;
    counter(
        "derms_agent_failsafe_entries_total",
        "Times that the failsafe of an asset came into force.",
        counted.failsafe_entries,
    )?;
    counter(
        "derms_agent_storage_failures_total",
        "Times that the state directory could not be written any more.",
        counted.storage_failures,
    )?;
    if let Some(offset) = counted.clock_offset_s {
        let gauge = Gauge::new(
            "derms_agent_clock_offset_seconds",
            "By how much the clock of the headend is ahead of that of this machine.",
        )?;
        gauge.set(offset);
        registry.register(Box::new(gauge))?;
    }
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// `TransportLost` as the headend and the documents write it: `transport_lost`.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use derms_agent_sdk::proto::CloseReason;

    use super::*;

    #[test]
    fn an_address_that_others_reach_is_refused_unless_that_is_said() {
        for address in ["127.0.0.1:9000", "[::1]:9000", "[::ffff:127.0.0.1]:1"] {
            assert_eq!(refusal(address.parse().unwrap(), false), None, "{address}");
        }
        let open = "0.0.0.0:9000".parse().unwrap();
        let line = refusal(open, false).unwrap();
        assert!(line.contains("--insecure-metrics"), "{line}");
        assert_eq!(refusal(open, true), None);
    }

    #[test]
    fn a_cause_is_written_as_the_headend_writes_it() {
        let said = format!("{:?}", CloseReason::TransportLost);
        assert_eq!(word(&said), "transport_lost");
        assert_eq!(word("Normal"), "normal");
    }

    #[test]
    fn the_numbers_are_those_of_the_agent() {
        let mut counted = AgentCounters::default();
        counted.connected = true;
        counted.samples_taken = 7;
        counted.disconnects = vec![(CloseReason::Draining, 2)];
        counted.orders.completed = 3;
        counted.clock_offset_s = Some(-1.5);
        let text = text(&counted).unwrap();
        for line in [
            "derms_agent_connected 1",
            "derms_agent_samples_taken_total 7",
            "derms_agent_disconnects_total{cause=\"draining\"} 2",
            "derms_agent_orders_total{step=\"completed\"} 3",
            "derms_agent_clock_offset_seconds -1.5",
        ] {
            assert!(text.lines().any(|told| told == line), "{line} in {text}");
        }
    }
}
