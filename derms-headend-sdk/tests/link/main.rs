//! The agent link on a socket: what good agents get, and what bad ones can't break.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod agent;

use std::net::SocketAddr;
use std::time::Duration;

use agent::{Agent, log_of, register, telemetry};
use bytes::Bytes;
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::link::{
    AgentMessage, GrantStatus, HeadendMessage, LogAck, LogKind, RefusalCode, Report, ReportBatch,
    ReportEntry, SetpointOrder, SetpointPhase, SetpointReport,
};
use derms_headend_sdk::proto::{
    AgentId, Asset, AssetId, AssetKind, CloseReason, DispatchStatus, Fleet, InstanceId,
    NewDispatch, Power, Site, SiteId, Timestamp, pb,
};
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

fn asset_id(n: u128) -> AssetId {
    AssetId::new(Uuid::from_u128(100 + n))
}

fn site_id() -> SiteId {
    SiteId::new(Uuid::from_u128(1))
}

fn fleet() -> Fleet {
    let site = Site {
        id: site_id(),
        name: "S".into(),
        location: String::new(),
    };
    let asset = |n| {
        let (min, max) = (Power::from_mw(-1.0), Power::from_mw(1.0));
        Asset::new(
            asset_id(n),
            format!("A{n}"),
            site.id,
            AssetKind::Battery,
            min,
            max,
        )
    };
    let elsewhere = Site {
        id: SiteId::new(Uuid::from_u128(2)),
        ..site.clone()
    };
    let stranger = Asset {
        site_id: elsewhere.id,
        ..asset(9)
    };
    let assets = (0..3).map(asset).chain([stranger]).collect();
    Fleet::new(vec![site, elsewhere], assets).unwrap()
}

/// A headend on a free port; told to stop when the sender goes.
struct Running {
    headend: Headend,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        let headend = Headend::builder(fleet()).build().await.unwrap();
        let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = headend.clone();
        let served = spawn(async move {
            let service = serving.service();
            serving
                .serve(vec![(listener, service)], async { drop(stopped.await) })
                .await;
        });
        Self {
            headend,
            address,
            stop: Some(stop),
            served,
        }
    }

    /// A well-behaved agent, to see that others don't notice.
    async fn witness(&self) -> Witness {
        let (agent, _) = Agent::registered(self.address, asset_id(2)).await;
        Witness { agent, next: 1 }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test owns its tasks")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(future)
}

struct Witness {
    agent: Agent,
    next: u64,
}

impl Witness {
    async fn still_works(&mut self) {
        self.agent
            .send(telemetry(asset_id(2), self.next, &[0.5]))
            .await;
        assert_eq!(ack(&mut self.agent).await.up_to_seq, self.next);
        self.next += 1;
    }
}

async fn ack(agent: &mut Agent) -> LogAck {
    agent
        .find(|message| match message {
            HeadendMessage::LogAck(ack) => Some(ack),
            _ => None,
        })
        .await
}

async fn setpoint(agent: &mut Agent) -> SetpointOrder {
    agent
        .find(|message| match message {
            HeadendMessage::Setpoint(order) => Some(order),
            _ => None,
        })
        .await
}

fn report(order: &SetpointOrder, first_seq: u64, phases: &[SetpointPhase]) -> AgentMessage {
    AgentMessage::Report(ReportBatch {
        log_id: log_of(LogKind::Report),
        first_seq,
        entries: phases
            .iter()
            .map(|phase| {
                Ok(ReportEntry {
                    at: Timestamp::now(),
                    asset_id: order.asset_id,
                    report: Report::Setpoint(SetpointReport {
                        dispatch_id: order.dispatch_id,
                        revision: order.revision,
                        phase: *phase,
                        reason: None,
                        text: None,
                        applied: Some(order.power),
                    }),
                })
            })
            .collect(),
    })
}

