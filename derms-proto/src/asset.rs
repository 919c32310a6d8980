//! Sites and assets, and what an asset does when nobody tells it anything.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lenient::{self, OrUnknown};
use crate::{AgentId, AssetId, Availability, ControlStatus, Power, PowerLimit, SiteId, Timestamp};

/// A place with one or more assets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Site {
    /// Stable id.
    pub id: SiteId,
    /// For people.
    pub name: String,
    /// For people, free text.
    pub location: String,
}

/// The kind of an asset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AssetKind {
    /// A battery.
    Battery,
    /// A photovoltaic plant.
    Pv,
    /// A wind turbine or park.
    Wind,
    /// A charging point for electric vehicles.
    EvCharger,
    /// A meter: measured, never controlled.
    Meter,
    /// A generating set.
    Genset,
    /// Anything else.
    #[default]
    Other,
}

/// What an asset does when the link has been lost for too long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Failsafe {
    /// What it does.
    #[serde(deserialize_with = "lenient::or_unknown")]
    pub policy: FailsafePolicy,
    /// Seconds without a word from the headend until it does so. At least 1.
    pub after_s: u64,
    /// Seconds that it lasts at least: an order that comes earlier starts only then, if it is still in
    /// time. So a link that comes and goes does not switch the device to and fro. Default 0.
    #[serde(default)]
    pub min_hold_s: u64,
}

impl Failsafe {
    /// [`after_s`](Self::after_s) as a duration.
    #[must_use]
    pub const fn after(&self) -> Duration {
        Duration::from_secs(self.after_s)
    }

    /// [`min_hold_s`](Self::min_hold_s) as a duration.
    #[must_use]
    pub const fn min_hold(&self) -> Duration {
        Duration::from_secs(self.min_hold_s)
    }
}

impl Default for Failsafe {
    /// To the default after 90 s: two missed liveness limits of 45 s.
    fn default() -> Self {
        Self {
            policy: FailsafePolicy::Default,
            after_s: 90,
            min_hold_s: 0,
        }
    }
}

/// What a failsafe does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailsafePolicy {
    /// Go to the asset's default.
    #[default]
    Default,
    /// Stay as it is.
    Hold,
    /// Go to this power, MW, + = export.
    Value(Power),
    /// Sent by a newer headend than this type knows; no word of the fleet file.
    #[serde(skip_deserializing)]
    Unknown,
}

impl OrUnknown for FailsafePolicy {
    const UNKNOWN: Self = Self::Unknown;
}

impl OrUnknown for AssetKind {
    const UNKNOWN: Self = Self::Other;
}

/// One controllable or measured resource.
///
/// In `assets.yaml` everything after `ramp_rate_mw_per_min` is optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Asset {
    /// Stable id.
    pub id: AssetId,
    /// For people.
    pub name: String,
    /// The site it belongs to.
    pub site_id: SiteId,
    /// Energy capacity, MWh; the weight in a site split. 0 for what stores nothing.
    pub capacity_mwhr: f64,
    /// Highest setpoint, MW, + = export.
    pub max_mw: Power,
    /// Lowest setpoint, MW, + = export.
    pub min_mw: Power,
    /// Round-trip efficiency, above 0 and at most 1. Default 1.
    pub efficiency: f64,
    /// Largest change of power, MW per minute, above 0. Default: no limit (`null`).
    pub ramp_rate_mw_per_min: Option<f64>,
    /// Lowest state of charge, percent. Default 0.
    pub min_soc_pct: f64,
    /// Highest state of charge, percent. Default 100.
    pub max_soc_pct: f64,
    /// The kind. Default `other`.
    #[serde(rename = "type", deserialize_with = "lenient::or_unknown")]
    pub kind: AssetKind,
    /// What it does when no setpoint is in force, MW, + = export.
    ///
    /// Default: 0 (the nearest limit where 0 is outside), and for `pv` and `wind` `max_mw`, for a
    /// plant that nobody curtails runs freely.
    pub default_mw: Power,
    /// What it does when the link has been lost for too long. Default: `default` after 90 s.
    pub failsafe: Failsafe,
    /// The agent that may serve it. Default (`null`): the agent whose id is that of the asset or
    /// of its site.
    pub agent_id: Option<AgentId>,
}

impl Asset {
    /// An asset with the stated defaults for all that is optional in `assets.yaml`.
    ///
    /// Nothing is checked here; [`Fleet::new`](crate::Fleet::new) does that.
    #[must_use]
    pub fn new(
        id: AssetId,
        name: impl Into<String>,
        site_id: SiteId,
        kind: AssetKind,
        min_mw: Power,
        max_mw: Power,
    ) -> Self {
        Self {
            id,
            name: name.into(),
            site_id,
            capacity_mwhr: 0.0,
            max_mw,
            min_mw,
            efficiency: 1.0,
            ramp_rate_mw_per_min: None,
            min_soc_pct: 0.0,
            max_soc_pct: 100.0,
            kind,
            default_mw: Self::default_power(kind, min_mw, max_mw),
            failsafe: Failsafe::default(),
            agent_id: None,
        }
    }

