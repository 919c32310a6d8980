use derms_proto::link::{Close, Grant, GrantStatus, HeadendMessage, Limits, Registered};
use derms_proto::{Asset, AssetId, AssetKind, CloseReason, Power, SiteId, Timestamp};
use uuid::Uuid;

use super::*;
use crate::{
    AdapterError, AgentEvent, AgentEvents, AgentRuntime, Applied, DerAdapter, DeviceInfo, Reading,
    Setpoint,
};

const ASSET: AssetId = AssetId::new(Uuid::from_u128(1));

struct Idle;

#[async_trait::async_trait]
impl DerAdapter for Idle {
    fn describe(&self) -> DeviceInfo {
        DeviceInfo::new(AssetKind::Battery, "tests", "idle")
    }

    async fn read(&self) -> Result<Reading, AdapterError> {
        Ok(Reading::default())
    }

    async fn apply(&self, setpoint: &Setpoint) -> Result<Applied, AdapterError> {
        Ok(Applied::exactly(setpoint.power))
    }

    async fn go_to_default(&self, default: Power) -> Result<Applied, AdapterError> {
        Ok(Applied::exactly(default))
    }
}

/// A core whose stream is in the hands of the test.
struct Bench {
    core: Core,
    events: AgentEvents,
    _life: DropGuard,
}

impl Bench {
    /// In a session, with a queue of this many messages.
    fn active(places: usize) -> (Self, mpsc::Receiver<pb::AgentMessage>) {
        let site = SiteId::new(Uuid::from_u128(2));
        let (low, high) = (Power::from_mw(-1.0), Power::from_mw(1.0));
        let asset = Asset::new(ASSET, "B", site, AssetKind::Battery, low, high);
        let nobody = "http://127.0.0.1:1".parse().unwrap();
        let builder = AgentRuntime::builder(nobody).adapter(asset, Idle);
        let agent = builder.build().unwrap();
        let events = agent.handle().subscribe();
        let life = CancellationToken::new();
        let mut core = Core::start(
            agent.parts,
            agent.changes,
            agent.publisher,
            &TaskTracker::new(),
            &life,
        );
        core.feed(Input::Tick);
        let (outbound, queue) = mpsc::channel(places);
        core.connection.as_mut().unwrap().outbound = Some(outbound);
        core.feed(Input::Connected);
        let mut bench = Self {
            core,
            events,
            _life: life.drop_guard(),
        };
        bench.hears(HeadendMessage::Registered(registered()));
        (bench, queue)
    }

    fn hears(&mut self, message: HeadendMessage) {
        self.stream_has(Inbound::Message(Box::new(message), None));
    }

    fn stream_has(&mut self, inbound: Inbound) {
        let attempt = self.core.attempt;
        let what = What::Inbound(inbound);
        self.core.link_event(LinkEvent { attempt, what });
    }

    /// Why the link was given up first since the last call, and when it is tried again.
    async fn disconnected(&mut self) -> (CloseReason, Duration) {
        loop {
            let event = self.events.next().await.expect("the agent lives");
            if let AgentEvent::Disconnected {
                reason, retry_in, ..
            } = event
            {
                return (reason, retry_in.expect("it is not asked to stop"));
            }
        }
    }
}

fn registered() -> Registered {
    Registered {
        epoch: 1,
        server_time: Timestamp::now(),
        telemetry_interval: Duration::from_secs(4),
        heartbeat_interval: Duration::from_secs(30),
        liveness_timeout: Duration::from_secs(45),
        limits: Limits::default(),
        logs: Vec::new(),
        grants: vec![Grant {
            asset_id: ASSET,
            status: GrantStatus::Granted,
            last_revision: 0,
            text: None,
        }],
        durable_acks: true,
        capabilities: Vec::new(),
        protocol_minor: 0,
    }
}

#[tokio::test]
async fn a_goodbye_is_heard_though_there_is_something_to_send_on_a_stream_that_is_over() {
    let (mut bench, queue) = Bench::active(64);
    // The headend has closed the stream. Its last words are behind a question that wants an answer.
    drop(queue);
    bench.hears(HeadendMessage::Ping { nonce: 7 });
    let hour = Duration::from_secs(3_600);
    let mut close = Close::new(CloseReason::Draining, "restart");
    close.retry_after = Some(hour);
    bench.hears(HeadendMessage::Close(close));
    let text = "the stream ended".into();
    bench.stream_has(Inbound::Ended(End::Lost { text }));
    let (reason, retry_in) = bench.disconnected().await;
    assert_eq!(reason, CloseReason::Draining);
    assert!(retry_in >= hour, "{retry_in:?}");
}

#[tokio::test]
async fn a_headend_that_reads_nothing_is_a_lost_link() {
    // It has room for Register, and nobody takes that.
    let (mut bench, _queue) = Bench::active(1);
    bench.hears(HeadendMessage::Ping { nonce: 7 });
    let (reason, retry_in) = bench.disconnected().await;
    assert_ne!(reason, CloseReason::Draining);
    assert!(retry_in <= Duration::from_secs(60), "{retry_in:?}");
}

#[test]
fn a_full_queue_is_a_loss_and_one_that_is_closed_is_none_yet() {
    let message = pb::AgentMessage::default;
    let (sender, receiver) = mpsc::channel(1);
    assert!(queue(&sender, message()).is_ok());
    assert!(matches!(
        queue(&sender, message()),
        Err(End::Lost { text }) if text.contains("does not read")
    ));
    drop(receiver);
    assert!(queue(&sender, message()).is_ok());
}
