//! Spans of the programs, at a collector.

use std::net::SocketAddr;
use std::time::Duration;

use derms_tests::{FREE, HeadendProcess, Program, call, until};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Kind;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use crate::BESS_1;

const SOON: Duration = Duration::from_secs(20);
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const UNRECORDED: &str = "5bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A span with the service that it is of.
type Seen = (String, Span);

struct Collector(mpsc::UnboundedSender<Seen>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_resource in request.into_inner().resource_spans {
            let attributes = of_resource.resource.unwrap().attributes;
            let service = text(&attributes, "service.name");
            for span in of_resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                let _ = self.0.send((service.clone(), span));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    let value = found.and_then(|it| it.value.clone()?.value);
    match value {
        Some(Kind::StringValue(text)) => text,
        other => panic!("{name}: {other:?} in {attributes:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn collector() -> (SocketAddr, mpsc::UnboundedReceiver<Seen>) {
    let (sender, seen) = mpsc::unbounded_channel();
    let listener = tonic::transport::server::TcpIncoming::bind(FREE.parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let service = TraceServiceServer::new(Collector(sender));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(listener));
    (address, seen)
}

async fn order(headend: &HeadendProcess, traceparent: &str) -> Value {
    let header = format!("traceparent: {traceparent}");
    let body = json!({ "asset_id": BESS_1, "mw": 5.0, "duration_s": 60.0 }).to_string();
    let path = "/dispatch?wait_s=20";
    let (head, body) = call(&headend.http, "POST", path, &header, &body).await;
    assert!(head.starts_with("HTTP/1.1 202"), "{head} {body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_collector_gets_one_trace_from_the_caller_over_the_headend_to_the_agent() {
    let (address, mut seen) = collector().await;
    let endpoint = format!("http://{address}");
    let exporting = |program: Program| {
        program
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
    };
    let args = [
        "--http-addr",
        FREE,
        "--grpc-addr",
        FREE,
        "--database-url",
        "memory",
    ];
    let headend = HeadendProcess::of(exporting(Program::new("der_headend").args(args))).await;
    let args = ["--asset-id", BESS_1, "--headend", &headend.grpc];
    let agent = exporting(Program::new("edge_agent").args(args)).start();
    until("the agent", SOON, async || {
        let agents = headend.client.agents().await.ok()?;
        (agents.len() == 1).then_some(())
    })
    .await;
    order(&headend, &format!("00-{UNRECORDED}-{CALLER}-00")).await;
    let order = order(&headend, &format!("00-{TRACE}-{CALLER}-01")).await;
    // What has not been sent by then is sent at the end.
    assert_eq!(headend.process.terminated().await, Some(0));
    assert_eq!(agent.terminated().await, Some(0));

    let mut spans = Vec::new();
    while let Ok(span) = seen.try_recv() {
        spans.push(span);
    }
    let all = |service: &str, name: &str| -> Vec<&Span> {
        let of_service = spans.iter().filter(|(of, _)| of == service);
        let named = of_service
            .map(|(_, span)| span)
            .filter(|span| span.name == name);
        named.filter(|span| hex(&span.trace_id) == TRACE).collect()
    };
    let taken = all("der_headend", "dispatch");
    assert_eq!(taken.len(), 1, "{spans:?}");
    assert_eq!(hex(&taken[0].parent_span_id), CALLER);
    assert_eq!(text(&taken[0].attributes, "dispatch_id"), order["id"]);
    assert!(taken[0].end_time_unix_nano > taken[0].start_time_unix_nano);
    let applied = all("edge_agent", "adapter");
    assert!(!applied.is_empty(), "{spans:?}");
    for span in applied {
        assert_eq!(span.parent_span_id, taken[0].span_id);
        assert_eq!(text(&span.attributes, "asset_id"), BESS_1);
    }
    // The caller of the other does not record it.
    assert!(
        spans
            .iter()
            .all(|(_, span)| hex(&span.trace_id) != UNRECORDED),
        "{spans:?}"
    );
}

#[tokio::test]
async fn a_collector_that_is_none_is_an_error_of_the_configuration() {
    let output = Program::new("der_headend")
        .args(["--database-url", "memory"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "no address")
        .run()
        .await;
    assert_eq!(output.code, Some(64), "{}", output.stderr);
    assert!(
        output.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
        "{}",
        output.stderr
    );
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}
