//! The launcher, as an operator uses it: everything is a process.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::time::Duration;

use derms_client::{AuditHistoryQuery, Client, DispatchOptions};
use derms_proto::{
    AgentMode, AssetId, AuditRecord, DispatchStatus, NewDispatch, Power, ProblemCode,
};
use derms_tests::{
    FREE, Folder, HeadendProcess, Process, Program, Relative, children_of, lasting_address, until,
};
use rustix::process::Signal;

const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
const ASSETS: usize = 11;
const SITES: usize = 3;

/// For what a loaded machine does at once.
const SOON: Duration = Duration::from_secs(20);

fn id(text: &str) -> AssetId {
    text.parse().unwrap()
}

/// A launcher with all its assets connected.
struct Demo {
    launcher: Process,
    client: Client,
    /// Where agents go, as it was printed.
    grpc: String,
    /// What its headend keeps.
    data: Folder,
}

impl Demo {
    /// With a headend of its own, on free ports.
    async fn start(args: &[&str]) -> Self {
        let own = ["--with-headend", "--http-addr", FREE, "--grpc-addr", FREE];
        Self::of(&[&own, args].concat()).await
    }

    async fn of(args: &[&str]) -> Self {
        let data = Folder::new();
        let path = data.path().display().to_string();
        let mut launcher = Program::new("agent_launcher")
            .args(args.iter().copied())
            .args(["--data-dir", &path])
            .start();
        let mut after = async |word: &str| {
            let line = launcher.says(&format!("  {word}  ")).await;
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let (rest, docs, grpc) = (
            after("REST").await,
            after("docs").await,
            after("gRPC").await,
        );
        assert_eq!(docs, format!("{rest}/docs"));
        for path in [
            "agents",
            &format!("telemetry/{BESS_1}"),
            "dispatch?wait_s=5",
        ] {
            launcher
                .says("curl")
                .await
                .find(&format!("{rest}/{path}"))
                .unwrap();
        }
        launcher
            .says(&format!("all {ASSETS} assets connected"))
            .await;
        let client = Client::new(rest.parse().unwrap()).unwrap();
        Self {
            launcher,
            client,
            grpc,
            data,
        }
    }

    /// What the launcher has started and runs.
    fn children(&self) -> Vec<Relative> {
        children_of(self.launcher.id())
    }

    /// Power and setpoint of the newest measurement, if there is one.
    async fn state(&self, asset: AssetId) -> Option<(f64, Option<f64>)> {
        let snapshot = self.client.telemetry(asset).await.ok()?;
        let measured = snapshot.telemetry.measurements;
        Some((measured.mw?.mw(), measured.setpoint_mw.map(Power::mw)))
    }

    async fn until_state(&self, asset: AssetId, wanted: (f64, Option<f64>)) {
        until(
            &format!("power and setpoint {wanted:?}"),
            SOON,
            async || {
                let (mw, setpoint) = self.state(asset).await?;
                ((mw - wanted.0).abs() < 0.01 && setpoint == wanted.1).then_some(())
            },
        )
        .await;
    }

    async fn until_connected(&self, asset: AssetId, wanted: bool) {
        until(&format!("connected = {wanted}"), SOON, async || {
            (self.client.asset(asset).await.unwrap().connected == wanted).then_some(())
        })
        .await;
    }

    async fn until_measured_anew(&self, asset: AssetId) {
        let before = self
            .client
            .telemetry(asset)
            .await
            .unwrap()
            .telemetry
            .measured_at;
        until("a new measurement", SOON, async || {
            let now = self
                .client
                .telemetry(asset)
                .await
                .unwrap()
                .telemetry
                .measured_at;
            (now > before).then_some(())
        })
        .await;
    }

    /// An agent that is started by hand.
    fn agent(&self, asset: &str) -> Process {
        Process::start(
            "edge_agent",
            &["--asset-id", asset, "--headend", &self.grpc],
        )
    }

    async fn interrupt(self) {
        self.launcher.signal(Signal::INT);
        let (code, said) = self.launcher.ended().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("all stopped"), "{said}");
        assert!(!said.contains("the launcher is gone"), "{said}");
    }
}

