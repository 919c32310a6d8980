//! Who is simulated: agents that serve one asset each, and one site for a gateway.

use std::error::Error;

use derms_headend_sdk::proto::{Asset, AssetId, AssetKind, Fleet, Power, Site, SiteId};
use uuid::Uuid;

const ASSETS: u128 = 0x0bec_4a00_0000_4000_8000_0000_0000_0000;
const SITE: Uuid = Uuid::from_u128(0x0bec_517e_0000_4000_8000_0000_0000_0000);
const GATEWAY_SITE: Uuid = Uuid::from_u128(0x0bec_517e_0000_4000_8000_0000_0000_0001);
const GATEWAY_ASSETS: u128 = 0x0bec_6a7e_0000_4000_8000_0000_0000_0000;
/// The most assets of an agent, unless a headend allows more.
pub(crate) const GATEWAY_SIZE: u32 = 256;

/// The asset of the agent with this number, and the agent's own id.
pub(crate) fn asset_id(number: u32) -> Uuid {
    Uuid::from_u128(ASSETS | u128::from(number))
}

/// The fleet that the headend of the benchmark serves.
pub(crate) fn fleet(agents: u32) -> Result<Fleet, Box<dyn Error>> {
    let site = |id, name: &str| Site {
        id: SiteId::new(id),
        name: name.to_owned(),
        location: String::new(),
    };
    let mut assets = Vec::new();
    for number in 0..agents {
        assets.push(battery(asset_id(number), SITE, number));
    }
    for number in 0..GATEWAY_SIZE {
        assets.push(battery(gateway_asset(number), GATEWAY_SITE, number));
    }
    let sites = vec![site(SITE, "Agents"), site(GATEWAY_SITE, "Gateway")];
    Ok(Fleet::new(sites, assets)?)
}

fn battery(id: Uuid, site: Uuid, number: u32) -> Asset {
    Asset::new(
        AssetId::new(id),
        format!("BESS-{number}"),
        SiteId::new(site),
        AssetKind::Battery,
        Power::from_mw(-10.0),
        Power::from_mw(10.0),
    )
}

fn gateway_asset(number: u32) -> Uuid {
    Uuid::from_u128(GATEWAY_ASSETS | u128::from(number))
}

/// The gateway's site as a fleet file for `edge_agent`, and the site's and one asset's id.
pub(crate) fn gateway_file() -> (String, Uuid, Uuid) {
    let mut text =
        format!("sites:\n  - {{id: {GATEWAY_SITE}, name: Gateway, location: ''}}\nassets:\n");
    for number in 0..GATEWAY_SIZE {
        let id = gateway_asset(number);
        text.push_str(&format!(
            "  - {{id: {id}, name: BESS-{number}, site_id: {GATEWAY_SITE}, capacity_mwhr: 20, \
             max_mw: 10, min_mw: -10, type: battery}}\n"
        ));
    }
    (text, GATEWAY_SITE, gateway_asset(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_gateway_is_a_fleet() {
        let (text, site, asset) = gateway_file();
        let fleet = Fleet::from_yaml(&text, "gateway.yaml").unwrap();
        assert_eq!(fleet.assets_of(SiteId::new(site)).count(), 256);
        assert!(fleet.asset(AssetId::new(asset)).is_some());
    }
}
