//! Assets that come, change and go behind a running agent.

use derms_proto::link::{AssetLimits, AssetState, AssetUpdate, Report};

use super::*;

const INTERRUPTED: Option<ReasonCode> = Some(ReasonCode::Interrupted);
const NOT_GRANTED: Option<ReasonCode> = Some(ReasonCode::NotGranted);

use SetpointPhase::{Failed, Received, Rejected, Started, Superseded};

impl Bench {
    fn add(&mut self, asset: Asset) {
        let kind = AssetKind::Battery;
        self.feed(Input::Add {
            asset: Box::new(asset),
            kind,
        });
    }

    fn remove(&mut self, number: u128) {
        self.feed(Input::Remove(asset_id(number)));
    }

    /// What was said of assets since the last call: claimed and removed.
    fn updates(&mut self) -> Vec<(Vec<AssetId>, Vec<AssetId>)> {
        let of = |update: AssetUpdate| {
            let claims = update.upserted.into_iter().flatten();
            let claims = claims.map(|state: AssetState| state.asset_id).collect();
            (claims, update.removed)
        };
        let messages = self.sent.drain(..);
        messages
            .filter_map(|message| match message {
                AgentMessage::AssetUpdate(update) => Some(of(update)),
                _ => None,
            })
            .collect()
    }

    fn grant(&mut self, number: u128) {
        self.receive(HeadendMessage::Grants {
            epoch: self.epoch,
            grants: vec![Grant {
                asset_id: asset_id(number),
                status: GrantStatus::Granted,
                last_revision: 0,
                text: None,
            }],
        });
    }

    /// What was reported of orders since the last call, as it was sent.
    fn reported(&mut self) -> Vec<Step> {
        let batches = self.sent.drain(..).filter_map(|message| match message {
            AgentMessage::Report(batch) => Some(batch.entries),
            _ => None,
        });
        let entries = batches.flatten().flatten();
        let steps = entries.filter_map(|entry| match entry.report {
            Report::Setpoint(report) => Some((report.revision, report.phase, report.reason)),
            _ => None,
        });
        steps.collect()
    }

    fn serves(&self) -> Vec<AssetId> {
        self.session.assets.keys().copied().collect()
    }
}

#[test]
fn an_asset_that_is_added_is_claimed_and_takes_orders_when_it_is_granted() {
    let mut bench = Bench::new(vec![asset(2)]);
    bench.connect();
    bench.told();
    bench.sent.clear();
    bench.add(asset(1));
    assert_eq!(bench.updates(), [(vec![asset_id(1)], vec![])]);
    assert_eq!(bench.told(), [None], "to its default first");
    let early = bench.order(1, 5.0);
    bench.setpoint(early);
    assert_eq!(bench.steps(), [(1, Rejected, NOT_GRANTED)]);
    bench.grant(1);
    let order = bench.order(2, 5.0);
    bench.setpoint(order);
    assert_eq!(bench.steps(), [(2, Received, None), (2, Started, None)]);
}

#[test]
fn a_claim_that_is_not_answered_is_made_again_with_each_heartbeat() {
    let mut bench = Bench::new(vec![asset(2)]);
    bench.connect();
    bench.add(asset(1));
    bench.sent.clear();
    bench.pass(31.0);
    assert_eq!(bench.updates(), [(vec![asset_id(1)], vec![])]);
    bench.grant(1);
    bench.pass(31.0);
    assert_eq!(bench.updates(), []);
}

#[test]
fn what_is_added_while_register_is_not_answered_is_claimed_afterwards() {
    let mut bench = Bench::new(vec![asset(2)]);
    let register = bench.dial();
    assert_eq!(register.assets.len(), 1);
    bench.epoch += 1;
    let registered = bench.registered(bench.epoch);
    bench.add(asset(1));
    assert_eq!(bench.updates(), []);
    bench.receive(HeadendMessage::Registered(registered));
    assert_eq!(bench.updates(), [(vec![asset_id(1)], vec![])]);
    assert!(!bench.has_event(|event| matches!(event, AgentEvent::Refused { .. })));
}

#[test]
fn what_is_in_force_at_an_asset_that_is_removed_ends_before_the_headend_is_told() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    let order = bench.leased(1, 5.0, 600);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.sent.clear();
    bench.obliging = false;
    bench.remove(1);
    let late = bench.order(2, 6.0);
    bench.setpoint(late);
    assert_eq!(bench.steps(), [(2, Rejected, NOT_GRANTED)]);
    assert_eq!(bench.updates(), [], "its device has not said yes");
    let default = Command::Default(Power::from_mw(1.0));
    assert_eq!(bench.answer(Ok(Applied::default())), default);
    assert_eq!(bench.steps(), [(1, Failed, INTERRUPTED)]);
    assert_eq!(bench.updates(), [(vec![], vec![asset_id(1)])]);
    assert_eq!(bench.serves(), [asset_id(2)]);
    // The lease has no end any more.
    bench.pass(700.0);
    assert_eq!(bench.told(), []);
}

