//! The files that say who may do what. They are the operator's own, and are read again while the headend
//! runs: a slip in one must be told in a line, and must neither end it nor open it.

use std::fmt::Display;

use derms_headend_sdk::AgentTokens;
use derms_headend_sdk::auth::{Authenticate as _, Jwt, TokenFile};

use super::folder::Folder;
use super::{MIB, runtime};
use crate::{Shape, Target, Verdict, files_in};

pub(super) const TOKEN_FILE: Target = Target {
    name: "token_file",
    about: "the tokens of the REST interface: names, roles, hashes",
    run: token_file,
    seeds: || files_in("corpus/token_file", ""),
    shape: Shape::Plain,
    tokens: &[
        b"tokens:\n",
        b"  - name: a\n",
        b"    role: admin\n",
        b"    sites: []\n",
        b"    expires_at: 2027-01-01T00:00:00Z\n",
        b"&a ",
        b"*a",
        b"<<: ",
        b"jwt:",
        // Of nothing at all.
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

pub(super) const JWKS: Target = Target {
    name: "jwks",
    about: "the keys of an identity provider",
    run: jwks,
    seeds: || files_in("corpus/jwks", ""),
    shape: Shape::Plain,
    tokens: &[
        b"{\"keys\":[",
        b"\"kty\":\"RSA\"",
        b"\"kty\":\"oct\"",
        b"\"use\":\"enc\"",
        b"\"alg\":\"RS256\"",
        b"\"crv\":\"P-256\"",
        b"\"n\":\"\"",
        b"\"e\":\"AQAB\"",
        b"\"d\":null",
        b"[[[[",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

pub(super) const AGENT_TOKENS: Target = Target {
    name: "agent_tokens",
    about: "the tokens of agents: ids and hashes",
    run: agent_tokens,
    seeds: || files_in("corpus/agent_tokens", ""),
    shape: Shape::Plain,
    tokens: &[
        b"#",
        b"\r\n",
        b"\t",
        b"\xef\xbb\xbf",
        b"7ba7b810-9dad-11d1-80b4-00c04fd430c8 ",
        b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
    longest: 64 << 10,
    memory: 64 * MIB,
};

/// What stands in a private key of the corpus, and must stand in no message.
const SECRET: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ";

fn said(error: &impl Display) {
    let text = error.to_string();
    assert!(text.len() < 4_096, "a message of {} bytes", text.len());
    assert!(!text.contains(SECRET), "{text}");
}

/// What nobody was given opens nothing.
fn token_file(input: &[u8]) -> Verdict {
    let folder = Folder::new();
    match TokenFile::open(folder.write("tokens.yaml", input)) {
        Ok(tokens) => {
            for token in ["", "derms_nobody-has-this"] {
                let shown = runtime().block_on(tokens.authenticate(token));
                assert!(shown.is_err(), "{shown:?}");
            }
            Verdict::Taken
        }
        Err(error) => {
            said(&error);
            Verdict::Refused
        }
    }
}

/// Whether the id of one of the keys has this in it.
fn names_a_key(jwks: &[u8], text: &str) -> bool {
    let jwks: serde_json::Value = serde_json::from_slice(jwks).unwrap_or_default();
    let keys = jwks["keys"].as_array();
    let mut ids = keys.into_iter().flatten().map(|key| &key["kid"]);
    ids.any(|id| id.as_str().is_some_and(|id| id.contains(text)))
}

fn jwks(input: &[u8]) -> Verdict {
    let folder = Folder::new();
    match Jwt::new(
        folder.write("jwks.json", input),
        "https://id.example",
        "derms",
    ) {
        Ok(keys) => {
            // Signed by nobody.
            for algorithm in ["RS256", "ES256", "EdDSA"] {
                let header = format!("{{\"alg\":\"{algorithm}\"}}");
                let header = base64::Engine::encode(
                    &base64::engine::general_purpose::URL_SAFE_NO_PAD,
                    header,
                );
                let shown = runtime().block_on(keys.authenticate(&format!("{header}.e30.AAAA")));
                assert!(shown.is_err(), "{shown:?}");
            }
            Verdict::Taken
        }
        Err(error) => {
            // The id of a key is no secret: a message names it, whatever it is.
            if !names_a_key(input, SECRET) {
                said(&error);
            }
            Verdict::Refused
        }
    }
}

fn agent_tokens(input: &[u8]) -> Verdict {
    let folder = Folder::new();
    match AgentTokens::load(folder.write("agent-tokens", input)) {
        Ok(_) => Verdict::Taken,
        Err(error) => {
            said(&error);
            Verdict::Refused
        }
    }
}
