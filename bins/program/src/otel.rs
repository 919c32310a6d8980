//! Spans to an OpenTelemetry collector, over OTLP and gRPC.
//!
//! The SDKs give their spans W3C ids as fields, for these go over the link: what is here only passes
//! on what they say. So a span at the agent has the headend's as its parent, and no SDK knows
//! OpenTelemetry.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::SystemTime;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfig, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::Failure;
use crate::failure::chain;

/// Sends what has gathered when it is dropped, for 5 s at most.
#[derive(Debug)]
pub(crate) struct Exporting {
    processor: Arc<BatchSpanProcessor>,
    // The connection lives on it: the program's own may be one thread, which waits here at the end.
    _runtime: Runtime,
}

impl Drop for Exporting {
    fn drop(&mut self) {
        // Spans are help for people: that they can't be sent is no failure of the program.
        let _ = self.processor.shutdown();
    }
}

/// Takes spans that have ended.
pub(crate) struct Export(Arc<BatchSpanProcessor>);

/// Whether, and where to, the standard variables say.
fn is_wanted() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let disabled =
        std::env::var("OTEL_SDK_DISABLED").is_ok_and(|it| it.eq_ignore_ascii_case("true"));
    let endpoint = set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    endpoint && !disabled
}

/// Starts the export, if it is wanted.
pub(crate) fn start(program: &'static str) -> Result<Option<(Export, Exporting)>, Failure> {
    if !is_wanted() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("otel")
        .enable_all()
        .build()
        .map_err(|error| Failure::start(format!("can't start the export of traces: {error}")))?;
    let exporter = {
        let _in = runtime.enter();
        SpanExporter::builder().with_tonic().build()
    };
    let exporter = exporter.map_err(|error| {
        Failure::configuration(format!("OTEL_EXPORTER_OTLP_ENDPOINT: {}", chain(&error)))
    })?;
    let mut processor = BatchSpanProcessor::new(exporter, BatchConfig::default());
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(program);
    }
    processor.set_resource(&resource.build());
    let processor = Arc::new(processor);
    let exporting = Exporting {
        processor: Arc::clone(&processor),
        _runtime: runtime,
    };
    Ok(Some((Export(processor), exporting)))
}

/// What the layer looks at.
pub(crate) fn filter() -> FilterFn {
    FilterFn::new(|metadata: &Metadata<'_>| {
        metadata.is_span() && metadata.target().starts_with("derms_")
    })
}

/// A span that has begun, as far as its fields tell.
#[derive(Debug, Default)]
struct Begun {
    at: Option<SystemTime>,
    trace: Option<TraceId>,
    own: Option<SpanId>,
    parent: Option<SpanId>,
    sampled: bool,
    attributes: Vec<KeyValue>,
}

impl Visit for Begun {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace_id" => self.trace = TraceId::from_hex(value).ok(),
            "span_id" => self.own = SpanId::from_hex(value).ok(),
            "parent_id" => self.parent = SpanId::from_hex(value).ok(),
            name => self.attributes.push(KeyValue::new(name, value.to_owned())),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "sampled" => self.sampled = value,
            name => self.attributes.push(KeyValue::new(name, value)),
        }
    }
}

impl Begun {
    /// `None`: it is of no trace, or of one that its caller does not record.
    fn ended(self, name: &'static str) -> Option<SpanData> {
        let (trace, own) = (self.trace?, self.own?);
        if !self.sampled {
            return None;
        }
        Some(SpanData {
            span_context: SpanContext::new(
                trace,
                own,
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: self.parent.unwrap_or(SpanId::INVALID),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: SpanKind::Server,
            name: name.into(),
            start_time: self.at?,
            end_time: SystemTime::now(),
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("derms").build(),
        })
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Export {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut begun = Begun {
            at: Some(SystemTime::now()),
            ..Begun::default()
        };
        attributes.record(&mut begun);
        span.extensions_mut().insert(begun);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(begun) = span.extensions_mut().get_mut::<Begun>()
        {
            values.record(begun);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let begun = span.extensions_mut().remove::<Begun>();
        let ended = begun.and_then(|begun| begun.ended(span.metadata().name()));
        if let Some(ended) = ended {
            self.0.on_end(ended);
        }
    }
}
