use std::path::PathBuf;

use derms_tests::{FREE, Folder, HeadendProcess, Program};

use crate::{BESS_1, JERSEY, PROGRAMS};

const UNKNOWN: &str = "00000000-0000-0000-0000-000000000001";

/// What every program needs before anything else can be wrong with it.
fn started_with<'a>(program: &str) -> &'a [&'a str] {
    match program {
        "edge_agent" => &["--asset-id", BESS_1],
        "agent_launcher" => &["--with-headend"],
        _ => &[],
    }
}

/// Runs a program that can't start, and gives the one line that it leaves, without its name.
async fn refused(code: i32, name: &str, program: Program) -> String {
    let output = program.run().await;
    let said = &output.stderr;
    assert_eq!(output.code, Some(code), "{name}: {said}");
    assert_eq!(output.stdout, "", "{name}");
    assert_eq!(said.lines().count(), 1, "{name} says not one line:\n{said}");
    let line = said.trim_end().strip_prefix(&format!("{name}: "));
    line.unwrap_or_else(|| panic!("{name} does not say who it is: {said}"))
        .to_owned()
}

/// A file for the length of a test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let path = folder.join(format!("{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn a_wrong_flag_or_variable_is_one_line_that_says_what_to_change() {
    // Program, arguments, variable, words of the answer.
    type Case = (
        &'static str,
        &'static [&'static str],
        (&'static str, &'static str),
        &'static str,
    );
    const NONE: (&str, &str) = ("LANG", "C");
    let cases: [Case; 26] = [
        ("der_headend", &["--colour"], NONE, "'--colour'"),
        (
            "der_headend",
            &["db", "mend"],
            NONE,
            "`der_headend db --help` lists what there is",
        ),
        (
            "derms",
            &[],
            NONE,
            "say what to do; `derms --help` lists what there is",
        ),
        (
            "der_headend",
            &["--tls-cert", "/", "--tls-key", "/"],
            NONE,
            "--tls-cert, --tls-key, --client-ca and --crl",
        ),
        (
            "edge_agent",
            &[
                "--asset-id",
                BESS_1,
                "--headend",
                "https://a:1",
                "--ca",
                "/",
            ],
            NONE,
            "name others with --ca, --cert and --key",
        ),
        (
            "edge_agent",
            &["--asset-id", BESS_1, "--token-file", "/"],
            NONE,
            "name another with --token-file",
        ),
        ("der_headend", &["--http-adr", "x"], NONE, "'--http-addr'"),
        (
            "der_headend",
            &["--http-addr", "localhost:1"],
            NONE,
            "like 127.0.0.1:3001",
        ),
        (
            "der_headend",
            &[],
            ("HEADEND_GRPC_ADDR", "50051"),
            "(HEADEND_GRPC_ADDR)",
        ),
        (
            "der_headend",
            &[],
            ("DATABASE_URL", "mysql://me:secret@db/x"),
            "(DATABASE_URL): write `sqlite:FILE`",
        ),
        (
            "der_headend",
            &[],
            ("DATABASE_URL", "postgres://me:secret@db:port/x"),
            "(DATABASE_URL)",
        ),
        (
            "der_headend",
            &["db", "prune", "--telemetry-days", "x"],
            NONE,
            "(RETENTION_TELEMETRY_DAYS)",
        ),
        (
            "der_headend",
            &["db", "status", "--database-url", "memory"],
            NONE,
            "(DATABASE_URL)",
        ),
        ("der_headend", &["db"], NONE, "status, migrate, prune"),
        ("edge_agent", &[], NONE, "--asset-id (ASSET_ID)"),
        ("edge_agent", &[], ("ASSET_ID", "BESS-1"), "(ASSET_ID)"),
        ("edge_agent", &["--asset-id", UNKNOWN], NONE, UNKNOWN),
        ("edge_agent", &["--site-id", UNKNOWN], NONE, UNKNOWN),
        (
            "edge_agent",
            &["--asset-id", BESS_1],
            ("HEADEND_GRPC", "host"),
            "(HEADEND_GRPC)",
        ),
        (
            "edge_agent",
            &["--asset-id", BESS_1],
            ("HEADEND_GRPC", "ftp://a:1"),
            "(HEADEND_GRPC)",
        ),
        (
            "edge_agent",
            &["--site-id", JERSEY, "--max-mw", "1"],
            NONE,
            "--asset-id (ASSET_ID)",
        ),
        ("agent_launcher", &["--gatway"], NONE, "'--gateway'"),
        (
            "agent_launcher",
            &["--with-headend", "--headend", "a:1"],
            NONE,
            "leave out --headend",
        ),
        (
            "agent_launcher",
            &["--headend", "a"],
            NONE,
            "(HEADEND_GRPC)",
        ),
        (
            "agent_launcher",
            &["--with-headend", "--grpc-addr", "a:1"],
            NONE,
            "(HEADEND_GRPC_ADDR)",
        ),
        ("agent_launcher", &[], ("LOG_FORMAT", "xml"), "(LOG_FORMAT)"),
    ];
    for (name, args, (variable, value), words) in cases {
        let program = Program::new(name)
            .args(args.iter().copied())
            .env(variable, value);
        let line = refused(64, name, program).await;
        assert!(line.contains(words), "`{words}` is not in: {line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[tokio::test]
async fn a_fleet_file_that_can_not_be_used_is_one_line_with_the_place() {
    let broken = File::new("broken.yaml", "sites: []\nassets:\n  - id: [\n");
    let empty = File::new("empty.yaml", "");
    let twice = format!("  - id: {JERSEY}\n    name: A\n    location: B\n");
    let twice = File::new("twice.yaml", &format!("sites:\n{twice}{twice}assets: []\n"));
    let missing = "nowhere/assets.yaml";
    for (path, words) in [
        (missing, "--assets"),
        (broken.path(), "broken.yaml:"),
        (empty.path(), "empty"),
        (twice.path(), "twice.yaml:5:"),
    ] {
        for name in PROGRAMS {
            let program = Program::new(name).args(started_with(name).iter().copied());
            let line = refused(64, name, program.args(["--assets", path])).await;
            assert!(
                line.contains(path) && line.contains(words),
                "`{words}` is not in: {line}"
            );
            let by_variable = Program::new(name).args(started_with(name).iter().copied());
            assert_eq!(
                refused(64, name, by_variable.env("ASSETS_PATH", path)).await,
                line
            );
        }
    }
}

#[tokio::test]
async fn a_level_of_the_log_that_does_not_exist_is_refused() {
    for name in PROGRAMS {
        for level in ["inof", "derms_agent_sdk=loud"] {
            let program = Program::new(name).args(started_with(name).iter().copied());
            let line = refused(64, name, program.env("RUST_LOG", level)).await;
            assert!(
                line.starts_with("RUST_LOG: ") && line.contains(level),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn a_port_that_is_taken_is_one_line_with_the_address_and_what_to_do() {
    let headend = HeadendProcess::start().await;
    let memory = ["--database-url", "memory"];
    for (args, taken, flag) in [
        (
            ["--http-addr", &headend.http, "--grpc-addr", FREE],
            &headend.http,
            "--http-addr",
        ),
        (
            ["--http-addr", FREE, "--grpc-addr", &headend.grpc],
            &headend.grpc,
            "--grpc-addr",
        ),
    ] {
        let line = refused(
            1,
            "der_headend",
            Program::new("der_headend").args(args).args(memory),
        )
        .await;
        assert!(line.contains(taken) && line.contains(flag), "{line}");
        assert!(line.contains("another port"), "{line}");
    }
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn a_database_that_can_not_be_used_is_one_line_that_says_what_to_do() {
    let headend = HeadendProcess::start().await;
    let folder = headend.data.as_ref().unwrap().path();
    let folder = folder.to_str().unwrap();
    let free = ["--http-addr", FREE, "--grpc-addr", FREE];
    let broken = Folder::new();
    std::fs::write(broken.file("derms.sqlite"), [b'x'; 8192]).unwrap();
    let broken = broken.path().to_str().unwrap();
    for (args, words) in [
        (
            ["--data-dir", folder],
            "derms.sqlite is in use by another headend",
        ),
        (
            ["--data-dir", "/proc/nowhere"],
            "--data-dir (DERMS_DATA_DIR)",
        ),
        (
            ["--data-dir", broken],
            "not a database; mend that, or choose another folder with --data-dir",
        ),
        (
            ["--database-url", "sqlite:/proc/nowhere/x"],
            "/proc/nowhere/x",
        ),
        (
            ["--database-url", "postgres://me:secret@127.0.0.1:1/x"],
            "refused (os error 111); mend that, or choose another database with --database-url",
        ),
    ] {
        let program = Program::new("der_headend").args(free).args(args);
        let line = refused(1, "der_headend", program).await;
        assert!(line.contains(words), "`{words}` is not in: {line}");
        assert!(!line.contains("secret"), "{line}");
    }
    assert_eq!(headend.process.terminated().await, Some(0));
}
