//! Bearer tokens: whole ones, as a stranger may send them, and signed ones with any header and claims,
//! which a sloppy identity provider may make.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use derms_headend_sdk::auth::{Authenticate as _, Jwt, Principal, Refused};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::folder::Folder;
use super::{MIB, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TOKEN: Target = Target {
    name: "jwt",
    about: "a bearer token that should be a JWT, as the REST interface reads it",
    run: token,
    seeds: || {
        let mut seeds = files_in("corpus/jwt", "")?;
        seeds.extend(own().iter().map(|token| token.clone().into_bytes()));
        Ok(seeds)
    },
    shape: Shape::Plain,
    tokens: &[
        b".",
        b"..",
        b"=",
        b"e30",
        b"eyJhbGciOiJub25lIn0",
        b"eyJhbGciOiJIUzI1NiJ9",
        b"eyJhbGciOiJFZERTQSJ9",
        b"eyJhbGciOiJSUzI1NiJ9",
    ],
    longest: 8 << 10,
    memory: 64 * MIB,
};

pub(super) const CLAIMS: Target = Target {
    name: "jwt_claims",
    about: "header and claims, a line each, signed by a key that counts",
    run: claims,
    seeds: || files_in("corpus/jwt_claims", ""),
    shape: Shape::Plain,
    tokens: &[
        b"\"alg\":\"none\"",
        b"\"alg\":\"HS256\"",
        b"\"crit\":[\"exp\"]",
        b"\"kid\":null",
        b"\"iss\":\"https://id.example\"",
        b"\"aud\":\"derms\"",
        b"\"aud\":[\"derms\"]",
        b"\"exp\":1e308",
        b"\"exp\":-1",
        b"\"nbf\":9e99",
        b"\"derms_role\":\"admin\"",
        b"\"derms_role\":[\"viewer\",\"operator\"]",
        b"\"sites\":\"*\"",
        b"\"sites\":[\"6ba7b810-9dad-11d1-80b4-00c04fd430c8\"]",
        b"\"sub\":\"\\u0000\"",
        b"[[[[",
    ],
    longest: 8 << 10,
    memory: 64 * MIB,
};

const ISSUER: &str = "https://id.example";
const AUDIENCE: &str = "derms";

/// The same in each run: a finding must be found again.
fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed")
}

fn verifier() -> &'static Jwt {
    static VERIFIER: OnceLock<(Jwt, Folder)> = OnceLock::new();
    let (verifier, _) = VERIFIER.get_or_init(|| {
        let x = URL_SAFE_NO_PAD.encode(pair().public_key());
        let keys = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x}]});
        let folder = Folder::new();
        let file = folder.write("jwks.json", keys.to_string().as_bytes());
        let verifier = Jwt::new(file, ISSUER, AUDIENCE).expect("the keys are good");
        (verifier.sites_claim("sites"), folder)
    });
    verifier
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", part(header), part(claims));
    let signature = pair().sign(message.as_bytes());
    format!("{message}.{}", part(signature.as_ref()))
}

/// The only good ones that there are.
fn own() -> &'static [String] {
    static OWN: OnceLock<Vec<String>> = OnceLock::new();
    OWN.get_or_init(|| {
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": 4_102_444_800_u64,
            "derms_role": "operator", "sites": "*",
        });
        let claims = claims.to_string();
        let headers = [r#"{"alg":"EdDSA","kid":"k"}"#, r#"{"alg":"EdDSA"}"#];
        let sign = |header: &str| signed(header.as_bytes(), claims.as_bytes());
        headers.map(sign).into()
    })
}

fn shown(token: &str) -> Result<Principal, Refused> {
    runtime().block_on(verifier().authenticate(token))
}

/// Nobody but who has the key makes a token that counts, not even out of one that does.
fn token(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else {
        return Verdict::Refused;
    };
    let taken = shown(text).is_ok();
    assert!(!taken || own().iter().any(|own| own == text), "forged");
    Verdict::taken(taken)
}

/// A principal that came of it can be shown and logged, and the algorithm is the one of its key.
fn claims(input: &[u8]) -> Verdict {
    let at = input.iter().position(|byte| *byte == b'\n');
    let (header, claims) = input.split_at(at.unwrap_or(input.len()));
    let Ok(principal) = shown(&signed(header, claims)) else {
        return Verdict::Refused;
    };
    let header: Value = serde_json::from_slice(header).expect("the header was read");
    assert_eq!(header["alg"], "EdDSA");
    let claims: Value = serde_json::from_slice(claims).expect("the claims were read");
    assert_eq!(claims["iss"], ISSUER);
    let name = principal.name();
    assert!(
        name.starts_with("jwt:") && name.chars().count() <= 204,
        "{name}"
    );
    assert!(!name.chars().any(char::is_control), "{name:?}");
    let all = claims["sites"] == json!("*") || claims["sites"] == json!(["*"]);
    assert_eq!(principal.sites().is_none(), all, "{principal:?}");
    Verdict::Taken
}
