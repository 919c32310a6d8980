//! Keys of an identity provider, from a JWKS file (RFC 7517).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// How a JWT is signed. Only with public keys: whoever can check a signature by a shared secret can
/// make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JwtAlgorithm {
    /// RSA PKCS #1 v1.5 with SHA-256, keys of 2,048 to 8,192 bits: what most identity providers use.
    Rs256,
    /// RSA PSS with SHA-256, keys of 2,048 to 8,192 bits.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    pub(super) const ALL: [Self; 4] = [Self::Rs256, Self::Ps256, Self::Es256, Self::EdDsa];

    const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for JwtAlgorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|it| it.name() == text);
        known.ok_or("write RS256, PS256, ES256 or EdDSA")
    }
}

/// The keys of a file.
#[derive(Debug)]
pub(super) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// The one it is for, if it says so.
    algorithm: Option<JwtAlgorithm>,
    public: Public,
}

enum Public {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "Rsa",
            Self::P256(_) => "P256",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

#[derive(Deserialize)]
struct FileText {
    keys: Vec<KeyText>,
}

#[derive(Deserialize)]
struct KeyText {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    /// Of a private key; must not be there.
    d: Option<serde::de::IgnoredAny>,
}

/// Reads a file. Keys for other things or of other kinds are left out, as RFC 7517 asks.
pub(super) fn parse(text: &str) -> Result<Keys, String> {
    let file: FileText = serde_json::from_str(text).map_err(|error| {
        // The text of the error could show what stands in the file.
        format!(
            "is no JWKS: line {}, column {}",
            error.line(),
            error.column()
        )
    })?;
    let mut keys = Vec::new();
    for key in &file.keys {
        let name = key.kid.as_deref().unwrap_or("without kid");
        // A message has to fit a line.
        let name = &name[..name.floor_char_boundary(64)];
        if key.d.is_some() {
            return Err(format!(
                "key `{name}` is a private key: give the public ones alone, and make a new pair"
            ));
        }
        if key.usage.as_deref().is_some_and(|usage| usage != "sig") {
            continue;
        }
        let algorithm = match key.alg.as_deref().map(str::parse) {
            None => None,
            Some(Ok(algorithm)) => Some(algorithm),
            Some(Err(_)) => continue,
        };
        let Some(public) = public(key) else { continue };
        keys.push(Key {
            id: key.kid.clone(),
            algorithm,
            public: public.ok_or_else(|| format!("key `{name}` is not of the form of its kind"))?,
        });
    }
    if keys.is_empty() {
        return Err("has no key for RS256, PS256, ES256 or EdDSA".to_owned());
    }
    Ok(Keys(keys))
}

/// `None`: a kind that is not known. `Some(None)`: a known one, broken.
fn public(key: &KeyText) -> Option<Option<Public>> {
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
    let exactly = |text, length| bytes(text).filter(|bytes| bytes.len() == length);
    match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => Some((|| {
            let (n, e) = (bytes(&key.n)?, bytes(&key.e)?);
            Some(Public::Rsa(RsaPublicKeyComponents { n, e }))
        })()),
        ("EC", Some("P-256")) => Some((|| {
            // Uncompressed, SEC 1.
            let (x, y) = (exactly(&key.x, 32)?, exactly(&key.y, 32)?);
            Some(Public::P256([vec![4], x, y].concat()))
        })()),
        ("OKP", Some("Ed25519")) => Some(exactly(&key.x, 32).map(Public::Ed25519)),
        _ => None,
    }
}

impl Keys {
    /// Whether one of the keys has signed this. A token without a key's id is taken where one key
    /// alone could have.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: JwtAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let fits = |key: &&Key| {
            key.public.is_for(algorithm) && key.algorithm.is_none_or(|only| only == algorithm)
        };
        let mut keys = self.0.iter().filter(fits);
        let key = match id {
            Some(id) => keys.find(|key| key.id.as_deref() == Some(id)),
            None => keys.next().filter(|_| keys.next().is_none()),
        };
        key.is_some_and(|key| key.public.verify(algorithm, message, signature))
    }
}

