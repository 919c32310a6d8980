//! Flags and environment, checked; a mistake is one line that says what to change.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Arg, Args as _, CommandFactory as _, Parser, Subcommand};
use derms_headend_sdk::proto::Fleet;
use derms_headend_sdk::store::Retention;
use derms_program::{Failure, LogArgs, LogFormat, ReportArgs, Stop, list_only, socket_address};

use crate::access::{Access, AccessArgs};
use crate::bounds::BoundArgs;
use crate::capacity::CapacityArgs;
use crate::check::Given;
use crate::database::{Database, DatabaseArgs};
use crate::db;
use crate::link::{Link, LinkArgs};
use crate::pki;
use crate::retention::RetentionArgs;
use crate::safe_start::{Guards, missing, refusal};
use crate::token;

/// A DERMS headend: agents dial in over gRPC, operators use REST.
///
/// It prints one JSON line with its addresses on stdout when it listens; everything else is
/// logged, to stderr. REST explains itself at /docs.
///
/// Flags come first, the environment second, the default third.
///
/// Exit codes: 0 stopped on request (SIGTERM, Ctrl-C), 1 the start or a check failed,
/// 64 bad configuration.
#[derive(Debug, Parser)]
#[command(
    name = "der_headend",
    version,
    verbatim_doc_comment,
    next_line_help = true,
    max_term_width = 100
)]
pub(crate) struct Args {
    /// The fleet file: sites and assets
    #[arg(
        long,
        global = true,
        env = "ASSETS_PATH",
        value_name = "FILE",
        default_value = "assets.yaml"
    )]
    assets: PathBuf,

    /// Where REST is served; port 0 takes a free one
    #[arg(long, global = true, env = "HEADEND_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:3001", value_parser = socket_address)]
    http_addr: SocketAddr,

    /// Where agents are served; the same address as --http-addr means one port for both
    #[arg(long, global = true, env = "HEADEND_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50051", value_parser = socket_address)]
    grpc_addr: SocketAddr,

    /// How many assets one agent may serve, 1 to 1024
    #[arg(long, global = true, env = "HEADEND_MAX_ASSETS_PER_AGENT", value_name = "COUNT", default_value = "256",
        value_parser = clap::value_parser!(u32).range(1..=1_024))]
    max_assets_per_agent: u32,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    retention: RetentionArgs,

    #[command(flatten)]
    log: LogArgs,

    /// Stop when stdin is closed: a launcher that dies takes its headend with it
    #[arg(long, hide = true)]
    exit_with_parent: bool,

    // From here on each has a heading, which holds for what stands behind it.
    #[command(flatten)]
    link: LinkArgs,

    #[command(flatten)]
    access: AccessArgs,

    #[command(flatten)]
    bounds: BoundArgs,

    #[command(flatten)]
    capacity: CapacityArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look after the database instead of running a headend
    #[command(arg_required_else_help = false)]
    Db {
        #[command(subcommand)]
        task: db::Task,
    },
    /// Make certificates for development instead of running a headend
    #[command(arg_required_else_help = false)]
    Pki(pki::PkiArgs),
    /// Look after the tokens of REST instead of running a headend
    #[command(arg_required_else_help = false)]
    Token {
        #[command(subcommand)]
        task: token::Task,
    },
    /// Look at all that a start needs, with the same flags, and say what to do; changes nothing
    #[command(arg_required_else_help = false)]
    Check(ReportArgs),
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Job {
    /// Run a headend.
    Serve(Box<Config>),
    /// Make certificates.
    Pki {
        args: pki::PkiArgs,
        log_format: LogFormat,
    },
    /// Look after the database.
    Db {
        task: db::Task,
        database: Database,
        retention: Retention,
        log_format: LogFormat,
    },
    /// Look after the tokens.
    Token {
        task: token::Task,
        file: PathBuf,
        log_format: LogFormat,
    },
    /// Look at what a start needs.
    Check {
        given: Box<Given>,
        report: ReportArgs,
        log_format: LogFormat,
    },
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) database: Database,
    pub(crate) link: Link,
    pub(crate) retention: Retention,
    pub(crate) fleet: Fleet,
    pub(crate) http_addr: SocketAddr,
    pub(crate) grpc_addr: SocketAddr,
    /// What keeps no stranger out; empty unless that was asked for.
    pub(crate) unsafe_because: Vec<String>,
    pub(crate) access: Access,
    pub(crate) bounds: BoundArgs,
    pub(crate) capacity: CapacityArgs,
    pub(crate) max_assets_per_agent: u32,
    pub(crate) log_format: LogFormat,
    pub(crate) exit_with_parent: bool,
}

/// With the help of each subcommand about what it uses: `check` uses all flags.
fn command() -> clap::Command {
    let log = LogArgs::augment_args(clap::Command::new("used"));
    let database = DatabaseArgs::augment_args(log.clone());
    let mut command = Args::command();
    for (subcommand, used) in [
        (&["pki"][..], log.clone()),
        (&["token"], log.arg(Arg::new("tokens"))),
        (&["db"], RetentionArgs::augment_args(database.clone())),
        (&["db", "status"], database.clone()),
        (&["db", "migrate"], database),
    ] {
        command = list_only(command, subcommand, &used);
    }
    command
}

