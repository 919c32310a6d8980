use derms_proto::{AssetKind, Failsafe, SiteId, SplitPolicy};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::conformance::kit::{at, site_order};
use crate::store::summarise;

/// A site order over batteries of 120, 40 and 40 MWh at ±60, ±20 and ±20 MW, as it is known, and what
/// its devices really do.
struct World {
    order: Dispatch,
    assets: Vec<Asset>,
    now: u64,
    states: Vec<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    /// The share that the device is doing.
    doing: Option<DispatchId>,
    out: Option<(Out, u64)>,
    /// Since when it has had no session at all.
    gone: u64,
    /// When the lease of what the device is doing is over.
    until: Option<u64>,
    /// The shares whose release it was given.
    released: Vec<DispatchId>,
    control: Option<(Timestamp, Option<DispatchId>)>,
    measured: Option<(Timestamp, Power)>,
    ordered_otherwise: bool,
}

const BEGIN: u64 = 100;

fn id(n: usize) -> AssetId {
    AssetId::new(Uuid::from_u128(n as u128))
}

impl World {
    fn new(mw: f64, lease: Option<f64>) -> Self {
        let site = SiteId::new(Uuid::from_u128(1));
        let sizes = [(60.0, 120.0), (20.0, 40.0), (20.0, 40.0)];
        let assets: Vec<Asset> = sizes
            .into_iter()
            .enumerate()
            .map(|(n, (mw, capacity))| {
                let (min, max) = (Power::from_mw(-mw), Power::from_mw(mw));
                let kind = AssetKind::Battery;
                let mut asset = Asset::new(id(n), n.to_string(), site, kind, min, max);
                asset.capacity_mwhr = capacity;
                asset
            })
            .collect();
        let members: Vec<Member> = assets.iter().map(Member::new).collect();
        let first = split(Power::from_mw(mw), SplitPolicy::Capacity, &members);
        let mut order = site_order(site, &[id(0), id(1), id(2)], BEGIN).dispatch;
        (order.mw, order.duration_s) = (Power::from_mw(mw), lease);
        let mut summary = SplitSummary::new(SplitPolicy::Capacity, first.residual, Vec::new());
        summary.rebalance = true;
        order.split = Some(summary);
        for (share, (_, mw)) in order.children.iter_mut().zip(first.shares) {
            (share.mw, share.duration_s) = (mw, lease);
            (share.status, share.revision) = (DispatchStatus::Active, Some(1));
        }
        let doing = order.children.iter().map(|share| State {
            doing: Some(share.id),
            until: lease.map(|lease| BEGIN + lease as u64),
            ..State::default()
        });
        Self {
            states: doing.collect(),
            now: BEGIN + 10,
            order,
            assets,
        }
    }

    fn now(&self) -> Timestamp {
        at(self.now)
    }

    fn look(&self) -> Decision {
        let seats = self.assets.iter().zip(&self.states).map(|(asset, state)| {
            let seat = Seat {
                asset,
                member: Member::new(asset),
                free: !state.ordered_otherwise,
                out: state.out.map(|(out, since)| {
                    let since = match out {
                        Out::Lost => since.max(state.gone),
                        Out::Unavailable => since,
                    };
                    (out, Duration::from_secs(self.now - since))
                }),
                control: state
                    .control
                    .filter(|_| !matches!(state.out, Some((Out::Lost, _)))),
                measured: state.measured,
                released: state.released.clone(),
            };
            (asset.id, seat)
        });
        decide(&self.order, &seats.collect(), self.now(), None)
    }

    fn act(&mut self) -> Decision {
        let decision = self.act_unheard();
        for n in 0..self.states.len() {
            self.gives_releases(n);
        }
        decision
    }

    /// What was asked to end is released at who can be reached.
    fn gives_releases(&mut self, n: usize) {
        if self.reachable(n) {
            let own = self
                .order
                .children
                .iter()
                .filter(|s| s.asset_id == Some(id(n)));
            let asked = own.filter(|share| share.cancel_requested_at.is_some());
            self.states[n].released = asked.map(|share| share.id).collect();
        }
    }