#[test]
fn an_order_or_a_release_that_comes_after_its_asset_has_gone_is_answered_with_its_outcome() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    let order = bench.order(3, 5.0);
    bench.setpoint(order.clone());
    bench.remove(1);
    bench.ack_reports();
    bench.reported();
    // The operator has cancelled it meanwhile; the order itself may come again, too.
    bench.receive(HeadendMessage::Release(ReleaseOrder {
        asset_id: asset_id(1),
        dispatch_id: order.dispatch_id,
        revision: 4,
        epoch: bench.epoch,
    }));
    bench.ack_reports();
    assert_eq!(bench.reported(), [(3, Failed, INTERRUPTED)]);
    bench.setpoint(order);
    bench.ack_reports();
    assert_eq!(bench.reported(), [(3, Failed, INTERRUPTED)]);
    let never_here = bench.order(5, 1.0);
    bench.setpoint(never_here);
    assert_eq!(bench.reported(), [(5, Rejected, NOT_GRANTED)]);
}

#[test]
fn a_stopped_asset_that_goes_stays_at_zero_and_is_stopped_when_it_comes_back() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    bench.receive(HeadendMessage::AssetLimits(AssetLimits {
        asset_id: asset_id(1),
        revision: 7,
        epoch: bench.epoch,
        limits: Vec::new(),
        stop: true,
        return_within: Duration::ZERO,
    }));
    assert_eq!(bench.told().last(), Some(&Some(0.0)));
    bench.remove(1);
    // Its default is 1 MW.
    assert_eq!(bench.serves(), [asset_id(2)]);
    let told = bench.told();
    assert!(
        told.iter().all(|power| *power == Some(0.0)),
        "never to its default: {told:?}"
    );
    bench.sent.clear();
    bench.add(asset(1));
    let told = bench.told();
    assert_eq!(told, [Some(0.0)]);
    let claim = bench.sent.iter().find_map(|message| match message {
        AgentMessage::AssetUpdate(update) => update.upserted[0].as_ref().ok(),
        _ => None,
    });
    assert_eq!(claim.map(|state| state.limit_revision), Some(7));
}

#[test]
fn a_lost_link_trips_the_failsafe_of_what_is_served_and_not_of_what_has_gone() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    for number in [1, 2] {
        let mut order = bench.order(3, 5.0);
        order.asset_id = asset_id(number);
        bench.setpoint(order);
    }
    bench.remove(1);
    bench.ack_reports();
    bench.steps();
    bench.commands.clear();
    bench.told();
    bench.cut();
    bench.pass(95.0);
    let tripped = bench.steps();
    assert_eq!(tripped, [(3, Failed, Some(ReasonCode::Failsafe))]);
    assert_eq!(bench.told(), [None], "one device alone");
}

#[test]
fn a_device_that_does_not_obey_holds_its_asset_for_a_quarter_of_a_minute_and_no_other_at_all() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    let order = bench.order(1, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.obliging = false;
    bench.remove(1);
    let mut order = bench.order(2, 6.0);
    order.asset_id = asset_id(2);
    bench.setpoint(order);
    bench.store(true);
    let told: Vec<_> = bench.commands.iter().map(|(id, ..)| *id).collect();
    assert_eq!(told, [asset_id(1), asset_id(2)]);
    bench.pass(14.0);
    assert_eq!(bench.serves().len(), 2);
    bench.pass(1.5);
    assert_eq!(bench.serves(), [asset_id(2)]);
    let ended = bench.steps();
    assert!(ended.contains(&(1, Failed, INTERRUPTED)), "{ended:?}");
}

#[test]
fn an_asset_that_has_changed_ends_its_order_and_comes_back_with_its_revision() {
    let mut bench = Bench::active();
    let order = bench.order(3, 5.0);
    bench.setpoint(order);
    bench.steps();
    bench.told();
    bench.sent.clear();
    let mut smaller = asset(1);
    smaller.max_mw = Power::from_mw(2.0);
    bench.add(smaller);
    assert_eq!(bench.steps(), [(3, Failed, INTERRUPTED)]);
    assert_eq!(
        bench.told(),
        [None, None],
        "the old device, and the new one"
    );
    let updates = bench.sent.iter().filter_map(|message| match message {
        AgentMessage::AssetUpdate(update) => Some(update.clone()),
        _ => None,
    });
    let updates: Vec<_> = updates.collect();
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].removed, []);
    let state = updates[0].upserted[0].as_ref().unwrap();
    assert_eq!(
        (state.last_revision, state.rating.max.mw()),
        (3, 2.0),
        "{state:?}"
    );
    bench.grant(1);
    let stale = bench.order(2, 1.0);
    let too_much = bench.order(4, 5.0);
    bench.setpoint(stale);
    bench.setpoint(too_much);
    assert_eq!(
        bench.steps(),
        [
            (2, Superseded, Some(ReasonCode::StaleRevision)),
            (4, Rejected, Some(ReasonCode::OutOfRange))
        ]
    );
}

