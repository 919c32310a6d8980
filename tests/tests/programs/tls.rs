//! The programs on TLS, with the certificates of `der_headend pki`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use derms_client::Client;
use derms_tests::{FREE, Folder, HeadendProcess, Process, Program, until};

use crate::{BESS_1, BESS_2};

const SOON: Duration = Duration::from_secs(30);

pub(super) async fn pki(folder: &Folder, args: &[&str]) -> String {
    let dir = folder.file("pki").display().to_string();
    let program = Program::new("der_headend").args(["pki", "--dir", &dir]);
    let output = program.args(args.iter().copied()).run().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    output.stdout
}

/// The flags of a headend with the certificates in a folder.
pub(super) fn tls_flags(folder: &Folder) -> [String; 8] {
    let file = |name: &str| folder.file("pki").join(name).display().to_string();
    [
        "--tls-cert".to_owned(),
        file("headend.pem"),
        "--tls-key".to_owned(),
        file("headend-key.pem"),
        "--client-ca".to_owned(),
        file("ca.pem"),
        "--crl".to_owned(),
        file("crl.pem"),
    ]
}

/// A headend that looks at its files each second.
async fn headend(folder: &Folder) -> (HeadendProcess, Client) {
    let flags = tls_flags(folder);
    let program = Program::new("der_headend")
        .args(["--http-addr", FREE, "--grpc-addr", FREE])
        .args(["--database-url", "memory", "--reload-s", "1"])
        .args(flags.iter().map(String::as_str));
    let headend = HeadendProcess::of(program).await;
    let base = format!("https://{}", headend.http).parse().unwrap();
    let client = Client::builder(base).ca(folder.file("pki/ca.pem"));
    let client = client.build().unwrap();
    (headend, client)
}

fn agent(folder: &Folder, headend: &HeadendProcess, asset: &str, certificate: &str) -> Process {
    let file = |name: String| folder.file("pki").join(name).display().to_string();
    Program::new("edge_agent")
        .args(["--asset-id", asset])
        .args(["--headend", &format!("https://{}", headend.grpc)])
        .args(["--ca", &file("ca.pem".into())])
        .args(["--cert", &file(format!("agents/{certificate}.pem"))])
        .args(["--key", &file(format!("agents/{certificate}-key.pem"))])
        .start()
}

