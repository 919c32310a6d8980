//! The site split: one order over many assets.

use crate::{AssetId, Power};

/// An asset that takes part in a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// The asset.
    pub asset_id: AssetId,
    /// Its weight.
    pub capacity_mwhr: f64,
    /// Lowest share, MW.
    pub min_mw: Power,
    /// Highest share, MW.
    pub max_mw: Power,
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

/// Splits `order` over `members`, which are those assets of the site that are online.
///
/// Shares are in proportion to capacity (all zero: equal shares), each clamped to its limits;
/// what is left goes to those with headroom in its direction, in proportion to that headroom,
/// until nothing or no headroom is left. The result does not depend on the order of `members`,
/// and the shares plus the residual equal the order within 1e-9 MW.
#[must_use]
pub fn split(order: Power, members: &[Member]) -> Split {
    let mut members: Vec<Member> = members.to_vec();
    members.sort_by_key(|member| member.asset_id);
    let capacity: f64 = members.iter().map(|m| m.capacity_mwhr).sum();
    let mut shares: Vec<f64> = members
        .iter()
        .map(|member| {
            // Multiplied first: 12 MW over 120 of 200 MWh are 7.2 and not 7.199999999999999.
            clamp(
                member,
                if capacity > 0.0 {
                    order.mw() * member.capacity_mwhr / capacity
                } else {
                    order.mw() / members.len() as f64
                },
            )
        })
        .collect();

    let mut left = order.mw() - shares.iter().sum::<f64>();
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
        for ((share, room), member) in shares.iter_mut().zip(&headroom).zip(&members) {
            *share = clamp(member, *share + room * part * left.signum());
        }
        left = order.mw() - shares.iter().sum::<f64>();
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

fn clamp(member: &Member, mw: f64) -> f64 {
    Power::from_mw(mw).clamp(member.min_mw, member.max_mw).mw()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn member(id: u128, capacity: f64, min: f64, max: f64) -> Member {
        Member {
            asset_id: AssetId::new(Uuid::from_u128(id)),
            capacity_mwhr: capacity,
            min_mw: Power::from_mw(min),
            max_mw: Power::from_mw(max),
        }
    }

    fn shares(split: &Split) -> Vec<f64> {
        split.shares.iter().map(|(_, power)| power.mw()).collect()
    }

    #[test]
    fn twelve_megawatts_over_120_40_40_are_7_2_2_4_2_4() {
        let members = [
            member(1, 120.0, -60.0, 60.0),
            member(2, 40.0, -20.0, 20.0),
            member(3, 40.0, -20.0, 20.0),
        ];
        let split = split(Power::from_mw(12.0), &members);
        assert_eq!(shares(&split), [7.2, 2.4, 2.4]);
        assert_eq!(split.residual, Power::ZERO);
    }

    #[test]
    fn what_a_clamped_member_cannot_take_goes_to_the_others_headroom() {
        let members = [member(1, 100.0, 0.0, 2.0), member(2, 100.0, 0.0, 10.0)];
        let split = split(Power::from_mw(8.0), &members);
        assert_eq!(shares(&split), [2.0, 6.0]);
        assert_eq!(split.residual, Power::ZERO);
    }

    #[test]
    fn members_without_capacity_share_equally() {
        let members = [member(1, 0.0, 0.0, 5.0), member(2, 0.0, 0.0, 5.0)];
        assert_eq!(shares(&split(Power::from_mw(4.0), &members)), [2.0, 2.0]);
    }

    #[test]
    fn what_nobody_has_room_for_is_the_residual() {
        let members = [member(1, 1.0, -3.0, 3.0), member(2, 1.0, -3.0, 3.0)];
        let split = split(Power::from_mw(-10.0), &members);
        assert_eq!(shares(&split), [-3.0, -3.0]);
        assert!((split.residual.mw() + 4.0).abs() < 1e-9);
    }

    #[test]
    fn a_split_over_nobody_is_all_residual() {
        let split = split(Power::from_mw(3.0), &[]);
        assert!(split.shares.is_empty());
        assert_eq!(split.residual, Power::from_mw(3.0));
    }

    fn members() -> impl Strategy<Value = Vec<Member>> {
        prop::collection::vec((0.0..200.0_f64, -50.0..50.0_f64, 0.0..80.0_f64), 1..12).prop_map(
            |parts| {
                parts
                    .into_iter()
                    .enumerate()
                    .map(|(i, (capacity, min, width))| {
                        member(i as u128, capacity, min, min + width)
                    })
                    .collect()
            },
        )
    }

    proptest! {
        #[test]
        fn shares_and_residual_add_up_to_the_order(
            members in members(), order in -500.0..500.0_f64,
        ) {
            let split = split(Power::from_mw(order), &members);
            let sum: f64 = shares(&split).iter().sum::<f64>() + split.residual.mw();
            prop_assert!((sum - order).abs() <= 2e-9, "{sum} is not {order}");
        }

        #[test]
        fn no_share_is_outside_its_limits(members in members(), order in -500.0..500.0_f64) {
            let split = split(Power::from_mw(order), &members);
            for (member, (id, share)) in members.iter().zip(&split.shares) {
                prop_assert_eq!(member.asset_id, *id);
                prop_assert!(member.min_mw <= *share && *share <= member.max_mw);
            }
        }

        #[test]
        fn a_residual_means_that_every_member_is_at_its_limit(
            members in members(), order in -500.0..500.0_f64,
        ) {
            let split = split(Power::from_mw(order), &members);
            let residual = split.residual.mw();
            for (member, (_, share)) in members.iter().zip(&split.shares) {
                if residual > 0.0 {
                    prop_assert!((member.max_mw - *share).mw() < 1e-6);
                } else if residual < 0.0 {
                    prop_assert!((*share - member.min_mw).mw() < 1e-6);
                }
            }
        }

        #[test]
        fn the_order_of_the_members_does_not_matter(
            members in members(), order in -500.0..500.0_f64, turn in 0_usize..12,
        ) {
            let mut turned = members.clone();
            let by = turn % turned.len();
            turned.rotate_left(by);
            turned.reverse();
            prop_assert_eq!(
                split(Power::from_mw(order), &members),
                split(Power::from_mw(order), &turned)
            );
        }
    }
}
