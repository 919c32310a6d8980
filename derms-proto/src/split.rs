//! The site split: one order over many assets.

use serde::{Deserialize, Serialize};

use crate::{Asset, AssetId, Power};

/// The version of the algorithm, told in [`SplitSummary::version`](crate::SplitSummary): the same
/// version, policy and members give the same shares.
pub const SPLIT_VERSION: u32 = 1;

/// By what an order for a site is shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SplitPolicy {
    /// In proportion to the energy capacity; equal shares when none has one.
    #[default]
    Capacity,
    /// In proportion to the room between the present power and the limit in the direction of the
    /// order; as `capacity` when nobody has room.
    Headroom,
    /// In proportion to the energy that is there to discharge, or that there is room to charge. An
    /// asset without a fresh state of charge takes what `capacity` would give it; one that is known
    /// to be empty (to charge: full) takes nothing.
    Soc,
    /// Equal shares.
    Equal,
    /// Sent by a newer peer than this type knows; refused in an order.
    #[serde(other)]
    Unknown,
}

/// An asset that takes part in a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The asset.
    pub asset_id: AssetId,
    /// Energy capacity, MWh; at least 0.
    pub capacity_mwhr: f64,
    /// Lowest share, MW.
    pub min_mw: Power,
    /// Highest share, MW.
    pub max_mw: Power,
    /// Where it stands now, MW, + = export.
    pub present_mw: Power,
    /// Its state of charge, percent; `None`: not known, or too old.
    pub soc_pct: Option<f64>,
    /// Lowest state of charge, percent.
    pub min_soc_pct: f64,
    /// Highest state of charge, percent.
    pub max_soc_pct: f64,
}

impl Member {
    /// An asset of which nothing was measured: at its default, its state of charge not known.
    #[must_use]
    pub fn new(asset: &Asset) -> Self {
        Self {
            asset_id: asset.id,
            capacity_mwhr: asset.capacity_mwhr,
            min_mw: asset.min_mw,
            max_mw: asset.max_mw,
            present_mw: asset.default_mw,
            soc_pct: None,
            min_soc_pct: asset.min_soc_pct,
            max_soc_pct: asset.max_soc_pct,
        }
    }

    /// What it has to discharge (`order` above 0) or room to charge, MWh; `None`: not known.
    fn energy(&self, order: f64) -> Option<f64> {
        let soc = self.soc_pct.filter(|soc| soc.is_finite())?;
        let percent = if order > 0.0 {
            soc - self.min_soc_pct
        } else {
            self.max_soc_pct - soc
        };
        let known = self.capacity_mwhr > 0.0;
        known.then(|| percent.max(0.0) * self.capacity_mwhr / 100.0)
    }

    fn room(&self, order: f64) -> f64 {
        let limit = if order > 0.0 {
            self.max_mw - self.present_mw
        } else {
            self.present_mw - self.min_mw
        };
        limit.mw().max(0.0)
    }

    fn clamp(&self, mw: f64) -> f64 {
        Power::from_mw(mw).clamp(self.min_mw, self.max_mw).mw()
    }
}

/// The result of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The share of each member, in id order.
    pub shares: Vec<(AssetId, Power)>,
    /// What no member had room for; zero if everything was placed within 1e-9 MW.
    pub residual: Power,
}

/// Remainders below this are rounding, not residual (MW).
const EPSILON_MW: f64 = 1e-9;

/// Splits `order` over `members`, which are those assets of the site that take part.
///
/// Shares are as the policy says, each clamped to its limits; what is left goes to those with
/// headroom in its direction, in proportion to that headroom, until nothing or no headroom is left.
/// The result does not depend on the order of `members`, and the shares plus the residual equal the
/// order within 1e-9 MW.
#[must_use]
pub fn split(order: Power, policy: SplitPolicy, members: &[Member]) -> Split {
    let order = order.mw();
    let mut members: Vec<Member> = members.to_vec();
    members.sort_by_key(|member| member.asset_id);
    let wanted = match policy {
        SplitPolicy::Capacity | SplitPolicy::Unknown => by_capacity(order, &members),
        SplitPolicy::Headroom => by_headroom(order, &members),
        SplitPolicy::Soc => by_energy(order, &members),
        SplitPolicy::Equal => by_weight(order, &vec![1.0; members.len()]),
    };
    if policy == SplitPolicy::Soc {
        for member in &mut members {
            spare_the_empty(member, order);
        }
    }
    fill(order, &members, wanted)
}