    /// What was decided is done, as the dispatcher does it, but the answers of the store are lost: no
    /// release goes out.
    fn act_unheard(&mut self) -> Decision {
        let decision = self.look();
        let now = self.now();
        match &decision {
            Decision::Withdraw(shares) => {
                for share in &mut self.order.children {
                    if shares.contains(&share.id) {
                        share.cancel_requested_at = Some(now);
                        share.cancelled_by = Some(REBALANCE.to_owned());
                    }
                }
            }
            Decision::Share(plan) => {
                let mut split = plan.split.clone();
                let mut new = Vec::new();
                for (asset, mw) in &plan.shares {
                    let own = self
                        .order
                        .children
                        .iter()
                        .filter(|s| s.asset_id == Some(*asset));
                    let revision = own.filter_map(|share| share.revision).max();
                    let share = Dispatch {
                        id: DispatchId::generate(),
                        asset_id: Some(*asset),
                        mw: *mw,
                        revision: revision.map(|revision| revision + 1),
                        status: DispatchStatus::Sent,
                        created_at: now,
                        duration_s: plan.remaining.map(|left| left.as_secs_f64()),
                        ..self.order.children[0].clone()
                    };
                    new.push(Dispatch {
                        cancel_requested_at: None,
                        cancelled_by: None,
                        reason: None,
                        replaced: false,
                        transitions: Vec::new(),
                        ..share
                    });
                }
                if !new.is_empty() {
                    split.resplits.last_mut().unwrap().shares = new.iter().map(|s| s.id).collect();
                }
                for share in &mut self.order.children {
                    share.replaced = plan.replaced.contains(&share.id);
                }
                self.order.split = Some(split);
                self.order.children.extend(new);
            }
            Decision::Over | Decision::Wait => {}
        }
        decision
    }

    /// The newest share of an asset in one of these statuses.
    fn newest(&mut self, n: usize, of: &[DispatchStatus]) -> Option<&mut Dispatch> {
        let shares = self.order.children.iter_mut();
        let shares = shares.filter(|share| share.asset_id == Some(id(n)));
        shares
            .filter(|share| of.contains(&share.status))
            .max_by_key(|share| share.revision)
    }

    fn moves(
        &mut self,
        n: usize,
        from: &[DispatchStatus],
        to: DispatchStatus,
    ) -> Option<DispatchId> {
        let at = self.now();
        let share = self.newest(n, from)?;
        share.status = to;
        share.transitions.push(derms_proto::Transition {
            status: to,
            at,
            reported_at: None,
            reason: None,
            text: None,
            applied_mw: None,
            epoch: None,
        });
        Some(share.id)
    }

    fn reachable(&self, n: usize) -> bool {
        !matches!(self.states[n].out, Some((Out::Lost, _)))
    }

    fn fail(&mut self, n: usize) {
        self.moves(n, &[DispatchStatus::Active], DispatchStatus::Failed);
    }

    /// The device has accepted its default.
    fn settles(&mut self, n: usize) {
        self.states[n].doing = None;
        self.states[n].control = Some((at(self.now + 1), None));
        self.now += 2;
    }

    /// A new share starts if it is in time; what it takes the place of ends. Of a lost asset nobody
    /// hears of it.
    fn starts(&mut self, n: usize) {
        let (now, now_s) = (self.now(), self.now);
        let reachable = self.reachable(n);
        let Some(share) = self.newest(n, &[DispatchStatus::Sent]) else {
            return;
        };
        let (id, lease) = (share.id, share.duration_s);
        let released = self.states[n].released.contains(&id);
        let Some(share) = self
            .newest(n, &[DispatchStatus::Sent])
            .filter(|_| !released)
        else {
            return;
        };
        if !in_time(share, now) {
            if reachable {
                self.moves(n, &[DispatchStatus::Sent], DispatchStatus::Expired);
            }
            return;
        }
        self.states[n].doing = Some(id);
        self.states[n].until = lease.map(|lease| now_s + lease as u64);
        if reachable {
            self.tells(n);
        }
    }

    /// Its agent tells what has started.
    fn tells(&mut self, n: usize) {
        let doing = self.states[n].doing;
        let newest = self.newest(n, &[DispatchStatus::Sent]);
        if newest.is_some_and(|share| Some(share.id) == doing) {
            self.moves(n, &[DispatchStatus::Active], DispatchStatus::Superseded);
            self.moves(n, &[DispatchStatus::Sent], DispatchStatus::Active);
        }
    }

