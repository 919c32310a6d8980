//! Commands and flags, as the user writes them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use derms_client::proto::{
    DispatchStatus, EventSource, LiveKind, Power, Severity, SplitPolicy, Timestamp,
};

use crate::connection::ConnectionArgs;
use crate::input::{duration, point, power, ramp, status};

/// The command line of an operator: see a fleet, order, limit and stop it, take its history away.
///
/// ASSET and SITE are a name, an id, or the first 4 or more characters of an id that begin no
/// other. Powers are in MW unless a unit follows (5, 5MW, -500kW): positive = discharge,
/// generation, export; negative = charge, consumption, import. Durations have units (90s, 15m,
/// 1h30m). Times are RFC 3339, a day (2026-01-31), or from now: -1h, `2h ago`, +15m; UTC is shown.
///
/// Flags come first, the environment second, the default third.
///
/// Exit codes: 0 done, 1 it failed or was not confirmed, 2 the headend refused, 3 the headend can't
/// be reached or can't do it now, 64 bad usage.
#[derive(Debug, Parser)]
#[command(
    name = "derms",
    version,
    verbatim_doc_comment,
    next_line_help = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Assets with their agent, control, limits and stops; or all of one
    Assets {
        /// This one alone
        asset: Option<String>,
    },
    /// Sites with the sum of their power
    Sites,
    /// Agents that are connected now
    Agents(AgentArgs),
    /// The newest measurement of each asset, or all values of one
    Telemetry(TelemetryArgs),
    /// Follow what happens: a table on a terminal, else a line each; until Ctrl-C
    Watch(WatchArgs),
    /// Alarms and changes of state, newest first; or acknowledge one
    Events(EventsArgs),
    /// Order a power: shows what it would do, asks, and sends it
    Dispatch(Box<DispatchArgs>),
    /// End an order early
    Cancel {
        /// The order: its id, or the beginning of it
        id: String,
    },
    /// Limits, which hold over every order
    Limit {
        #[command(subcommand)]
        task: LimitTask,
    },
    /// Stop assets: 0 MW, and no order is taken, until `resume`
    Stop(StopArgs),
    /// End a stop
    Resume {
        /// The stop: its id, or the beginning of it
        id: String,
        /// Each asset returns after a random part of this. Default: 60s
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        within: Option<Duration>,
    },
    /// Who did what, newest first; for admins
    Audit(AuditArgs),
    /// Write a history to a file as CSV
    Export(ExportArgs),
    /// Whether the headend lives and can work
    Health,
    /// Print a completion script for a shell
    Completion {
        /// For which
        shell: Shell,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AgentArgs {
    /// Show assets that no agent serves, too
    #[arg(long, conflicts_with = "history")]
    pub(crate) all: bool,
    /// Show sessions instead, newest first
    #[arg(long)]
    pub(crate) history: bool,
    #[command(flatten)]
    pub(crate) window: Window,
}

/// The part of a history.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Window {
    /// Nothing before this time. Default: from the beginning
    #[arg(long, value_name = "TIME", value_parser = point, allow_hyphen_values = true)]
    pub(crate) from: Option<Timestamp>,
    /// Nothing at or after this time. Default: to the end
    #[arg(long, value_name = "TIME", value_parser = point, allow_hyphen_values = true)]
    pub(crate) to: Option<Timestamp>,
    /// At most so many rows, the newest
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub(crate) limit: u32,
}

