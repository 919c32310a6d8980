//! What the director and the other parts say to each other.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a part of the benchmark ends with.
pub(crate) type Result<T = ExitCode> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The first line of a server.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Listening {
    /// Where agents connect.
    pub(crate) agents: SocketAddr,
    /// Where orders are given: REST, or the control port of the bare server.
    pub(crate) orders: SocketAddr,
}

/// Asks a server how old telemetry was when it could be seen there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct AskAges {
    /// Measured at or after this, microseconds since 1970.
    pub(crate) since_us: i64,
    /// Agents 0 up to this number.
    pub(crate) agents: u32,
}

/// An order to the load.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Connect and register, at most `at_once` at the same time.
    Connect {
        listening: Listening,
        rest: bool,
        agents: u32,
        at_once: u32,
    },
    /// Send telemetry, evenly over all agents and over time.
    Send(Send),
    /// Cut all connections and come back, all at once.
    Storm { at_once: u32 },
    /// Send as much as is acknowledged.
    Flood(Flood),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Send {
    /// Messages per second, all agents together.
    pub(crate) rate: u32,
    pub(crate) seconds: f64,
    /// Orders per second; one is under way at a time.
    pub(crate) orders: u32,
    /// Agent 0 reads nothing, but sends this often each second.
    pub(crate) stuck: u32,
}

/// Telemetry without a pause.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Flood {
    /// Agents 0 up to this number.
    pub(crate) agents: u32,
    /// Samples in a message.
    pub(crate) samples: u32,
    /// Unacknowledged messages of an agent.
    pub(crate) window: usize,
    pub(crate) seconds: f64,
}

/// What came of a task.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) seconds: f64,
    pub(crate) began_us: i64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    /// Not sent: the agent's window of unacknowledged batches was full.
    pub(crate) held: u64,
    /// Batches that the server asked for again.
    pub(crate) rewound: u64,
    /// Connections that ended without being asked to.
    pub(crate) lost: u64,
    /// How late the load itself was.
    pub(crate) late: Spread,
    /// From sending to the acknowledgement.
    pub(crate) ack: Spread,
    /// From giving an order to the agent that has it.
    pub(crate) apply: Spread,
    /// From giving an order to the answer that it is in force.
    pub(crate) answer: Spread,
}

impl Told {
    /// A phase in which nothing came through has measured nothing.
    pub(crate) fn expect(&self, send: Send) -> Result<()> {
        if self.acked == 0 {
            return Err(format!("none of {} messages was acknowledged", self.sent).into());
        }
        if send.orders > 0 && (self.apply.count == 0 || self.answer.count == 0) {
            let (applied, answered) = (self.apply.count, self.answer.count);
            return Err(format!("{applied} orders were applied, {answered} answered").into());
        }
        Ok(())
    }
}

/// How a quantity is spread; microseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} µs", self.p50, self.p99, self.max)
    }
}

/// Gathers times up to a minute, to three digits.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 60_000_000, 3)?))
    }

    pub(crate) fn add(&mut self, time: Duration) {
        self.0
            .saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn clear(&mut self) {
        self.0.reset();
    }

    pub(crate) fn spread(&self) -> Spread {
        Spread {
            count: self.0.len(),
            p50: self.0.value_at_quantile(0.5),
            p99: self.0.value_at_quantile(0.99),
            max: self.0.max(),
        }
    }
}

/// Writes one line of JSON.
pub(crate) fn tell(what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(what)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes a line for people; with nobody to read it, the exit code remains.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

pub(crate) fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_in_which_nothing_came_through_is_an_error() {
        let send = Send {
            rate: 1,
            seconds: 1.0,
            orders: 0,
            stuck: 0,
        };
        let mut told = Told::default();
        assert!(told.expect(send).is_err());
        told.acked = 1;
        assert!(told.expect(send).is_ok());
        assert!(told.expect(Send { orders: 1, ..send }).is_err());
    }
}