    fn released(&mut self, n: usize) {
        const OPEN: [DispatchStatus; 2] = [DispatchStatus::Sent, DispatchStatus::Active];
        self.gives_releases(n);
        let asked = self
            .newest(n, &OPEN)
            .is_some_and(|share| share.cancel_requested_at.is_some());
        if self.reachable(n) && asked {
            self.moves(n, &OPEN, DispatchStatus::Cancelled);
            self.states[n].doing = None;
        }
    }

    /// The session is there again: what ended meanwhile is reported.
    fn returns(&mut self, n: usize) {
        let fell_back = self.states[n].doing.is_none();
        self.states[n].out = None;
        self.tells(n);
        if fell_back {
            self.fail(n);
            self.settles(n);
        }
        self.released(n);
    }

    /// A session comes and goes, and nobody has looked meanwhile.
    fn blinks(&mut self, n: usize) {
        if let Some((Out::Lost, since)) = self.states[n].out {
            self.returns(n);
            (self.states[n].out, self.states[n].gone) = (Some((Out::Lost, since)), self.now);
        }
    }

    fn passes(&mut self, seconds: u64) {
        self.now += seconds;
        for n in 0..self.states.len() {
            let state = &mut self.states[n];
            if state.until.is_some_and(|until| until <= self.now) {
                (state.doing, state.until) = (None, None);
                if self.reachable(n) {
                    self.moves(n, &[DispatchStatus::Active], DispatchStatus::Completed);
                }
                continue;
            }
            if let Some((Out::Lost, since)) = state.out
                && state.until.is_none()
                && self.now - since.max(state.gone) >= 90
            {
                state.doing = None;
            }
        }
    }

    /// The most that the devices may do for the order, MW in its direction.
    fn most(&self) -> f64 {
        let sign = if self.order.mw < Power::ZERO {
            -1.0
        } else {
            1.0
        };
        let of = |n: usize| {
            let own = self
                .order
                .children
                .iter()
                .filter(|s| s.asset_id == Some(id(n)));
            let may = own.filter(|share| {
                let waits = share.status == DispatchStatus::Sent && in_time(share, self.now());
                Some(share.id) == self.states[n].doing || waits
            });
            may.map(|share| share.mw.mw() * sign).fold(0.0, f64::max)
        };
        (0..self.states.len()).map(of).sum()
    }
}

/// Whether it may start yet: its deadline is 30 s after it was sent.
fn in_time(share: &Dispatch, now: Timestamp) -> bool {
    now <= share.created_at.saturating_add(Duration::from_secs(30))
}

fn shares(decision: &Decision) -> Vec<(u128, f64)> {
    let Decision::Share(plan) = decision else {
        panic!("{decision:?}");
    };
    let shares = plan.shares.iter();
    shares
        .map(|(id, mw)| (id.uuid().as_u128(), mw.mw()))
        .collect()
}

#[test]
fn while_nothing_is_missing_nothing_is_done() {
    assert_eq!(World::new(12.0, Some(900.0)).look(), Decision::Wait);
    let mut plain = World::new(12.0, Some(900.0));
    plain.order.split.as_mut().unwrap().rebalance = false;
    plain.fail(0);
    plain.settles(0);
    assert_eq!(plain.look(), Decision::Over);
}

#[test]
fn what_has_failed_is_shared_over_the_others_for_the_rest_of_the_time() {
    for (mw, wanted) in [(12.0, 6.0), (-12.0, -6.0)] {
        let mut world = World::new(mw, Some(900.0));
        world.fail(0);
        world.settles(0);
        let decision = world.act();
        assert_eq!(shares(&decision), [(1, wanted), (2, wanted)]);
        let Decision::Share(plan) = decision else {
            unreachable!()
        };
        let left = BEGIN + 900 - world.now;
        assert_eq!(plan.remaining, Some(Duration::from_secs(left)));
        let failed = world.order.children[0].id;
        let record = &world.order.split.as_ref().unwrap().resplits[0];
        assert_eq!(record.stands_in_for, [failed]);
        assert_eq!(
            (record.policy, record.version),
            (SplitPolicy::Capacity, SPLIT_VERSION)
        );
        assert!(record.missing_mw.mw() * mw > 0.0 && record.residual_mw == Power::ZERO);
        assert_eq!(record.shares.len(), 2);
        // Only once.
        world.passes(20);
        assert_eq!(world.act(), Decision::Wait);
        for n in [1, 2] {
            world.starts(n);
        }
        assert_eq!(world.act(), Decision::Wait);
        summarise(&mut world.order);
        assert_eq!(world.order.status, DispatchStatus::Active);
    }
}

