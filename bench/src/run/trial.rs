//! Both servers with one number of agents, side by side: what is measured of the one is measured
//! of the other seconds later, so that a noisy machine is noisy for both.

use std::thread::sleep;
use std::time::Duration;

use super::process::Process;
use super::{LOAD_CORE, SERVER_CORE, Scale};
use crate::words::{AskAges, Flood, Listening, Result, Send, Spread, Task, Told};

/// Histories that are read for the age of telemetry.
const ASKED: u32 = 2_000;
/// Until what a change left behind is gone.
const SETTLE: Duration = Duration::from_secs(3);
/// Connections that begin at the same time, when it is not a storm.
const CALM: u32 = 200;
/// What a flood is made of: 512 batches under way, as gateways send them after an outage.
const FLOOD: Flood = Flood {
    agents: 256,
    samples: 64,
    window: 2,
    seconds: 1.5,
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    Bare,
    /// With its store in memory.
    Headend,
    /// With its store in the database of this URL.
    Stored(String),
}

impl Server {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Headend => "headend",
            Self::Stored(url) if url.starts_with("sqlite:") => "headend with SQLite",
            Self::Stored(_) => "headend with PostgreSQL",
        }
    }
}

/// What is measured in one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The cost of a message and its age.
    Cost,
    /// Orders, a stuck agent and the storm, too.
    Whole,
    /// Orders, too.
    Orders,
    /// Orders and a flood, too.
    Stores,
}

/// What was measured in one round.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) cpu_per_million: f64,
    pub(super) age: Spread,
    pub(super) steady: Told,
    pub(super) ordered: Told,
    pub(super) stuck: Told,
    pub(super) storm_s: f64,
    /// Samples acknowledged in a second, when nothing but acknowledgements holds agents back.
    pub(super) flood_rate: f64,
}

impl Figures {
    /// Messages that were not taken, and connections that were lost.
    pub(super) fn dropped(&self) -> u64 {
        let of = |told: &Told| told.sent - told.acked + told.held + told.rewound + told.lost;
        of(&self.steady) + of(&self.ordered) + of(&self.stuck)
    }
}

/// A server with its agents.
#[derive(Debug)]
pub(super) struct Side {
    /// Ends first: it would complain that the server is gone.
    load: Process,
    process: Process,
    agents: u32,
    pub(super) idle_kib: f64,
}

impl Side {
    /// Starts a server and connects all agents.
    pub(super) fn start(server: &Server, scale: &Scale, agents: u32) -> Result<Self> {
        let count = agents.to_string();
        let part: &[&str] = match server {
            Server::Bare => &["bare"],
            Server::Headend => &["headend", &count],
            Server::Stored(url) => &["headend", &count, "--store", url],
        };
        let mut process = Process::part(scale.core(SERVER_CORE), scale.realtime, part)?;
        let listening: Listening = process.hear()?;
        let mut load = Process::part(scale.core(LOAD_CORE), scale.realtime, &["load"])?;
        sleep(scale.settle(SETTLE));
        let empty = process.rss_kib()?;
        let connect = Task::Connect {
            listening,
            rest: *server != Server::Bare,
            agents,
            at_once: CALM,
        };
        let _: Told = load.ask(&connect)?;
        sleep(scale.settle(SETTLE));
        let idle_kib = (process.rss_kib()? - empty) / f64::from(agents);
        Ok(Self {
            process,
            load,
            agents,
            idle_kib,
        })
    }

    /// Measures once.
    pub(super) fn measure(&mut self, scale: &Scale, what: What) -> Result<Figures> {
        let steady = Send {
            rate: scale.rate,
            seconds: scale.seconds,
            orders: 0,
            stuck: 0,
        };
        let warm = Send {
            seconds: scale.seconds / 4.0,
            ..steady
        };
        let _: Told = self.load.ask(&Task::Send(warm))?;
        let nothing = AskAges {
            since_us: 0,
            agents: 0,
        };
        let _: Spread = self.process.ask(&nothing)?;
        let before = self.process.cpu_seconds()?;
        let told: Told = self.load.ask(&Task::Send(steady))?;
        told.expect(steady)?;
        let cpu = self.process.cpu_seconds()? - before;
        let ask = AskAges {
            since_us: told.began_us,
            agents: self.agents.min(ASKED),
        };
        let age: Spread = self.process.ask(&ask)?;
        if age.count == 0 {
            return Err("the server holds no telemetry of what was sent".into());
        }
        let mut figures = Figures {
            cpu_per_million: cpu / told.sent as f64 * 1e6,
            age,
            steady: told,
            ..Figures::default()
        };
        if what != What::Cost {
            let orders = scale.orders;
            let ordered = Send { orders, ..steady };
            figures.ordered = self.load.ask(&Task::Send(ordered))?;
            figures.ordered.expect(ordered)?;
        }
        if what == What::Stores {
            let flood: Told = self.load.ask(&Task::Flood(scale.flood(FLOOD)))?;
            figures.flood_rate = (flood.acked * u64::from(FLOOD.samples)) as f64 / flood.seconds;
            sleep(scale.settle(SETTLE));
        }
        if what == What::Whole {
            let stuck = Send {
                stuck: scale.stuck,
                ..steady
            };
            figures.stuck = self.load.ask(&Task::Send(stuck))?;
            figures.stuck.expect(stuck)?;
            sleep(scale.settle(SETTLE));
            let at_once = self.agents;
            let storm: Told = self.load.ask(&Task::Storm { at_once })?;
            figures.storm_s = storm.seconds;
            sleep(scale.settle(SETTLE));
        }
        Ok(figures)
    }
}