#[tokio::test]
async fn an_order_reaches_the_agent_and_its_reports_are_told_truthfully() {
    let running = Running::start().await;
    let (mut agent, registered) = Agent::registered(running.address, asset_id(0)).await;
    assert_eq!(registered.grants[0].status, GrantStatus::Granted);
    assert!(registered.epoch > 0);

    let wish =
        NewDispatch::asset(asset_id(0), Power::from_mw(0.7)).lasting(Duration::from_secs(20));
    let sent = running.headend.dispatch(&wish, None).await.unwrap();
    assert_eq!(sent.status, DispatchStatus::Sent);
    let order = setpoint(&mut agent).await;
    assert_eq!(
        (order.dispatch_id, order.epoch),
        (sent.id, registered.epoch)
    );
    assert_eq!(order.duration, Some(Duration::from_secs(20)));

    agent
        .send(report(
            &order,
            1,
            &[SetpointPhase::Received, SetpointPhase::Started],
        ))
        .await;
    assert_eq!(ack(&mut agent).await.up_to_seq, 2);
    let active = running
        .headend
        .get_dispatch(sent.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(active.status, DispatchStatus::Active);
    assert_eq!(active.applied_mw, Some(Power::from_mw(0.7)));
    let steps: Vec<_> = active.transitions.iter().map(|step| step.status).collect();
    let expected = [
        DispatchStatus::Pending,
        DispatchStatus::Sent,
        DispatchStatus::Received,
        DispatchStatus::Active,
    ];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn an_order_for_an_offline_asset_waits_and_is_delivered_once_it_registers() {
    let running = Running::start().await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(0.7));
    let waiting = running.headend.dispatch(&wish, None).await.unwrap();
    assert_eq!(waiting.status, DispatchStatus::Pending);
    let (mut agent, registered) = Agent::registered(running.address, asset_id(0)).await;
    assert_eq!(registered.grants[0].last_revision, 1);
    assert_eq!(setpoint(&mut agent).await.dispatch_id, waiting.id);
}

#[tokio::test]
async fn an_order_that_waits_is_not_stale_for_an_agent_that_remembers_more_than_the_headend() {
    let running = Running::start().await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(0.7));
    let waiting = running.headend.dispatch(&wish, None).await.unwrap();
    assert_eq!(waiting.revision, Some(1));
    let mut agent = Agent::dial(running.address).await;
    let mut register = register(asset_id(0).into(), &[asset_id(0)]);
    for state in register.assets.iter_mut().flatten() {
        state.last_revision = 9;
    }
    agent.send(AgentMessage::Register(register)).await;
    let order = setpoint(&mut agent).await;
    assert_eq!((order.dispatch_id, order.revision), (waiting.id, 10));
    let next = running.headend.dispatch(&wish, None).await.unwrap();
    assert_eq!(next.revision, Some(11));
}

#[tokio::test]
async fn after_a_reconnect_commands_arrive_and_an_unanswered_order_comes_again_as_it_was() {
    let running = Running::start().await;
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(0.7));
    let sent = running.headend.dispatch(&wish, None).await.unwrap();
    let first = setpoint(&mut agent).await;
    agent.hang_up();
    assert_eq!(agent.close().await, None);

    let (mut agent, registered) = Agent::registered(running.address, asset_id(0)).await;
    let again = setpoint(&mut agent).await;
    assert_eq!(
        (again.dispatch_id, again.revision),
        (first.dispatch_id, first.revision)
    );
    assert_eq!(again.epoch, registered.epoch);
    assert!(again.epoch > first.epoch);
    agent
        .send(report(&again, 1, &[SetpointPhase::Received]))
        .await;
    ack(&mut agent).await;
    let known = running
        .headend
        .get_dispatch(sent.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (known.status, known.in_doubt),
        (DispatchStatus::Received, false)
    );
}

#[tokio::test]
async fn the_newest_register_wins_and_the_loser_is_told() {
    let running = Running::start().await;
    let (mut old, first) = Agent::registered(running.address, asset_id(0)).await;
    let (mut new, second) = Agent::registered(running.address, asset_id(0)).await;
    assert!(second.epoch > first.epoch);
    assert_eq!(old.closed_with().await, CloseReason::TakenOver);
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(0.1));
    running.headend.dispatch(&wish, None).await.unwrap();
    assert_eq!(setpoint(&mut new).await.epoch, second.epoch);
}