#[test]
fn a_device_that_failed_counts_until_it_has_accepted_something_else() {
    let mut world = World::new(12.0, Some(900.0));
    world.states[0].control = Some((world.now(), None));
    world.fail(0);
    world.passes(60);
    assert_eq!(world.look(), Decision::Wait);
    world.settles(0);
    assert_eq!(shares(&world.look()), [(1, 6.0), (2, 6.0)]);
}

#[test]
fn what_was_refused_or_never_sent_counts_no_more_at_once() {
    for end in [DispatchStatus::Rejected, DispatchStatus::Expired] {
        let mut world = World::new(12.0, Some(900.0));
        world.order.children[0].status = end;
        assert_eq!(shares(&world.look()), [(1, 6.0), (2, 6.0)]);
    }
}

#[test]
fn a_lease_of_a_lost_asset_runs_on_and_is_never_replaced() {
    let mut world = World::new(12.0, Some(90_000.0));
    world.states[0].out = Some((Out::Lost, world.now));
    world.passes(80_000);
    assert_eq!(world.look(), Decision::Wait);
}

#[test]
fn a_lost_asset_without_a_lease_is_replaced_when_its_failsafe_is_over() {
    let mut world = World::new(12.0, None);
    world.states[0].out = Some((Out::Lost, world.now));
    world.passes(119);
    assert_eq!(world.act(), Decision::Wait);
    world.passes(1);
    let lost = world.order.children[0].id;
    assert_eq!(world.act(), Decision::Withdraw(vec![lost]));
    assert_eq!(shares(&world.act()), [(1, 6.0), (2, 6.0)]);

    let mut ramps = World::new(12.0, None);
    ramps.assets[0].ramp_rate_mw_per_min = Some(60.0);
    ramps.states[0].out = Some((Out::Lost, ramps.now));
    ramps.passes(239);
    assert_eq!(ramps.act(), Decision::Wait);
    ramps.passes(1);
    assert!(matches!(ramps.act(), Decision::Withdraw(_)));

    let mut holds = World::new(12.0, None);
    holds.assets[0].failsafe = Failsafe {
        policy: FailsafePolicy::Hold,
        ..Failsafe::default()
    };
    holds.states[0].out = Some((Out::Lost, holds.now));
    holds.passes(80_000);
    assert_eq!(holds.act(), Decision::Wait);
}

#[test]
fn an_asset_that_cannot_be_controlled_is_released_first_and_replaced_when_it_is_at_rest() {
    let unavailable = || {
        let mut world = World::new(12.0, Some(900.0));
        world.states[0].out = Some((Out::Unavailable, world.now));
        world.passes(29);
        assert_eq!(world.act(), Decision::Wait);
        world.passes(1);
        assert!(matches!(world.act(), Decision::Withdraw(_)));
        // Its device may go on as it was.
        world.passes(10);
        world.states[0].measured = Some((world.now(), Power::from_mw(7.2)));
        assert_eq!(world.act(), Decision::Wait);
        world
    };
    let mut released = unavailable();
    released.released(0);
    assert_eq!(shares(&released.act()), [(1, 6.0), (2, 6.0)]);
    let mut idle = unavailable();
    idle.states[0].measured = Some((idle.now(), Power::from_mw(0.1)));
    assert_eq!(shares(&idle.look()), [(1, 6.0), (2, 6.0)]);
    // It may start yet what it was not told to leave.
    idle.states[0].released.clear();
    assert_eq!(idle.look(), Decision::Wait);
}

#[test]
fn a_small_share_in_full_is_not_taken_for_rest() {
    let mut world = World::new(3.0, Some(900.0));
    world.states[0].out = Some((Out::Unavailable, world.now));
    world.passes(30);
    assert!(matches!(world.act(), Decision::Withdraw(_)));
    world.passes(10);
    // Less than 2 % of its 120 MW.
    world.states[0].measured = Some((world.now(), Power::from_mw(1.8)));
    assert_eq!(world.act(), Decision::Wait);
    world.states[0].measured = Some((world.now(), Power::from_mw(0.1)));
    assert_eq!(shares(&world.act()), [(1, 1.5), (2, 1.5)]);
}