#[test]
fn the_revision_of_a_removed_asset_is_on_the_disk_over_a_full_one_and_a_restart() {
    let mut bench = Bench::on_disk(vec![asset(1), asset(2)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.order(7, 5.0);
    bench.setpoint(order.clone());
    bench.disk().full = true;
    bench.remove(1);
    assert_eq!(bench.serves(), [asset_id(2)]);
    bench.disk().full = false;
    bench.pass(6.0);
    // Started without it; then it is there again.
    bench.disk().assets = vec![asset(2)];
    bench.restart();
    bench.connect();
    bench.ack_reports();
    bench.steps();
    bench.told();
    bench.add(asset(1));
    bench.grant(1);
    assert_eq!(bench.told(), [None]);
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    assert_eq!(bench.steps(), [(7, Failed, INTERRUPTED)]);
    assert_eq!(bench.told(), [], "never twice");
}

#[test]
fn the_end_of_an_order_is_told_though_the_agent_was_started_again_without_its_asset() {
    let mut bench = Bench::on_disk(vec![asset(1), asset(2)]);
    bench.feed(Input::Tick);
    bench.connect();
    let order = bench.order(7, 5.0);
    bench.setpoint(order.clone());
    assert_eq!(bench.told().last(), Some(&Some(5.0)));
    bench.ack_reports();
    bench.steps();
    // The process dies, and its configuration is changed.
    bench.disk().assets = vec![asset(2)];
    bench.restart();
    bench.connect();
    assert_eq!(bench.steps(), [(7, Failed, INTERRUPTED)]);
    bench.ack_reports();
    // It is told once, and not forgotten over another start.
    bench.restart();
    bench.connect();
    assert_eq!(bench.steps(), []);
    bench.ack_reports();
    bench.told();
    bench.add(asset(1));
    bench.grant(1);
    assert_eq!(bench.told(), [None], "its default, and not the order");
    bench.setpoint(SetpointOrder {
        epoch: bench.epoch,
        ..order
    });
    assert_eq!(bench.steps(), [(7, Failed, INTERRUPTED)]);
    assert_eq!(bench.told(), []);
}

#[test]
fn an_asset_that_went_while_there_was_no_link_is_not_claimed_with_the_next_register() {
    let mut bench = Bench::new(vec![asset(1), asset(2)]);
    bench.connect();
    bench.cut();
    bench.remove(1);
    bench.add(asset(3));
    let register = bench.connect();
    let claims = register.assets.into_iter().flatten();
    let claims: Vec<_> = claims.map(|state| state.asset_id).collect();
    assert_eq!(claims, [asset_id(2), asset_id(3)]);
    assert_eq!(bench.updates(), []);
}

#[test]
fn an_asset_that_can_not_be_read_is_told_at_once_and_so_is_its_recovery() {
    let mut bench = Bench::active();
    bench.pass(5.0);
    let heartbeats = |bench: &mut Bench| -> Vec<derms_proto::Availability> {
        let messages = bench.sent.drain(..);
        messages
            .filter_map(|message| match message {
                AgentMessage::Heartbeat(heartbeat) => Some(heartbeat.assets[0].availability),
                _ => None,
            })
            .collect()
    };
    heartbeats(&mut bench);
    for _ in 0..3 {
        let at = bench.clocks();
        bench.feed(Input::Read {
            asset_id: asset_id(1),
            at,
            result: Err(no_answer()),
        });
    }
    assert_eq!(
        heartbeats(&mut bench),
        [derms_proto::Availability::Unavailable]
    );
    // That it was answered makes no difference.
    bench.receive(HeadendMessage::HeartbeatAck {
        monotonic: bench.now,
        server_time: bench.server_now(),
    });
    bench.read(1.0);
    assert_eq!(heartbeats(&mut bench), [], "not twice within a second");
    bench.pass(1.0);
    assert_eq!(
        heartbeats(&mut bench),
        [derms_proto::Availability::Available]
    );
}

#[test]
fn an_agent_of_many_assets_tells_of_their_changes_less_often() {
    let mut bench = Bench::new((1..=300).map(asset).collect());
    bench.connect();
    bench.pass(5.0);
    bench.sent.clear();
    for number in 1..=20 {
        let at = bench.clocks();
        bench.feed(Input::Read {
            asset_id: asset_id(number),
            at,
            result: Err(no_answer()),
        });
        bench.pass(0.2);
    }
    let is_heartbeat = |message: &&AgentMessage| matches!(message, AgentMessage::Heartbeat(_));
    // At once, and 3 s later.
    assert_eq!(bench.sent.iter().filter(is_heartbeat).count(), 2);
}
