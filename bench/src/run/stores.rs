//! The headend with a store beside the headend without one.

use super::table::Row;
use super::trial::{Figures, Server, What};
use super::{Pair, Scale};
use crate::words::Result;

/// Samples a second through the whole headend, each acknowledged after its commit.
const SQLITE_RATE: f64 = 80_000.0;
const POSTGRES_RATE: f64 = 150_000.0;

pub(super) fn measure(
    scale: &Scale,
    rounds: u32,
    urls: &[String],
    apart: bool,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let what = if apart { What::Orders } else { What::Stores };
    for url in urls {
        let servers = [Server::Headend, Server::Stored(url.clone())];
        let pair = Pair::measure(scale, &servers, scale.agents, rounds, what)?;
        let (word, rate) = if url.starts_with("sqlite:") {
            ("SQLite", SQLITE_RATE)
        } else {
            ("PostgreSQL", POSTGRES_RATE)
        };
        rows.extend(compare(word, &pair));
        if what == What::Stores {
            let (without, with) = pair.of(|f| f.flood_rate);
            let name = format!("{word}: samples stored");
            rows.push(Row::at_least(&name, "1/s", without, with, rate));
        }
    }
    Ok(rows)
}

fn compare(word: &str, pair: &Pair) -> Vec<Row> {
    let ms = |us: u64| us as f64 / 1e3;
    let named = |what: &str| format!("{word}: {what}");
    let beside = |what: &str, unit, most, figure: fn(&Figures) -> u64| {
        pair.beside(&named(what), unit, most, move |f| ms(figure(f)))
    };
    let dropped = |rounds: &[Figures]| rounds.iter().map(Figures::dropped).sum::<u64>() as f64;
    vec![
        pair.beside(
            &named("processor per million messages"),
            "s",
            Some(1.5),
            |f| f.cpu_per_million,
        ),
        beside("the load itself late p99", "ms", None, |f| {
            f.steady.late.p99
        }),
        beside("age of telemetry p50", "ms", None, |f| f.age.p50),
        beside("age of telemetry p99", "ms", Some(1.2), |f| f.age.p99),
        beside("acknowledgement p50", "ms", None, |f| f.steady.ack.p50),
        beside("acknowledgement p99", "ms", None, |f| f.steady.ack.p99),
        Row::alone(
            &named("messages dropped in all rounds"),
            "messages",
            Some(dropped(&pair.bare)),
            dropped(&pair.headend),
            0.0,
        ),
        beside("order to apply p50", "ms", None, |f| f.ordered.apply.p50),
        beside("order to apply p99", "ms", None, |f| f.ordered.apply.p99),
    ]
}
