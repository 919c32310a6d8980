//! Flags and environment, as the user writes them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use derms_agent_sdk::proto::{AgentId, AssetId, FailsafePolicy, Power, SiteId};
use derms_program::{LogArgs, ReportArgs, headend_uri, socket_address};
use http::Uri;

/// An agent that serves SIMULATED devices: one asset, or all assets of a site.
///
/// It dials the headend, sends telemetry and obeys setpoints until it is told to stop. Real
/// devices are served by a program of the vendor's own, built on the crate `derms-agent-sdk`.
///
/// Three ways to say what it serves:
///   edge_agent --asset-id ID                                        one asset of the fleet file
///   edge_agent --site-id ID                                         a gateway: all assets of the site
///   edge_agent --asset-id ID --site-id ID --max-mw 5 --min-mw=-5    one asset, without a file
///
/// `edge_agent check` with the same flags says what would keep it from working, and starts nothing.
///
/// Flags come first, the environment second, the default third. Power is in MW: positive =
/// discharge, generation, export; negative = charge, consumption, import.
///
/// Exit codes: 0 stopped on request (SIGTERM, Ctrl-C), 1 the start or a check failed,
/// 64 bad configuration.
#[derive(Debug, Parser)]
#[command(
    name = "edge_agent",
    version,
    verbatim_doc_comment,
    next_line_help = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    /// Where the headend takes agents, over TLS if it begins with https://; `host:port` is accepted
    /// too
    #[arg(long, global = true, env = "HEADEND_GRPC", value_name = "URL", default_value = "http://127.0.0.1:50051", value_parser = headend_uri)]
    pub(crate) headend: Uri,

    /// The fleet file. Default: assets.yaml, unless the asset is described by flags
    #[arg(long, global = true, env = "ASSETS_PATH", value_name = "FILE")]
    pub(crate) assets: Option<PathBuf>,

    /// Serve this asset
    #[arg(long, global = true, env = "ASSET_ID", value_name = "UUID")]
    pub(crate) asset_id: Option<AssetId>,

    /// Serve all assets of this site; with --asset-id: the site of that asset
    #[arg(long, global = true, env = "GATEWAY_SITE_ID", value_name = "UUID")]
    pub(crate) site_id: Option<SiteId>,

    /// Who it says it is. Default: the id of the asset, or of the site as a gateway
    #[arg(long, global = true, env = "AGENT_ID", value_name = "UUID")]
    pub(crate) agent_id: Option<AgentId>,

    /// Where it remembers orders, reports and samples over a restart; its own, made if it is not
    /// there. Default: none, all is kept in memory
    #[arg(long, global = true, env = "DERMS_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// Most room for samples that the headend has not acknowledged, MiB, 1 to 1048576; the oldest go
    /// first, and the headend is told. Default: 64, without --state-dir 8
    #[arg(long, global = true, env = "DERMS_OUTBOX_MIB", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) outbox_mib: Option<u32>,

    /// How long they are kept, hours, 1 to 8760. Default: 168, without --state-dir 24
    #[arg(long, global = true, env = "DERMS_OUTBOX_HOURS", value_name = "HOURS", value_parser = clap::value_parser!(u64).range(1..=8_760))]
    pub(crate) outbox_hours: Option<u64>,

    /// Chooses the values of the simulation, together with the asset's id
    #[arg(
        long,
        global = true,
        env = "SIM_SEED",
        value_name = "NUMBER",
        default_value_t = 0
    )]
    pub(crate) seed: u64,

    /// While there is a file named like an asset's id in this directory, the device of that asset
    /// fails with the text of the file, or does not answer if that is `hang`. Default: none
    #[arg(long, global = true, env = "SIM_FAULTS_DIR", value_name = "DIR")]
    pub(crate) faults_dir: Option<PathBuf>,

    /// Where what the agent counts can be read (GET /metrics, for Prometheus); port 0 takes a free
    /// one, which the log tells. Default: nowhere, no port is open
    #[arg(long, global = true, env = "METRICS_ADDR", value_name = "ADDR", value_parser = socket_address)]
    pub(crate) metrics_addr: Option<SocketAddr>,

    /// Let other machines read the metrics, which ask nobody who he is
    #[arg(long, global = true, env = "INSECURE_METRICS")]
    pub(crate) insecure_metrics: bool,

    #[command(flatten)]
    pub(crate) log: LogArgs,

    /// Stop when stdin is closed: a launcher that dies takes its agents with it
    #[arg(long, global = true, hide = true)]
    pub(crate) exit_with_parent: bool,

    // From here on each has a heading, which holds for what stands behind it.
    #[command(flatten)]
    pub(crate) security: SecurityArgs,

    #[command(flatten)]
    pub(crate) asset: AssetArgs,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look at all that the agent needs, from its files to the headend's grants and its devices, and
    /// say what to do; an agent of the same id that runs goes on
    #[command(arg_required_else_help = false)]
    Check(CheckArgs),
}

