//! A headend that serves over TLS, and agents that dial it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use derms_agent_sdk::{AgentBuilder, AgentEvent, AgentEvents, AgentRuntime, ClientTls, sim};
use derms_headend_sdk::{Headend, HeadendBuilder, ServerTls};
use derms_proto::{Asset, Fleet};
use derms_tests::{Pki, Wanted, until};
use tokio::task::JoinSet;

pub(crate) const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
pub(crate) const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
/// In Newark.
pub(crate) const PV_1: &str = "7ba7b820-9dad-11d1-80b4-00c04fd430c8";

/// Far above what anything here takes.
pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const RELOAD: Duration = Duration::from_millis(100);

pub(crate) fn fleet() -> Fleet {
    let root = derms_tests::root();
    Fleet::load(root.join("assets.yaml")).unwrap()
}

pub(crate) fn asset(id: &str) -> Asset {
    fleet().asset(id.parse().unwrap()).unwrap().clone()
}

/// TLS with a client CA and a CRL.
pub(crate) fn mutual(pki: &Pki) -> ServerTls {
    ServerTls::builder(pki.file("headend.pem"), pki.file("headend-key.pem"))
        .client_ca(pki.file("ca.pem"))
        .crl(pki.file("crl.pem"))
        .load()
        .unwrap()
}

/// A headend that serves until this is dropped.
pub(crate) struct Rig {
    pub(crate) headend: Headend,
    pub(crate) address: SocketAddr,
    client: derms_client::Client,
    tasks: JoinSet<()>,
}

impl Rig {
    pub(crate) async fn mutual(pki: &Pki) -> Self {
        Self::of(Headend::builder(fleet()).tls(mutual(pki))).await
    }

    pub(crate) async fn of(builder: HeadendBuilder) -> Self {
        let headend = builder.reload_interval(RELOAD).build().await.unwrap();
        let listener = Headend::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let rest = headend.rest_service();
        let client = derms_client::Client::with_service("/".parse().unwrap(), rest).unwrap();
        let mut tasks = JoinSet::new();
        let (serving, service) = (headend.clone(), headend.service());
        tasks.spawn(async move {
            let listeners = vec![(listener, service)];
            serving.serve(listeners, std::future::pending()).await;
        });
        Self {
            headend,
            address,
            client,
            tasks,
        }
    }

    /// An agent of this asset, with its id unless another is chosen.
    pub(crate) fn agent(&self, id: &str) -> AgentBuilder {
        self.agent_at("https", id)
    }

    pub(crate) fn agent_at(&self, scheme: &str, id: &str) -> AgentBuilder {
        let asset = asset(id);
        let device = sim::for_asset(&asset, 1);
        AgentRuntime::builder(format!("{scheme}://{}", self.address).parse().unwrap())
            .backoff(|_: u32| Duration::from_millis(50))
            .adapter(asset, device)
    }

    /// Runs an agent until the rig is dropped; gives its events.
    pub(crate) fn run(&mut self, agent: AgentBuilder) -> AgentEvents {
        let runtime = agent.build().unwrap();
        let events = runtime.handle().subscribe();
        self.tasks
            .spawn(async move { runtime.run().await.unwrap() });
        events
    }

    /// The same, until it is connected.
    pub(crate) async fn connected(&mut self, agent: AgentBuilder) -> AgentEvents {
        let mut events = self.run(agent);
        event(&mut events, "connected", |event| {
            matches!(event, AgentEvent::Connected { .. }).then_some(())
        })
        .await;
        events
    }

    /// Ids and epochs of the agents that the headend shows.
    pub(crate) async fn agents(&self) -> Vec<(String, u64)> {
        let agents = self.client.agents().await.unwrap();
        let shown = agents.iter();
        shown
            .map(|agent| (agent.agent_id.unwrap().to_string(), agent.epoch.unwrap()))
            .collect()
    }

    /// Ids of the assets that are served now.
    pub(crate) async fn connected_assets(&self) -> Vec<String> {
        let assets = self.client.assets().await.unwrap();
        let connected = assets.iter().filter(|status| status.connected);
        connected
            .map(|status| status.asset.id.to_string())
            .collect()
    }

    pub(crate) async fn principal(&self) -> Option<String> {
        self.client.agents().await.unwrap()[0].principal.clone()
    }

    pub(crate) async fn until_agents(&self, wanted: usize) {
        until("as many agents", SOON, async || {
            (self.agents().await.len() == wanted).then_some(())
        })
        .await;
    }
}

/// Trusts the CA of the headend and shows this certificate.
pub(crate) fn showing(pki: &Pki, (certificate, key): (PathBuf, PathBuf)) -> ClientTls {
    trusting(pki).certificate(certificate, key)
}

pub(crate) fn trusting(pki: &Pki) -> ClientTls {
    ClientTls::new().ca(pki.file("ca.pem"))
}

/// A good certificate of this agent.
pub(crate) fn good(pki: &Pki, serial: u64, agent: &str) -> ClientTls {
    showing(pki, pki.issue(agent, &Wanted::agent(serial, agent)))
}

/// The first event that `pick` takes.
pub(crate) async fn event<T>(
    events: &mut AgentEvents,
    what: &str,
    mut pick: impl FnMut(&AgentEvent) -> Option<T>,
) -> T {
    let mut seen = Vec::new();
    let found = tokio::time::timeout(SOON, async {
        loop {
            let event = events.next().await.unwrap();
            if let Some(found) = pick(&event) {
                return found;
            }
            seen.push(event);
        }
    });
    let found = found.await;
    let last = |seen: &[AgentEvent]| format!("{:?}", &seen[seen.len().saturating_sub(4)..]);
    found.unwrap_or_else(|_| panic!("no event of {what}; the last are {}", last(&seen)))
}

/// Why no session came about, or why it is not tried for a while.
pub(crate) async fn failure(events: &mut AgentEvents) -> String {
    event(events, "a failure", |event| match event {
        AgentEvent::ConnectFailed { text, .. } | AgentEvent::Disconnected { text, .. } => {
            Some(text.clone())
        }
        AgentEvent::Halted { text, reason, .. } => Some(format!("{reason:?}: {text}")),
        AgentEvent::Connected { .. } => panic!("it is connected"),
        _ => None,
    })
    .await
}
