use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};

use super::*;

const A: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const B: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
/// Of the token `test`.
const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const HEADER: HeaderName = HeaderName::from_static("x-agent");

fn agent(id: &str) -> AgentId {
    id.parse().unwrap()
}

fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

/// A file of tokens that goes with it.
struct File(std::path::PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let name = format!("derms-tokens-{}", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What comes with a stream.
#[derive(Default)]
struct Call {
    extensions: Extensions,
    headers: HeaderMap,
}

impl Call {
    fn from(peer: &str) -> Self {
        let mut call = Self::default();
        let peer: SocketAddr = peer.parse().unwrap();
        call.extensions.insert(PeerAddr(peer));
        call
    }

    fn told(mut self, id: &str) -> Self {
        self.extensions.insert(AgentIdentity::new(agent(id)));
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(name, value);
        self
    }

    fn token(self, value: &str) -> Self {
        self.header(header::AUTHORIZATION, value)
    }

    /// A certificate whose handshake was good.
    fn certificate(mut self, id: &str) -> Self {
        self.extensions.insert(Arc::new(PeerCertificate {
            chain: Vec::new(),
            agent: Ok(agent(id)),
            not_after: now(),
        }));
        self
    }

    fn identified(&self, auth: &LinkAuth) -> Result<Option<AgentId>, &'static str> {
        let credentials = auth.identify(&self.extensions, &self.headers, now())?;
        Ok(credentials.map(|credentials| credentials.agent))
    }
}

fn with_tokens(file: &File) -> LinkAuth {
    LinkAuth {
        tokens: Some(AgentTokens::load(&file.0).unwrap()),
        ..LinkAuth::default()
    }
}

fn with_proxy() -> LinkAuth {
    LinkAuth {
        proxies: Some(TrustedProxies::new(["10.0.0.1"], HEADER).unwrap()),
        ..LinkAuth::default()
    }
}

#[test]
fn nothing_is_asked_where_nothing_is_configured_and_what_the_host_says_counts() {
    let auth = LinkAuth::default();
    let call = Call::from("10.0.0.1:5");
    assert_eq!(call.identified(&auth), Ok(None));
    assert_eq!(call.told(A).identified(&auth), Ok(Some(agent(A))));
    let auth = LinkAuth {
        demanded: true,
        ..LinkAuth::default()
    };
    assert!(Call::default().identified(&auth).is_err());
    assert_eq!(
        Call::default().told(A).identified(&auth),
        Ok(Some(agent(A)))
    );
}

#[test]
fn a_token_counts_in_its_one_form_and_any_other_is_refused() {
    let file = File::new(&format!("{A} {HASH}"));
    let auth = with_tokens(&file);
    for good in ["Bearer test", "bearer test"] {
        assert_eq!(
            Call::default().token(good).identified(&auth),
            Ok(Some(agent(A)))
        );
    }
    for bad in [
        "",
        "Bearer",
        "Bearer tesT",
        "Basic test",
        "test",
        "Bearer test2",
    ] {
        assert!(
            Call::default().token(bad).identified(&auth).is_err(),
            "{bad}"
        );
    }
    let nothing = Call::default().token("Bearer  ").identified(&auth);
    assert!(nothing.unwrap_err().contains("no bearer token"), "no token");
    let twice = Call::default().token("Bearer test").token("Bearer test");
    assert!(twice.identified(&auth).is_err());
    assert!(Call::default().identified(&auth).is_err(), "none at all");
}

#[test]
fn without_a_file_of_tokens_the_authorization_is_somebody_elses() {
    let call = Call::default().token("Basic x");
    assert_eq!(call.identified(&LinkAuth::default()), Ok(None));
}

#[test]
fn a_header_counts_from_a_trusted_proxy_alone() {
    let auth = with_proxy();
    let urn = AgentIdentity::new(agent(A)).urn();
    let through = |peer: &str| Call::from(peer).header(HEADER, &urn).identified(&auth);
    assert_eq!(through("10.0.0.1:9"), Ok(Some(agent(A))));
    assert!(through("10.0.0.2:9").is_err(), "it claims to be a proxy");
    assert!(
        Call::from("10.0.0.1:9").identified(&auth).is_err(),
        "no header"
    );
    let unknown = Call::default().header(HEADER, &urn).identified(&auth);
    assert!(unknown.is_err(), "nobody knows where it comes from");
}

#[test]
fn without_the_setting_the_header_says_nothing() {
    let urn = AgentIdentity::new(agent(A)).urn();
    let call = Call::from("10.0.0.1:9").header(HEADER, &urn);
    assert_eq!(call.identified(&LinkAuth::default()), Ok(None));
}

#[test]
fn all_that_an_agent_shows_must_name_the_same() {
    let file = File::new(&format!("{A} {HASH}"));
    let auth = with_tokens(&file);
    let both = |id: &str| {
        Call::default()
            .told(id)
            .token("Bearer test")
            .identified(&auth)
    };
    assert_eq!(both(A), Ok(Some(agent(A))));
    assert!(
        both(B).unwrap_err().contains("different agents"),
        "a stolen token"
    );
}

#[test]
fn a_certificate_that_nothing_can_check_is_refused_but_that_of_a_proxy_is_its_own() {
    let auth = with_proxy();
    let direct = Call::from("10.0.0.9:1").certificate(A).identified(&auth);
    assert!(direct.is_err());
    let urn = AgentIdentity::new(agent(B)).urn();
    let proxied = Call::from("10.0.0.1:1").certificate(A).header(HEADER, &urn);
    assert_eq!(proxied.identified(&auth), Ok(Some(agent(B))));
}

#[test]
fn a_token_that_left_the_file_counts_no_longer_and_the_others_go_on() {
    // Of the token `abc`.
    let other = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let file = File::new(&format!("{A} {HASH}\n{B} {other}"));
    let auth = with_tokens(&file);
    let of = |token: &str| {
        let call = Call::default().token(token);
        auth.identify(&call.extensions, &call.headers, now())
            .unwrap()
            .unwrap()
    };
    let (a, b) = (of("Bearer test"), of("Bearer abc"));
    std::fs::write(&file.0, format!("{B} {other}")).unwrap();
    assert_eq!(auth.recheck(&a, now()), Ok(()), "nothing was read yet");
    auth.reload(now());
    assert!(auth.recheck(&a, now()).is_err());
    assert_eq!(auth.recheck(&b, now()), Ok(()));
    std::fs::write(&file.0, "nonsense").unwrap();
    auth.reload(now());
    assert_eq!(
        auth.recheck(&b, now()),
        Ok(()),
        "what can't be read changes nothing"
    );
    std::fs::write(&file.0, "# being written\n").unwrap();
    auth.reload(now());
    assert_eq!(
        auth.recheck(&b, now()),
        Ok(()),
        "nor does a file without a token"
    );
}