impl Job {
    /// From the arguments (the program's name first) and the environment.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let args: Args = derms_program::parse_by(command(), args)?;
        Ok(Self::check(args).map_err(Failure::configuration)?)
    }

    fn check(args: Args) -> Result<Self, String> {
        let log_format = args.log.log_format;
        if let Some(Command::Check(report)) = args.command {
            return Ok(Self::Check {
                given: Box::new(Given {
                    database: Database::check(&args.database),
                    retention: args.retention.retention(),
                    assets: args.assets,
                    http_addr: args.http_addr,
                    grpc_addr: args.grpc_addr,
                    link: args.link,
                    access: args.access,
                }),
                report,
                log_format,
            });
        }
        let database = Database::check(&args.database)?;
        let retention = args.retention.retention();
        match args.command {
            Some(Command::Db { task }) => {
                return Ok(Self::Db {
                    task,
                    database,
                    retention,
                    log_format,
                });
            }
            Some(Command::Pki(args)) => return Ok(Self::Pki { args, log_format }),
            Some(Command::Token { task }) => {
                let file = args.access.tokens;
                let file =
                    file.ok_or("--tokens (DERMS_TOKENS): say which file the token goes to")?;
                return Ok(Self::Token {
                    task,
                    file,
                    log_format,
                });
            }
            Some(Command::Check(_)) | None => {}
        }
        let link = Link::check(&args.link)?;
        let access = Access::check(args.access)?;
        let guards = Guards {
            tls: link.tls.is_some(),
            link_auth: link.asks_agents(),
            rest_auth: !access.is_open(),
        };
        let unsafe_because = missing(args.http_addr, args.grpc_addr, guards);
        if !unsafe_because.is_empty() && !link.insecure {
            return Err(refusal(&unsafe_because));
        }
        Ok(Self::Serve(Box::new(Config {
            database,
            link,
            unsafe_because,
            retention,
            fleet: Fleet::load(&args.assets).map_err(|error| error.to_string())?,
            http_addr: args.http_addr,
            grpc_addr: args.grpc_addr,
            access,
            bounds: args.bounds,
            capacity: args.capacity,
            max_assets_per_agent: args.max_assets_per_agent,
            log_format,
            exit_with_parent: args.exit_with_parent,
        })))
    }
}

impl Config {
    /// Whether REST and agents share a port.
    pub(crate) fn one_port(&self) -> bool {
        one_port(self.http_addr, self.grpc_addr)
    }
}

