//! Whom the two sides believe.

use derms_client::Client;
use derms_headend_sdk::{Headend, ServerTls};
use derms_tests::{Pki, Wanted};
use time::Duration;

use crate::rig::{BESS_1, BESS_2, Rig, event, failure, fleet, good, showing, trusting};

#[tokio::test]
async fn an_agent_with_a_certificate_of_its_own_is_connected_and_shown_by_it() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let agent = rig.agent(BESS_1).tls(good(&pki, 2, BESS_1));
    rig.connected(agent).await;
    rig.until_agents(1).await;
    assert_eq!(
        rig.principal().await,
        Some(format!("urn:derms:agent:{BESS_1}"))
    );
    assert_eq!(rig.headend.link_refusals().identities, 0);
}

#[tokio::test]
async fn a_bad_certificate_gets_nobody_in_and_both_sides_say_why() {
    let (pki, other, namesake) = (Pki::named("ours"), Pki::new(), Pki::named("ours"));
    pki.revoke(&[5]);
    let of = |from, until| Wanted {
        from: Duration::minutes(from),
        until: Duration::minutes(until),
        ..Wanted::agent(3, BESS_1)
    };
    let expired = pki.issue("expired", &of(-20, -10));
    let early = pki.issue("early", &of(10, 20));
    let revoked = pki.issue("revoked", &Wanted::agent(5, BESS_1));
    let foreign = other.issue("foreign", &Wanted::agent(2, BESS_1));
    let forged = namesake.issue("forged", &Wanted::agent(2, BESS_1));
    for (what, certificate, words) in [
        ("of another CA", foreign, "UnknownCA"),
        ("of a CA with our CA's name", forged, "DecryptError"),
        ("expired", expired, "CertificateExpired"),
        ("not valid yet", early, "CertificateExpired"),
        ("revoked", revoked, "CertificateRevoked"),
    ] {
        let mut rig = Rig::mutual(&pki).await;
        let mut events = rig.run(rig.agent(BESS_1).tls(showing(&pki, certificate)));
        let text = failure(&mut events).await;
        let refused = text.contains("the headend refuses the agent's certificate");
        assert!(refused && text.contains(words), "{what}: {text}");
        failure(&mut events).await;
        assert!(rig.agents().await.is_empty(), "{what}");
        assert!(rig.headend.link_refusals().handshakes > 0, "{what}");
    }
}

#[tokio::test]
async fn without_a_certificate_or_with_one_that_names_no_agent_the_stream_is_refused() {
    let pki = Pki::new();
    let nameless = Wanted {
        uris: vec!["urn:derms:site:1".to_owned()],
        ..Wanted::agent(2, BESS_1)
    };
    let two = Wanted {
        uris: [BESS_1, BESS_2]
            .map(|id| format!("urn:derms:agent:{id}"))
            .to_vec(),
        ..Wanted::agent(3, BESS_1)
    };
    for (tls, words) in [
        (trusting(&pki), "has not proved who it is"),
        (
            showing(&pki, pki.issue("nameless", &nameless)),
            "names no agent",
        ),
        (showing(&pki, pki.issue("two", &two)), "several agents"),
    ] {
        let mut rig = Rig::mutual(&pki).await;
        let mut events = rig.run(rig.agent(BESS_1).tls(tls));
        let text = failure(&mut events).await;
        assert!(
            text.starts_with("Unauthenticated") && text.contains(words),
            "{text}"
        );
        assert!(rig.agents().await.is_empty());
        assert_eq!(rig.headend.link_refusals().identities, 1);
    }
}

#[tokio::test]
async fn a_headend_that_can_not_prove_itself_is_not_talked_to() {
    let (pki, other) = (Pki::new(), Pki::new());
    let tls = |pki: &Pki| showing(pki, pki.issue(BESS_1, &Wanted::agent(2, BESS_1)));
    for (what, tls, words) in [
        (
            "another CA",
            tls(&other),
            "is of a CA that the agent does not trust",
        ),
        (
            "another name",
            tls(&pki).server_name("headend.example"),
            "is for another name",
        ),
    ] {
        let mut rig = Rig::mutual(&pki).await;
        let mut events = rig.run(rig.agent(BESS_1).tls(tls));
        let text = failure(&mut events).await;
        assert!(text.contains(words), "{what}: {text}");
        assert!(rig.agents().await.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn the_browsers_cas_are_trusted_unless_told_otherwise_and_ours_is_none_of_them() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let mut events = rig.run(rig.agent(BESS_1).tls(derms_agent_sdk::ClientTls::new()));
    let text = failure(&mut events).await;
    assert!(text.contains("does not trust"), "{text}");
}

#[tokio::test]
async fn plain_http_on_a_port_with_tls_gets_nowhere() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let mut events = rig.run(rig.agent_at("http", BESS_1));
    failure(&mut events).await;
    assert!(rig.agents().await.is_empty());
}

#[tokio::test]
async fn rest_on_the_same_port_needs_the_ca_and_no_certificate() {
    let (pki, other) = (Pki::new(), Pki::new());
    let rig = Rig::mutual(&pki).await;
    let client = |pki: &Pki| {
        let base = format!("https://{}", rig.address).parse().unwrap();
        Client::builder(base)
            .ca(pki.file("ca.pem"))
            .retries(0)
            .build()
            .unwrap()
    };
    assert_eq!(
        client(&pki).assets().await.unwrap().len(),
        fleet().assets().len()
    );
    let error = client(&other).assets().await.unwrap_err();
    assert!(
        matches!(error, derms_client::Error::Connect { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn tls_1_2_is_spoken_only_where_it_is_allowed() {
    let pki = Pki::new();
    let files = || ServerTls::builder(pki.file("headend.pem"), pki.file("headend-key.pem"));
    let old = |tls: ServerTls| async {
        let rig = Rig::of(Headend::builder(fleet()).tls(tls)).await;
        speaks_tls12(&rig, &pki).await
    };
    assert!(!old(files().load().unwrap()).await);
    assert!(old(files().allow_tls12().load().unwrap()).await);
}

/// Whether a client that knows nothing newer is answered.
async fn speaks_tls12(rig: &Rig, pki: &Pki) -> bool {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(pki.file("ca.pem")).unwrap())
        .unwrap();
    let config = rustls::ClientConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_protocol_versions(&[&rustls::version::TLS12])
    .unwrap()
    .with_root_certificates(roots)
    .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    connector.connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn a_certificate_that_was_exchanged_is_used_with_the_next_attempt() {
    let pki = Pki::new();
    let mut rig = Rig::mutual(&pki).await;
    let expired = Wanted {
        until: Duration::minutes(-1),
        ..Wanted::agent(2, BESS_1)
    };
    let files = pki.issue(BESS_1, &expired);
    let mut events = rig.run(rig.agent(BESS_1).tls(showing(&pki, files)));
    failure(&mut events).await;
    pki.issue(BESS_1, &Wanted::agent(3, BESS_1));
    event(&mut events, "a session", |event| {
        matches!(event, derms_agent_sdk::AgentEvent::Connected { .. }).then_some(())
    })
    .await;
}