#[derive(Debug, Clone, Copy, ClapArgs)]
pub(crate) struct CheckArgs {
    /// Tell each device to go to its default, too: it may move. Refused while an agent of this id runs
    #[arg(long)]
    pub(crate) write_default: bool,

    #[command(flatten)]
    pub(crate) report: ReportArgs,
}

/// What the agent shows the headend, and whom it trusts.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "TLS and identity")]
pub(crate) struct SecurityArgs {
    /// The CAs that the headend's certificate may be of (PEM). Default: those that browsers trust
    #[arg(long, global = true, env = "HEADEND_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate of this agent (PEM), which names it: urn:derms:agent:ID. Default: none
    #[arg(
        long,
        global = true,
        env = "AGENT_CERT",
        value_name = "FILE",
        requires = "key"
    )]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert (PEM)
    #[arg(
        long,
        global = true,
        env = "AGENT_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,

    /// The name that the headend's certificate must have. Default: the host of --headend
    #[arg(long, global = true, env = "HEADEND_SERVER_NAME", value_name = "NAME")]
    pub(crate) server_name: Option<String>,

    /// A file with the token by which the headend knows this agent, if it has no certificate.
    /// Default: none
    #[arg(long, global = true, env = "AGENT_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
}

/// What the fleet file would say of the asset; the same words, units and defaults.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Asset without a fleet file")]
pub(crate) struct AssetArgs {
    /// Its name. Default: its id
    #[arg(long, global = true, env = "ASSET_NAME", value_name = "TEXT")]
    pub(crate) name: Option<String>,

    /// battery, pv, wind, ev_charger, meter, genset or other. Default: other
    #[arg(long = "type", global = true, env = "ASSET_TYPE", value_name = "TYPE")]
    pub(crate) kind: Option<KindArg>,

