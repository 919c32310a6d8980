//! `/stream`.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use derms_proto::{AssetId, LiveItem, LiveKind, Problem, ProblemCode, SiteId};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::ByToken;
use super::caller::Caller;
use super::extract::Params;
use super::problem::Failure;
use super::reader::{Filter, Reader};
use crate::core::Core;
use crate::peer::ConnectionHandle;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Only these kinds, with commas in between. Default: all.
    #[param(value_type = Option<Vec<LiveKind>>, style = Form, explode = false, min_items = 1)]
    kind: Option<String>,
    /// Only what is about this asset.
    #[param(value_type = Option<String>, format = "uuid")]
    asset_id: Option<AssetId>,
    /// Only what is about this site and its assets.
    #[param(value_type = Option<String>, format = "uuid")]
    site_id: Option<SiteId>,
    /// As the header `Last-Event-ID`, which counts before it.
    last_event_id: Option<String>,
}

/// What happens now, as server-sent events
///
/// The data of each event is one item, its `kind` tells which. A stream begins with a `reset`, or goes
/// on behind the event that `Last-Event-ID` names, with none missing and none twice; if that is not
/// remembered, it begins with a `reset` as well. After a `reset` read the lists: what was before it
/// is not told. A comment comes after 15 s without an event. A stream ends after 15 minutes, when its
/// reader falls behind, when the credentials do not count any more, and with the headend: the last
/// item, `end`, tells why.
#[utoipa::path(get, path = "/stream", operation_id = "stream", tag = "telemetry",
    params(StreamParams, ("Last-Event-ID" = Option<String>, Header, description = "The id of the last event that was read")),
    responses(
    (status = 200, description = "Events, until the stream ends", content((LiveItem = "text/event-stream"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`too_many_requests`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`draining`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn stream(
    State(core): State<Arc<Core>>,
    caller: Caller,
    by_token: Option<Extension<ByToken>>,
    connection: Option<Extension<ConnectionHandle>>,
    headers: HeaderMap,
    Params(params): Params<StreamParams>,
) -> Result<Response, Failure> {
    let kinds = kinds(params.kind.as_deref())?;
    if core.drain.is_cancelled() {
        let text = "the headend is shutting down; connect again when it is back";
        return Err(Problem::new(ProblemCode::Draining, text).into());
    }
    let in_hand = core.rates.take_stream(caller.0.as_ref())?;
    let filter = Filter {
        nothing: !caller.sees_filter(&core, params.asset_id, params.site_id),
        kinds,
        asset: params.asset_id,
        site: params.site_id,
    };
    // One that is no text is none of ours, and begins anew like one of another life.
    let header = headers.get("last-event-id");
    let header = header.map(|value| value.to_str().unwrap_or("?"));
    let last = header.or(params.last_event_id.as_deref());
    let mut reader = Reader::new(core, caller, filter, last, in_hand);
    if by_token.is_some() {
        reader.ask_again_by(&headers);
    }
    if let Some(Extension(connection)) = connection {
        reader.cut_if_stuck(connection);
    }
    let frames = stream::unfold(reader, |mut reader| async {
        let frame = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), reader))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        // nginx would gather what is meant to be read at once.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(frames)).into_response())
}

fn kinds(text: Option<&str>) -> Result<Vec<LiveKind>, Failure> {
    let Some(text) = text else {
        return Ok(LiveKind::ALL.to_vec());
    };
    let kinds: Result<Vec<LiveKind>, _> = text.split(',').map(str::parse).collect();
    kinds.map_err(|error| {
        let text = format!("kind: {error}");
        Problem::new(ProblemCode::InvalidParameter, text).into()
    })
}