fn by_weight(order: f64, weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    // Multiplied first: 12 MW over 120 of 200 MWh are 7.2 and not 7.199999999999999.
    weights
        .iter()
        .map(|weight| order * weight / total)
        .collect()
}

fn by_capacity(order: f64, members: &[Member]) -> Vec<f64> {
    let mut weights: Vec<f64> = members.iter().map(|m| m.capacity_mwhr).collect();
    if weights.iter().sum::<f64>() <= 0.0 {
        weights.fill(1.0);
    }
    by_weight(order, &weights)
}

fn by_headroom(order: f64, members: &[Member]) -> Vec<f64> {
    let rooms: Vec<f64> = members.iter().map(|member| member.room(order)).collect();
    if rooms.iter().sum::<f64>() <= EPSILON_MW {
        return by_capacity(order, members);
    }
    by_weight(order, &rooms)
}

fn by_energy(order: f64, members: &[Member]) -> Vec<f64> {
    let mut wanted = by_capacity(order, members);
    let energies: Vec<_> = members.iter().map(|member| member.energy(order)).collect();
    let total: f64 = energies.iter().flatten().sum();
    let known = wanted.iter().zip(&energies);
    let rest: f64 = known
        .filter_map(|(share, energy)| energy.map(|_| share))
        .sum();
    for (share, energy) in wanted.iter_mut().zip(energies) {
        if let Some(energy) = energy {
            *share = if total > 0.0 {
                rest * energy / total
            } else {
                0.0
            };
        }
    }
    wanted
}

/// Nothing that is left over goes to what has no energy, or no room for any.
fn spare_the_empty(member: &mut Member, order: f64) {
    if member.energy(order) != Some(0.0) {
        return;
    }
    let idle = Power::from_mw(member.clamp(0.0));
    if order > 0.0 {
        member.max_mw = idle;
    } else {
        member.min_mw = idle;
    }
}

/// Clamps what each is wanted to take, and gives what is left to those with headroom.
fn fill(order: f64, members: &[Member], wanted: Vec<f64>) -> Split {
    let clamped = members.iter().zip(wanted);
    let mut shares: Vec<f64> = clamped.map(|(member, mw)| member.clamp(mw)).collect();
    let mut left = order - shares.iter().sum::<f64>();
    // Proportional filling takes all that fits in one round; further rounds only mend rounding.
    for _ in 0..=members.len() {
        if left.abs() <= EPSILON_MW {
            break;
        }
        let headroom: Vec<f64> = members
            .iter()
            .zip(&shares)
            .map(|(member, share)| {
                let limit = if left > 0.0 {
                    member.max_mw
                } else {
                    member.min_mw
                };
                ((limit.mw() - share) * left.signum()).max(0.0)
            })
            .collect();
        let total: f64 = headroom.iter().sum();
        if total <= EPSILON_MW {
            break;
        }
        let part = (left.abs() / total).min(1.0);
        for ((share, room), member) in shares.iter_mut().zip(&headroom).zip(members) {
            *share = member.clamp(*share + room * part * left.signum());
        }
        left = order - shares.iter().sum::<f64>();
    }

    Split {
        residual: Power::from_mw(if left.abs() <= EPSILON_MW { 0.0 } else { left }),
        shares: members
            .iter()
            .zip(shares)
            .map(|(member, share)| (member.asset_id, Power::from_mw(share)))
            .collect(),
    }
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
