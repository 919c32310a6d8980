//! Runs the servers in turn, several rounds of each, and judges the medians.

mod edge;
mod process;
mod stores;
mod table;
mod trial;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::words::{self, Flood, Result};
use table::Row;
use trial::{Figures, Server, Side, What};

const SERVER_CORE: usize = 0;
const LOAD_CORE: usize = 1;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A few agents for a second: shows that the benchmark works, and judges nothing.
    #[arg(long)]
    quick: bool,
    /// How often everything is measured, one server after the other; medians count.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Seconds of each phase.
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// The `edge_agent` program whose memory is measured; left out if not given.
    #[arg(long)]
    edge_agent: Option<PathBuf>,
    /// Let servers and load go before all other work of the machine (`chrt --fifo`; for root).
    #[arg(long)]
    realtime: bool,
    /// Leave out the smaller numbers of agents.
    #[arg(long)]
    no_scale: bool,
    /// Measure the headend with this store beside the headend without one, instead of the headend
    /// beside a bare server; an empty database: `sqlite:FILE` or `postgres://…`. Can be repeated.
    #[arg(long, value_name = "URL")]
    store: Vec<String>,
    /// Give the headend with a store a core of its own, too, and leave out the flood, which is
    /// what both cores can store. For a database whose server was started on the other core
    /// (`taskset --cpu-list 1`).
    #[arg(long, requires = "store")]
    apart: bool,
}

/// How much of everything.
#[derive(Debug, Clone)]
struct Scale {
    agents: u32,
    smaller: Vec<u32>,
    rate: u32,
    seconds: f64,
    orders: u32,
    stuck: u32,
    quick: bool,
    realtime: bool,
    /// Each part has a core of its own.
    pinned: bool,
}

impl Scale {
    fn core(&self, core: usize) -> Option<usize> {
        self.pinned.then_some(core)
    }

    fn settle(&self, time: Duration) -> Duration {
        if self.quick { time / 20 } else { time }
    }

    fn flood(&self, flood: Flood) -> Flood {
        let seconds = if self.quick { 0.2 } else { flood.seconds };
        Flood { seconds, ..flood }
    }
}

pub(crate) fn run(options: &Options) -> Result {
    if let Some(agent) = options.edge_agent.as_deref().filter(|path| !path.is_file()) {
        return Err(format!("--edge-agent: there is no program {}", agent.display()).into());
    }
    let mut scale = if options.quick {
        Scale {
            agents: 200,
            smaller: vec![10],
            rate: 1_000,
            seconds: 1.0,
            orders: 20,
            stuck: 100,
            quick: true,
            realtime: options.realtime,
            // Must work on a machine of one core, too.
            pinned: false,
        }
    } else {
        Scale {
            agents: 10_000,
            smaller: vec![100, 1_000],
            rate: 25_000,
            seconds: options.seconds,
            orders: 100,
            stuck: 500,
            quick: false,
            realtime: options.realtime,
            // A database works beside the headend, in other threads or another process.
            pinned: options.store.is_empty() || options.apart,
        }
    };
    if options.no_scale {
        scale.smaller.clear();
    }
    let rounds = if options.quick { 1 } else { options.rounds };
    if !options.store.is_empty() {
        let rows = stores::measure(&scale, rounds, &options.store, options.apart)?;
        return Ok(verdict(&rows, ["without", "with"], options.quick));
    }
    let servers = [Server::Bare, Server::Headend];
    let whole = Pair::measure(&scale, &servers, scale.agents, rounds, What::Whole)?;
    let mut smaller = Vec::new();
    for agents in &scale.smaller {
        smaller.push(Pair::measure(
            &scale,
            &servers,
            *agents,
            rounds,
            What::Cost,
        )?);
    }
    let mut rows = rows(&scale, &whole, &smaller);
    if let Some(agent) = &options.edge_agent {
        let (single, gateway) = edge::memory(agent, options.quick)?;
        rows.push(Row::alone(
            "process of one simulated asset",
            "MiB",
            None,
            single / 1024.0,
            12.0,
        ));
        rows.push(Row::alone(
            "process of a gateway of 256",
            "MiB",
            None,
            gateway / 1024.0,
            24.0,
        ));
    }
    Ok(verdict(&rows, ["bare", "headend"], options.quick))
}

