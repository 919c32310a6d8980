//! Six faults that all look like "no data", each named by a query of metrics and REST.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod diagnose;
mod source;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use derms_headend_sdk::store::PostgresStore;
use derms_headend_sdk::{Headend, HeadendBuilder, ServerTls};
use derms_proto::{Fleet, Timestamp};
use derms_tests::{FREE, Folder, Pki, PostgresServer, Process, Program, Wanted, root, until};
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use diagnose::{Cause, diagnose};
use source::Source;

const SOON: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";

/// A headend with the sample fleet; REST and agents have a port each.
struct Site {
    rest: SocketAddr,
    link: SocketAddr,
    headend: Source,
    _tasks: JoinSet<()>,
}

impl Site {
    async fn start() -> Self {
        Self::of(builder()).await
    }

    async fn of(builder: HeadendBuilder) -> Self {
        let headend = builder.build().await.unwrap();
        let bound = || Headend::bind(FREE.parse().unwrap()).unwrap();
        let (rest, link) = (bound(), bound());
        let (at, link_at) = (rest.local_addr().unwrap(), link.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        let (for_rest, for_link) = (headend.rest_service(), headend.grpc_service());
        tasks.spawn(async move {
            let listeners = vec![(rest, for_rest), (link, for_link)];
            headend.serve(listeners, std::future::pending()).await;
        });
        Self {
            rest: at,
            link: link_at,
            headend: Source::new(format!("http://{at}")),
            _tasks: tasks,
        }
    }

    /// The cause that is named from now on.
    async fn names(&self, agent: &Agent, cause: Cause) {
        let what = format!("{cause:?} is named");
        let named = until(&what, SOON, async || {
            let named = diagnose(&self.headend, &agent.metrics, BESS_1).await;
            (named == cause).then_some(())
        });
        named.await;
        let again = diagnose(&self.headend, &agent.metrics, BESS_1).await;
        assert_eq!(again, cause, "it stays so");
    }
}

fn builder() -> HeadendBuilder {
    let fleet = Fleet::load(root().join("assets.yaml")).unwrap();
    Headend::builder(fleet)
        .telemetry_interval(Duration::from_millis(500))
        .heartbeat_interval(Duration::from_secs(1))
}

/// The agent of BESS-1.
struct Agent {
    process: Process,
    metrics: Source,
}

impl Agent {
    async fn start(headend: &str, more: &[&str]) -> Self {
        let mut process = Program::new("edge_agent")
            .args(["--asset-id", BESS_1, "--headend", headend])
            .args(["--metrics-addr", FREE])
            .args(more.iter().copied())
            .start();
        let address = |line: &str| {
            let (_, rest) = line.split_once("metrics_addr=")?;
            rest.split_whitespace().next().map(str::to_owned)
        };
        let address = process.line("where its metrics are", address).await;
        Self {
            process,
            metrics: Source::new(format!("http://{address}")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_down_is_told_from_one_that_works() {
    let site = Site::start().await;
    let agent = Agent::start(&site.link.to_string(), &[]).await;
    site.names(&agent, Cause::Healthy).await;
    agent.process.signal(Signal::KILL);
    site.names(&agent, Cause::AgentDown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dials_a_wrong_port_is_told() {
    let site = Site::start().await;
    let nobody = TcpListener::bind(FREE).await.unwrap();
    let closed = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    for port in [closed, site.rest.to_string()] {
        let agent = Agent::start(&port, &[]).await;
        site.names(&agent, Cause::WrongPort).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_refused_is_told() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let tls = ServerTls::builder(ours.file("headend.pem"), ours.file("headend-key.pem"))
        .client_ca(ours.file("ca.pem"))
        .crl(ours.file("crl.pem"));
    let mut site = Site::of(builder().tls(tls.load().unwrap())).await;
    site.headend = Source::new(format!("https://{}", site.rest)).trusting(ours.file("ca.pem"));
    let show = |path: PathBuf| path.display().to_string();
    let shown = |pki: &Pki| {
        let (certificate, key) = pki.issue("agent", &Wanted::agent(1, BESS_1));
        [show(certificate), show(key)]
    };
    let (url, ca) = (format!("https://{}", site.link), show(ours.file("ca.pem")));
    let [certificate, key] = shown(&theirs);
    let stranger = Agent::start(&url, &["--ca", &ca, "--cert", &certificate, "--key", &key]).await;
    site.names(&stranger, Cause::Refused).await;
    drop(stranger);
    let [certificate, key] = shown(&ours);
    let good = Agent::start(&url, &["--ca", &ca, "--cert", &certificate, "--key", &key]).await;
    site.names(&good, Cause::Healthy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_can_not_be_read_is_told_whether_it_ever_could_or_not() {
    let (site, faults) = (Site::start().await, Folder::new());
    let flags = ["--faults-dir", &faults.path().display().to_string()];
    std::fs::write(faults.file(BESS_1), "bus fault 7").unwrap();
    let agent = Agent::start(&site.link.to_string(), &flags).await;
    site.names(&agent, Cause::AdapterFailing).await;
    std::fs::remove_file(faults.file(BESS_1)).unwrap();
    site.names(&agent, Cause::Healthy).await;
    std::fs::write(faults.file(BESS_1), "bus fault 8").unwrap();
    site.names(&agent, Cause::AdapterFailing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_by_an_hour_is_told_whichever_of_the_two_it_is() {
    let ahead = builder().clock(|| Timestamp::now().saturating_add(HOUR));
    let behind = builder().clock(|| {
        let micros = i64::try_from(HOUR.as_micros()).unwrap();
        Timestamp::from_unix_micros(Timestamp::now().unix_micros() - micros)
    });
    for headend in [ahead, behind] {
        let site = Site::of(headend).await;
        let agent = Agent::start(&site.link.to_string(), &[]).await;
        site.names(&agent, Cause::ClockOff).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_told() {
    let server = PostgresServer::start();
    let store = PostgresStore::connect(&server.database()).await.unwrap();
    let site = Site::of(builder().store(store)).await;
    let agent = Agent::start(&site.link.to_string(), &[]).await;
    site.names(&agent, Cause::Healthy).await;
    server.stop();
    site.names(&agent, Cause::StoreDown).await;
}
