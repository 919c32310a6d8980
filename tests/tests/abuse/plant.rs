//! A headend and an honest agent, and what must hold while somebody else misbehaves.

use std::net::SocketAddr;
use std::time::Duration;

use derms_client::DispatchOptions;
use derms_proto::{AssetId, DispatchStatus, NewDispatch, Power};
use derms_tests::{FREE, HeadendProcess, Process, Program, until};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep};

const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
/// What an order may take.
const PROMISE: Duration = Duration::from_secs(2);
/// What a whole abuse may cost in memory, kB. The bounds of the connections it uses are below.
const COST: u64 = 96 << 10;

/// They would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) struct Plant {
    headend: HeadendProcess,
    agent: Process,
    asset: AssetId,
    _alone: MutexGuard<'static, ()>,
}

impl Plant {
    pub(crate) async fn start() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let headend = HeadendProcess::at(FREE, FREE, "memory").await;
        let agent = Program::new("edge_agent")
            .args(["--assets", "assets.yaml", "--asset-id", BESS_1])
            .args(["--headend", &headend.grpc])
            .start();
        let asset = BESS_1.parse().unwrap();
        until("the agent measures", Duration::from_secs(60), async || {
            headend.client.telemetry(asset).await.ok()
        })
        .await;
        Self {
            headend,
            agent,
            asset,
            _alone: alone,
        }
    }

    /// Where agents go.
    pub(crate) fn agents(&self) -> SocketAddr {
        self.headend.grpc.parse().unwrap()
    }

    /// Where operators go.
    pub(crate) fn operators(&self) -> SocketAddr {
        self.headend.http.parse().unwrap()
    }

    /// Lets `abuse` run for `time`, and until it is done, beside honest work.
    pub(crate) async fn bears<T>(&self, time: Duration, abuse: impl Future<Output = T>) -> T {
        let end = Instant::now() + time;
        let before = self.memory();
        let measured = self.measured_at().await;
        let honest = async {
            let mut most = before;
            while Instant::now() < end {
                self.order_is_kept().await;
                most = most.max(self.memory());
            }
            most
        };
        let (most, done) = tokio::join!(honest, abuse);
        // Telemetry comes every 4 s.
        until("telemetry goes on", Duration::from_secs(6), async || {
            (self.measured_at().await > measured).then_some(())
        })
        .await;
        let agents = self.headend.client.agents().await.unwrap();
        assert_eq!(
            agents.len(),
            1,
            "the agent is connected, and nobody else: {agents:?}"
        );
        assert_eq!(agents[0].epoch, Some(1), "its session was never lost");
        let cost = most.saturating_sub(before);
        assert!(cost < COST, "it took {cost} kB, from {before} to {most}");
        done
    }

    async fn order_is_kept(&self) {
        let client = &self.headend.client;
        client.readyz().await.unwrap();
        let order = NewDispatch::asset(self.asset, Power::from_mw(1.0));
        let order = order.lasting(Duration::from_secs(60));
        let started = Instant::now();
        let wait = DispatchOptions::new().wait(PROMISE * 5);
        let order = client.dispatch_with(&order, wait).await.unwrap();
        assert_eq!(order.status, DispatchStatus::Active, "{order:?}");
        let took = started.elapsed();
        assert!(took < PROMISE, "an order took {took:?}");
        sleep(Duration::from_millis(100)).await;
    }

    async fn measured_at(&self) -> derms_proto::Timestamp {
        let latest = self.headend.client.telemetry(self.asset).await.unwrap();
        latest.telemetry.measured_at
    }

    /// What the headend has in memory, kB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.headend.process.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
        kilobytes.parse().unwrap()
    }

    /// Both still live, and end as they should.
    pub(crate) async fn ends_well(self) {
        assert_eq!(self.agent.terminated().await, Some(0));
        assert_eq!(self.headend.process.terminated().await, Some(0));
    }
}