async fn until_agents(client: &Client, wanted: &[&str]) {
    until("these agents", SOON, async || {
        let agents = client.agents().await.unwrap();
        let ids: Vec<String> = agents
            .iter()
            .map(|agent| agent.agent_id.unwrap().to_string())
            .collect();
        (ids == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_ca_is_made_and_agents_are_let_in_and_out_in_one_command_each() {
    let folder = Folder::new();
    let said = pki(&folder, &["init"]).await;
    assert!(
        said.contains("--tls-cert") && said.contains("--crl"),
        "{said}"
    );
    let said = pki(&folder, &["issue", "--agent", BESS_1, "--agent", BESS_2]).await;
    assert_eq!(said.lines().count(), 2, "{said}");
    let (headend, client) = headend(&folder).await;
    let mut one = agent(&folder, &headend, BESS_1, BESS_1);
    let two = agent(&folder, &headend, BESS_2, BESS_2);
    until_agents(&client, &[BESS_1, BESS_2]).await;

    pki(&folder, &["revoke", "--agent", BESS_1]).await;
    one.says("cause=revoked").await;
    until_agents(&client, &[BESS_2]).await;
    // A new certificate for the same agent is another one.
    assert_eq!(one.terminated().await, Some(0));
    pki(&folder, &["issue", "--agent", BESS_1]).await;
    let again = agent(&folder, &headend, BESS_1, BESS_1);
    until_agents(&client, &[BESS_1, BESS_2]).await;
    for agent in [two, again] {
        assert_eq!(agent.terminated().await, Some(0));
    }
    assert_eq!(headend.process.terminated().await, Some(0));
}

#[tokio::test]
async fn an_agent_with_another_cas_certificate_never_appears() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    for folder in [&ours, &theirs] {
        pki(folder, &["init"]).await;
        pki(folder, &["issue", "--agent", BESS_1, "--agent", BESS_2]).await;
    }
    let (mut headend, client) = headend(&ours).await;
    // It trusts our headend, but its own certificate is of the other CA.
    std::fs::copy(ours.file("pki/ca.pem"), theirs.file("pki/ca.pem")).unwrap();
    let mut stranger = agent(&theirs, &headend, BESS_1, BESS_1);
    headend.process.says("certificate refused").await;
    stranger
        .says("the headend refuses the agent's certificate")
        .await;
    let _good = agent(&ours, &headend, BESS_2, BESS_2);
    until_agents(&client, &[BESS_2]).await;
}

#[tokio::test]
async fn keys_are_for_their_owner_alone_and_a_ca_is_not_overwritten() {
    let folder = Folder::new();
    pki(&folder, &["init"]).await;
    pki(&folder, &["issue", "--agent", BESS_1]).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for key in [
        "ca-key.pem",
        "headend-key.pem",
        &format!("agents/{BESS_1}-key.pem"),
    ] {
        assert_eq!(mode(&folder.file("pki").join(key)), 0o600, "{key}");
    }
    assert_eq!(mode(&folder.file("pki")), 0o700);
    let dir = folder.file("pki").display().to_string();
    for (args, words) in [
        (&["init"][..], "holds a CA already"),
        (&["revoke", "--agent", BESS_2], "no certificate was issued"),
        (&["issue", "--agent", "BESS-1"], "is not a UUID"),
        (&["issue"], "--agent"),
    ] {
        let program = Program::new("der_headend").args(["pki", "--dir", &dir]);
        let output = program.args(args.iter().copied()).run().await;
        assert_eq!(output.code, Some(64), "{args:?}");
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
    let program = Program::new("der_headend").args(["pki", "issue", "--agent", BESS_1]);
    let output = program.env("DERMS_PKI_DIR", "/nowhere").run().await;
    assert_eq!(output.code, Some(64));
    assert!(output.stderr.contains("pki init"), "{}", output.stderr);
}

#[tokio::test]
async fn a_headend_for_everybody_without_tls_and_authentication_does_not_start_and_says_why() {
    let program = Program::new("der_headend").args([
        "--http-addr",
        "0.0.0.0:3001",
        "--database-url",
        "memory",
    ]);
    let output = program.run().await;
    assert_eq!((output.code, output.stdout.as_str()), (Some(64), ""));
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    for words in ["0.0.0.0:3001", "is not encrypted", "--insecure"] {
        assert!(output.stderr.contains(words), "{}", output.stderr);
    }
}

#[tokio::test]
async fn no_log_shows_a_key_or_a_token() {
    use std::fmt::Write as _;
    let folder = Folder::new();
    pki(&folder, &["init"]).await;
    pki(&folder, &["issue", "--agent", BESS_1]).await;
    let token = "9b1f0a7c55d2e8f36a4401bb29c7de10f3";
    let hash = <sha2::Sha256 as sha2::Digest>::digest(token.as_bytes());
    let hex = hash.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    std::fs::write(folder.file("token"), token).unwrap();
    std::fs::write(folder.file("wrong"), "d00d5ca1ab1e0ddba11f00dcafe").unwrap();
    std::fs::write(folder.file("tokens"), format!("{BESS_2} {hex}\n")).unwrap();
    let flags = tls_flags(&folder);
    let path = |name: &str| folder.file(name).display().to_string();
    let mut headend = HeadendProcess::of(
        Program::new("der_headend")
            .args(["--http-addr", FREE, "--grpc-addr", FREE])
            .args([
                "--database-url",
                "memory",
                "--agent-tokens",
                &path("tokens"),
            ])
            .args(flags.iter().map(String::as_str))
            .env("RUST_LOG", "trace"),
    )
    .await;
    let agent = |args: &[&str]| {
        let grpc = format!("https://{}", headend.grpc);
        Program::new("edge_agent")
            .args(["--headend", &grpc, "--ca", &path("pki/ca.pem")])
            .args(args.iter().copied())
            .env("RUST_LOG", "trace")
            .start()
    };
    let own = |end: &str| path(&format!("pki/agents/{BESS_1}{end}"));
    let mut by_certificate = agent(&[
        "--asset-id",
        BESS_1,
        "--cert",
        &own(".pem"),
        "--key",
        &own("-key.pem"),
    ]);
    let mut by_token = agent(&["--asset-id", BESS_2, "--token-file", &path("token")]);
    let mut refused = agent(&["--asset-id", BESS_2, "--token-file", &path("wrong")]);
    by_certificate.says("connected").await;
    by_token.says("connected").await;
    refused.says("the token is not known").await;
    headend.process.says("agent refused").await;

    let mut secrets = vec![
        token.to_owned(),
        "d00d5ca1ab1e0ddba11f00dcafe".to_owned(),
        hex,
    ];
    for key in [path("pki/headend-key.pem"), own("-key.pem")] {
        let text = std::fs::read_to_string(key).unwrap();
        secrets.extend(
            text.lines()
                .filter(|line| !line.contains("-----"))
                .map(str::to_owned),
        );
    }
    let mut ended = Vec::new();
    for process in [by_certificate, by_token, refused, headend.process] {
        process.signal(rustix::process::Signal::TERM);
        ended.push(process.ended().await.1);
    }
    for said in ended {
        assert!(said.contains("TRACE"), "nothing of interest was logged");
        for secret in &secrets {
            assert!(!said.contains(secret.as_str()), "`{secret}` is in a log");
        }
    }
}
