use derms_tests::Program;

use crate::PROGRAMS;

/// Program, flag, variable, default.
const FLAGS: [(&str, &str, &str, &str); 72] = [
    ("der_headend", "--assets", "ASSETS_PATH", "assets.yaml"),
    (
        "der_headend",
        "--http-addr",
        "HEADEND_HTTP_ADDR",
        "127.0.0.1:3001",
    ),
    (
        "der_headend",
        "--grpc-addr",
        "HEADEND_GRPC_ADDR",
        "127.0.0.1:50051",
    ),
    (
        "der_headend",
        "--max-assets-per-agent",
        "HEADEND_MAX_ASSETS_PER_AGENT",
        "256",
    ),
    (
        "der_headend",
        "--database-url",
        "DATABASE_URL",
        "derms.sqlite in the folder of --data-dir",
    ),
    (
        "der_headend",
        "--database-schema",
        "DATABASE_SCHEMA",
        "derms",
    ),
    ("der_headend", "--data-dir", "DERMS_DATA_DIR", "derms-data"),
    (
        "der_headend",
        "--telemetry-days",
        "RETENTION_TELEMETRY_DAYS",
        "30",
    ),
    (
        "der_headend",
        "--heartbeat-days",
        "RETENTION_HEARTBEAT_DAYS",
        "7",
    ),
    (
        "der_headend",
        "--session-days",
        "RETENTION_SESSION_DAYS",
        "365",
    ),
    ("der_headend", "--event-days", "RETENTION_EVENT_DAYS", "365"),
    (
        "der_headend",
        "--report-days",
        "RETENTION_REPORT_DAYS",
        "365",
    ),
    (
        "der_headend",
        "--dispatch-days",
        "RETENTION_DISPATCH_DAYS",
        "1825",
    ),
    (
        "der_headend",
        "--limit-days",
        "RETENTION_LIMIT_DAYS",
        "1825",
    ),
    (
        "der_headend",
        "--audit-days",
        "RETENTION_AUDIT_DAYS",
        "1825",
    ),
    ("der_headend", "--tokens", "DERMS_TOKENS", ""),
    ("der_headend", "--jwks", "DERMS_JWKS", ""),
    ("der_headend", "--jwt-issuer", "DERMS_JWT_ISSUER", ""),
    ("der_headend", "--jwt-audience", "DERMS_JWT_AUDIENCE", ""),
    (
        "der_headend",
        "--jwt-role-claim",
        "DERMS_JWT_ROLE_CLAIM",
        "derms_role",
    ),
    (
        "der_headend",
        "--jwt-sites-claim",
        "DERMS_JWT_SITES_CLAIM",
        "",
    ),
    (
        "der_headend",
        "--jwt-algorithms",
        "DERMS_JWT_ALGORITHMS",
        "RS256,ES256,EdDSA",
    ),
    (
        "der_headend",
        "--max-mw-per-dispatch",
        "MAX_MW_PER_DISPATCH",
        "",
    ),
    (
        "der_headend",
        "--max-mw-per-minute",
        "MAX_MW_PER_MINUTE",
        "",
    ),
    ("der_headend", "--rate-limit", "REST_RATE_LIMIT", "100"),
    ("der_headend", "--cors-origin", "CORS_ORIGINS", ""),
    ("der_headend", "--log-format", "LOG_FORMAT", "text"),
    (
        "edge_agent",
        "--headend",
        "HEADEND_GRPC",
        "http://127.0.0.1:50051",
    ),
    ("edge_agent", "--asset-id", "ASSET_ID", ""),
    ("edge_agent", "--site-id", "GATEWAY_SITE_ID", ""),
    ("edge_agent", "--state-dir", "DERMS_STATE_DIR", ""),
    ("edge_agent", "--faults-dir", "SIM_FAULTS_DIR", ""),
    ("edge_agent", "--metrics-addr", "METRICS_ADDR", ""),
    ("edge_agent", "--insecure-metrics", "INSECURE_METRICS", ""),
    ("edge_agent", "--assets", "ASSETS_PATH", "assets.yaml"),
    ("edge_agent", "--log-format", "LOG_FORMAT", "text"),
    ("agent_launcher", "--assets", "ASSETS_PATH", "assets.yaml"),
    (
        "agent_launcher",
        "--headend",
        "HEADEND_GRPC",
        "http://127.0.0.1:50051",
    ),
    ("agent_launcher", "--gateway", "", ""),
    ("agent_launcher", "--with-headend", "", ""),
    (
        "agent_launcher",
        "--data-dir",
        "DERMS_DATA_DIR",
        "derms-data",
    ),
    ("agent_launcher", "--token-file", "DERMS_TOKEN_FILE", ""),
    ("agent_launcher", "--log-format", "LOG_FORMAT", "text"),
    ("der_headend", "--tls-cert", "HEADEND_TLS_CERT", ""),
    ("der_headend", "--tls-key", "HEADEND_TLS_KEY", ""),
    ("der_headend", "--client-ca", "HEADEND_CLIENT_CA", ""),
    ("der_headend", "--crl", "HEADEND_CRL", ""),
    (
        "der_headend",
        "--tls-min-version",
        "HEADEND_TLS_MIN_VERSION",
        "1.3",
    ),
    ("der_headend", "--agent-tokens", "HEADEND_AGENT_TOKENS", ""),
    (
        "der_headend",
        "--trusted-proxy",
        "HEADEND_TRUSTED_PROXY",
        "",
    ),
    (
        "der_headend",
        "--proxy-identity-header",
        "HEADEND_PROXY_IDENTITY_HEADER",
        "",
    ),
    ("der_headend", "--reload-s", "HEADEND_RELOAD_S", "10"),
    ("der_headend", "--insecure", "HEADEND_INSECURE", ""),
    ("edge_agent", "--ca", "HEADEND_CA", ""),
    ("edge_agent", "--cert", "AGENT_CERT", ""),
    ("edge_agent", "--key", "AGENT_KEY", ""),
    ("edge_agent", "--server-name", "HEADEND_SERVER_NAME", ""),
    ("edge_agent", "--token-file", "AGENT_TOKEN_FILE", ""),
    ("agent_launcher", "--tls", "", ""),
    ("der_headend", "--telemetry-s", "HEADEND_TELEMETRY_S", "4"),
    ("der_headend", "--max-agents", "HEADEND_MAX_AGENTS", "20000"),
    (
        "der_headend",
        "--max-connections-per-address",
        "HEADEND_MAX_CONNECTIONS_PER_ADDRESS",
        "9500",
    ),
    ("der_headend", "--max-requests", "REST_MAX_REQUESTS", "1024"),
    (
        "der_headend",
        "--max-live-streams",
        "REST_MAX_LIVE_STREAMS",
        "256",
    ),
    (
        "der_headend",
        "--backfill-spread-s",
        "HEADEND_BACKFILL_SPREAD_S",
        "30",
    ),
    (
        "der_headend",
        "--backfill-batches-per-s",
        "HEADEND_BACKFILL_BATCHES_PER_S",
        "20",
    ),
    ("edge_agent", "--outbox-mib", "DERMS_OUTBOX_MIB", ""),
    ("edge_agent", "--outbox-hours", "DERMS_OUTBOX_HOURS", ""),
    ("der_headend", "--live-ring", "REST_LIVE_RING", "16384"),
    ("der_headend", "--live-ring-mib", "REST_LIVE_RING_MIB", "16"),
    (
        "der_headend",
        "--store-backlog-mib",
        "HEADEND_STORE_BACKLOG_MIB",
        "64",
    ),
    ("der_headend", "--drain-s", "HEADEND_DRAIN_S", "10"),
];

