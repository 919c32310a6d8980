//! TLS, and how agents prove who they are, as flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use derms_headend_sdk::{AgentTokens, HeadendBuilder, ServerTls, TrustedProxies};
use derms_program::chain;

/// Flags and environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS and agents")]
pub(crate) struct LinkArgs {
    /// The certificate of this headend, followed by those of the CAs between it and the root (PEM);
    /// with it REST and agents are served over TLS alone
    #[arg(
        long,
        global = true,
        env = "HEADEND_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    tls_cert: Option<PathBuf>,

    /// The private key of --tls-cert (PEM)
    #[arg(
        long,
        global = true,
        env = "HEADEND_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    tls_key: Option<PathBuf>,

    /// The CAs of agents' certificates (PEM): an agent must show one that names it,
    /// urn:derms:agent:ID
    #[arg(
        long,
        global = true,
        env = "HEADEND_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    client_ca: Option<PathBuf>,

    /// Revocation lists of --client-ca (PEM), one for each CA; commas between files
    #[arg(
        long,
        global = true,
        env = "HEADEND_CRL",
        value_name = "FILE",
        value_delimiter = ',',
        requires = "client_ca"
    )]
    crl: Vec<PathBuf>,

    /// The oldest version of TLS that is spoken
    #[arg(
        long,
        global = true,
        env = "HEADEND_TLS_MIN_VERSION",
        value_name = "VERSION",
        default_value = "1.3"
    )]
    tls_min_version: TlsVersion,

    /// A file with agents' ids and the SHA-256 of their tokens: an agent without a certificate must
    /// show its token
    #[arg(long, global = true, env = "HEADEND_AGENT_TOKENS", value_name = "FILE")]
    agent_tokens: Option<PathBuf>,

    /// Addresses or networks of proxies whose word on who is calling counts; commas between them
    #[arg(
        long,
        global = true,
        env = "HEADEND_TRUSTED_PROXY",
        value_name = "ADDR",
        value_delimiter = ',',
        requires = "proxy_identity_header"
    )]
    trusted_proxy: Vec<String>,

    /// The header in which --trusted-proxy names the agent: urn:derms:agent:ID, or Envoy's
    /// x-forwarded-client-cert
    #[arg(
        long,
        global = true,
        env = "HEADEND_PROXY_IDENTITY_HEADER",
        value_name = "NAME",
        requires = "trusted_proxy"
    )]
    proxy_identity_header: Option<String>,

    /// Seconds between two looks at certificates, revocation lists and tokens: what has changed is
    /// in force, and who is no longer trusted is cut off, within that time
    #[arg(long, global = true, env = "HEADEND_RELOAD_S", value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    reload_s: u64,

    /// Start although other machines can reach what is not encrypted or asks nobody who they are
    #[arg(long, global = true, env = "HEADEND_INSECURE", value_parser = BoolishValueParser::new())]
    pub(crate) insecure: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TlsVersion {
    #[value(name = "1.3")]
    Tls13,
    #[value(name = "1.2")]
    Tls12,
}

/// A checked configuration: the files were read once.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tls: Option<ServerTls>,
    tokens: Option<AgentTokens>,
    proxies: Option<TrustedProxies>,
    reload: Duration,
    pub(crate) insecure: bool,
}

impl Link {
    pub(crate) fn check(args: &LinkArgs) -> Result<Self, String> {
        Ok(Self {
            tls: tls(args)?,
            tokens: agent_tokens(args)?,
            proxies: proxies(args)?,
            reload: Duration::from_secs(args.reload_s),
            insecure: args.insecure,
        })
    }

    /// Whether agents must prove who they are.
    pub(crate) fn asks_agents(&self) -> bool {
        self.tokens.is_some()
            || self.proxies.is_some()
            || self.tls.as_ref().is_some_and(ServerTls::asks_clients)
    }

    pub(crate) fn give_to(self, mut builder: HeadendBuilder) -> HeadendBuilder {
        builder = builder.reload_interval(self.reload);
        if let Some(tls) = self.tls {
            builder = builder.tls(tls);
        }
        if let Some(tokens) = self.tokens {
            builder = builder.agent_tokens(tokens);
        }
        if let Some(proxies) = self.proxies {
            builder = builder.trusted_proxies(proxies);
        }
        builder
    }
}

/// The files of TLS, read once; `None` without any.
pub(crate) fn tls(args: &LinkArgs) -> Result<Option<ServerTls>, String> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    let mut builder = ServerTls::builder(certificate, key);
    if let Some(ca) = &args.client_ca {
        builder = builder.client_ca(ca);
    }
    for crl in &args.crl {
        builder = builder.crl(crl);
    }
    if args.tls_min_version == TlsVersion::Tls12 {
        builder = builder.allow_tls12();
    }
    builder.load().map(Some).map_err(|error| {
        format!(
            "TLS can't be set up: {}; mend the file, or name others with --tls-cert, --tls-key, \
             --client-ca and --crl",
            chain(&error)
        )
    })
}

/// The tokens of agents, read once.
pub(crate) fn agent_tokens(args: &LinkArgs) -> Result<Option<AgentTokens>, String> {
    let tokens = args.agent_tokens.as_ref().map(AgentTokens::load);
    tokens
        .transpose()
        .map_err(|error| format!("--agent-tokens (HEADEND_AGENT_TOKENS): {}", chain(&error)))
}

pub(crate) fn proxies(args: &LinkArgs) -> Result<Option<TrustedProxies>, String> {
    let Some(header) = &args.proxy_identity_header else {
        return Ok(None);
    };
    let name = header.parse().map_err(|_| {
        format!(
            "--proxy-identity-header (HEADEND_PROXY_IDENTITY_HEADER) `{header}` is no \
             name of a header; write it like x-forwarded-client-cert"
        )
    })?;
    let addresses = args.trusted_proxy.iter().map(String::as_str);
    TrustedProxies::new(addresses, name)
        .map(Some)
        .map_err(|error| format!("--trusted-proxy (HEADEND_TRUSTED_PROXY): {error}"))
}
