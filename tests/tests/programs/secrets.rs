//! A whole run that tells all there is to tell: no secret is in a log, an argument list or the database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use derms_client::proto::{DispatchStatus, NewDispatch, Power, ProblemCode};
use derms_client::{AuditHistoryQuery, Client, DispatchOptions};
use derms_tests::{FREE, Folder, HeadendProcess, Program, children_of, until};

use crate::access::token;
use crate::tls::{pki, tls_flags};
use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(30);
const AGENT_TOKEN: &str = "agent-token-that-only-this-agent-has-0123456789";
const WRONG_TOKEN: &str = "derms_a-token-that-was-never-made-9876543210";
const PASSWORD: &str = "the-password-of-the-database";

/// The lines of a private key that are more than its frame.
fn lines_of_key(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.len() > 40);
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty(), "{}", path.display());
    lines
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn no_secret_is_in_a_log_of_a_whole_run_an_argument_list_or_the_data_folder() {
    let (folder, data) = (Folder::new(), Folder::new());
    pki(&folder, &["init"]).await;
    pki(&folder, &["issue", "--agent", BESS_1]).await;
    let tokens = folder.file("tokens.yaml");
    let viewer = token(&tokens, "vic", "viewer").await;
    let operator = token(&tokens, "oda", "operator").await;
    let admin = token(&tokens, "ada", "admin").await;
    std::fs::write(folder.file("agent.token"), AGENT_TOKEN).unwrap();
    let hash = derms_headend_sdk::auth::TokenHash::of(AGENT_TOKEN);
    std::fs::write(folder.file("agents"), format!("{BESS_2} {hash}\n")).unwrap();
    let mut secrets = vec![viewer.clone(), operator.clone(), admin.clone()];
    secrets.extend([AGENT_TOKEN, WRONG_TOKEN, PASSWORD].map(str::to_owned));
    for key in ["pki/ca-key.pem", "pki/headend-key.pem"] {
        secrets.extend(lines_of_key(&folder.file(key)));
    }
    let own_key = folder.file(&format!("pki/agents/{BESS_1}-key.pem"));
    secrets.extend(lines_of_key(&own_key));

    let text = |path: PathBuf| path.display().to_string();
    let flags = tls_flags(&folder);
    let program = Program::new("der_headend")
        .env("RUST_LOG", "trace")
        .args([
            "--http-addr",
            FREE,
            "--grpc-addr",
            FREE,
            "--log-format",
            "json",
        ])
        .args(["--data-dir", &data.path().display().to_string()])
        .args([
            "--tokens",
            &text(tokens),
            "--agent-tokens",
            &text(folder.file("agents")),
        ])
        .args(flags.iter().map(String::as_str));
    let headend = HeadendProcess::of(program).await;
    let agent = |asset: &str, proof: &[&str], state: &str| {
        Program::new("edge_agent")
            .env("RUST_LOG", "trace")
            .args(["--asset-id", asset])
            .args(["--headend", &format!("https://{}", headend.grpc)])
            .args(["--ca", &text(folder.file("pki/ca.pem"))])
            .args(["--state-dir", &text(data.file(state))])
            .args(proof.iter().copied())
            .start()
    };
    let certificate = text(folder.file(&format!("pki/agents/{BESS_1}.pem")));
    let by_certificate = ["--cert", &certificate, "--key", &text(own_key.clone())];
    let by_token = ["--token-file", &text(folder.file("agent.token"))];
    let agents = [
        agent(BESS_1, &by_certificate, "one"),
        agent(BESS_2, &by_token, "two"),
    ];
    let client = |token: &str| {
        let base = format!("https://{}", headend.http).parse().unwrap();
        let client = Client::builder(base).ca(folder.file("pki/ca.pem"));
        client.bearer_token(token).retries(0).build().unwrap()
    };
    let oda = client(&operator);
    until("both agents", SOON, async || {
        (oda.agents().await.unwrap().len() == 2).then_some(())
    })
    .await;
    for asset in [BESS_1, BESS_2] {
        let order = NewDispatch::asset(asset.parse().unwrap(), Power::from_mw(1.0));
        let done = oda.dispatch_with(&order, DispatchOptions::new().wait(SOON));
        assert_eq!(done.await.unwrap().status, DispatchStatus::Active);
        let refused = client(&viewer).dispatch(&order).await.unwrap_err();
        assert_eq!(refused.code(), Some(ProblemCode::Forbidden));
        let refused = client(WRONG_TOKEN).dispatch(&order).await.unwrap_err();
        assert_eq!(refused.code(), Some(ProblemCode::Unauthenticated));
    }
    let trail = client(&admin).audit(AuditHistoryQuery::new()).await;
    trail.unwrap();

    let mut said = String::new();
    for child in children_of(std::process::id()) {
        said.push_str(&child.args.join(" "));
    }
    assert!(said.contains(BESS_1), "the argument lists are there");
    // Its database is not there: the start fails, and must not tell how it tried.
    let url = format!("postgres://derms:{PASSWORD}@127.0.0.1:1/derms");
    let failed = Program::new("der_headend")
        .env("RUST_LOG", "trace")
        .env("DATABASE_URL", &url)
        .args(["--http-addr", FREE, "--grpc-addr", FREE])
        .run()
        .await;
    assert_eq!(failed.code, Some(1), "{}", failed.stderr);
    said.push_str(&failed.stderr);
    for process in agents.into_iter().chain([headend.process]) {
        process.signal(rustix::process::Signal::TERM);
        let (exit, log) = process.ended().await;
        assert_eq!(exit, Some(0));
        assert!(log.contains("TRACE"), "it tells all");
        said.push_str(&log);
    }
    for secret in &secrets {
        assert!(!said.contains(secret), "a secret is in a log: {secret}");
    }
    let files = files_below(data.path());
    assert!(
        files.iter().any(|it| it.ends_with("derms.sqlite")),
        "{files:?}"
    );
    for file in files {
        let content = std::fs::read(&file).unwrap();
        let content = String::from_utf8_lossy(&content);
        for secret in &secrets {
            let place = file.display();
            assert!(!content.contains(secret), "a secret is in {place}");
        }
    }
}