async fn until_all_ended(children: &[Relative]) {
    until(&format!("the end of {children:?}"), SOON, async || {
        children.iter().all(|child| !child.runs()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_command_runs_a_fleet_that_obeys_and_leaves_nothing_behind() {
    let demo = Demo::start(&[]).await;
    let agents = demo.client.agents().await.unwrap();
    assert_eq!(agents.len(), ASSETS);
    assert!(
        agents
            .iter()
            .all(|agent| agent.connected && agent.mode == Some(AgentMode::Single))
    );
    assert_eq!(demo.client.assets().await.unwrap().len(), ASSETS);
    let children = demo.children();
    assert_eq!(children.len(), ASSETS + 1);

    let asset = id(BESS_1);
    demo.until_state(asset, (0.0, None)).await;
    // Longer than the 4 s between two measurements, so that one shows it.
    let order = NewDispatch::asset(asset, Power::from_mw(5.0)).lasting(Duration::from_secs(6));
    let wait = DispatchOptions::new().wait(Duration::from_secs(5));
    let sent = demo.client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(sent.status, DispatchStatus::Active);
    demo.until_state(asset, (5.0, Some(5.0))).await;
    let done = tokio::time::timeout(SOON, demo.client.wait(sent.id)).await;
    assert_eq!(done.unwrap().unwrap().status, DispatchStatus::Completed);
    demo.until_state(asset, (0.0, None)).await;

    demo.interrupt().await;
    until_all_ended(&children).await;
}

#[tokio::test]
async fn what_a_launcher_started_ends_when_the_launcher_is_killed() {
    let demo = Demo::start(&[]).await;
    let children = demo.children();
    assert_eq!(children.len(), ASSETS + 1);
    demo.launcher.signal(Signal::KILL);
    let (code, _) = demo.launcher.ended().await;
    assert_eq!(code, None);
    until_all_ended(&children).await;
}

#[tokio::test]
async fn a_crashed_agent_is_reported_and_its_orders_wait_or_expire() {
    let mut demo = Demo::start(&[]).await;
    let asset = id(BESS_2);
    let children = demo.children();
    let agent = children.iter().find(|child| child.has(BESS_2)).unwrap();
    agent.signal(Signal::KILL);
    let line = demo.launcher.says("an agent has ended").await;
    assert!(
        line.contains("BESS-2") && line.contains("SIGKILL"),
        "{line}"
    );
    demo.until_connected(asset, false).await;

    // An order waits for its agent, which the launcher does not start again.
    let order = NewDispatch::asset(asset, Power::from_mw(-5.0)).lasting(Duration::from_secs(60));
    let waiting = demo.client.dispatch(&order).await.unwrap();
    assert_eq!(waiting.status, DispatchStatus::Pending);
    assert_eq!(demo.children().len(), ASSETS);
    let by_hand = demo.agent(BESS_2);
    let active = demo.client.wait_until_active(waiting.id);
    let active = tokio::time::timeout(SOON, active).await.unwrap().unwrap();
    assert_eq!(active.status, DispatchStatus::Active, "{active:?}");
    demo.until_state(asset, (-5.0, Some(-5.0))).await;
    assert_eq!(by_hand.terminated().await, Some(0));
    demo.until_connected(asset, false).await;

    // An order whose agent stays away for too long is never applied.
    let order = NewDispatch::asset(asset, Power::from_mw(7.0));
    let short = order.waiting_at_most(Duration::from_secs(2));
    let late = demo.client.dispatch(&short).await.unwrap();
    assert_eq!(late.status, DispatchStatus::Pending);
    let expired = tokio::time::timeout(SOON, demo.client.wait(late.id))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(expired.status, DispatchStatus::Expired);
    let again = demo.agent(BESS_2);
    demo.until_connected(asset, true).await;
    demo.until_measured_anew(asset).await;
    demo.until_measured_anew(asset).await;
    assert_eq!(demo.state(asset).await, Some((0.0, None)));
    let after = demo.client.get_dispatch(late.id).await.unwrap();
    assert_eq!(
        (after.status, after.transitions.len()),
        (DispatchStatus::Expired, 2),
        "{after:?}"
    );

    assert_eq!(again.terminated().await, Some(0));
    demo.interrupt().await;
}

#[tokio::test]
async fn with_gateway_each_site_is_one_agent_of_a_headend_that_runs_already() {
    let headend = HeadendProcess::start().await;
    let demo = Demo::of(&[
        "--gateway",
        "--headend",
        &headend.grpc,
        "--http-addr",
        &headend.http,
    ])
    .await;
    assert_eq!(demo.children().len(), SITES);

    let sites = demo.client.sites().await.unwrap();
    let agents = demo.client.agents().await.unwrap();
    assert_eq!((agents.len(), sites.len()), (SITES, SITES));
    for site in sites {
        let mut of_site = agents
            .iter()
            .filter(|agent| agent.site_id == Some(site.site.id));
        let agent = of_site.next().unwrap();
        assert_eq!(agent.mode, Some(AgentMode::Gateway));
        assert!(
            agent.peer.as_ref().unwrap().starts_with("127.0.0.1:"),
            "{agent:?}"
        );
        let mut served: Vec<_> = agent.assets.iter().map(|asset| asset.id).collect();
        let mut wanted: Vec<_> = site.assets.iter().map(|asset| asset.asset.id).collect();
        served.sort();
        wanted.sort();
        assert_eq!(served, wanted);
        assert!(of_site.next().is_none());
    }
    let children = demo.children();
    demo.interrupt().await;
    until_all_ended(&children).await;
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn the_launcher_tells_when_its_headend_can_not_listen_and_ends() {
    let headend = HeadendProcess::start().await;
    let taken = headend.http.as_str();
    let args = ["--with-headend", "--http-addr", taken, "--grpc-addr", FREE];
    let data = Folder::new();
    let output = Program::new("agent_launcher")
        .args(args)
        .env("DERMS_DATA_DIR", &data.path().display().to_string())
        .run()
        .await;
    assert_eq!(output.code, Some(1));
    assert!(output.stderr.contains(taken), "{}", output.stderr);
    assert!(
        output.stderr.contains("agent_launcher: der_headend ended"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn a_headend_that_is_killed_and_started_again_has_its_history_and_its_orders() {
    let (http, grpc) = (lasting_address().to_string(), lasting_address().to_string());
    let at = ["--http-addr", &http, "--grpc-addr", &grpc];
    let demo = Demo::of(&[&["--with-headend"], &at[..]].concat()).await;
    let (leased, waits) = (id(BESS_1), id(BESS_2));
    let order = NewDispatch::asset(leased, Power::from_mw(5.0)).lasting(Duration::from_secs(600));
    let wait = DispatchOptions::new().wait(SOON);
    let active = demo.client.dispatch_with(&order, wait).await.unwrap();
    assert_eq!(active.status, DispatchStatus::Active);
    // An order that waits for an agent that is gone.
    let agents = demo.children();
    let gone = agents.iter().find(|child| child.has(BESS_2)).unwrap();
    gone.signal(Signal::KILL);
    demo.until_connected(waits, false).await;
    let order = NewDispatch::asset(waits, Power::from_mw(-3.0));
    let pending = demo.client.dispatch(&order).await.unwrap();
    assert_eq!(pending.status, DispatchStatus::Pending);
    let history = async || {
        let page = demo
            .client
            .telemetry_history(leased, Default::default())
            .await;
        page.ok().map(|page| page.items.len())
    };
    let before = until("history", SOON, async || {
        history().await.filter(|rows| *rows > 0)
    })
    .await;

    let headend = agents
        .iter()
        .find(|child| child.has("--exit-with-parent") && child.has(&http));
    let headend = headend.unwrap();
    headend.signal(Signal::KILL);
    until("its end", SOON, async || (!headend.runs()).then_some(())).await;
    let folder = demo.data.path().display().to_string();
    let program = Program::new("der_headend")
        .args(at)
        .args(["--data-dir", &folder]);
    let again = HeadendProcess::of(program).await;

    let known = async |id| demo.client.get_dispatch(id).await.unwrap();
    assert_eq!(known(pending.id).await.status, DispatchStatus::Pending);
    let now = known(active.id).await;
    assert_eq!(now.status, DispatchStatus::Active);
    assert_eq!(
        now.transitions[..active.transitions.len()],
        active.transitions
    );
    demo.until_connected(leased, true).await;
    assert!(history().await.unwrap() >= before);
    // The agent that comes back gets the order that has waited for it.
    let agent = demo.agent(BESS_2);
    until("the order at the device", SOON, async || {
        (known(pending.id).await.status == DispatchStatus::Active).then_some(())
    })
    .await;
    assert_eq!(agent.terminated().await, Some(0));
    assert_eq!(again.process.terminated().await, Some(0));
    demo.interrupt().await;
}

#[tokio::test]
async fn with_tls_everything_is_on_mutual_tls_with_roles_in_one_command() {
    let data = Folder::new();
    let path = data.path().display().to_string();
    let own = [
        "--with-headend",
        "--tls",
        "--http-addr",
        FREE,
        "--grpc-addr",
        FREE,
    ];
    let start = || {
        Program::new("agent_launcher")
            .args(own)
            .args(["--data-dir", &path])
            .start()
    };
    let mut launcher = start();
    let line = launcher.says("  REST  ").await;
    let rest = line.split_whitespace().nth(1).unwrap().to_owned();
    assert!(rest.starts_with("https://"), "{rest}");
    let grpc = launcher.says("  gRPC  ").await;
    assert!(grpc.contains("https://"), "{grpc}");
    launcher.says("curl -s --cacert").await;
    launcher
        .says(&format!("all {ASSETS} assets connected"))
        .await;
    let base = || rest.parse().unwrap();
    let ca = data.path().join("pki/ca.pem");
    let of = |role: &str| {
        let token = data.path().join(format!("access/{role}.token"));
        Client::builder(base())
            .ca(&ca)
            .token_file(token)
            .build()
            .unwrap()
    };
    let nobody = Client::builder(base()).ca(&ca).build().unwrap();
    let refused = nobody.agents().await.unwrap_err();
    assert_eq!(refused.code(), Some(ProblemCode::Unauthenticated));
    let order = NewDispatch::asset(id(BESS_1), Power::from_mw(5.0));
    let client = of("viewer");
    let refused = client.dispatch(&order).await.unwrap_err();
    assert_eq!(refused.code(), Some(ProblemCode::Forbidden));
    let options = DispatchOptions::new().wait(SOON);
    let taken = of("operator").dispatch_with(&order, options).await;
    assert_eq!(taken.unwrap().status, DispatchStatus::Active);
    // The trail is stored a moment after the call that it tells of.
    let admin = of("admin");
    until("the trail tells of both", SOON, async || {
        let trail = admin.audit(AuditHistoryQuery::new()).await.unwrap();
        let recorded = |who: &str, status: u16| {
            let matches = |it: &&AuditRecord| {
                it.principal.as_deref() == Some(who) && it.status == Some(status)
            };
            trail.items.iter().any(|it| matches(&it))
        };
        (recorded("demo-viewer", 403) && recorded("demo-operator", 202)).then_some(())
    })
    .await;
    for agent in client.agents().await.unwrap() {
        let id = agent.agent_id.unwrap();
        assert_eq!(agent.principal, Some(format!("urn:derms:agent:{id}")));
    }
    assert!(
        Client::new(base()).unwrap().agents().await.is_err(),
        "no browser's CA"
    );
    assert_eq!(launcher.terminated().await, Some(0));

    // A second time with the same CA.
    let before = std::fs::read(data.path().join("pki/ca.pem")).unwrap();
    let mut launcher = start();
    launcher
        .says(&format!("all {ASSETS} assets connected"))
        .await;
    assert_eq!(
        std::fs::read(data.path().join("pki/ca.pem")).unwrap(),
        before
    );
    assert_eq!(launcher.terminated().await, Some(0));
}
