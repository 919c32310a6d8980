//! Tokens, from the command that makes one to the call that it is shown with.

use std::path::Path;

use derms_client::proto::{NewDispatch, Power, ProblemCode};
use derms_client::{AuditHistoryQuery, Client, Error};
use derms_tests::{FREE, Folder, HeadendProcess, Output, Program, until};

use crate::BESS_1;

async fn new_token(file: &Path, args: &[&str]) -> Output {
    let file = file.display().to_string();
    let program = Program::new("der_headend").args(["token", "new", "--tokens", &file]);
    program.args(args.iter().copied()).run().await
}

pub(super) async fn token(file: &Path, name: &str, role: &str) -> String {
    let output = new_token(file, &["--name", name, "--role", role]).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let token = output.stdout.trim().to_owned();
    assert!(!output.stderr.contains(&token), "it is in the log");
    token
}

/// With a log that tells everything.
fn headend(file: &Path, data: &Folder) -> Program {
    let (file, data) = (
        file.display().to_string(),
        data.path().display().to_string(),
    );
    let program = Program::new("der_headend").env("RUST_LOG", "trace");
    let program = program.args(["--http-addr", FREE, "--grpc-addr", FREE]);
    program
        .args(["--data-dir", &data, "--max-mw-per-dispatch", "10"])
        .env("DERMS_TOKENS", &file)
}

fn with(http: &str, token: &str) -> Client {
    let base = format!("http://{http}").parse().unwrap();
    Client::builder(base)
        .bearer_token(token)
        .retries(0)
        .build()
        .unwrap()
}

fn code(result: Result<impl Sized, Error>) -> Option<ProblemCode> {
    result.err()?.code()
}

#[tokio::test]
async fn a_caller_without_a_token_gets_401_a_viewers_order_403_and_no_log_shows_a_token() {
    let (folder, data) = (Folder::new(), Folder::new());
    let file = folder.path().join("tokens.yaml");
    let viewer = token(&file, "vic", "viewer").await;
    let operator = token(&file, "oda", "operator").await;
    let admin = token(&file, "ada", "admin").await;
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in [&viewer, &operator, &admin] {
        assert!(!text.contains(secret), "the file holds hashes alone");
    }

    let headend = HeadendProcess::of(headend(&file, &data)).await;
    assert_eq!(
        code(headend.client.assets().await),
        Some(ProblemCode::Unauthenticated)
    );
    headend.client.readyz().await.unwrap();
    let wrong = "derms_this-one-was-never-made";
    let refused = with(&headend.http, wrong).assets().await;
    assert_eq!(code(refused), Some(ProblemCode::Unauthenticated));

    let order = |mw| NewDispatch::asset(BESS_1.parse().unwrap(), Power::from_mw(mw));
    let vic = with(&headend.http, &viewer);
    vic.assets().await.unwrap();
    assert_eq!(
        code(vic.dispatch(&order(1.0)).await),
        Some(ProblemCode::Forbidden)
    );
    let oda = with(&headend.http, &operator);
    let taken = oda.dispatch(&order(1.0)).await.unwrap();
    assert_eq!(taken.principal.as_deref(), Some("oda"));
    assert_eq!(
        code(oda.dispatch(&order(11.0)).await),
        Some(ProblemCode::PowerGuard)
    );
    let audit = async |client: &Client| client.audit(AuditHistoryQuery::new()).await;
    assert_eq!(code(audit(&oda).await), Some(ProblemCode::Forbidden));
    let ada = with(&headend.http, &admin);
    let enough = async || {
        let records = audit(&ada).await.unwrap().items;
        (records.len() >= 6).then_some(records)
    };
    let records = until(
        "the audit trail",
        std::time::Duration::from_secs(20),
        enough,
    )
    .await;
    let statuses: Vec<_> = records.iter().rev().map(|it| it.status.unwrap()).collect();
    assert_eq!(statuses, [401, 401, 403, 202, 422, 403]);

    // A token that is taken out of the file is withdrawn.
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("vic")).collect();
    std::fs::write(&file, without.join("\n") + "\n").unwrap();
    let withdrawn = async || {
        let refused = code(vic.assets().await) == Some(ProblemCode::Unauthenticated);
        refused.then_some(())
    };
    until(
        "the withdrawal",
        std::time::Duration::from_secs(20),
        withdrawn,
    )
    .await;

    headend.process.signal(rustix::process::Signal::TERM);
    let (exit, said) = headend.process.ended().await;
    assert_eq!(exit, Some(0));
    assert!(
        said.contains("audit") && said.contains("submit_dispatch"),
        "the log has the trail"
    );
    for secret in [viewer.as_str(), &operator, &admin, wrong] {
        assert!(!said.contains(secret), "a token is in the log");
    }
}

#[tokio::test]
async fn a_token_for_nothing_good_is_not_made() {
    let folder = Folder::new();
    let file = folder.path().join("tokens.yaml");
    for (args, exit, words) in [
        (&["--name", "a", "--role", "root"][..], 64, "viewer"),
        (
            &["--name", "a", "--role", "viewer", "--site", "Jersey"],
            64,
            "UUID",
        ),
        (&["--name", "", "--role", "viewer"], 1, "name"),
        (&["--role", "viewer"], 64, "--name"),
    ] {
        let output = new_token(&file, args).await;
        assert_eq!(output.code, Some(exit), "{}", output.stderr);
        assert!(output.stderr.contains(words), "{}", output.stderr);
        assert!(output.stdout.is_empty() && !file.exists());
    }
}
