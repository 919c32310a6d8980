//! A headend is told to stop under a load of 1,000 agents, and started again at the same address.
//!
//! Its figures: `cargo test -p derms-tests --test drain -- --nocapture`
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]
#![allow(clippy::print_stdout, reason = "its figures are there to be read")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use derms_agent_sdk::AgentEvent;
use derms_client::Client;
use derms_headend_sdk::store::{HistoryQuery, SqliteStore, Store as _, TelemetryQuery};
use derms_proto::{CloseReason, DispatchId, DispatchStatus, Fleet, NewDispatch, Power};
use derms_tests::{
    Folder, HeadendProcess, Numbered, Program, lasting_address, numbered_asset, numbered_fleet,
    reading_number, until,
};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const AGENTS: usize = 1_000;
/// A loaded machine that runs both sides.
const PATIENCE: Duration = Duration::from_secs(120);
/// `docs/protocol.md`, drain: a hard stop after 10 s, then 3 s for the store.
const DRAIN: Duration = Duration::from_secs(13);
/// `docs/protocol.md`: `retry_after` is within max(5 s, sessions / 200 s), and the agent adds up to
/// half of it.
const SPREAD: Duration = Duration::from_millis(7_500);
/// How late a timer may be on such a machine.
const LATE: Duration = Duration::from_secs(3);

/// What one agent was told, and when it was back.
enum Told {
    Left {
        cause: CloseReason,
        text: String,
        retry_in: Option<Duration>,
    },
    Dials(usize),
    Back(usize),
}

struct Plant {
    folder: Folder,
    http: String,
    grpc: String,
}

impl Plant {
    async fn headend(&self) -> HeadendProcess {
        let path = |name| self.folder.file(name).display().to_string();
        let (assets, database) = (path("assets.yaml"), format!("sqlite:{}", path("db")));
        let args = [
            "--assets",
            &assets,
            "--http-addr",
            &self.http,
            "--grpc-addr",
            &self.grpc,
            "--database-url",
            &database,
        ];
        HeadendProcess::of(Program::new("der_headend").args(args)).await
    }
}

