use proptest::prelude::*;
use uuid::Uuid;

use super::SplitPolicy::{self, Capacity as CAPACITY, Equal, Headroom, Soc};
use super::*;

fn member(id: u128, capacity: f64, min: f64, max: f64) -> Member {
    Member {
        asset_id: AssetId::new(Uuid::from_u128(id)),
        capacity_mwhr: capacity,
        min_mw: Power::from_mw(min),
        max_mw: Power::from_mw(max),
        present_mw: Power::ZERO,
        soc_pct: None,
        min_soc_pct: 10.0,
        max_soc_pct: 90.0,
    }
}

fn charged(id: u128, capacity: f64, soc: f64) -> Member {
    Member {
        soc_pct: Some(soc),
        ..member(id, capacity, -60.0, 60.0)
    }
}

fn at(id: u128, mw: f64, min: f64, max: f64) -> Member {
    Member {
        present_mw: Power::from_mw(mw),
        ..member(id, 100.0, min, max)
    }
}

/// Shares of 12 MW and the like, and what is left.
fn shared(mw: f64, policy: SplitPolicy, members: &[Member]) -> (Vec<f64>, f64) {
    let split = split(Power::from_mw(mw), policy, members);
    (shares(&split), split.residual.mw())
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
    let split = split(Power::from_mw(12.0), CAPACITY, &members);
    assert_eq!(shares(&split), [7.2, 2.4, 2.4]);
    assert_eq!(split.residual, Power::ZERO);
}

#[test]
fn what_a_clamped_member_cannot_take_goes_to_the_others_headroom() {
    let members = [member(1, 100.0, 0.0, 2.0), member(2, 100.0, 0.0, 10.0)];
    let split = split(Power::from_mw(8.0), CAPACITY, &members);
    assert_eq!(shares(&split), [2.0, 6.0]);
    assert_eq!(split.residual, Power::ZERO);
}

#[test]
fn members_without_capacity_share_equally() {
    let members = [member(1, 0.0, 0.0, 5.0), member(2, 0.0, 0.0, 5.0)];
    assert_eq!(
        shares(&split(Power::from_mw(4.0), CAPACITY, &members)),
        [2.0, 2.0]
    );
}

#[test]
fn what_nobody_has_room_for_is_the_residual() {
    let members = [member(1, 1.0, -3.0, 3.0), member(2, 1.0, -3.0, 3.0)];
    let split = split(Power::from_mw(-10.0), CAPACITY, &members);
    assert_eq!(shares(&split), [-3.0, -3.0]);
    assert!((split.residual.mw() + 4.0).abs() < 1e-9);
}

#[test]
fn a_split_over_nobody_is_all_residual() {
    let split = split(Power::from_mw(3.0), CAPACITY, &[]);
    assert!(split.shares.is_empty());
    assert_eq!(split.residual, Power::from_mw(3.0));
}

#[test]
fn equal_shares_are_equal_whatever_the_capacity() {
    let members = [
        member(1, 120.0, -60.0, 60.0),
        member(2, 40.0, -20.0, 20.0),
        member(3, 0.0, -2.0, 2.0),
    ];
    assert_eq!(shared(6.0, Equal, &members), (vec![2.0, 2.0, 2.0], 0.0));
    let (shares, left) = shared(-18.0, Equal, &members);
    assert_eq!((shares[2], left), (-2.0, 0.0), "{shares:?}");
}

#[test]
fn headroom_counts_from_where_an_asset_stands_to_its_limit_in_the_direction_of_the_order() {
    let members = [at(1, 10.0, -20.0, 20.0), at(2, -10.0, -20.0, 20.0)];
    assert_eq!(shared(8.0, Headroom, &members), (vec![2.0, 6.0], 0.0));
    assert_eq!(shared(-8.0, Headroom, &members), (vec![-6.0, -2.0], 0.0));
    // Beyond its limit it has no room, which is not less than none.
    let over = [at(1, 25.0, -20.0, 20.0), at(2, 0.0, -20.0, 20.0)];
    assert_eq!(shared(8.0, Headroom, &over), (vec![0.0, 8.0], 0.0));
    let nobody = [at(1, 20.0, -20.0, 20.0), at(2, 20.0, -20.0, 20.0)];
    assert_eq!(shared(8.0, Headroom, &nobody), (vec![4.0, 4.0], 0.0));
}

#[test]
fn energy_counts_above_the_lowest_state_of_charge_to_discharge_and_below_the_highest_to_charge() {
    // 60 and 20 MWh to discharge, 20 and 60 MWh to charge.
    let members = [charged(1, 100.0, 70.0), charged(2, 100.0, 30.0)];
    assert_eq!(shared(8.0, Soc, &members), (vec![6.0, 2.0], 0.0));
    assert_eq!(shared(-8.0, Soc, &members), (vec![-2.0, -6.0], 0.0));
    let larger = [charged(1, 100.0, 30.0), charged(2, 300.0, 30.0)];
    assert_eq!(shared(8.0, Soc, &larger), (vec![2.0, 6.0], 0.0));
}

