//! `/assets`, `/sites`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use derms_proto::{Asset, AssetId, AssetStatus, Power, Problem, ProblemCode, Quality, SiteStatus};

use super::extract::{Id, NoParams, Params};
use super::problem::Failure;
use crate::core::Core;

/// All configured assets
#[utoipa::path(get, path = "/assets", operation_id = "list_assets", tag = "fleet", responses(
    (status = 200, description = "One per configured asset", body = Vec<AssetStatus>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(core): State<Arc<Core>>,
    _: Params<NoParams>,
) -> Json<Vec<AssetStatus>> {
    Json(
        core.fleet
            .assets()
            .iter()
            .map(|asset| status(&core, asset))
            .collect(),
    )
}

/// One asset
#[utoipa::path(get, path = "/assets/{id}", operation_id = "get_asset", tag = "fleet",
    params(("id" = String, Path, format = "uuid", description = "The asset")),
    responses(
    (status = 200, description = "The asset", body = AssetStatus),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "`unknown_asset`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(core): State<Arc<Core>>,
    Id(id): Id<AssetId>,
    _: Params<NoParams>,
) -> Result<Json<AssetStatus>, Failure> {
    let asset = find(&core, id)?;
    Ok(Json(status(&core, asset)))
}

/// All sites with their assets and summed power
#[utoipa::path(get, path = "/sites", operation_id = "list_sites", tag = "fleet", responses(
    (status = 200, description = "One per configured site", body = Vec<SiteStatus>),
    (status = 400, description = "`invalid_parameter`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn sites(
    State(core): State<Arc<Core>>,
    _: Params<NoParams>,
) -> Json<Vec<SiteStatus>> {
    let now = core.clock.now();
    let site = |site: &derms_proto::Site| {
        let assets: Vec<&Asset> = core.fleet.assets_of(site.id).collect();
        let fresh: Vec<Power> = assets
            .iter()
            .filter_map(|asset| super::telemetry::snapshot(&core, asset.id, now))
            .filter(|snapshot| !snapshot.stale)
            .filter(|snapshot| snapshot.telemetry.measurements.quality != Quality::Bad)
            .filter_map(|snapshot| snapshot.telemetry.measurements.mw)
            .collect();
        SiteStatus {
            site: site.clone(),
            assets: assets.iter().map(|asset| status(&core, asset)).collect(),
            mw: (!fresh.is_empty()).then(|| fresh.iter().copied().sum()),
            mw_assets: fresh.len(),
        }
    };
    Json(core.fleet.sites().iter().map(site).collect())
}

/// The asset, or the problem that there is none.
pub(super) fn find(core: &Core, id: AssetId) -> Result<&Asset, Failure> {
    core.fleet.asset(id).ok_or_else(|| {
        let text = format!("no asset {id} in the fleet; see GET /assets");
        Problem::new(ProblemCode::UnknownAsset, text).into()
    })
}

fn status(core: &Core, asset: &Asset) -> AssetStatus {
    let site = core.fleet.site(asset.site_id);
    let (limits, stopped) = core.limits.of(asset.id);
    let session = core.registry.serving(asset.id);
    let availability = session
        .as_ref()
        .and_then(|session| session.availability(&core.heartbeats.read(), asset.id));
    AssetStatus {
        asset: asset.clone(),
        site_name: site.map(|site| site.name.clone()).unwrap_or_default(),
        location: site.map(|site| site.location.clone()).unwrap_or_default(),
        connected: session.is_some(),
        last_seen: core.registry.last_seen(asset.id),
        control: core.limits.control(asset.id),
        limits,
        stopped,
        availability,
    }
}
