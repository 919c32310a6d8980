//! Flags and environment, checked; a mistake is one line that says what to change.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use derms_client::proto::Fleet;
use derms_program::{Failure, LogArgs, LogFormat, Stop, headend_uri, socket_address};
use http::Uri;

/// Starts one simulated agent per asset of the fleet file: for tests and bring-up only.
///
/// With --with-headend it starts a headend too: the whole system with one command.
/// An agent that ends is reported and not started again. Ctrl-C or SIGTERM stops all that was
/// started; nothing is left behind.
///
/// Flags come first, the environment second, the default third.
///
/// Exit codes: 0 stopped on request, 1 the start failed or everything has ended, 64 bad
/// configuration.
#[derive(Debug, Parser)]
#[command(
    name = "agent_launcher",
    version,
    verbatim_doc_comment,
    next_line_help = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    /// The fleet file
    #[arg(
        long,
        env = "ASSETS_PATH",
        value_name = "FILE",
        default_value = "assets.yaml"
    )]
    pub(crate) assets: PathBuf,

    /// Where a headend that runs already takes agents; `host:port` is accepted too.
    /// Default: http://127.0.0.1:50051
    #[arg(long, env = "HEADEND_GRPC", value_name = "URL", value_parser = headend_uri)]
    pub(crate) headend: Option<Uri>,

    /// Start one agent per site, a gateway, instead of one per asset
    #[arg(long)]
    pub(crate) gateway: bool,

    /// Start a headend too, and point the agents at it
    #[arg(long)]
    pub(crate) with_headend: bool,

    /// Encrypt everything: make certificates for development in the data folder (pki), and start the
    /// headend and its agents with them
    #[arg(long, requires = "with_headend")]
    pub(crate) tls: bool,

    /// Where the headend serves REST. Default: 127.0.0.1:3001, without --with-headend on the host
    /// of --headend
    #[arg(long, env = "HEADEND_HTTP_ADDR", value_name = "HOST:PORT")]
    pub(crate) http_addr: Option<String>,

    /// Where the headend of --with-headend takes agents. Default: 127.0.0.1:50051
    #[arg(long, env = "HEADEND_GRPC_ADDR", value_name = "HOST:PORT")]
    pub(crate) grpc_addr: Option<String>,

    /// Where agents remember orders, reports and samples over a restart: a folder in it for each.
    /// Default: none, all is kept in memory
    #[arg(long, env = "DERMS_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,

    /// The folder in which the headend of --with-headend keeps history and orders. Default:
    /// derms-data
    #[arg(long, env = "DERMS_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,

    /// The file with the bearer token for the REST service of the headend, if that asks for one.
    /// Default: none
    #[arg(long, env = "DERMS_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) assets: PathBuf,
    /// Agents have a folder each in it; `None`: they keep all in memory.
    pub(crate) state_dir: Option<PathBuf>,
    /// With at least one asset.
    pub(crate) fleet: Fleet,
    pub(crate) gateway: bool,
    pub(crate) headend: HeadendConfig,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) log_format: LogFormat,
}

/// Which headend the agents go to.
#[derive(Debug)]
pub(crate) enum HeadendConfig {
    /// One that is started; what is absent is left to it.
    Start {
        http_addr: Option<SocketAddr>,
        grpc_addr: Option<SocketAddr>,
        data_dir: Option<PathBuf>,
        tls: bool,
    },
    /// One that runs already.
    Running { grpc: Uri, rest: Uri },
}

impl Config {
    /// From the arguments (the program's name first) and the environment.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let args = derms_program::parse(args)?;
        Ok(Self::check(args).map_err(Failure::configuration)?)
    }

    fn check(args: Args) -> Result<Self, String> {
        let fleet = Fleet::load(&args.assets).map_err(|error| error.to_string())?;
        if fleet.assets().is_empty() {
            return Err(format!("{} has no assets; add one", args.assets.display()));
        }
        let headend = match (args.with_headend, args.headend) {
            (true, Some(_)) => {
                return Err(
                    "--with-headend starts a headend of its own for the agents; \
                            leave out --headend (HEADEND_GRPC)"
                        .to_owned(),
                );
            }
            (true, None) => HeadendConfig::Start {
                http_addr: listened("--http-addr (HEADEND_HTTP_ADDR)", args.http_addr)?,
                grpc_addr: listened("--grpc-addr (HEADEND_GRPC_ADDR)", args.grpc_addr)?,
                data_dir: args.data_dir,
                tls: args.tls,
            },
            (false, grpc) => running(grpc, args.http_addr.as_deref())?,
        };
        Ok(Self {
            assets: args.assets,
            state_dir: args.state_dir,
            fleet,
            gateway: args.gateway,
            headend,
            token_file: args.token_file,
            log_format: args.log.log_format,
        })
    }
}

