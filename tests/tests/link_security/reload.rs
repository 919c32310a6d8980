//! Certificates, CA and CRLs that change while streams live.

use derms_agent_sdk::{AgentEvent, AgentEvents};
use derms_proto::CloseReason;
use derms_tests::{Pki, Wanted};
use time::Duration;

use crate::rig::{BESS_1, BESS_2, RELOAD, Rig, event, failure, good, showing};

async fn revoked(events: &mut AgentEvents) -> String {
    event(events, "the end of the session", |event| match event {
        AgentEvent::Halted { reason, text, .. } => {
            assert_eq!(*reason, CloseReason::Revoked);
            Some(text.clone())
        }
        _ => None,
    })
    .await
}

/// Two agents with their certificates, 2 and 3.
async fn two(pki: &Pki) -> (Rig, AgentEvents, AgentEvents) {
    let mut rig = Rig::mutual(pki).await;
    let one = rig.agent(BESS_1).tls(good(pki, 2, BESS_1));
    let two = rig.agent(BESS_2).tls(good(pki, 3, BESS_2));
    let (one, two) = (rig.connected(one).await, rig.connected(two).await);
    (rig, one, two)
}

#[tokio::test]
async fn a_revoked_certificate_ends_its_stream_and_no_other_and_gets_nobody_in_again() {
    let pki = Pki::new();
    let (mut rig, mut one, _two) = two(&pki).await;
    let before = rig.agents().await;
    pki.revoke(&[2]);
    let text = revoked(&mut one).await;
    assert!(text.contains("the certificate is revoked"), "{text}");
    assert_eq!(rig.agents().await, before[1..], "the other goes on");
    assert_eq!(rig.headend.link_refusals().revoked, 1);
    let files = (
        pki.file(&format!("{BESS_1}.pem")),
        pki.file(&format!("{BESS_1}-key.pem")),
    );
    let again = rig.agent(BESS_1).tls(showing(&pki, files));
    let text = failure(&mut rig.run(again)).await;
    assert!(text.contains("CertificateRevoked"), "{text}");
}

#[tokio::test]
async fn a_ca_that_left_ends_the_streams_of_its_agents() {
    let (pki, other) = (Pki::new(), Pki::new());
    let (rig, mut one, mut two) = two(&pki).await;
    // First the list, then the CA: the first alone can't be loaded or changes nothing.
    for name in ["crl.pem", "ca.pem"] {
        std::fs::copy(other.file(name), pki.file(name)).unwrap();
    }
    revoked(&mut one).await;
    revoked(&mut two).await;
    assert!(rig.agents().await.is_empty());
}

#[tokio::test]
async fn a_certificate_that_expires_ends_its_stream_and_the_agent_comes_back_with_its_new_one() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let short = Wanted {
        until: Duration::seconds(4),
        ..Wanted::agent(2, BESS_1)
    };
    let agent = rig
        .agent(BESS_1)
        .tls(showing(&pki, pki.issue(BESS_1, &short)));
    let mut events = rig.connected(agent).await;
    let text = event(&mut events, "the end of the session", |event| match event {
        AgentEvent::Disconnected { reason, text, .. } => {
            assert_eq!(*reason, CloseReason::Rebalance);
            Some(text.clone())
        }
        _ => None,
    });
    let text = text.await;
    assert!(text.contains("has expired"), "{text}");
    let text = failure(&mut events).await;
    assert!(text.contains("CertificateExpired"), "{text}");
    pki.issue(BESS_1, &Wanted::agent(3, BESS_1));
    event(&mut events, "a session", |event| {
        matches!(event, AgentEvent::Connected { .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_headends_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let pki = Pki::new();
    let (mut rig, _one, _two) = two(&pki).await;
    let before = rig.agents().await;
    pki.renew_headend(&["headend.example"]);
    // Whoever wants the new name gets in once it is there.
    let id = "7ba7b812-9dad-11d1-80b4-00c04fd430c8";
    let agent = rig
        .agent(id)
        .tls(good(&pki, 4, id).server_name("headend.example"));
    rig.run(agent);
    rig.until_agents(3).await;
    assert_eq!(rig.agents().await[..2], before, "no session was begun anew");
}

#[tokio::test]
async fn files_that_are_half_written_change_nothing() {
    let pki = Pki::new();
    let (mut rig, _one, _two) = two(&pki).await;
    let before = rig.agents().await;
    let whole = std::fs::read(pki.file("crl.pem")).unwrap();
    std::fs::write(pki.file("crl.pem"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(pki.file("headend-key.pem"), "").unwrap();
    tokio::time::sleep(RELOAD * 5).await;
    assert_eq!(rig.agents().await, before);
    let id = "7ba7b812-9dad-11d1-80b4-00c04fd430c8";
    let agent = rig.agent(id).tls(good(&pki, 4, id));
    rig.connected(agent).await;
}