    /// The stated default of `default_mw`.
    #[must_use]
    pub fn default_power(kind: AssetKind, min_mw: Power, max_mw: Power) -> Power {
        match kind {
            AssetKind::Pv | AssetKind::Wind => max_mw,
            _ => Power::ZERO.clamp(min_mw, max_mw),
        }
    }

    /// Whether a setpoint of this power is inside the limits (and finite).
    #[must_use]
    pub fn allows(&self, power: Power) -> bool {
        power.is_finite() && self.min_mw <= power && power <= self.max_mw
    }

    /// Whether this agent may serve it, by the fleet's rule.
    #[must_use]
    pub fn may_be_served_by(&self, agent: AgentId) -> bool {
        match self.agent_id {
            Some(configured) => configured == agent,
            None => agent == AgentId::from(self.id) || agent == AgentId::from(self.site_id),
        }
    }
}

/// An asset with its site and its link: an item of `GET /assets`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AssetStatus {
    /// The asset as configured.
    #[serde(flatten)]
    pub asset: Asset,
    /// Name of its site.
    pub site_name: String,
    /// Location of its site.
    pub location: String,
    /// Whether a live session serves it now.
    pub connected: bool,
    /// When its agent was last heard; `null` if never since the headend started.
    pub last_seen: Option<Timestamp>,
    /// What it is doing, as its agent said last; `null` when no live session serves it.
    #[serde(default)]
    pub control: Option<ControlStatus>,
    /// Limits that hold for it, oldest first.
    #[serde(default)]
    pub limits: Vec<PowerLimit>,
    /// A stop holds for it.
    #[serde(default)]
    pub stopped: bool,
    /// Whether its device reads and takes orders, as its agent said last: within about a second of a
    /// change, by a large gateway within 10 s. `null` while no live session serves it, or has said so.
    #[serde(default)]
    pub availability: Option<Availability>,
}

/// A site with its assets: an item of `GET /sites`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SiteStatus {
    /// The site as configured.
    #[serde(flatten)]
    pub site: Site,
    /// Its assets, in the order of the fleet file.
    pub assets: Vec<AssetStatus>,
    /// Sum of the newest power of those assets whose value is fresh and not known to be wrong, MW,
    /// + = export; `null` if none has one.
    pub mw: Option<Power>,
    /// How many assets are in that sum.
    pub mw_assets: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(kind: AssetKind, min: f64, max: f64) -> Asset {
        Asset::new(
            "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
            "A",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap(),
            kind,
            Power::from_mw(min),
            Power::from_mw(max),
        )
    }

    #[test]
    fn the_default_of_a_plant_that_nobody_curtails_is_to_run_freely() {
        assert_eq!(
            asset(AssetKind::Pv, 0.0, 8.0).default_mw,
            Power::from_mw(8.0)
        );
        assert_eq!(asset(AssetKind::Battery, -5.0, 8.0).default_mw, Power::ZERO);
        assert_eq!(
            asset(AssetKind::Genset, 2.0, 8.0).default_mw,
            Power::from_mw(2.0)
        );
    }

    #[test]
    fn limits_are_inclusive_and_nan_is_outside() {
        let asset = asset(AssetKind::Battery, -5.0, 8.0);
        assert!(asset.allows(Power::from_mw(8.0)));
        assert!(asset.allows(Power::from_mw(-5.0)));
        assert!(!asset.allows(Power::from_mw(8.000_001)));
        assert!(!asset.allows(Power::from_mw(f64::NAN)));
    }

    #[test]
    fn an_asset_is_served_by_itself_its_site_or_the_configured_agent_alone() {
        let mut asset = asset(AssetKind::Battery, -5.0, 8.0);
        let stranger = AgentId::new(uuid::Uuid::from_u128(9));
        assert!(asset.may_be_served_by(asset.id.into()));
        assert!(asset.may_be_served_by(asset.site_id.into()));
        assert!(!asset.may_be_served_by(stranger));
        asset.agent_id = Some(stranger);
        assert!(asset.may_be_served_by(stranger));
        assert!(!asset.may_be_served_by(asset.id.into()));
    }

    #[test]
    fn failsafe_policies_are_written_as_in_the_fleet_file() {
        let json = serde_json::to_string(&FailsafePolicy::Value(Power::from_mw(1.5))).unwrap();
        assert_eq!(json, r#"{"value":1.5}"#);
        assert_eq!(
            serde_json::to_string(&FailsafePolicy::Hold).unwrap(),
            r#""hold""#
        );
    }
}