#[test]
fn a_session_that_nobody_saw_begins_the_failsafe_anew() {
    let mut world = World::new(12.0, None);
    world.states[0].out = Some((Out::Lost, world.now));
    world.passes(80);
    world.blinks(0);
    world.passes(119);
    assert_eq!(world.act(), Decision::Wait);
    world.passes(1);
    assert!(matches!(world.act(), Decision::Withdraw(_)));
}

#[test]
fn a_share_that_was_given_up_after_its_asset_fell_back_is_not_held_again() {
    let mut world = World::new(12.0, None);
    world.states[0].out = Some((Out::Lost, world.now));
    world.passes(120);
    assert!(matches!(world.act(), Decision::Withdraw(_)));
    world.order.children[0].status = DispatchStatus::Indeterminate;
    assert_eq!(shares(&world.look()), [(1, 6.0), (2, 6.0)]);
    world.order.children[0].cancelled_by = Some("ann".to_owned());
    assert_eq!(world.look(), Decision::Wait);
    world.order.children[0].cancel_requested_at = None;
    assert_eq!(world.look(), Decision::Wait);
}

#[test]
fn a_clock_that_was_set_back_makes_no_lease_longer() {
    let mut world = World::new(12.0, Some(900.0));
    world.order.children[0].status = DispatchStatus::Rejected;
    let remaining = |world: &World, at_most| {
        let seats = BTreeMap::new();
        let seat = |n: usize| Seat {
            asset: &world.assets[n],
            member: Member::new(&world.assets[n]),
            free: true,
            out: None,
            control: None,
            measured: None,
            released: Vec::new(),
        };
        let seats = (0..3).fold(seats, |mut seats, n| {
            seats.insert(id(n), seat(n));
            seats
        });
        match decide(&world.order, &seats, world.now(), at_most) {
            Decision::Share(plan) => plan.remaining.map(|left| left.as_secs()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(remaining(&world, None), Some(890));
    let at_most = Some(Duration::from_secs(300));
    assert_eq!(remaining(&world, at_most), Some(300));
    // For later, and the clock is before its time.
    world.order.start_at = Some(at(BEGIN));
    world.order.split.as_mut().unwrap().resplits.clear();
    world.now = BEGIN - 60;
    assert_eq!(
        super::remaining(&world.order, world.now()),
        Some(Duration::from_secs(900))
    );
}

#[test]
fn what_was_taken_back_is_not_said_to_be_replaced() {
    let mut world = World::new(12.0, Some(900.0));
    world.order.children[0].status = DispatchStatus::Rejected;
    world.act();
    assert!(world.order.children[0].replaced);
    // The store had failed: nobody sent them, and nobody can stand in any more.
    for share in &mut world.order.children[3..] {
        share.status = DispatchStatus::Cancelled;
    }
    for n in [1, 2] {
        world.states[n].ordered_otherwise = true;
    }
    world.passes(6);
    assert_eq!(shares(&world.act()), []);
    assert!(world.order.children.iter().all(|share| !share.replaced));
    let residual = world.order.split.as_ref().unwrap().residual_mw;
    assert!((residual.mw() - 7.2).abs() < 1e-9, "{residual:?}");
    world.passes(6);
    assert_eq!(world.act(), Decision::Wait);
}

#[test]
fn what_an_operator_took_out_is_not_replaced() {
    type Ends = fn(&mut Dispatch);
    let by_ann: Ends = |share| {
        share.status = DispatchStatus::Cancelled;
        share.cancelled_by = Some("ann".to_owned());
        share.cancel_requested_at = Some(at(BEGIN));
    };
    let superseded: Ends = |share| share.status = DispatchStatus::Superseded;
    let stopped: Ends = |share| {
        share.status = DispatchStatus::Rejected;
        share.reason = Some(ReasonCode::Stopped);
    };
    for ends in [by_ann, superseded, stopped] {
        let mut world = World::new(12.0, Some(900.0));
        ends(&mut world.order.children[0]);
        assert_eq!(world.look(), Decision::Wait);
        // Of what drops out beside it, that alone is missing.
        world.order.children[1].status = DispatchStatus::Expired;
        assert_eq!(shares(&world.look()), [(2, 4.8)]);
    }
}

#[test]
fn who_is_ordered_otherwise_in_doubt_or_has_failed_before_is_given_nothing() {
    type Change = fn(&mut World);
    let otherwise: Change = |world| world.states[1].ordered_otherwise = true;
    let in_doubt: Change = |world| world.order.children[1].in_doubt = true;
    let not_started: Change = |world| world.order.children[1].status = DispatchStatus::Received;
    let unavailable: Change = |world| world.states[1].out = Some((Out::Unavailable, world.now));
    for change in [otherwise, in_doubt, not_started, unavailable] {
        let mut world = World::new(12.0, Some(900.0));
        change(&mut world);
        world.order.children[0].status = DispatchStatus::Rejected;
        assert_eq!(shares(&world.act()), [(2, 9.6)]);
        // It refuses that, and goes on with what it did.
        world.passes(6);
        world.moves(2, &[DispatchStatus::Sent], DispatchStatus::Rejected);
        let nobody = world.act();
        assert_eq!(shares(&nobody), []);
        assert!((world.order.split.as_ref().unwrap().residual_mw.mw() - 7.2).abs() < 1e-9);
    }
}

#[test]
fn what_nobody_has_room_for_is_told_once() {
    let mut world = World::new(90.0, Some(900.0));
    world.order.children[0].status = DispatchStatus::Rejected;
    assert_eq!(shares(&world.act()), [(1, 20.0), (2, 20.0)]);
    let split = world.order.split.clone().unwrap();
    assert!((split.residual_mw.mw() - 50.0).abs() < 1e-9, "{split:?}");
    assert!(!world.order.children[0].replaced);
    for n in [1, 2] {
        world.passes(6);
        world.starts(n);
        assert_eq!(world.act(), Decision::Wait);
    }
    summarise(&mut world.order);
    assert_eq!(world.order.status, DispatchStatus::Active);
    for n in [1, 2] {
        world.moves(n, &[DispatchStatus::Active], DispatchStatus::Completed);
    }
    summarise(&mut world.order);
    assert_eq!(world.order.status, DispatchStatus::Rejected);
}

#[test]
fn it_is_done_so_often_with_a_pause_and_not_shortly_before_the_end() {
    let mut world = World::new(12.0, Some(900.0));
    world.now = BEGIN + 4;
    world.order.children[0].status = DispatchStatus::Rejected;
    assert_eq!(world.look(), Decision::Wait);
    world.now = BEGIN + 5;
    assert!(matches!(world.look(), Decision::Share(_)));
    world.now = BEGIN + 890;
    assert!(matches!(world.look(), Decision::Share(_)));
    // What is missing is told all the same.
    world.now = BEGIN + 891;
    assert_eq!(shares(&world.look()), []);

    world.now = BEGIN + 5;
    world.act();
    world.moves(1, &[DispatchStatus::Sent], DispatchStatus::Rejected);
    world.passes(4);
    assert_eq!(world.look(), Decision::Wait);
    world.passes(1);
    assert!(matches!(world.look(), Decision::Share(_)));
    let resplits = &mut world.order.split.as_mut().unwrap().resplits;
    *resplits = vec![resplits[0].clone(); MOST_RESPLITS];
    assert_eq!(shares(&world.act()), []);
    let split = world.order.split.as_ref().unwrap();
    assert_eq!(split.resplits.len(), MOST_RESPLITS);
    assert!(split.residual_mw > Power::ZERO, "{split:?}");
    world.passes(6);
    assert_eq!(world.act(), Decision::Wait);
    world.order.status = DispatchStatus::Completed;
    assert_eq!(world.act(), Decision::Over);
}

#[test]
fn a_site_order_whose_end_was_asked_for_is_left_alone() {
    let mut world = World::new(12.0, Some(900.0));
    world.order.children[0].status = DispatchStatus::Rejected;
    world.order.cancel_requested_at = Some(world.now());
    assert_eq!(world.look(), Decision::Over);
}

#[derive(Debug, Clone, Copy)]
enum Happens {
    Looks,
    LooksUnheard,
    Passes(u64),
    Starts(usize),
    Rejects(usize),
    Fails(usize),
    FailsAtStart(usize),
    Settles(usize),
    Goes(usize),
    Returns(usize),
    Refuses(usize),
    Measured(usize),
    Released(usize),
    Cancelled(usize),
    Taken(usize),
    Blinks(usize),
    GivenUp(usize),
    AllCancelled,
}

fn happenings() -> impl Strategy<Value = Happens> {
    use Happens as H;
    let any = 0..3_usize;
    prop_oneof![
        40 => Just(H::Looks),
        6 => Just(H::LooksUnheard),
        1 => Just(H::AllCancelled),
        28 => (1..120_u64).prop_map(H::Passes),
        28 => any.clone().prop_map(H::Starts),
        7 => any.clone().prop_map(H::Rejects),
        7 => any.clone().prop_map(H::Fails),
        7 => any.clone().prop_map(H::FailsAtStart),
        14 => any.clone().prop_map(H::Settles),
        7 => any.clone().prop_map(H::Goes),
        7 => any.clone().prop_map(H::Returns),
        7 => any.clone().prop_map(H::Refuses),
        7 => any.clone().prop_map(H::Measured),
        7 => any.clone().prop_map(H::Released),
        7 => any.clone().prop_map(H::Cancelled),
        7 => any.clone().prop_map(H::Taken),
        7 => any.clone().prop_map(H::Blinks),
        3 => any.prop_map(H::GivenUp),
    ]
}

impl World {
    fn happens(&mut self, what: Happens) {
        use DispatchStatus as S;
        match what {
            Happens::Looks => drop(self.act()),
            Happens::LooksUnheard => drop(self.act_unheard()),
            Happens::Blinks(n) => self.blinks(n),
            // Nobody has heard of it for too long.
            Happens::GivenUp(n) => {
                self.moves(n, &[S::Sent, S::Active], S::Indeterminate);
            }
            Happens::AllCancelled => {
                let at = self.now();
                self.order.cancel_requested_at.get_or_insert(at);
                for share in &mut self.order.children {
                    share.cancel_requested_at.get_or_insert(at);
                    share.cancelled_by.get_or_insert("ann".to_owned());
                }
            }
            Happens::Passes(seconds) => self.passes(seconds),
            Happens::Starts(n) => self.starts(n),
            Happens::Rejects(n) if self.reachable(n) => {
                self.moves(n, &[S::Sent], S::Rejected);
            }
            Happens::Fails(n) if self.reachable(n) => self.fail(n),
            // The device may do what it was told, though it said no.
            Happens::FailsAtStart(n) => {
                self.starts(n);
                if self.reachable(n) {
                    self.fail(n);
                }
            }
            Happens::Settles(n) if self.reachable(n) && self.newest(n, &[S::Active]).is_none() => {
                self.settles(n);
            }
            Happens::Goes(n) => {
                let now = self.now;
                self.states[n].out.get_or_insert((Out::Lost, now));
                self.states[n].released.clear();
            }
            Happens::Returns(n) => self.returns(n),
            Happens::Refuses(n) => {
                let now = self.now;
                self.states[n].out.get_or_insert((Out::Unavailable, now));
            }
            Happens::Measured(n) if self.reachable(n) => {
                let doing = self.states[n].doing;
                let share = self
                    .order
                    .children
                    .iter()
                    .find(|share| Some(share.id) == doing);
                let mw = share.map_or(Power::ZERO, |share| share.mw);
                self.states[n].measured = Some((self.now(), mw));
            }
            Happens::Released(n) => self.released(n),
            Happens::Cancelled(n) => {
                let at = self.now();
                if let Some(share) = self.newest(n, &[S::Sent, S::Active]) {
                    share.cancel_requested_at.get_or_insert(at);
                    share.cancelled_by.get_or_insert("ann".to_owned());
                }
            }
            Happens::Taken(n) if self.reachable(n) => {
                while self
                    .moves(n, &[S::Sent, S::Active], S::Superseded)
                    .is_some()
                {}
                self.states[n].doing = None;
                self.states[n].ordered_otherwise = true;
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_may_be_in_force_never_exceeds_the_order(
        mw in prop_oneof![Just(3.0), Just(12.0), Just(-12.0), Just(70.0), Just(-95.0)],
        lease in prop_oneof![Just(None), Just(Some(100_000.0)), Just(Some(300.0))],
        happenings in prop::collection::vec(happenings(), 1..60),
    ) {
        let mut world = World::new(mw, lease);
        for what in happenings {
            let shares = world.order.children.len();
            world.happens(what);
            let cancelled = world.order.cancel_requested_at.is_some();
            prop_assert!(!cancelled || world.order.children.len() == shares);
            let most = world.most();
            prop_assert!(most <= f64::abs(mw) + 1e-6, "{most} MW after {what:?}");
            let split = world.order.split.as_ref().unwrap();
            prop_assert!(split.resplits.len() <= MOST_RESPLITS);
        }
    }
}