#[test]
fn what_is_empty_takes_nothing_though_others_are_at_their_limit() {
    let mut full = charged(2, 100.0, 95.0);
    full.max_mw = Power::from_mw(5.0);
    let members = [charged(1, 100.0, 10.0), full];
    assert_eq!(shared(8.0, Soc, &members), (vec![0.0, 5.0], 3.0));
    assert_eq!(shared(-8.0, Soc, &members), (vec![-8.0, 0.0], 0.0));
    let empty = [charged(1, 100.0, 10.0), charged(2, 100.0, 4.0)];
    assert_eq!(shared(8.0, Soc, &empty), (vec![0.0, 0.0], 8.0));
}

#[test]
fn without_a_state_of_charge_an_asset_takes_what_capacity_would_give_it() {
    let unknown = member(3, 200.0, -60.0, 60.0);
    let members = [charged(1, 100.0, 70.0), charged(2, 100.0, 30.0), unknown];
    assert_eq!(shared(16.0, Soc, &members), (vec![6.0, 2.0, 8.0], 0.0));
    assert_eq!(shared(16.0, Soc, &[unknown]), (vec![16.0], 0.0));
    // A share of nothing is not known either: it stores nothing that could be counted.
    let none = Member {
        capacity_mwhr: 0.0,
        ..charged(4, 0.0, 50.0)
    };
    let not_a_number = charged(5, 100.0, f64::NAN);
    assert_eq!(shared(4.0, Soc, &[none]), (vec![4.0], 0.0));
    assert_eq!(shared(4.0, Soc, &[not_a_number]), (vec![4.0], 0.0));
}

#[test]
fn nothing_is_nothing_by_every_policy() {
    let members = [charged(1, 100.0, 70.0), at(2, 20.0, -20.0, 20.0)];
    for policy in [CAPACITY, Headroom, Soc, Equal] {
        assert_eq!(shared(0.0, policy, &members), (vec![0.0, 0.0], 0.0));
    }
}

#[test]
fn a_policy_of_a_newer_peer_is_read_as_unknown() {
    let read: Vec<SplitPolicy> = serde_json::from_str(r#"["soc","by_the_moon"]"#).unwrap();
    assert_eq!(read, [Soc, SplitPolicy::Unknown]);
}

fn policy() -> impl Strategy<Value = SplitPolicy> {
    prop::sample::select(vec![CAPACITY, Headroom, Soc, Equal])
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let limits = (-50.0..50.0_f64, 0.0..80.0_f64);
    let measured = (-60.0..60.0_f64, prop::option::of(0.0..100.0_f64));
    prop::collection::vec((0.0..200.0_f64, limits, measured), 1..12).prop_map(|parts| {
        let parts = parts.into_iter().enumerate();
        let members = parts.map(|(i, (capacity, (min, width), (mw, soc)))| Member {
            present_mw: Power::from_mw(mw),
            soc_pct: soc,
            ..member(i as u128, capacity, min, min + width)
        });
        members.collect()
    })
}

proptest! {
    #[test]
    fn shares_and_residual_add_up_to_the_order(
        members in members(), order in -500.0..500.0_f64, policy in policy(),
    ) {
        let split = split(Power::from_mw(order), policy, &members);
        let sum: f64 = shares(&split).iter().sum::<f64>() + split.residual.mw();
        prop_assert!((sum - order).abs() <= 2e-9, "{sum} is not {order}");
    }

    #[test]
    fn no_share_is_outside_its_limits(members in members(), order in -500.0..500.0_f64, policy in policy()) {
        let split = split(Power::from_mw(order), policy, &members);
        for (member, (id, share)) in members.iter().zip(&split.shares) {
            prop_assert_eq!(member.asset_id, *id);
            prop_assert!(member.min_mw <= *share && *share <= member.max_mw);
        }
    }

    #[test]
    fn a_residual_means_that_every_member_is_at_its_limit_or_empty(
        members in members(), order in -500.0..500.0_f64, policy in policy(),
    ) {
        let split = split(Power::from_mw(order), policy, &members);
        let residual = split.residual.mw();
        for (member, (_, share)) in members.iter().zip(&split.shares) {
            if policy == Soc && member.energy(order) == Some(0.0) {
                continue;
            }
            if residual > 0.0 {
                prop_assert!((member.max_mw - *share).mw() < 1e-6);
            } else if residual < 0.0 {
                prop_assert!((*share - member.min_mw).mw() < 1e-6);
            }
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(
        members in members(), order in -500.0..500.0_f64, policy in policy(), turn in 0_usize..12,
    ) {
        let mut turned = members.clone();
        let by = turn % turned.len();
        turned.rotate_left(by);
        turned.reverse();
        prop_assert_eq!(
            split(Power::from_mw(order), policy, &members),
            split(Power::from_mw(order), policy, &turned)
        );
    }
}
