//! `/audit`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use derms_proto::{AuditRecord, Cursor, Page, Problem, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::extract::{Params, page};
use super::listing::Wanted;
use super::problem::Failure;
use crate::core::Core;
use crate::store::AuditQuery;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditParams {
    /// Of this principal.
    principal: Option<String>,
    /// Of this action.
    action: Option<String>,
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

/// Columns as CSV.
const COLUMNS: &[&str] = &[
    "id",
    "at",
    "principal",
    "peer",
    "action",
    "target",
    "status",
    "code",
    "detail",
];

/// Who did what, newest first
///
/// Every call that changes something, done or refused, every refused login and every refused claim
/// of an agent. A record appears when the store has it, usually at once.
#[utoipa::path(get, path = "/audit", operation_id = "list_audit", tag = "service", params(AuditParams), responses(
    (status = 200, description = "A page", content((Page<AuditRecord> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "`forbidden`: not an admin of all sites", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    Params(params): Params<AuditParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    let query = AuditQuery {
        principal: params.principal,
        action: params.action,
        page: page(params.from, params.to, params.limit, params.cursor)?,
    };
    wanted.page(core.store.audit(&query).await?, COLUMNS)
}
