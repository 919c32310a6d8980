//! Flags and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// A DERMS headend: agents dial in over gRPC, operators use REST.
///
/// Flags first, environment second, default third. Prints one JSON line with its addresses on
/// stdout when it listens; everything else is logged to stderr.
#[derive(Debug, Parser)]
#[command(name = "der_headend", version, max_term_width = 100)]
pub(crate) struct Args {
    /// The fleet file: sites and assets
    #[arg(long, env = "ASSETS_PATH", value_name = "FILE", default_value = "assets.yaml")]
    pub(crate) assets: PathBuf,

    /// Where REST is served; port 0 takes a free one
    #[arg(long, env = "HEADEND_HTTP_ADDR", value_name = "ADDR", default_value = "127.0.0.1:3001")]
    pub(crate) http_addr: SocketAddr,

    /// Where agents are served; the same address as --http-addr means one port for both
    #[arg(long, env = "HEADEND_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:50051")]
    pub(crate) grpc_addr: SocketAddr,

    /// Where history and orders are kept; this version knows only `memory`: they are forgotten
    /// when the process ends
    #[arg(long, env = "DATABASE_URL", value_name = "URL", default_value = "memory")]
    pub(crate) database_url: String,

    /// Form of the log on stderr; RUST_LOG says how much (default info)
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Ends when stdin does, so that no headend outlives its launcher
    #[arg(long, hide = true)]
    pub(crate) exit_with_parent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl Args {
    /// What the parser alone does not see.
    pub(crate) fn check(&self) -> Result<(), String> {
        // The URL may hold a password: it is never shown.
        if self.database_url != "memory" {
            return Err("--database-url: this version keeps its data in memory only; \
                        write `memory` or leave it out"
                .to_owned());
        }
        Ok(())
    }

    /// Whether REST and agents share a port.
    pub(crate) fn one_port(&self) -> bool {
        self.http_addr == self.grpc_addr && self.http_addr.port() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> Args {
        let program = std::iter::once("der_headend");
        Args::try_parse_from(program.chain(flags.iter().copied())).unwrap()
    }

    #[test]
    fn equal_addresses_mean_one_port_unless_the_system_chooses_it() {
        assert!(!args(&[]).one_port());
        assert!(args(&["--grpc-addr", "127.0.0.1:3001"]).one_port());
        assert!(!args(&["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]).one_port());
    }

    #[test]
    fn a_database_that_is_not_built_is_refused_without_showing_its_password() {
        let error = args(&["--database-url", "postgres://me:secret@db/x"]).check().unwrap_err();
        assert!(error.contains("write `memory`"));
        assert!(!error.contains("secret"));
        assert!(args(&[]).check().is_ok());
    }
}