/// Where the headend that is started listens.
fn listened(flag: &str, address: Option<String>) -> Result<Option<SocketAddr>, String> {
    address
        .map(|text| socket_address(&text).map_err(|error| format!("{flag} `{text}`: {error}")))
        .transpose()
}

fn running(grpc: Option<Uri>, http_addr: Option<&str>) -> Result<HeadendConfig, String> {
    let grpc = grpc.unwrap_or_else(|| Uri::from_static("http://127.0.0.1:50051"));
    let rest = match http_addr {
        Some(address) => address.to_owned(),
        None => format!("{}:3001", grpc.host().unwrap_or("127.0.0.1")),
    };
    let rest = headend_uri(&rest)
        .map_err(|error| format!("--http-addr (HEADEND_HTTP_ADDR) {rest}: {error}"))?;
    Ok(HeadendConfig::Running { grpc, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml");

    fn parse(args: &[&str]) -> Result<Config, Stop> {
        Config::parse(["agent_launcher"].iter().chain(args).map(OsString::from))
    }

    fn bad(args: &[&str]) -> String {
        match parse(args) {
            Err(Stop::Failed(failure)) => {
                assert_eq!(failure.code(), 64);
                failure.line().to_owned()
            }
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    #[test]
    fn agents_go_to_a_headend_on_this_machine_unless_told_otherwise() {
        let config = parse(&["--assets", FILE]).unwrap();
        assert!(!config.gateway);
        assert_eq!(config.log_format, LogFormat::Text);
        let HeadendConfig::Running { grpc, rest } = config.headend else {
            panic!("a headend is started");
        };
        assert_eq!(
            (grpc.to_string(), rest.to_string()),
            (
                "http://127.0.0.1:50051/".to_owned(),
                "http://127.0.0.1:3001/".to_owned()
            )
        );
    }

    #[test]
    fn rest_is_looked_for_beside_the_headend_or_where_it_is_said_to_be() {
        let rest = |args: &[&str]| match parse(args).unwrap().headend {
            HeadendConfig::Running { rest, .. } => rest.to_string(),
            HeadendConfig::Start { .. } => panic!("a headend is started"),
        };
        let far = ["--assets", FILE, "--headend", "far.example:1"];
        assert_eq!(rest(&far), "http://far.example:3001/");
        let said = [&far[..], &["--http-addr", "127.0.0.1:9"]].concat();
        assert_eq!(rest(&said), "http://127.0.0.1:9/");
    }

    #[test]
    fn the_addresses_of_a_headend_that_is_started_are_left_to_it_unless_given() {
        let config = parse(&[
            "--assets",
            FILE,
            "--with-headend",
            "--grpc-addr",
            "127.0.0.1:0",
        ])
        .unwrap();
        let HeadendConfig::Start {
            http_addr,
            grpc_addr,
            ..
        } = config.headend
        else {
            panic!("no headend is started");
        };
        assert_eq!(
            (http_addr, grpc_addr),
            (None, Some("127.0.0.1:0".parse().unwrap()))
        );
    }

    #[test]
    fn every_mistake_is_one_line_that_says_what_to_change() {
        let cases: [(&[&str], &str); 7] = [
            (&["--assets", FILE, "--tls"], "--with-headend"),
            (&["--assets", "nowhere.yaml"], "nowhere.yaml"),
            (
                &["--assets", FILE, "--with-headend", "--headend", "a:1"],
                "leave out --headend",
            ),
            (
                &["--assets", FILE, "--headend", "localhost"],
                "the port is missing",
            ),
            (
                &["--assets", FILE, "--with-headend", "--http-addr", "host:1"],
                "--http-addr (HEADEND_HTTP_ADDR)",
            ),
            (&["--log-format", "xml"], "text, json"),
            (&["--gatway"], "--gateway"),
        ];
        for (args, words) in cases {
            let line = bad(args);
            assert!(line.contains(words), "`{words}` is not in: {line}");
            assert!(!line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
