//! `/agents`.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use derms_proto::{AgentStatus, AssetId, AssetName, Page, Problem, SessionRecord};
use serde::Deserialize;
use utoipa::IntoParams;

use super::caller::Caller;
use super::extract::{PageParams, Params};
use super::listing::Wanted;
use super::problem::Failure;
use crate::core::Core;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Adds configured assets that no agent serves, with `connected: false`. Default false.
    all: Option<bool>,
}

/// Agents that are connected now
#[utoipa::path(get, path = "/agents", operation_id = "list_agents", tag = "fleet", params(ListParams), responses(
    (status = 200, description = "One per session", body = Vec<AgentStatus>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Json<Vec<AgentStatus>> {
    let mut agents = core.registry.agents();
    if params.all == Some(true) {
        let served: HashSet<AssetId> = agents
            .iter()
            .flat_map(|agent| &agent.assets)
            .map(|asset| asset.id)
            .collect();
        let unserved = core
            .fleet
            .assets()
            .iter()
            .filter(|asset| !served.contains(&asset.id));
        agents.extend(unserved.map(|asset| AgentStatus {
            agent_id: None,
            instance_id: None,
            mode: None,
            connected: false,
            site_id: Some(asset.site_id),
            site_name: core.fleet.site(asset.site_id).map(|site| site.name.clone()),
            assets: vec![AssetName {
                id: asset.id,
                name: asset.name.clone(),
            }],
            peer: None,
            principal: None,
            connected_at: None,
            last_seen: core.registry.last_seen(asset.id),
            epoch: None,
            agent_version: None,
            durable: None,
        }));
    }
    let seen = agents.into_iter();
    Json(
        seen.filter_map(|agent| caller.of_agent(&core, agent))
            .collect(),
    )
}

/// Columns of sessions as CSV.
const COLUMNS: &[&str] = &[
    "agent_id",
    "instance_id",
    "epoch",
    "peer",
    "agent_version",
    "assets",
    "connected_at",
    "disconnected_at",
    "cause",
    "text",
];

/// Sessions, newest first
#[utoipa::path(get, path = "/agents/history", operation_id = "list_sessions", tag = "fleet", params(PageParams), responses(
    (status = 200, description = "A page", content((Page<SessionRecord> = "application/json"), (String = "text/csv"))),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "`store_unavailable`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn history(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Params(params): Params<PageParams>,
    wanted: Wanted,
) -> Result<Response, Failure> {
    let page = core.store.sessions(&params.into_query()?).await?;
    let page = page.filter_map(|session| caller.of_session(&core, session, &[]));
    wanted.page(page, COLUMNS)
}