/// One asset, one site, or everything.
#[derive(Debug, Default, ClapArgs)]
pub(crate) struct Target {
    /// Only this asset
    #[arg(long, value_name = "ASSET", conflicts_with = "site")]
    pub(crate) asset: Option<String>,
    /// Only this site
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only these: telemetry, dispatch, session, event; commas between them. Default: all
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<LiveKind>,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct TelemetryArgs {
    #[command(subcommand)]
    pub(crate) task: Option<TelemetryTask>,
    /// All values of this one
    pub(crate) asset: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TelemetryTask {
    /// Measurements of an asset, newest first
    History(TelemetryHistoryArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TelemetryHistoryArgs {
    pub(crate) asset: String,
    /// Smallest, mean and largest of each time of this length instead, in whole seconds
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) step: Option<Duration>,
    #[command(flatten)]
    pub(crate) window: Window,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct EventsArgs {
    #[command(subcommand)]
    pub(crate) task: Option<EventsTask>,
    #[command(flatten)]
    pub(crate) filter: EventFilterArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsTask {
    /// Everything of an event
    Show {
        /// The event: its id, or the beginning of it
        id: String,
    },
    /// Say that somebody has taken note of an event; the first acknowledgement stays
    Ack {
        /// The event: its id, or the beginning of it
        id: String,
        /// What there is to say of it, for people
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct EventFilterArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only this severe and above
    #[arg(long, value_name = "SEVERITY")]
    pub(crate) severity: Option<SeverityArg>,
    /// Only what this side raised
    #[arg(long)]
    pub(crate) source: Option<SourceArg>,
    /// Only what nobody has acknowledged
    #[arg(long, conflicts_with = "acknowledged")]
    pub(crate) unacknowledged: bool,
    /// Only what somebody has acknowledged
    #[arg(long)]
    pub(crate) acknowledged: bool,
    #[command(flatten)]
    pub(crate) window: Window,
}

/// [`Severity`], as it is written in a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SeverityArg {
    Info,
    Warning,
    Alarm,
    Critical,
}

impl From<SeverityArg> for Severity {
    fn from(severity: SeverityArg) -> Self {
        match severity {
            SeverityArg::Info => Self::Info,
            SeverityArg::Warning => Self::Warning,
            SeverityArg::Alarm => Self::Alarm,
            SeverityArg::Critical => Self::Critical,
        }
    }
}

/// [`EventSource`], as it is written in a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SourceArg {
    /// Devices and their agents
    Agent,
    /// The headend, of what it sees
    Headend,
}

impl From<SourceArg> for EventSource {
    fn from(source: SourceArg) -> Self {
        match source {
            SourceArg::Agent => Self::Agent,
            SourceArg::Headend => Self::Headend,
        }
    }
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DispatchArgs {
    #[command(subcommand)]
    pub(crate) task: Option<DispatchTask>,
    #[command(flatten)]
    pub(crate) order: OrderArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DispatchTask {
    /// An order with its steps and shares
    Show {
        /// The order: its id, or the beginning of it
        id: String,
    },
    /// Orders, newest first
    List(DispatchListArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DispatchListArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only orders that stand there now, such as active
    #[arg(long, value_parser = status)]
    pub(crate) status: Option<DispatchStatus>,
    #[command(flatten)]
    pub(crate) window: Window,
}

/// An order for an asset or a site.
#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("for").args(["asset", "site"]))]
pub(crate) struct OrderArgs {
    /// The power; + = discharge, generation, export
    #[arg(value_name = "MW", value_parser = power, allow_hyphen_values = true, requires = "for")]
    pub(crate) mw: Option<Power>,
    /// For this asset
    #[arg(long, value_name = "ASSET", requires = "mw")]
    pub(crate) asset: Option<String>,
    /// For this site: shared over its assets that are online
    #[arg(long, value_name = "SITE", requires = "mw")]
    pub(crate) site: Option<String>,
    /// How long it lasts; then the asset goes to its default. Default: until another order or `cancel`
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
    /// How long it may wait for its agent. Default: 5m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) ttl: Option<Duration>,
    /// Not before this time. Default: at once
    #[arg(long, value_name = "TIME", value_parser = point, allow_hyphen_values = true)]
    pub(crate) start_at: Option<Timestamp>,
    /// Largest change of power, MW per minute. Default: the asset's own
    #[arg(long, value_name = "MW/MIN", value_parser = ramp, allow_hyphen_values = true)]
    pub(crate) ramp: Option<f64>,
    /// How a site's order is shared. Default: capacity
    #[arg(long, conflicts_with = "asset")]
    pub(crate) policy: Option<PolicyArg>,
    /// Share what an asset that drops out can't do over the others
    #[arg(long, conflicts_with = "asset")]
    pub(crate) rebalance: bool,
    /// Only show what it would do
    #[arg(long, conflicts_with_all = ["yes", "wait"])]
    pub(crate) preview: bool,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Wait until it is active or has ended
    #[arg(long)]
    pub(crate) wait: bool,
    /// The same key with the same order gives no second one. Default: a new one, which is shown
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// [`SplitPolicy`], as it is written in a flag.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PolicyArg {
    /// In proportion to the energy capacity
    Capacity,
    /// In proportion to the room up to the limit
    Headroom,
    /// In proportion to the energy that is there, or that there is room for
    Soc,
    /// Equal shares
    Equal,
}

impl From<PolicyArg> for SplitPolicy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Capacity => Self::Capacity,
            PolicyArg::Headroom => Self::Headroom,
            PolicyArg::Soc => Self::Soc,
            PolicyArg::Equal => Self::Equal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum LimitTask {
    /// Hold an asset inside of bounds
    Set(LimitSetArgs),
    /// Remove a limit
    Remove {
        /// The limit: its id, or the beginning of it
        id: String,
    },
    /// Limits that hold, oldest first
    List(LimitListArgs),
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("bound").args(["min", "max"]).multiple(true).required(true))]
pub(crate) struct LimitSetArgs {
    /// The asset
    #[arg(long, value_name = "ASSET")]
    pub(crate) asset: String,
    /// Lowest power
    #[arg(long, value_name = "MW", value_parser = power, allow_hyphen_values = true)]
    pub(crate) min: Option<Power>,
    /// Highest power
    #[arg(long, value_name = "MW", value_parser = power, allow_hyphen_values = true)]
    pub(crate) max: Option<Power>,
    /// How long it holds. Default: until it is removed
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) duration: Option<Duration>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LimitListArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Show limits that have ended, too, newest first
    #[arg(long)]
    pub(crate) history: bool,
    #[command(flatten)]
    pub(crate) window: Window,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct StopArgs {
    #[command(subcommand)]
    pub(crate) task: Option<StopTask>,
    #[command(flatten)]
    pub(crate) order: StopOrderArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StopTask {
    /// Stops that hold, newest first
    List {
        /// Show stops that have ended, too
        #[arg(long)]
        history: bool,
    },
    /// A stop, and how far it has come
    Show {
        /// The stop: its id, or the beginning of it
        id: String,
    },
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").args(["asset", "site", "all"]))]
pub(crate) struct StopOrderArgs {
    /// Stop this asset
    #[arg(long, value_name = "ASSET")]
    pub(crate) asset: Option<String>,
    /// Stop all assets of this site
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Option<String>,
    /// Stop the whole fleet
    #[arg(long)]
    pub(crate) all: bool,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Don't ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AuditArgs {
    /// Only what this one did
    #[arg(long, value_name = "NAME")]
    pub(crate) principal: Option<String>,
    /// Only this action, such as submit_dispatch
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    #[command(flatten)]
    pub(crate) window: Window,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExportArgs {
    /// Which history
    pub(crate) what: Exported,
    /// Of telemetry, dispatches and events: only of this asset
    #[arg(long, value_name = "ASSET", conflicts_with = "site")]
    pub(crate) asset: Option<String>,
    /// Of telemetry, dispatches and events: only of this site
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Option<String>,
    /// Nothing before this time. Default: from the beginning
    #[arg(long, value_name = "TIME", value_parser = point, allow_hyphen_values = true)]
    pub(crate) from: Option<Timestamp>,
    /// Nothing at or after this time. Default: now
    #[arg(long, value_name = "TIME", value_parser = point, allow_hyphen_values = true)]
    pub(crate) to: Option<Timestamp>,
    /// The file; it is there when it is whole, FILE.part until then
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// What can be written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exported {
    /// Measurements, asset after asset, each newest first
    Telemetry,
    /// Orders, newest first
    Dispatches,
    /// Alarms and changes of state, newest first
    Events,
    /// Sessions of agents, newest first
    Sessions,
    /// Who did what, newest first; for admins
    Audit,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn order(words: &[&str]) -> Result<OrderArgs, clap::Error> {
        let all = ["derms", "dispatch"].iter().chain(words);
        match Args::try_parse_from(all)?.command {
            Command::Dispatch(args) => Ok(args.order),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_commands_contradict_themselves_nowhere() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_negative_power_needs_no_tricks_wherever_it_stands() {
        for words in [
            &["--asset", "BESS-1", "-5"][..],
            &["-5", "--asset", "BESS-1"],
            &["--asset", "BESS-1", "-5000kW", "--yes", "--duration", "15m"],
            &["--yes", "-5MW", "--asset=BESS-1"],
        ] {
            let order = order(words).unwrap();
            assert_eq!(order.mw, Some(Power::from_mw(-5.0)), "{words:?}");
            assert_eq!(order.asset.as_deref(), Some("BESS-1"));
            assert_eq!(order.yes, words.contains(&"--yes"));
        }
        let words = [
            "limit", "set", "--asset", "A", "--min", "-3", "--max", "-500kW",
        ];
        let args = Args::try_parse_from(std::iter::once("derms").chain(words)).unwrap();
        let Command::Limit {
            task: LimitTask::Set(limit),
        } = args.command
        else {
            panic!("{args:?}");
        };
        let (min, max) = (Power::from_mw(-3.0), Power::from_mw(-0.5));
        assert_eq!((limit.min, limit.max), (Some(min), Some(max)));
    }

    #[test]
    fn an_order_names_one_power_and_one_place() {
        for words in [
            &["5"][..],
            &["--asset", "A"],
            &["--asset", "A", "--site", "B", "5"],
            &["--asset", "A", "5", "--rebalance"],
            &["--asset", "A", "--asst", "5"],
            &["--asset", "A", "5", "--preview", "--yes"],
        ] {
            assert!(order(words).is_err(), "{words:?}");
        }
    }
}