    /// Highest order, MW
    #[arg(
        long,
        global = true,
        env = "ASSET_MAX_MW",
        value_name = "MW",
        allow_negative_numbers = true
    )]
    pub(crate) max_mw: Option<f64>,

    /// Lowest order, MW
    #[arg(
        long,
        global = true,
        env = "ASSET_MIN_MW",
        value_name = "MW",
        allow_negative_numbers = true
    )]
    pub(crate) min_mw: Option<f64>,

    /// Energy it stores, MWh. Default: 0
    #[arg(
        long,
        global = true,
        env = "ASSET_CAPACITY_MWHR",
        value_name = "MWH",
        allow_negative_numbers = true
    )]
    pub(crate) capacity_mwhr: Option<f64>,

    /// Round-trip efficiency, above 0 to 1. Default: 1
    #[arg(
        long,
        global = true,
        env = "ASSET_EFFICIENCY",
        value_name = "SHARE",
        allow_negative_numbers = true
    )]
    pub(crate) efficiency: Option<f64>,

    /// Largest change of power, MW per minute. Default: no limit
    #[arg(
        long,
        global = true,
        env = "ASSET_RAMP_RATE_MW_PER_MIN",
        value_name = "MW_PER_MIN",
        allow_negative_numbers = true
    )]
    pub(crate) ramp_rate_mw_per_min: Option<f64>,

    /// Lowest state of charge, percent. Default: 0
    #[arg(
        long,
        global = true,
        env = "ASSET_MIN_SOC_PCT",
        value_name = "PERCENT",
        allow_negative_numbers = true
    )]
    pub(crate) min_soc_pct: Option<f64>,

    /// Highest state of charge, percent. Default: 100
    #[arg(
        long,
        global = true,
        env = "ASSET_MAX_SOC_PCT",
        value_name = "PERCENT",
        allow_negative_numbers = true
    )]
    pub(crate) max_soc_pct: Option<f64>,

    /// Power while no order is in force, MW. Default: 0; for pv and wind --max-mw
    #[arg(
        long,
        global = true,
        env = "ASSET_DEFAULT_MW",
        value_name = "MW",
        allow_negative_numbers = true
    )]
    pub(crate) default_mw: Option<f64>,

    /// What it does when the link is lost for too long: default, hold, or a power in MW.
    /// Default: default
    #[arg(long, global = true, env = "ASSET_FAILSAFE", value_name = "POLICY", allow_negative_numbers = true, value_parser = failsafe)]
    pub(crate) failsafe: Option<FailsafePolicy>,

    /// Seconds without a word from the headend until then. Default: 90
    #[arg(
        long,
        global = true,
        env = "ASSET_FAILSAFE_AFTER_S",
        value_name = "SECONDS"
    )]
    pub(crate) failsafe_after_s: Option<u64>,

    /// Seconds that this lasts at least. Default: 0
    #[arg(
        long,
        global = true,
        env = "ASSET_FAILSAFE_MIN_HOLD_S",
        value_name = "SECONDS"
    )]
    pub(crate) failsafe_min_hold_s: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum KindArg {
    Battery,
    Pv,
    Wind,
    EvCharger,
    Meter,
    Genset,
    Other,
}

impl AssetArgs {
    /// The first flag that was given, by its name.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            ("--max-mw", self.max_mw.is_some()),
            ("--min-mw", self.min_mw.is_some()),
            ("--name", self.name.is_some()),
            ("--type", self.kind.is_some()),
            ("--capacity-mwhr", self.capacity_mwhr.is_some()),
            ("--efficiency", self.efficiency.is_some()),
            (
                "--ramp-rate-mw-per-min",
                self.ramp_rate_mw_per_min.is_some(),
            ),
            ("--min-soc-pct", self.min_soc_pct.is_some()),
            ("--max-soc-pct", self.max_soc_pct.is_some()),
            ("--default-mw", self.default_mw.is_some()),
            ("--failsafe", self.failsafe.is_some()),
            ("--failsafe-after-s", self.failsafe_after_s.is_some()),
            ("--failsafe-min-hold-s", self.failsafe_min_hold_s.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

fn failsafe(text: &str) -> Result<FailsafePolicy, String> {
    match text {
        "default" => Ok(FailsafePolicy::Default),
        "hold" => Ok(FailsafePolicy::Hold),
        power => power
            .parse()
            .map(|mw| FailsafePolicy::Value(Power::from_mw(mw)))
            .map_err(|_| "write default, hold, or a power in MW".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_stands_under_the_heading_of_its_kind() {
        let command = <Args as clap::CommandFactory>::command();
        for (id, heading) in [
            ("seed", None),
            ("metrics_addr", None),
            ("log_format", None),
            ("token_file", Some("TLS and identity")),
            ("max_mw", Some("Asset without a fleet file")),
        ] {
            let mut flags = command.get_arguments();
            let flag = flags.find(|flag| flag.get_id() == id).unwrap();
            assert_eq!(flag.get_help_heading(), heading, "{id}");
        }
    }

    #[test]
    fn a_failsafe_is_a_word_or_a_power() {
        assert_eq!(failsafe("hold"), Ok(FailsafePolicy::Hold));
        assert_eq!(
            failsafe("-2.5"),
            Ok(FailsafePolicy::Value(Power::from_mw(-2.5)))
        );
        assert!(failsafe("stop").is_err());
    }
}