/// Orders one agent after the other until nobody takes orders any more.
async fn give_orders(base: String) -> Vec<DispatchId> {
    let client = Client::builder(base.parse().unwrap())
        .retries(0)
        .build()
        .unwrap();
    let mut taken = Vec::new();
    for number in 1.. {
        // The last has no agent: what is for it waits.
        let asset = numbered_asset(if number % 10 == 0 {
            AGENTS
        } else {
            number % AGENTS
        });
        let order = NewDispatch::asset(asset, Power::from_mw(2.0)).lasting(PATIENCE);
        match client.dispatch(&order).await {
            Ok(order) => taken.push(order.id),
            Err(_) => break,
        }
        // A fifth of what one caller may do.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headend_that_is_stopped_and_started_under_a_thousand_agents_loses_nothing() {
    let begun = Instant::now();
    // A SIGTERM takes nothing of what a file system holds: no disk need be waited for.
    let folder = Folder::in_memory();
    let text = numbered_fleet(AGENTS + 1);
    std::fs::write(folder.file("assets.yaml"), &text).unwrap();
    let fleet = Fleet::from_yaml(&text, "assets.yaml").unwrap();
    let address = || lasting_address().to_string();
    let (http, grpc) = (address(), address());
    let plant = Plant { folder, http, grpc };
    let headend = plant.headend().await;

    let (sender, mut told) = mpsc::unbounded_channel();
    let (mut agents, mut devices) = (JoinSet::new(), Vec::new());
    for (number, asset) in fleet.assets()[..AGENTS].iter().enumerate() {
        let device = Numbered::new(Arc::new(AtomicBool::new(false)));
        let runtime = device.agent(&plant.grpc, asset.clone());
        devices.push(device);
        let (mut events, sender) = (runtime.handle().subscribe(), sender.clone());
        agents.spawn(async move { drop(runtime.run().await) });
        agents.spawn(async move {
            while let Some(event) = events.next().await {
                let told = match event {
                    AgentEvent::Connecting { .. } => Told::Dials(number),
                    AgentEvent::Connected { .. } => Told::Back(number),
                    AgentEvent::Disconnected {
                        reason,
                        text,
                        retry_in,
                    } => Told::Left {
                        cause: reason,
                        text,
                        retry_in,
                    },
                    _ => continue,
                };
                let _ = sender.send(told);
            }
        });
        if (number + 1) % 100 == 0 {
            // All at once, debug builds on a loaded machine would run into their time limits.
            let mut connected = 0;
            while connected < 100 {
                let next = tokio::time::timeout(PATIENCE, told.recv()).await;
                match next.expect("agents connect").unwrap() {
                    Told::Dials(_) => {}
                    Told::Back(_) => connected += 1,
                    Told::Left { text, .. } => panic!("a link was lost: {text}"),
                }
            }
        }
    }
    println!("all connected after {:?}", begun.elapsed());
    let orders = tokio::spawn(give_orders(format!("http://{}", plant.http)));
    until("each device to be read twice", PATIENCE, async || {
        devices
            .iter()
            .all(|device| device.readings() >= 2)
            .then_some(())
    })
    .await;

    println!("all read after {:?}", begun.elapsed());
    while let Ok(event) = told.try_recv() {
        if let Told::Left { text, .. } = event {
            panic!("a link was lost before anything happened: {text}");
        }
    }
    headend.process.signal(Signal::TERM);
    let start = Instant::now();
    let (code, said) = headend.process.ended().await;
    let drained = start.elapsed();
    assert_eq!(code, Some(0), "{said}");
    assert!(drained < DRAIN, "it drained for {drained:?}");
    assert!(
        !said.contains("did not"),
        "something was cut or not stored: {said}"
    );
    let orders = orders.await.unwrap();
    let headend = plant.headend().await;
    let (mut left, mut dialled, mut back) = (0, vec![None; AGENTS], vec![None; AGENTS]);
    while back.contains(&None) {
        let next = tokio::time::timeout(PATIENCE, told.recv()).await;
        match next.expect("all agents come back").unwrap() {
            Told::Left {
                cause,
                text,
                retry_in,
            } => {
                // None without a word of when to come back.
                let after = start.elapsed();
                assert_eq!(
                    cause,
                    CloseReason::Draining,
                    "{text}, seen after {after:?}, {left} left, drained in {drained:?}"
                );
                assert!(retry_in.unwrap() <= SPREAD, "{retry_in:?}");
                left += 1;
            }
            Told::Dials(number) => {
                dialled[number] = dialled[number].or(Some(start.elapsed()));
            }
            Told::Back(number) => back[number] = back[number].or(Some(start.elapsed())),
        }
    }
    assert_eq!(left, AGENTS);
    // Each came at its own time within the spread, as soon as somebody listened it was taken.
    let mut dialled: Vec<Duration> = dialled.into_iter().flatten().collect();
    dialled.sort_unstable();
    let last = dialled[AGENTS - 1];
    assert!(
        last <= drained + SPREAD + LATE,
        "the last dialled after {last:?}"
    );
    let halves = dialled.windows(AGENTS / 2);
    let densest = halves
        .map(|half| half[AGENTS / 2 - 1] - half[0])
        .min()
        .unwrap();
    assert!(
        densest > Duration::from_millis(500),
        "half of them came within {densest:?}"
    );
    let mut back: Vec<Duration> = back.into_iter().flatten().collect();
    back.sort_unstable();
    assert_eq!(headend.client.agents().await.unwrap().len(), AGENTS);

    // Each order that was taken is there, and moves on.
    assert!(!orders.is_empty());
    for id in &orders {
        until("an order to be answered", PATIENCE, async || {
            let order = headend.client.get_dispatch(*id).await.ok()?;
            assert_ne!(order.status, DispatchStatus::Indeterminate, "{order:?}");
            let waits = order.asset_id == Some(numbered_asset(AGENTS));
            let answered = order.status == DispatchStatus::Active || order.status.is_terminal();
            (waits || answered && !order.in_doubt).then_some(())
        })
        .await;
    }

    // Each reading up to the newest that is stored is there once.
    let seen: Vec<u64> = devices.iter().map(|device| device.readings()).collect();
    until("what was read meanwhile", PATIENCE, async || {
        // Few looks: each is a thousand snapshots.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let latest = headend.client.telemetry_all().await.ok()?;
        let numbers = latest
            .iter()
            .map(|it| reading_number(&it.telemetry.measurements));
        let behind = numbers.zip(&seen).filter(|(number, seen)| number < *seen);
        (latest.len() == AGENTS && behind.count() == 0).then_some(())
    })
    .await;
    assert_eq!(headend.process.terminated().await, Some(0));
    agents.shutdown().await;
    let store = SqliteStore::open(plant.folder.file("db")).await.unwrap();
    let mut stored = 0;
    for (number, seen) in seen.iter().enumerate() {
        let mut page = HistoryQuery::default();
        page.limit = 1_000;
        let query = TelemetryQuery::new(numbered_asset(number), page);
        let items = store.telemetry(&query).await.unwrap().items;
        let mut numbers: Vec<u64> = items
            .iter()
            .map(|item| reading_number(&item.measurements))
            .collect();
        numbers.sort_unstable();
        let all: Vec<u64> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, all, "readings of asset {number}");
        // All but what has not been acknowledged yet when it stopped for the second time.
        assert!(
            numbers.len() as u64 + 2 >= *seen,
            "{} of {seen}",
            numbers.len()
        );
        stored += numbers.len();
    }
    println!(
        "{AGENTS} agents: drained in {drained:?}, the last dialled after {last:?}, half of them were back \
         after {:?}, all after {:?}; {} orders, {stored} readings, nothing missing",
        back[AGENTS / 2],
        back[AGENTS - 1],
        orders.len()
    );
}
