//! The examples do what they say. Those that end by themselves are run; of the others the parts
//! are, on ports that are free.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

use std::error::Error;
use std::net::SocketAddr;
use std::process::Command;

use derms_agent_sdk::{AgentRuntime, DerAdapter};
use derms_client::Client;
use derms_client::proto::{Asset, Dispatch, DispatchStatus, NewDispatch, Power};
use derms_headend_sdk::Headend;
use derms_headend_sdk::proto::Fleet;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

#[path = "../examples/hyper_headend.rs"]
#[expect(dead_code, reason = "its port may be taken")]
mod hyper_headend;
#[path = "../examples/mounted_headend.rs"]
#[expect(dead_code, reason = "its ports may be taken")]
mod mounted_headend;
#[path = "../examples/vendor_adapter.rs"]
#[expect(dead_code, reason = "its port may be taken")]
mod vendor_adapter;

#[path = "../examples/watch.rs"]
#[expect(dead_code, reason = "its address may be none")]
mod watch;

type Tested = Result<(), Box<dyn Error>>;

/// Examples are run from the root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What an example says that ends by itself. Cargo builds it before it runs this test, unless it
/// is asked for this test alone.
fn output(name: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(name);
    let output = Command::new(&program).current_dir(ROOT).output();
    let output = output.unwrap_or_else(|error| {
        panic!("{}: {error}; `cargo build --examples`", program.display());
    });
    assert!(output.status.success(), "{name}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn headend() -> (Headend, Asset) {
    let fleet = Fleet::load(format!("{ROOT}/assets.yaml")).unwrap();
    let first = fleet.assets()[0].clone();
    (Headend::builder(fleet).build().await.unwrap(), first)
}

/// Runs an agent with this device at the headend, and gives the asset an order.
async fn ordered(
    agents: SocketAddr,
    client: &Client,
    asset: Asset,
    device: impl DerAdapter,
) -> Result<Dispatch, Box<dyn Error>> {
    let agent = AgentRuntime::builder(format!("http://{agents}").parse()?)
        .adapter(asset.clone(), device)
        .build()?;
    let handle = agent.handle();
    let order = async {
        let wish = NewDispatch::asset(asset.id, Power::from_mw(5.0));
        let waiting = client.dispatch(&wish).await?;
        let active = client.wait_until_active(waiting.id).await;
        handle.shutdown();
        active
    };
    let (ran, dispatch) = tokio::join!(agent.run(), order);
    ran?;
    Ok(dispatch?)
}

#[test]
fn the_custom_store_keeps_its_contract_and_its_historian_gets_what_was_measured() {
    let said = output("custom_store");
    assert!(said.starts_with("the store keeps all "), "{said}");
    assert_eq!(said.matches("\nhistorian: BESS-1 ").count(), 3, "{said}");
}

#[test]
fn a_client_in_the_process_of_the_headend_orders_and_is_refused() {
    let said = output("in_process");
    assert!(said.contains("5 MW, Pending"), "{said}");
    assert!(said.contains("61 MW, "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_device_is_driven_by_an_order() -> Tested {
    let (headend, asset) = headend().await;
    let client = Client::with_service("/".parse()?, headend.rest_service())?;
    let listener = Headend::bind("127.0.0.1:0".parse()?)?;
    let agents = listener.local_addr()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = headend.serve(vec![(listener, headend.grpc_service())], async {
        drop(stopped.await);
    });
    let driven = async {
        let dispatch = ordered(agents, &client, asset, vendor_adapter::Inverter::default()).await;
        drop(stop);
        dispatch
    };
    let ((), dispatch) = tokio::join!(serving, driven);
    let dispatch = dispatch?;
    assert_eq!(dispatch.status, DispatchStatus::Active);
    assert_eq!(dispatch.applied_mw, Some(Power::from_mw(5.0)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mounted_headend_answers_under_its_prefix_behind_the_hosts_own_rule() -> Tested {
    let (headend, asset) = headend().await;
    let app = mounted_headend::app(&headend);
    let base = || "/derms".parse();
    let stranger = Client::with_service(base()?, app.clone())?;
    let refused = stranger.assets().await.unwrap_err();
    assert_eq!(refused.status().map(|status| status.as_u16()), Some(401));

    let ann = Client::builder(base()?)
        .service(app.clone())
        .bearer_token("ann-1")
        .build()?;
    assert_eq!(ann.assets().await?.len(), headend.fleet().assets().len());
    let wish = NewDispatch::asset(asset.id, Power::from_mw(5.0));
    let dispatch = ann.dispatch(&wish).await?;
    assert_eq!(dispatch.principal.as_deref(), Some("ann"));

    let order = axum::http::Request::post("/derms/dispatch")
        .header("authorization", "Bearer bob-2")
        .header("content-type", "application/json")
        .body(format!(r#"{{"asset_id": "{}", "mw": 1}}"#, asset.id))?;
    let answer = app.clone().oneshot(order).await?;
    let location = answer.headers()["location"].to_str()?;
    assert!(location.starts_with("/derms/dispatch/"), "{location}");

    let host = axum::http::Request::get("/").body(String::new())?;
    assert_eq!(app.oneshot(host).await?.status(), 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headend_in_bare_hyper_serves_operators_and_agents_and_knows_who_calls() -> Tested {
    let (headend, asset) = headend().await;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = headend.service();
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, peer)) = listener.accept().await {
            connections.spawn(hyper_headend::serve(stream, peer, service.clone()));
        }
    });
    let client = Client::new(format!("http://{address}").parse()?)?;
    let dispatch = ordered(address, &client, asset, vendor_adapter::Inverter::default()).await?;
    assert_eq!(dispatch.status, DispatchStatus::Active);
    let sessions = client
        .agents_history(derms_client::HistoryQuery::new())
        .await?;
    let peer = sessions.items[0].peer.as_deref().unwrap_or_default();
    assert!(peer.starts_with("127.0.0.1:"), "{peer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_is_told_what_the_fleet_does() -> Tested {
    let (headend, asset) = headend().await;
    let client = Client::with_service("/".parse()?, headend.rest_service())?;
    let listener = Headend::bind("127.0.0.1:0".parse()?)?;
    let agents = listener.local_addr()?;
    let (said, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let serving = headend.serve(
        vec![(listener, headend.grpc_service())],
        std::future::pending(),
    );
    let watching = watch::watch(&client, |line| drop(said.send(line)));
    let driven = async {
        let first = lines.recv().await.unwrap_or_default();
        assert_eq!(
            first,
            format!("{} assets, 0 MW", headend.fleet().assets().len())
        );
        let name = asset.name.clone();
        let device = vendor_adapter::Inverter::default();
        ordered(agents, &client, asset, device).await?;
        for wanted in ["connected", "order Active, 5 MW", "disconnected, Normal"] {
            let line = format!("{name}: {wanted}");
            while lines.recv().await.as_ref() != Some(&line) {}
        }
        Ok(())
    };
    tokio::select! {
        () = serving => Err("it ended".into()),
        watched = watching => Err(format!("{watched:?}").into()),
        driven = driven => driven,
    }
}