fn verdict(rows: &[Row], sides: [&str; 2], quick: bool) -> ExitCode {
    let hold = table::print(rows, sides, !quick);
    if hold || quick {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The rounds of both servers with one number of agents.
#[derive(Debug, Clone, Default)]
struct Pair {
    bare: Vec<Figures>,
    headend: Vec<Figures>,
    idle_kib: (f64, f64),
}

impl Pair {
    /// The first server is what the second one is measured by.
    fn measure(
        scale: &Scale,
        servers: &[Server; 2],
        agents: u32,
        rounds: u32,
        what: What,
    ) -> Result<Self> {
        words::complain(&format!("{agents} agents connect to each server"));
        let mut bare = Side::start(&servers[0], scale, agents)?;
        let mut headend = Side::start(&servers[1], scale, agents)?;
        let mut pair = Self {
            idle_kib: (bare.idle_kib, headend.idle_kib),
            ..Self::default()
        };
        for round in 1..=rounds {
            for (side, server, into) in [
                (&mut bare, &servers[0], &mut pair.bare),
                (&mut headend, &servers[1], &mut pair.headend),
            ] {
                let figures = side.measure(scale, what)?;
                let name = server.name();
                words::complain(&format!(
                    "round {round} of {rounds}, {name}: {:.1} s per million; {} sent, {} dropped; age {}, \
                     acknowledgement {}, order to apply {}, beside a stuck agent {}, all back {:.2} s",
                    figures.cpu_per_million,
                    figures.steady.sent,
                    figures.dropped(),
                    figures.age,
                    figures.steady.ack,
                    figures.ordered.apply,
                    figures.stuck.ack,
                    figures.storm_s,
                ));
                into.push(figures);
            }
        }
        Ok(pair)
    }

    /// Medians of one figure.
    fn of(&self, figure: impl Fn(&Figures) -> f64) -> (f64, f64) {
        let median = |rounds: &[Figures]| {
            let mut values: Vec<f64> = rounds.iter().map(&figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        (median(&self.bare), median(&self.headend))
    }

    fn beside(
        &self,
        name: &str,
        unit: &str,
        most: Option<f64>,
        figure: impl Fn(&Figures) -> f64,
    ) -> Row {
        let (bare, headend) = self.of(figure);
        Row::beside(name, unit, bare, headend, most)
    }

    fn alone(&self, name: &str, unit: &str, most: f64, figure: impl Fn(&Figures) -> f64) -> Row {
        let (bare, headend) = self.of(figure);
        Row::alone(name, unit, Some(bare), headend, most)
    }
}

fn rows(scale: &Scale, whole: &Pair, smaller: &[Pair]) -> Vec<Row> {
    let ms = |us: u64| us as f64 / 1e3;
    let cost = |figures: &Figures| figures.cpu_per_million;
    let dropped = |rounds: &[Figures]| rounds.iter().map(Figures::dropped).sum::<u64>() as f64;
    let mut rows = vec![
        whole.beside("processor per million messages", "s", Some(1.25), cost),
        whole.beside("the load itself late p99", "ms", None, |f| {
            ms(f.steady.late.p99)
        }),
        whole.beside("age of telemetry p50", "ms", None, |f| ms(f.age.p50)),
        whole.beside("age of telemetry p99", "ms", Some(2.0), |f| ms(f.age.p99)),
        whole.beside("acknowledgement p50", "ms", None, |f| ms(f.steady.ack.p50)),
        whole.beside("acknowledgement p99", "ms", None, |f| ms(f.steady.ack.p99)),
        Row::alone(
            "messages dropped in all rounds",
            "messages",
            Some(dropped(&whole.bare)),
            dropped(&whole.headend),
            0.0,
        ),
        whole.alone("order to apply p50", "ms", 1.0, |f| ms(f.ordered.apply.p50)),
        whole.alone("order to apply p99", "ms", 10.0, |f| {
            ms(f.ordered.apply.p99)
        }),
        whole.beside("order to its answer p99", "ms", None, |f| {
            ms(f.ordered.answer.p99)
        }),
        whole.beside("all agents back", "s", Some(1.5), |f| f.storm_s),
        Row::alone(
            "memory per idle agent",
            "KiB",
            Some(whole.idle_kib.0),
            whole.idle_kib.1,
            30.0,
        ),
    ];
    let (bare, headend) = whole.of(|f| ms(f.stuck.ack.p99) / ms(f.steady.ack.p99));
    rows.push(Row::alone(
        "p99 beside a stuck agent",
        "of that without",
        Some(bare),
        headend,
        1.2,
    ));
    for (agents, pair) in scale.smaller.iter().zip(smaller) {
        rows.push(pair.beside(
            &format!("processor per million with {agents}"),
            "s",
            None,
            cost,
        ));
        let (bare_few, headend_few) = pair.of(cost);
        let (bare, headend) = whole.of(cost);
        // Beside the bare server's: what grows for both, the caches of the machine do.
        let name = format!("growth of it from {agents} to {}", scale.agents);
        let (bare, headend) = (bare / bare_few, headend / headend_few);
        rows.push(Row::beside(&name, "times", bare, headend, Some(1.2)));
    }
    rows
}
