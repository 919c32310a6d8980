//! Tokens, and what is wrong with most of them.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use serde_json::json;

use super::*;

const SITE: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

struct Issuer {
    pair: Ed25519KeyPair,
    file: PathBuf,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.file));
    }
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pair() -> Ed25519KeyPair {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap()
}

impl Issuer {
    fn new() -> Self {
        let pair = pair();
        let name = format!("derms-jwks-{}.json", uuid::Uuid::new_v4());
        let issuer = Self {
            pair,
            file: std::env::temp_dir().join(name),
        };
        issuer.publish();
        issuer
    }

    fn publish(&self) {
        let x = b64(self.pair.public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
        std::fs::write(&self.file, keys.to_string()).unwrap();
    }

    fn verifier(&self) -> Jwt {
        Jwt::new(&self.file, "https://id.example", "derms").unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        let signature = self.pair.sign(message.as_bytes());
        format!("{message}.{}", b64(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": "EdDSA", "kid": "k", "typ": "JWT"}), claims)
    }
}

fn noon() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

/// Seconds after noon.
fn after(seconds: i64) -> i64 {
    noon().unix_micros() / 1_000_000 + seconds
}

fn good() -> Value {
    json!({
        "iss": "https://id.example", "aud": ["other", "derms"], "sub": "ann",
        "exp": after(300), "nbf": after(-10), "derms_role": "operator",
    })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = good();
    claims[name] = value.into();
    claims
}

fn without(name: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[track_caller]
fn refused(jwt: &Jwt, token: &str, words: &str) {
    match jwt.find(token, noon()) {
        Err(Refused::Bad(why)) => assert!(why.contains(words), "`{words}` is not in: {why}"),
        other => panic!("{words}: {other:?}"),
    }
}

#[tokio::test]
async fn a_good_token_gives_its_principal() {
    let issuer = Issuer::new();
    let jwt = issuer.verifier();
    let ann = Principal::new("jwt:ann").with_role(Role::Operator);
    assert_eq!(jwt.find(&issuer.token(&good()), noon()), Ok(ann.clone()));
    let one = issuer.token(&with("aud", "derms"));
    assert_eq!(jwt.find(&one, noon()), Ok(ann.clone()));
    let bare = issuer.sign(&json!({"alg": "EdDSA"}), &without("nbf"));
    assert_eq!(
        jwt.find(&bare, noon()),
        Ok(ann),
        "kid, typ and nbf may be absent"
    );
}

#[tokio::test]
async fn a_token_of_another_issuer_audience_or_time_is_refused() {
    let issuer = Issuer::new();
    let jwt = issuer.verifier();
    for (claims, words) in [
        (with("iss", "https://id.example/"), "issuer"),
        (with("aud", "derms2"), "audience"),
        (with("aud", json!([])), "audience"),
        (with("exp", after(-60)), "expired"),
        (with("nbf", after(61)), "not valid yet"),
        (without("iss"), "lacks"),
        (without("aud"), "lacks"),
        (without("exp"), "lacks"),
        (without("sub"), "lacks"),
        (with("exp", "never"), "lacks"),
        (with("exp", Value::Null), "lacks"),
        (with("sub", ""), "sub"),
        (with("sub", "two\nlines"), "sub"),
        (with("sub", "x".repeat(201)), "sub"),
        (without("derms_role"), "role"),
        (with("derms_role", "root"), "role"),
        (with("derms_role", json!({"operator": true})), "role"),
    ] {
        refused(&jwt, &issuer.token(&claims), words);
    }
    // The leeway is there for clocks.
    for claims in [with("exp", after(-59)), with("nbf", after(60))] {
        assert!(jwt.find(&issuer.token(&claims), noon()).is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn a_token_that_is_not_signed_by_a_known_key_and_an_allowed_algorithm_is_refused() {
    let issuer = Issuer::new();
    let jwt = issuer.verifier();
    let claims = good();
    let none = format!("{}.{}.", b64(r#"{"alg":"none"}"#), b64(claims.to_string()));
    refused(&jwt, &none, "algorithm");
    for name in ["none", "None", "HS256", "RS384", "eddsa", ""] {
        let token = issuer.sign(&json!({"alg": name, "kid": "k"}), &claims);
        refused(&jwt, &token, "algorithm");
    }
    // The public key taken for the secret of an HMAC.
    let message = format!(
        "{}.{}",
        b64(r#"{"alg":"HS256","kid":"k"}"#),
        b64(claims.to_string())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, issuer.pair.public_key().as_ref());
    let tag = ring::hmac::sign(&key, message.as_bytes());
    refused(&jwt, &format!("{message}.{}", b64(tag)), "algorithm");

    let narrow = issuer.verifier().algorithms([JwtAlgorithm::Es256]);
    refused(&narrow, &issuer.token(&claims), "algorithm");
    for header in [
        json!({"alg": "EdDSA", "kid": "other"}),
        json!({"alg": "RS256", "kid": "k"}),
        json!({"alg": "ES256"}),
    ] {
        refused(&jwt, &issuer.sign(&header, &claims), "signed");
    }
    let stranger = Issuer {
        pair: pair(),
        file: PathBuf::new(),
    };
    refused(&jwt, &stranger.token(&claims), "signed");
    for header in [
        json!({"alg": "EdDSA", "crit": ["b64"]}),
        json!({"alg": "EdDSA", "typ": "logout+jwt"}),
    ] {
        refused(&jwt, &issuer.sign(&header, &claims), "kind");
    }
}

#[tokio::test]
async fn a_token_that_was_changed_on_its_way_is_refused() {
    let issuer = Issuer::new();
    let jwt = issuer.verifier();
    let token = issuer.token(&good());
    let parts: Vec<&str> = token.split('.').collect();
    let raised = b64(with("derms_role", "admin").to_string());
    refused(
        &jwt,
        &format!("{}.{raised}.{}", parts[0], parts[2]),
        "signed",
    );
    refused(
        &jwt,
        &format!("{}.{}.{}", parts[0], parts[1], b64([0; 64])),
        "signed",
    );
    refused(&jwt, &format!("{}.{}.", parts[0], parts[1]), "signed");
    refused(&jwt, &format!("{token}="), "JWT");
    refused(&jwt, &format!("{token}.x"), "");
    refused(&jwt, "a.b.c", "JWT");
    for token in ["", "derms_abc", "a.b"] {
        assert_eq!(
            jwt.find(token, noon()),
            Err(Refused::Unknown),
            "of others: {token}"
        );
    }
}

#[tokio::test]
async fn roles_and_sites_come_from_the_claims_that_are_named() {
    let issuer = Issuer::new();
    let jwt = issuer
        .verifier()
        .role_claim("realm_access.roles")
        .sites_claim("https://x.example/sites");
    let claims = |roles: Value, sites: Value| {
        let mut claims = with("realm_access", json!({ "roles": roles }));
        claims["https://x.example/sites"] = sites;
        issuer.token(&claims)
    };
    let found = jwt.find(
        &claims(json!(["staff", "viewer", "admin"]), json!([SITE])),
        noon(),
    );
    let found = found.unwrap();
    assert_eq!(found.role(), Role::Admin);
    let sites: Vec<String> = found
        .sites()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(sites, [SITE]);
    let all = jwt
        .find(&claims(json!("viewer"), json!("*")), noon())
        .unwrap();
    assert!(all.role() == Role::Viewer && all.sites().is_none());
    let nothing = jwt
        .find(&claims(json!("viewer"), json!([])), noon())
        .unwrap();
    assert_eq!(
        nothing.sites().map(std::collections::BTreeSet::len),
        Some(0)
    );
    refused(&jwt, &claims(json!("viewer"), json!(["Jersey"])), "site");
    refused(
        &jwt,
        &issuer.token(&with("realm_access", json!({"roles": "viewer"}))),
        "no sites",
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_out_of_the_file_signs_nothing_any_more() {
    let mut issuer = Issuer::new();
    let jwt = issuer.verifier();
    let token = issuer.token(&good());
    jwt.find(&token, noon()).unwrap();
    issuer.pair = pair();
    issuer.publish();
    tokio::time::advance(Duration::from_secs(1)).await;
    jwt.keys.look().await;
    refused(&jwt, &token, "signed");
    jwt.find(&issuer.token(&good()), noon()).unwrap();
}

#[tokio::test]
async fn a_token_of_es256_is_verified() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    let public = pair.public_key().as_ref();
    let (x, y) = (b64(&public[1..33]), b64(&public[33..]));
    let issuer = Issuer::new();
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig"}]});
    std::fs::write(&issuer.file, keys.to_string()).unwrap();
    let jwt = issuer.verifier();
    let message = format!("{}.{}", b64(r#"{"alg":"ES256"}"#), b64(good().to_string()));
    let signature = pair.sign(&random, message.as_bytes()).unwrap();
    let token = format!("{message}.{}", b64(signature));
    assert_eq!(jwt.find(&token, noon()).unwrap().name(), "jwt:ann");
}