#[tokio::test]
async fn two_live_processes_with_one_identity_are_told_apart_after_three_takeovers() {
    let running = Running::start().await;
    let mut incumbents = Vec::new();
    for _ in 0..3 {
        incumbents.push(Agent::registered(running.address, asset_id(0)).await.0);
    }
    let mut newcomer = Agent::dial(running.address).await;
    newcomer
        .send(AgentMessage::Register(register(
            asset_id(0).into(),
            &[asset_id(0)],
        )))
        .await;
    let incumbent = incumbents.last_mut().unwrap();
    let nonce = incumbent
        .find(|message| match message {
            HeadendMessage::Ping { nonce } => Some(nonce),
            _ => None,
        })
        .await;
    incumbent.send(AgentMessage::Pong { nonce }).await;
    let close = newcomer.close().await.unwrap();
    assert_eq!(close.reason, CloseReason::DuplicateInstance);
    assert_eq!(close.retry_after, Some(Duration::from_secs(300)));
    // The incumbent goes on.
    incumbent.send(telemetry(asset_id(0), 1, &[0.1])).await;
    assert_eq!(ack(incumbent).await.up_to_seq, 1);
}

#[tokio::test]
async fn a_foreign_or_unknown_asset_is_refused_and_the_others_are_served() {
    let running = Running::start().await;
    let mut agent = Agent::dial(running.address).await;
    let unknown = AssetId::new(Uuid::from_u128(77));
    let claims = [asset_id(0), asset_id(9), unknown];
    agent
        .send(AgentMessage::Register(register(site_id().into(), &claims)))
        .await;
    let grants = agent
        .find(|message| match message {
            HeadendMessage::Registered(registered) => Some(registered.grants),
            _ => None,
        })
        .await;
    let statuses: Vec<_> = grants.iter().map(|grant| grant.status).collect();
    let expected = [
        GrantStatus::Granted,
        GrantStatus::Forbidden,
        GrantStatus::UnknownAsset,
    ];
    assert_eq!(statuses, expected);

    agent.send(telemetry(asset_id(9), 1, &[0.3])).await;
    let ack = ack(&mut agent).await;
    assert_eq!(ack.up_to_seq, 1, "a refused sample must not block the log");
    assert_eq!(
        (ack.refused[0].seq, ack.refused[0].code),
        (1, RefusalCode::NotGranted)
    );
}

#[tokio::test]
async fn an_agent_that_may_serve_nothing_is_told_so() {
    let running = Running::start().await;
    let mut agent = Agent::dial(running.address).await;
    let stranger = AgentId::new(Uuid::from_u128(77));
    agent
        .send(AgentMessage::Register(register(stranger, &[asset_id(0)])))
        .await;
    let close = agent.close().await.unwrap();
    assert_eq!(close.reason, CloseReason::Forbidden);
    assert!(
        close.text.contains("agent_id"),
        "no remedy in: {}",
        close.text
    );
}

#[tokio::test]
async fn a_lie_about_a_counter_does_not_use_it_up() {
    let running = Running::start().await;
    for lie in [u64::MAX, (1 << 53) + 1] {
        let mut agent = Agent::dial(running.address).await;
        let mut epoch = register(asset_id(0).into(), &[asset_id(0)]);
        epoch.last_epoch = lie;
        agent.send(AgentMessage::Register(epoch)).await;
        assert_eq!(agent.closed_with().await, CloseReason::ProtocolError);

        let mut agent = Agent::dial(running.address).await;
        let mut revision = register(asset_id(0).into(), &[asset_id(0)]);
        for state in revision.assets.iter_mut().flatten() {
            state.last_revision = lie;
        }
        agent.send(AgentMessage::Register(revision)).await;
        assert_eq!(agent.closed_with().await, CloseReason::ProtocolError);
    }
    let (_, registered) = Agent::registered(running.address, asset_id(0)).await;
    assert!(registered.epoch < 100);
    assert_eq!(registered.grants[0].last_revision, 0);
}