pub(crate) fn one_port(http: SocketAddr, grpc: SocketAddr) -> bool {
    http == grpc && http.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml");

    fn parse(flags: &[&str]) -> Result<Job, Stop> {
        let all = ["der_headend", "--assets", FILE].into_iter();
        Job::parse(all.chain(flags.iter().copied()).map(OsString::from))
    }

    fn served(flags: &[&str]) -> Config {
        match parse(flags) {
            Ok(Job::Serve(config)) => *config,
            other => panic!("{flags:?} gave {other:?}"),
        }
    }

    fn bad(flags: &[&str]) -> String {
        match parse(flags) {
            Err(Stop::Failed(failure)) => {
                assert_eq!(failure.code(), 64);
                failure.line().to_owned()
            }
            other => panic!("{flags:?} gave {other:?}"),
        }
    }

    #[test]
    fn equal_addresses_mean_one_port_unless_the_system_chooses_it() {
        let one_port = |flags: &[&str]| served(flags).one_port();
        assert!(!one_port(&[]));
        assert!(one_port(&["--grpc-addr", "127.0.0.1:3001"]));
        let free = "127.0.0.1:0";
        assert!(!one_port(&["--grpc-addr", free, "--http-addr", free]));
    }

    #[test]
    fn an_agent_may_serve_256_assets_unless_told_otherwise() {
        let most = |flags: &[&str]| served(flags).max_assets_per_agent;
        assert_eq!(most(&[]), 256);
        assert_eq!(most(&["--max-assets-per-agent", "1024"]), 1_024);
    }

    #[test]
    fn the_database_is_a_file_in_the_data_folder_unless_named() {
        let folder = |config: Config| match config.database {
            Database::Embedded { folder } => folder,
            other => panic!("{other:?}"),
        };
        assert_eq!(folder(served(&[])), PathBuf::from("derms-data"));
        assert_eq!(folder(served(&["--data-dir", "d"])), PathBuf::from("d"));
        let line = bad(&["--database-url", "mysql://me:secret@db/x"]);
        assert!(
            line.contains("DATABASE_URL") && !line.contains("secret"),
            "{line}"
        );
        assert!(matches!(
            served(&["--database-url", "memory"]).database,
            Database::Memory
        ));
    }

    #[test]
    fn what_is_unsafe_starts_only_if_that_is_said_and_is_remembered() {
        assert!(served(&[]).unsafe_because.is_empty());
        let config = served(&["--grpc-addr", "0.0.0.0:50051", "--insecure"]);
        assert_eq!(
            config.unsafe_because.len(),
            2,
            "{:?}",
            config.unsafe_because
        );
    }

    #[test]
    fn a_task_of_the_database_needs_no_fleet_and_takes_its_flags_before_or_after() {
        for args in [
            ["--data-dir", "d", "db", "status"],
            ["db", "status", "--data-dir", "d"],
        ] {
            let all = [&["der_headend", "--assets", "nowhere.yaml"], &args[..]].concat();
            match Job::parse(all.into_iter().map(OsString::from)) {
                Ok(Job::Db {
                    task: db::Task::Status,
                    database: Database::Embedded { folder },
                    ..
                }) => assert_eq!(folder, PathBuf::from("d")),
                other => panic!("{args:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn each_flag_stands_under_the_heading_of_its_kind() {
        let command = command();
        for (id, heading) in [
            ("log_format", None),
            ("tls_cert", Some("TLS and agents")),
            ("tokens", Some("Access to REST")),
            ("rate_limit", Some("Bounds of REST")),
            ("max_agents", Some("Capacity")),
        ] {
            let mut flags = command.get_arguments();
            let flag = flags.find(|flag| flag.get_id() == id).unwrap();
            assert_eq!(flag.get_help_heading(), heading, "{id}");
        }
    }

    #[test]
    fn a_subcommand_lists_the_flags_that_it_uses_and_no_others() {
        let dir = "--dir";
        let data = "--data-dir";
        let days = "--audit-days";
        let tokens = "--tokens";
        for (subcommand, listed) in [
            (&["db"][..], &[data, days][..]),
            (&["db", "status"], &[data]),
            (&["db", "migrate"], &[data]),
            (&["db", "prune"], &[data, days]),
            (&["token"], &[tokens]),
            (&["token", "new"], &[tokens]),
            (&["pki", "init"], &[dir]),
            (&["check"], &[data, days, tokens, "--http-addr"]),
        ] {
            let Err(Stop::Text(help)) = parse(&[subcommand, &["--help"]].concat()) else {
                panic!("{subcommand:?}");
            };
            for flag in [data, days, tokens, dir, "--http-addr"] {
                let shown = help.contains(&format!("\n      {flag} "));
                assert_eq!(
                    shown,
                    listed.contains(&flag),
                    "{subcommand:?} {flag}:\n{help}"
                );
            }
            assert!(help.contains("--log-format"), "{help}");
        }
    }

    #[test]
    fn every_mistake_is_one_line_that_says_what_to_change() {
        let cases: [(&[&str], &str); 25] = [
            (&["--http-addr", "localhost:1"], "like 127.0.0.1:3001"),
            (&["--grpc-addr", ""], "(HEADEND_GRPC_ADDR)"),
            (&["--log-format", "xml"], "text, json"),
            (&["--database-ur", "memory"], "'--database-url'"),
            (&["--telemetry-days", "0"], "(RETENTION_TELEMETRY_DAYS)"),
            (&["--http-addr", "0.0.0.0:3001"], "refusing to start"),
            (&["--tls-cert", "a.pem"], "--tls-key"),
            (
                &["--tls-cert", "nowhere.pem", "--tls-key", "k"],
                "nowhere.pem",
            ),
            (&["--client-ca", "a.pem"], "--tls-cert"),
            (&["--agent-tokens", "nowhere"], "(HEADEND_AGENT_TOKENS)"),
            (&["--trusted-proxy", "10.0.0.1"], "--proxy-identity-header"),
            (
                &["--trusted-proxy", "proxy", "--proxy-identity-header", "x"],
                "like 10.0.0.5",
            ),
            (&["--tokens", "nowhere.yaml"], "token new"),
            (&["--jwks", "nowhere.json"], "--jwt-issuer"),
            (&["--jwt-algorithms", "HS256"], "RS256"),
            (&["--max-mw-per-minute", "0"], "(MAX_MW_PER_MINUTE)"),
            (&["--rate-limit", "0"], "(REST_RATE_LIMIT)"),
            (&["token", "new", "--name", "a", "--role", "root"], "viewer"),
            (
                &["token", "new", "--name", "a", "--role", "admin"],
                "(DERMS_TOKENS)",
            ),
            (
                &["--max-assets-per-agent", "0"],
                "(HEADEND_MAX_ASSETS_PER_AGENT)",
            ),
            (&["--max-assets-per-agent", "1025"], "1..=1024"),
            (&["--live-ring-mib", "0"], "(REST_LIVE_RING_MIB)"),
            (&["--max-agents", "0"], "(HEADEND_MAX_AGENTS)"),
            (&["db"], "status"),
            (&["db", "statsu"], "status"),
        ];
        for (flags, words) in cases {
            let line = bad(flags);
            assert!(line.contains(words), "`{words}` is not in: {line}");
        }
    }
}
