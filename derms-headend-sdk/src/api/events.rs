//! `/events`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use derms_proto::{
    AssetId, Cursor, Event, EventId, EventSource, NewAcknowledgement, Page, Problem, ProblemCode,
    Severity, SiteId, Timestamp,
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::change::refuse_while_draining;
use super::extract::{Body, Id, NoParams, Params, page};
use super::listing::Wanted;
use super::problem::Failure;
use super::record::Note;
use crate::core::Core;
use crate::store::EventQuery;

/// Longest note, characters.
const MAX_NOTE: usize = 1_024;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Of this asset.
    #[param(value_type = Option<String>, format = "uuid")]
    asset_id: Option<AssetId>,
    /// Of this site.
    #[param(value_type = Option<String>, format = "uuid")]
    site_id: Option<SiteId>,
    /// At least this severe.
    #[param(inline)]
    severity: Option<LeastSeverity>,
    /// Acknowledged, or not.
    acknowledged: Option<bool>,
    /// Raised by this side.
    #[param(inline)]
    source: Option<Raiser>,
    /// Not before this.
    from: Option<Timestamp>,
    /// Before this.
    to: Option<Timestamp>,
    /// Most items, 1 to 1000. Default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<Cursor>,
}

/// What may be asked for: a mistake is not taken for a newer word.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum LeastSeverity {
    Info,
    Warning,
    Alarm,
    Critical,
}

#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
enum Raiser {
    Agent,
    Headend,
}

impl From<LeastSeverity> for Severity {
    fn from(least: LeastSeverity) -> Self {
        match least {
            LeastSeverity::Info => Self::Info,
            LeastSeverity::Warning => Self::Warning,
            LeastSeverity::Alarm => Self::Alarm,
            LeastSeverity::Critical => Self::Critical,
        }
    }
}

impl From<Raiser> for EventSource {
    fn from(raiser: Raiser) -> Self {
        match raiser {
            Raiser::Agent => Self::Agent,
            Raiser::Headend => Self::Headend,
        }
    }
}

/// Columns as CSV.
const COLUMNS: &[&str] = &[
    "id",
    "at",
    "received_at",
    "asset_id",
    "site_id",
    "agent_id",
    "severity",
    "code",
    "text",
    "source",
    "acknowledged.at",
    "acknowledged.by",
    "acknowledged.note",
];

/// Alarms and changes of state, newest first
///
/// By the time at which they happened: what was raised while its agent was offline appears when that is
/// back, at its place.
#[utoipa::path(get, path = "/events", operation_id = "list_events", tag = "events", params(EventParams), responses(
    (status = 200, description = "A page", content((Page<Event> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<EventParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    let query = EventQuery {
        asset: params.asset_id,
        site: params.site_id,
        least: params.severity.map(Into::into),
        acknowledged: params.acknowledged,
        source: params.source.map(Into::into),
        page: page(params.from, params.to, params.limit, params.cursor)?,
    };
    if !caller.sees_filter(&core, query.asset, query.site) {
        return wanted.page(Page::<Event>::default(), COLUMNS);
    }
    let page = core.store.events(&query).await?;
    let page = page.filter_map(|event| {
        caller
            .sees_event(&core, event.asset_id, event.site_id)
            .then_some(event)
    });
    wanted.page(page, COLUMNS)
}

/// One event
#[utoipa::path(get, path = "/events/{id}", operation_id = "get_event", tag = "events",
    params(("id" = String, Path, format = "uuid", description = "The event")),
    responses(
    (status = 200, description = "The event", body = Event),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_event`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Id(id): Id<EventId>,
    _: Params<NoParams>,
) -> Result<Json<Event>, Failure> {
    seen(&core, &caller, id).await.map(Json)
}

/// Acknowledge an event
///
/// Says that an operator has taken note of it. The first acknowledgement stays: asked again, it does
/// nothing, and the answer shows whose it is.
#[utoipa::path(post, path = "/events/{id}/ack", operation_id = "acknowledge_event", tag = "events",
    params(("id" = String, Path, format = "uuid", description = "The event")),
    request_body = NewAcknowledgement,
    responses(
    (status = 200, description = "The event as it stands; the same when repeated", body = Event),
    (status = 400, description = "`invalid_body`, `invalid_request`, `invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_event`", body = Problem, content_type = "application/problem+json"),
    (status = 408, description = "`request_timeout`: the body did not arrive in time", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "`body_too_large`", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "`unsupported_media_type`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`: ask again; `draining`: nothing was done", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn acknowledge(
    State(core): State<Arc<Core>>,
    caller: Caller,
    note: Note,
    Id(id): Id<EventId>,
    _: Params<NoParams>,
    Body(new): Body<NewAcknowledgement>,
) -> Result<Json<Event>, Failure> {
    note.about("event", id);
    refuse_while_draining(&core)?;
    let length = new.note.as_ref().map_or(0, |text| text.chars().count());
    if length > MAX_NOTE {
        let text = format!("the note is longer than {MAX_NOTE} characters; shorten it");
        return Err(Problem::new(ProblemCode::InvalidRequest, text).into());
    }
    seen(&core, &caller, id).await?;
    let event = core.acknowledge(id, caller.0, new.note).await?;
    event.map(Json).ok_or_else(|| unknown(id))
}

/// The event, if the caller sees it.
async fn seen(core: &Core, caller: &Caller, id: EventId) -> Result<Event, Failure> {
    let event = core.store.event(id).await?;
    event
        .filter(|event| caller.sees_event(core, event.asset_id, event.site_id))
        .ok_or_else(|| unknown(id))
}

fn unknown(id: EventId) -> Failure {
    Problem::new(ProblemCode::UnknownEvent, format!("no event {id}")).into()
}
