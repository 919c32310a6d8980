//! Flags and environment, checked; a mistake is one line that says what to change.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use derms_headend_sdk::proto::Fleet;
use derms_program::{Failure, LogArgs, LogFormat, Stop, socket_address};

/// A DERMS headend: agents dial in over gRPC, operators use REST.
///
/// It prints one JSON line with its addresses on stdout when it listens; everything else is
/// logged, to stderr. REST explains itself at /docs.
///
/// Flags come first, the environment second, the default third.
///
/// Exit codes: 0 stopped on request (SIGTERM, Ctrl-C), 1 the start failed, 64 bad configuration.
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
        env = "ASSETS_PATH",
        value_name = "FILE",
        default_value = "assets.yaml"
    )]
    assets: PathBuf,

    /// Where REST is served; port 0 takes a free one
    #[arg(long, env = "HEADEND_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:3001", value_parser = socket_address)]
    http_addr: SocketAddr,

    /// Where agents are served; the same address as --http-addr means one port for both
    #[arg(long, env = "HEADEND_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50051", value_parser = socket_address)]
    grpc_addr: SocketAddr,

    /// Where history and orders are kept. This version knows `memory` alone: all is forgotten when
    /// the process ends
    // The value of the variable may hold a password.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        default_value = "memory"
    )]
    database_url: OsString,

    #[command(flatten)]
    log: LogArgs,

    /// Stop when stdin is closed: a launcher that dies takes its headend with it
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) fleet: Fleet,
    pub(crate) http_addr: SocketAddr,
    pub(crate) grpc_addr: SocketAddr,
    pub(crate) log_format: LogFormat,
    pub(crate) exit_with_parent: bool,
}

impl Config {
    /// From the arguments (the program's name first) and the environment.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, Stop> {
        let args: Args = derms_program::parse(args)?;
        Ok(Self::check(&args).map_err(Failure::configuration)?)
    }

    fn check(args: &Args) -> Result<Self, String> {
        // Not quoted: it may hold a password.
        if args.database_url != "memory" {
            return Err(
                "--database-url (DATABASE_URL): this version keeps its data in memory only; \
                 write `memory` or leave it out"
                    .to_owned(),
            );
        }
        Ok(Self {
            fleet: Fleet::load(&args.assets).map_err(|error| error.to_string())?,
            http_addr: args.http_addr,
            grpc_addr: args.grpc_addr,
            log_format: args.log.log_format,
            exit_with_parent: args.exit_with_parent,
        })
    }

    /// Whether REST and agents share a port.
    pub(crate) fn one_port(&self) -> bool {
        self.http_addr == self.grpc_addr && self.http_addr.port() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml");

    fn parse(flags: &[&str]) -> Result<Config, Stop> {
        let all = ["der_headend", "--assets", FILE].into_iter();
        Config::parse(all.chain(flags.iter().copied()).map(OsString::from))
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
        let one_port = |flags: &[&str]| parse(flags).unwrap().one_port();
        assert!(!one_port(&[]));
        assert!(one_port(&["--grpc-addr", "127.0.0.1:3001"]));
        let free = "127.0.0.1:0";
        assert!(!one_port(&["--grpc-addr", free, "--http-addr", free]));
    }

    #[test]
    fn a_database_that_is_not_built_is_refused_without_showing_its_password() {
        let line = bad(&["--database-url", "postgres://me:secret@db/x"]);
        assert!(line.contains("DATABASE_URL") && line.contains("write `memory`"));
        assert!(!line.contains("secret"));
        assert!(parse(&["--database-url", "memory"]).is_ok());
    }

    #[test]
    fn every_mistake_is_one_line_that_says_what_to_change() {
        let cases: [(&[&str], &str); 4] = [
            (&["--http-addr", "localhost:1"], "like 127.0.0.1:3001"),
            (&["--grpc-addr", ""], "(HEADEND_GRPC_ADDR)"),
            (&["--log-format", "xml"], "text, json"),
            (&["--database", "memory"], "'--database-url'"),
        ];
        for (flags, words) in cases {
            let line = bad(flags);
            assert!(line.contains(words), "`{words}` is not in: {line}");
        }
    }
}