#[tokio::test]
async fn what_is_broken_ends_its_own_session_with_a_reason_and_nobody_else_notices() {
    let running = Running::start().await;
    let mut witness = running.witness().await;

    // Register twice.
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    agent
        .send(AgentMessage::Register(register(asset_id(0).into(), &[])))
        .await;
    assert_eq!(agent.closed_with().await, CloseReason::ProtocolError);
    witness.still_works().await;

    // An id that is no UUID.
    let mut agent = Agent::dial(running.address).await;
    let mut message =
        pb::AgentMessage::from(AgentMessage::Register(register(asset_id(0).into(), &[])));
    if let Some(pb::agent_message::Body::Register(register)) = &mut message.body {
        "BESS-1".clone_into(&mut register.agent_id);
    }
    agent.send_payload(&message.encode_to_vec()).await;
    let close = agent.close().await.unwrap();
    assert_eq!(close.reason, CloseReason::ProtocolError);
    assert!(
        close.text.contains("agent_id"),
        "the field is not named in: {}",
        close.text
    );
    witness.still_works().await;

    // A payload that is no protobuf, before and after Register.
    let garbage = [0xff_u8; 64];
    let mut agent = Agent::dial(running.address).await;
    agent.send_payload(&garbage).await;
    assert_eq!(agent.closed_with().await, CloseReason::ProtocolError);
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    agent.send_payload(&garbage).await;
    assert_eq!(agent.closed_with().await, CloseReason::ProtocolError);
    witness.still_works().await;

    // A message over the size limit.
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    agent.send_payload(&vec![0; (256 << 10) + 1]).await;
    assert_eq!(agent.closed_with().await, CloseReason::MessageTooLarge);
    witness.still_works().await;

    // Bytes that are not even gRPC.
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    agent
        .send_raw(Bytes::from_static(b"\x07GET / HTTP/1.1\r\n\r\n"))
        .await;
    agent.hang_up();
    agent.close().await;
    witness.still_works().await;
}

#[tokio::test]
async fn messages_and_fields_of_a_newer_protocol_are_skipped() {
    let running = Running::start().await;
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    // Field 99 (an unknown body) and field 150 (a vendor's), length-delimited.
    agent.send_payload(&[0x9a, 0x06, 0x01, 0x00]).await;
    agent.send_payload(&[0xb2, 0x09, 0x03, 1, 2, 3]).await;
    agent.send(telemetry(asset_id(0), 1, &[0.2])).await;
    assert_eq!(ack(&mut agent).await.up_to_seq, 1);
}

#[tokio::test]
async fn shutdown_with_open_streams_ends_and_tells_each_agent_when_to_come_back() {
    let mut running = Running::start().await;
    let (mut first, _) = Agent::registered(running.address, asset_id(0)).await;
    let (mut second, _) = Agent::registered(running.address, asset_id(1)).await;
    drop(running.stop.take());
    for agent in [&mut first, &mut second] {
        let close = agent.close().await.unwrap();
        assert_eq!(close.reason, CloseReason::Draining);
        assert!(close.retry_after.is_some());
    }
    let ended = tokio::time::timeout(Duration::from_secs(5), running.served).await;
    assert!(
        ended.is_ok(),
        "the headend still serves after its streams have ended"
    );
}

#[tokio::test]
async fn a_session_of_a_wiped_agent_settles_what_the_earlier_one_had() {
    let running = Running::start().await;
    let (mut agent, _) = Agent::registered(running.address, asset_id(0)).await;
    let wish = NewDispatch::asset(asset_id(0), Power::from_mw(0.7));
    let sent = running.headend.dispatch(&wish, None).await.unwrap();
    let order = setpoint(&mut agent).await;
    agent
        .send(report(
            &order,
            1,
            &[SetpointPhase::Received, SetpointPhase::Started],
        ))
        .await;
    ack(&mut agent).await;
    agent.hang_up();
    agent.close().await;

    let mut changes = Vec::new();
    let mut wiped = Agent::dial(running.address).await;
    let mut register = register(asset_id(0).into(), &[asset_id(0)]);
    register.instance_id = InstanceId::generate();
    register.logs[1].log_id = derms_headend_sdk::proto::LogId::generate();
    register.durable = false;
    wiped.send(AgentMessage::Register(register)).await;
    wiped.receive().await;
    let settled = loop {
        let known = running
            .headend
            .get_dispatch(sent.id)
            .await
            .unwrap()
            .unwrap();
        changes.push(known.status);
        if known.status.is_terminal() {
            break known;
        }
        assert!(
            changes.len() < 100_000,
            "never settled: {:?}",
            changes.last()
        );
        tokio::task::yield_now().await;
    };
    assert_eq!(settled.status, DispatchStatus::Failed);
}