/// What the help says of a flag: from its line to the next flag.
fn section<'a>(help: &'a str, flag: &str) -> Option<&'a str> {
    let start = help.find(&format!("\n      {flag}"))? + 1;
    let rest = &help[start..];
    let line = rest.find('\n')?;
    let end = rest[line..]
        .find("\n      --")
        .map_or(rest.len(), |next| line + next);
    let section = &rest[..end];
    let name = section.split_whitespace().next()?;
    (name == flag).then_some(section)
}

#[tokio::test]
async fn help_names_every_flag_its_variable_and_its_default_and_nothing_of_the_environment() {
    for program in PROGRAMS {
        let asked = Program::new(program)
            .args(["--help"])
            .env("DATABASE_URL", "postgres://secret");
        let output = asked.run().await;
        assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
        let help = output.stdout;
        assert!(
            !help.contains("secret"),
            "a variable that may hold a password is shown:\n{help}"
        );
        assert!(
            help.contains("RUST_LOG says how much (default: info)"),
            "{help}"
        );
        assert!(help.contains("64"), "the exit codes are missing:\n{help}");
        for (_, flag, variable, default) in FLAGS.iter().filter(|row| row.0 == program) {
            let section = section(&help, flag);
            let section = section.unwrap_or_else(|| panic!("{flag} is not in the help:\n{help}"));
            for words in [&format!("[env: {variable}"), *default] {
                let expected = !variable.is_empty() || !words.starts_with("[env");
                assert!(
                    !expected || section.contains(words),
                    "no {words} in:\n{section}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_version_is_one_line_on_stdout() {
    for program in PROGRAMS {
        let output = Program::new(program).args(["--version"]).run().await;
        let line = format!("{program} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            (output.code, output.stdout, output.stderr),
            (Some(0), line, String::new())
        );
    }
}
