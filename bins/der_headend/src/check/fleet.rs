//! The fleet file, and what in it is odd.

use std::path::Path;

use derms_headend_sdk::proto::{AssetKind, Check, Fleet};
use derms_program::Failure;

use super::{FLEET, FLEET_CONTENT};

pub(super) fn look(path: &Path, checks: &mut Vec<Check>) {
    let fleet = match Fleet::load(path) {
        Ok(fleet) => fleet,
        Err(error) => {
            let line = Failure::configuration(error.to_string()).line().to_owned();
            checks.push(Check::fail(
                FLEET,
                line,
                "correct the file, or name another with --assets",
            ));
            checks.push(Check::skip(FLEET_CONTENT, "the fleet file can't be read"));
            return;
        }
    };
    let (sites, assets) = (fleet.sites().len(), fleet.assets().len());
    let text = format!("{}: {sites} sites, {assets} assets", path.display());
    checks.push(if assets == 0 {
        Check::warn(FLEET, text, "add assets: no agent may serve anything")
    } else {
        Check::ok(FLEET, text)
    });
    let odd = oddities(&fleet);
    if odd.is_empty() {
        checks.push(Check::ok(FLEET_CONTENT, "nothing odd"));
    }
    checks.extend(odd);
}

fn oddities(fleet: &Fleet) -> Vec<Check> {
    let empty = fleet
        .sites()
        .iter()
        .filter(|site| fleet.assets_of(site.id).next().is_none());
    let mut odd: Vec<Check> = empty
        .map(|site| {
            let text = format!("site `{}` has no assets", site.name);
            Check::warn(FLEET_CONTENT, text, "add its assets, or leave the site out")
        })
        .collect();
    for asset in fleet.assets() {
        let name = &asset.name;
        if asset.kind == AssetKind::Battery && asset.capacity_mwhr <= 0.0 {
            odd.push(Check::warn(
                FLEET_CONTENT,
                format!(
                    "battery `{name}` has no capacity: a site order gives it no share by capacity"
                ),
                "give its capacity_mwhr",
            ));
        }
        if asset.kind != AssetKind::Meter && asset.min_mw == asset.max_mw {
            odd.push(Check::warn(
                FLEET_CONTENT,
                format!("asset `{name}` can only do {} MW", asset.max_mw.mw()),
                "give its min_mw and max_mw",
            ));
        }
    }
    odd
}
