//! One server with one number of agents, from empty to the storm.

use std::thread::sleep;
use std::time::Duration;

use super::process::Process;
use super::{LOAD_CORE, SERVER_CORE, Scale};
use crate::words::{AskAges, Listening, Result, Send, Spread, Task, Told};

/// Histories that are read for the age of telemetry.
const ASKED: u32 = 2_000;
/// Until what a change left behind is gone.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Bare,
    Headend,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) idle_kib: f64,
    pub(super) cpu_per_million: f64,
    pub(super) age: Spread,
    pub(super) steady: Told,
    pub(super) ordered: Told,
    pub(super) stuck: Told,
    pub(super) storm_s: f64,
}

impl Figures {
    /// Messages that were not taken, and connections that were lost.
    pub(super) fn dropped(&self) -> u64 {
        let of = |told: &Told| told.sent - told.acked + told.held + told.rewound + told.lost;
        of(&self.steady) + of(&self.ordered) + of(&self.stuck)
    }
}

/// Runs one; `whole` adds orders, a stuck agent and the storm to the cost of a message.
pub(super) fn run(server: Server, scale: &Scale, agents: u32, whole: bool) -> Result<Figures> {
    let count = agents.to_string();
    let mut process = match server {
        Server::Bare => Process::part(SERVER_CORE, scale.realtime, &["bare"])?,
        Server::Headend => Process::part(SERVER_CORE, scale.realtime, &["headend", &count])?,
    };
    let listening: Listening = process.hear()?;
    let mut load = Process::part(LOAD_CORE, scale.realtime, &["load"])?;
    sleep(scale.settle(SETTLE));
    let empty = process.rss_kib()?;
    let connect = Task::Connect {
        listening,
        rest: server == Server::Headend,
        agents,
        at_once: 200,
    };
    let _: Told = load.ask(&connect)?;
    sleep(scale.settle(SETTLE));
    let idle_kib = (process.rss_kib()? - empty) / f64::from(agents);

    let steady = Send {
        rate: scale.rate,
        seconds: scale.seconds,
        orders: 0,
        stuck: 0,
    };
    let warm = Send {
        seconds: scale.seconds / 2.0,
        ..steady
    };
    let _: Told = load.ask(&Task::Send(warm))?;
    let _: Spread = process.ask(&AskAges {
        since_us: 0,
        agents: 0,
    })?;
    let before = process.cpu_seconds()?;
    let told: Told = load.ask(&Task::Send(steady))?;
    let cpu = process.cpu_seconds()? - before;
    let ask = AskAges {
        since_us: told.began_us,
        agents: agents.min(ASKED),
    };
    let age = process.ask(&ask)?;
    let mut figures = Figures {
        idle_kib,
        cpu_per_million: cpu / told.sent as f64 * 1e6,
        age,
        steady: told,
        ..Figures::default()
    };
    if whole {
        figures.ordered = load.ask(&Task::Send(Send {
            orders: scale.orders,
            ..steady
        }))?;
        figures.stuck = load.ask(&Task::Send(Send {
            stuck: scale.stuck,
            ..steady
        }))?;
        sleep(scale.settle(SETTLE));
        let storm: Told = load.ask(&Task::Storm { at_once: agents })?;
        figures.storm_s = storm.seconds;
    }
    Ok(figures)
}