impl Public {
    /// The kind of the key decides, not the token: else a public key could be taken for a secret.
    const fn is_for(&self, algorithm: JwtAlgorithm) -> bool {
        match self {
            Self::Rsa(_) => matches!(algorithm, JwtAlgorithm::Rs256 | JwtAlgorithm::Ps256),
            Self::P256(_) => matches!(algorithm, JwtAlgorithm::Es256),
            Self::Ed25519(_) => matches!(algorithm, JwtAlgorithm::EdDsa),
        }
    }

    fn verify(&self, algorithm: JwtAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let rsa: &RsaParameters = match algorithm {
            JwtAlgorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
            _ => &RSA_PKCS1_2048_8192_SHA256,
        };
        let verified = match self {
            Self::Rsa(key) => key.verify(rsa, message, signature),
            Self::P256(key) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
            }
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
        };
        verified.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7515, appendix A.2.
    const MODULUS: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const MESSAGE: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    fn rsa(more: &str) -> String {
        format!(r#"{{"kty":"RSA","n":"{MODULUS}","e":"AQAB"{more}}}"#)
    }

    fn set(keys: &[String]) -> Result<Keys, String> {
        parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")))
    }

    #[test]
    fn the_example_of_the_standard_is_verified_and_nothing_near_it() {
        let signature = URL_SAFE_NO_PAD.decode(SIGNATURE).unwrap();
        let keys = set(&[rsa(r#","kid":"a""#)]).unwrap();
        let verify = |keys: &Keys, id, algorithm, message: &str| {
            keys.verify(id, algorithm, message.as_bytes(), &signature)
        };
        use JwtAlgorithm::{EdDsa, Es256, Ps256, Rs256};
        assert!(verify(&keys, Some("a"), Rs256, MESSAGE));
        assert!(verify(&keys, None, Rs256, MESSAGE), "there is but one");
        assert!(!verify(&keys, Some("b"), Rs256, MESSAGE));
        assert!(!verify(
            &keys,
            Some("a"),
            Rs256,
            &MESSAGE.replace("joe", "zoe").replace("I", "J")
        ));
        for other in [Ps256, Es256, EdDsa] {
            assert!(!verify(&keys, Some("a"), other, MESSAGE), "{other}");
        }
        let other = set(&[rsa(r#","kid":"a","alg":"PS256""#)]).unwrap();
        assert!(
            !verify(&other, Some("a"), Rs256, MESSAGE),
            "it is for another"
        );
        let two = set(&[rsa(r#","kid":"a""#), rsa(r#","kid":"b""#)]).unwrap();
        assert!(!verify(&two, None, Rs256, MESSAGE), "which one?");
        assert!(verify(&two, Some("b"), Rs256, MESSAGE));
    }

    #[test]
    fn keys_for_other_things_are_left_out_and_a_private_one_is_refused() {
        let shared = r#"{"kty":"oct","k":"c2VjcmV0"}"#.to_owned();
        let large = r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned();
        let encrypts = rsa(r#","use":"enc""#);
        let unknown = rsa(r#","alg":"RS1""#);
        let others = [shared, large, encrypts, unknown];
        assert!(set(&others).unwrap_err().contains("no key"));
        assert_eq!(
            set(&[others.to_vec(), vec![rsa("")]].concat())
                .unwrap()
                .0
                .len(),
            1
        );
        let private = set(&[rsa(r#","d":"c2VjcmV0""#)]).unwrap_err();
        assert!(private.contains("private") && !private.contains("c2Vj"));
        let broken = r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#.to_owned();
        assert!(set(&[broken]).unwrap_err().contains("form"));
        assert!(parse("{").unwrap_err().contains("line 1"));
    }
}
