use derms_agent_sdk::proto::FailsafePolicy;

use super::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets.yaml");
const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
const NEWARK: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";

fn parse(args: &[&str]) -> Result<Config, Stop> {
    match Job::parse(["edge_agent"].iter().chain(args).map(OsString::from))? {
        Job::Run(config) => Ok(*config),
        other => panic!("{args:?} gave {other:?}"),
    }
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
fn one_asset_of_the_file_is_served_under_its_own_id() {
    let config = parse(&["--assets", FILE, "--asset-id", BESS_1]).unwrap();
    assert_eq!(config.assets.len(), 1);
    assert_eq!(config.name, "BESS-1");
    assert_eq!(config.agent_id.to_string(), BESS_1);
    assert_eq!(config.headend, "http://127.0.0.1:50051");
    assert_eq!((config.seed, config.log_format), (0, LogFormat::Text));
    assert!(!config.exit_with_parent);
    assert_eq!(config.state_dir, None, "in memory");
    assert_eq!((config.outbox_bytes, config.outbox_age), (None, None));
    assert_eq!(config.faults_dir, None, "devices never fail");
    assert_eq!(config.metrics_addr, None, "no port is open");
}

#[test]
fn a_gateway_serves_all_assets_of_its_site_under_the_sites_id() {
    let config = parse(&["--assets", FILE, "--site-id", JERSEY]).unwrap();
    let names: Vec<&str> = config
        .assets
        .iter()
        .map(|asset| asset.name.as_str())
        .collect();
    assert_eq!(names, ["BESS-1", "BESS-2", "BESS-3"]);
    assert_eq!(config.name, "Jersey");
    assert_eq!(config.agent_id.to_string(), JERSEY);
}

#[test]
fn the_outbox_can_be_made_larger_and_keep_for_longer() {
    let flags = ["--outbox-mib", "512", "--outbox-hours", "720"];
    let config = parse(&[&["--assets", FILE, "--asset-id", BESS_1], &flags[..]].concat()).unwrap();
    assert_eq!(config.outbox_bytes, Some(512 << 20));
    assert_eq!(config.outbox_age, Some(Duration::from_secs(30 * 86_400)));
}

#[test]
fn the_agent_id_can_be_chosen() {
    let id = "00000000-0000-0000-0000-000000000001";
    let config = parse(&["--assets", FILE, "--site-id", JERSEY, "--agent-id", id]).unwrap();
    assert_eq!(config.agent_id.to_string(), id);
}

#[test]
fn an_asset_can_be_described_without_a_file() {
    let config = parse(&[
        "--asset-id",
        BESS_1,
        "--site-id",
        JERSEY,
        "--name",
        "B",
        "--type",
        "ev_charger",
        "--max-mw",
        "0",
        "--min-mw",
        "-5",
        "--capacity-mwhr",
        "10",
        "--efficiency",
        "0.9",
        "--ramp-rate-mw-per-min",
        "30",
        "--min-soc-pct",
        "10",
        "--max-soc-pct",
        "90",
        "--default-mw",
        "-1",
        "--failsafe",
        "-2",
        "--failsafe-after-s",
        "30",
        "--headend",
        "headend.example:1",
        "--seed",
        "7",
        "--log-format",
        "json",
    ])
    .unwrap();
    let asset = &config.assets[0];
    assert_eq!(
        (asset.name.as_str(), asset.kind),
        ("B", AssetKind::EvCharger)
    );
    assert_eq!((asset.min_mw.mw(), asset.max_mw.mw()), (-5.0, 0.0));
    assert_eq!((asset.capacity_mwhr, asset.efficiency), (10.0, 0.9));
    assert_eq!((asset.min_soc_pct, asset.max_soc_pct), (10.0, 90.0));
    assert_eq!(asset.ramp_rate_mw_per_min, Some(30.0));
    assert_eq!(asset.default_mw.mw(), -1.0);
    assert_eq!(
        asset.failsafe.policy,
        FailsafePolicy::Value(Power::from_mw(-2.0))
    );
    assert_eq!(asset.failsafe.after_s, 30);
    assert_eq!(asset.site_id.to_string(), JERSEY);
    assert_eq!(config.headend, "http://headend.example:1");
    assert_eq!((config.seed, config.log_format), (7, LogFormat::Json));
}

#[test]
fn an_asset_without_a_file_has_the_defaults_of_the_file() {
    let config = parse(&[
        "--asset-id",
        BESS_1,
        "--site-id",
        JERSEY,
        "--type",
        "pv",
        "--max-mw",
        "8",
        "--min-mw",
        "0",
    ])
    .unwrap();
    let expected = Asset::new(
        BESS_1.parse().unwrap(),
        BESS_1,
        JERSEY.parse().unwrap(),
        AssetKind::Pv,
        Power::ZERO,
        Power::from_mw(8.0),
    );
    assert_eq!(config.assets, [expected]);
}

#[test]
fn every_mistake_is_one_line_that_says_what_to_change() {
    let unknown = "00000000-0000-0000-0000-000000000001";
    let cases: [(&[&str], &str); 17] = [
        (&[], "--asset-id (ASSET_ID)"),
        (&["--asset-id", "BESS-1"], "`BESS-1` is not a UUID"),
        (
            &["--asset-id", BESS_1, "--assets", "nowhere.yaml"],
            "nowhere.yaml",
        ),
        (&["--asset-id", unknown, "--assets", FILE], "no asset of"),
        (&["--site-id", unknown, "--assets", FILE], "no site of"),
        (
            &["--asset-id", BESS_1, "--site-id", NEWARK, "--assets", FILE],
            "not the site of asset `BESS-1`",
        ),
        (&["--max-mw", "5"], "--asset-id (ASSET_ID)"),
        (&["--asset-id", BESS_1, "--max-mw", "5"], "--site-id"),
        (
            &["--asset-id", BESS_1, "--site-id", JERSEY, "--max-mw", "5"],
            "--min-mw (ASSET_MIN_MW)",
        ),
        (
            &["--asset-id", BESS_1, "--site-id", JERSEY, "--min-mw", "5"],
            "--max-mw (ASSET_MAX_MW)",
        ),
        (
            &["--asset-id", BESS_1, "--max-mw", "5", "--assets", FILE],
            "leave out one of them",
        ),
        (
            &[
                "--asset-id",
                BESS_1,
                "--site-id",
                JERSEY,
                "--max-mw",
                "5",
                "--min-mw",
                "6",
            ],
            "swap or mend",
        ),
        (
            &[
                "--asset-id",
                BESS_1,
                "--site-id",
                JERSEY,
                "--max-mw",
                "nan",
                "--min-mw",
                "0",
            ],
            "finite number",
        ),
        (&["--headend", "localhost"], "the port is missing"),
        (&["--log-format", "xml"], "text, json"),
        (&["--type", "solar"], "ev_charger"),
        (&["--colour"], "--colour"),
    ];
    for (args, words) in cases {
        let line = bad(args);
        assert!(line.contains(words), "`{words}` is not in: {line}");
        assert!(!line.contains("Usage"), "{line}");
    }
}

#[test]
fn help_names_every_flag_its_variable_and_its_default_and_that_devices_are_simulated() {
    let Err(Stop::Text(help)) = parse(&["--help"]) else {
        panic!("--help is no text");
    };
    for words in [
        "SIMULATED",
        "derms-agent-sdk",
        "HEADEND_GRPC=",
        "[default: http://127.0.0.1:50051]",
        "ASSETS_PATH=",
        "ASSET_ID=",
        "GATEWAY_SITE_ID=",
        "AGENT_ID=",
        "SIM_SEED=",
        "LOG_FORMAT=",
        "ASSET_MAX_MW=",
        "64 bad configuration",
    ] {
        assert!(
            help.contains(words),
            "`{words}` is not in the help:\n{help}"
        );
    }
    assert!(!help.contains("exit-with-parent"));
}

#[test]
fn a_check_takes_the_flags_of_a_run_before_or_after_its_name() {
    for args in [
        ["--asset-id", BESS_1, "--assets", FILE, "check", "--json"],
        ["check", "--json", "--asset-id", BESS_1, "--assets", FILE],
    ] {
        match Job::parse(["edge_agent"].into_iter().chain(args).map(OsString::from)) {
            Ok(Job::Check { args, config, .. }) => {
                assert!(args.report.json && !args.write_default);
                assert_eq!(config.unwrap().name, "BESS-1");
            }
            other => panic!("{args:?} gave {other:?}"),
        }
    }
}

#[test]
fn a_wrong_configuration_is_told_by_a_check_and_a_wrong_flag_is_not() {
    let all = |args: &'static [&str]| args.iter().map(OsString::from);
    match Job::parse(all(&[
        "edge_agent",
        "check",
        "--asset-id",
        BESS_1,
        "--assets",
        "no",
    ])) {
        Ok(Job::Check {
            config: Err(text), ..
        }) => assert!(text.contains("no"), "{text}"),
        other => panic!("it gave {other:?}"),
    }
    match Job::parse(all(&["edge_agent", "check", "--jso"])) {
        Err(Stop::Failed(failure)) => assert_eq!(failure.code(), 64),
        other => panic!("it gave {other:?}"),
    }
}
