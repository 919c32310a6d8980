//! Agents that say they are someone else, and agents with tokens.

use std::path::PathBuf;

use derms_agent_sdk::{AgentEvent, BuildError};
use derms_headend_sdk::{AgentTokens, Headend};
use derms_proto::CloseReason;
use derms_tests::Pki;

use crate::rig::{BESS_1, BESS_2, Rig, event, failure, fleet, good, mutual, trusting};

fn token(pki: &Pki, text: &str) -> PathBuf {
    let path = pki.file("token");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn an_agent_that_registers_as_another_is_forbidden() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    // A good certificate, of the neighbour.
    let mut events = rig.run(rig.agent(BESS_1).tls(good(&pki, 2, BESS_2)));
    let text = failure(&mut events).await;
    assert!(
        text.starts_with("Forbidden") && text.contains("registers as"),
        "{text}"
    );
    assert!(rig.agents().await.is_empty());
    assert_eq!(rig.headend.link_refusals().identities, 1);
}

/// A headend with tokens and without client certificates.
async fn with_tokens(pki: &Pki, lines: &[(&str, &str)]) -> Rig {
    write_tokens(pki, lines);
    let tls =
        derms_headend_sdk::ServerTls::builder(pki.file("headend.pem"), pki.file("headend-key.pem"));
    let tokens = AgentTokens::load(pki.file("tokens")).unwrap();
    let builder = Headend::builder(fleet()).tls(tls.load().unwrap());
    Rig::of(builder.agent_tokens(tokens)).await
}

fn write_tokens(pki: &Pki, lines: &[(&str, &str)]) {
    let lines = lines.iter().map(|(agent, token)| {
        use sha2::Digest as _;
        let hash = sha2::Sha256::digest(token.as_bytes());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{agent} {hex}\n")
    });
    std::fs::write(pki.file("tokens"), lines.collect::<String>()).unwrap();
}

#[tokio::test]
async fn an_agent_with_its_token_is_let_in_until_the_token_is_taken_away() {
    let pki = Pki::new();
    let mut rig = with_tokens(&pki, &[(BESS_1, "t1"), (BESS_2, "t2")]).await;
    let one = rig
        .agent(BESS_1)
        .tls(trusting(&pki))
        .bearer_token(token(&pki, "t1\n"));
    let mut events = rig.connected(one).await;
    let path = pki.file("token-2");
    std::fs::write(&path, "t2").unwrap();
    let two = rig.agent(BESS_2).tls(trusting(&pki)).bearer_token(path);
    rig.connected(two).await;
    let before = rig.agents().await;
    assert_eq!(before.len(), 2);

    write_tokens(&pki, &[(BESS_2, "t2")]);
    let reason = event(&mut events, "the end", |event| match event {
        AgentEvent::Halted { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(reason.await, CloseReason::Revoked);
    assert_eq!(rig.agents().await, before[1..], "the other goes on");
    assert_eq!(rig.headend.link_refusals().revoked, 1);
}

#[tokio::test]
async fn a_stolen_token_makes_nobody_another_agent_and_an_unknown_one_nobody_at_all() {
    let pki = Pki::new();
    for (shown, words) in [("t1", "Forbidden"), ("t3", "Unauthenticated")] {
        let mut rig = with_tokens(&pki, &[(BESS_1, "t1")]).await;
        let thief = rig
            .agent(BESS_2)
            .tls(trusting(&pki))
            .bearer_token(token(&pki, shown));
        let text = failure(&mut rig.run(thief)).await;
        assert!(text.starts_with(words) && !text.contains(shown), "{text}");
        assert!(rig.agents().await.is_empty());
    }
}

#[tokio::test]
async fn a_token_beside_the_certificate_of_another_agent_is_refused() {
    let pki = Pki::new();
    write_tokens(&pki, &[(BESS_1, "t1")]);
    let tokens = AgentTokens::load(pki.file("tokens")).unwrap();
    let builder = Headend::builder(fleet())
        .tls(mutual(&pki))
        .agent_tokens(tokens);
    let mut rig = Rig::of(builder).await;
    let agent = rig.agent(BESS_1).tls(good(&pki, 2, BESS_2));
    let text = failure(&mut rig.run(agent.bearer_token(token(&pki, "t1")))).await;
    assert!(text.contains("different agents"), "{text}");
}

#[test]
fn a_token_is_not_sent_in_the_clear_and_tls_is_not_left_out_by_mistake() {
    let pki = Pki::new();
    let path = token(&pki, "t1");
    let builder = |uri: &str| {
        let asset = crate::rig::asset(BESS_1);
        let device = derms_agent_sdk::sim::for_asset(&asset, 1);
        derms_agent_sdk::AgentRuntime::builder(uri.parse().unwrap()).adapter(asset, device)
    };
    let refused =
        |error: Result<_, BuildError>| match error.map(|_: derms_agent_sdk::AgentRuntime| ()) {
            Err(BuildError::Headend { problem, .. }) => problem,
            other => panic!("{other:?}"),
        };
    let far = "http://headend.example:1";
    assert!(refused(builder(far).bearer_token(&path).build()).contains("token"));
    assert!(
        builder("http://127.0.0.1:1")
            .bearer_token(&path)
            .build()
            .is_ok()
    );
    assert!(
        builder("http://[::1]:1")
            .bearer_token(&path)
            .build()
            .is_ok()
    );
    assert!(refused(builder(far).tls(trusting(&pki)).build()).contains("https://"));
    assert!(refused(builder("https://headend.example:1").build()).contains("tls("));
    let missing = trusting(&pki).certificate(pki.file("none.pem"), pki.file("none.pem"));
    let error = builder("https://headend.example:1").tls(missing).build();
    assert!(matches!(error.map(|_| ()), Err(BuildError::Tls(_))));
}
