//! Bearer tokens that an identity provider has signed.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use derms_proto::{SiteId, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwks::{self, JwtAlgorithm, Keys};
use super::watched::Watched;
use super::{AuthFileError, Authenticate, Principal, Refused, Role};

/// The longest `sub`, characters.
const MAX_NAME: usize = 200;
/// What names of this kind begin with: whoever has a `sub` of their choice must not become one whom
/// a file of tokens names.
pub(super) const NAMES: &str = "jwt:";

/// JWTs (RFC 7519) whose signature is checked with public keys from a JWKS file.
///
/// Checked are: the signature, by a key of the file and an algorithm that is allowed; `iss`; `aud`;
/// `exp`, which must be there; `nbf`, if it is there; both with a leeway of 60 s for clocks. The
/// name of the principal is `jwt:` and `sub`, its role the highest of [`role_claim`](Self::role_claim).
///
/// The file is read again within a second when it has changed, so that an identity provider can
/// change its keys. Nothing is fetched: put the file there, from the provider's `jwks_uri`.
///
/// Signatures are checked by `ring`. No symmetric algorithm is known here, so a public key is
/// never taken for a secret, and `none` is no algorithm.
#[derive(Debug)]
pub struct Jwt {
    keys: Watched<Keys>,
    issuer: String,
    audience: String,
    algorithms: Vec<JwtAlgorithm>,
    role_claim: String,
    sites_claim: Option<String>,
    leeway: Duration,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// What must be understood; nothing is.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMany,
    exp: f64,
    nbf: Option<f64>,
    sub: String,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

impl Jwt {
    /// Takes tokens of this issuer for this audience, with keys from this file.
    ///
    /// # Errors
    /// The file can't be read, is no JWKS, has no key of use, or has a private one.
    pub fn new(
        jwks: impl Into<PathBuf>,
        issuer: impl Into<String>,
        audience: impl Into<String>,
    ) -> Result<Self, AuthFileError> {
        Ok(Self {
            keys: Watched::open(jwks, jwks::parse)?,
            issuer: issuer.into(),
            audience: audience.into(),
            algorithms: vec![
                JwtAlgorithm::Rs256,
                JwtAlgorithm::Es256,
                JwtAlgorithm::EdDsa,
            ],
            role_claim: "derms_role".to_owned(),
            sites_claim: None,
            leeway: Duration::from_secs(60),
        })
    }

    /// The algorithms that are allowed. Default: RS256, ES256, EdDSA.
    #[must_use]
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = JwtAlgorithm>) -> Self {
        self.algorithms = algorithms.into_iter().collect();
        self
    }

    /// The claim with the role: `viewer`, `operator` or `admin`, or a list, of which the highest
    /// counts and others are ignored. A dot leads into an object, as in `realm_access.roles`. A
    /// token without a role is refused. Default `derms_role`.
    #[must_use]
    pub fn role_claim(mut self, claim: impl Into<String>) -> Self {
        self.role_claim = claim.into();
        self
    }

    /// The claim with the ids of the sites that the principal is limited to, or `*` for all. A token
    /// without it is refused. Default: none, and every token is for all sites.
    #[must_use]
    pub fn sites_claim(mut self, claim: impl Into<String>) -> Self {
        self.sites_claim = Some(claim.into());
        self
    }

    /// How far clocks may be apart. Default 60 s.
    #[must_use]
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    fn find(&self, token: &str, now: Timestamp) -> Result<Principal, Refused> {
        let (message, signature) = token.rsplit_once('.').ok_or(Refused::Unknown)?;
        let (header, claims) = message.split_once('.').ok_or(Refused::Unknown)?;
        let malformed = Refused::Bad("the token is no JWT");
        let header: Header = decode(header).ok_or_else(|| malformed.clone())?;
        let jwt = |typ: &str| {
            ["jwt", "at+jwt"]
                .iter()
                .any(|it| typ.eq_ignore_ascii_case(it))
        };
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(jwt) {
            return Err(Refused::Bad("the token is of a kind that is not known"));
        }
        let allowed = header
            .alg
            .parse()
            .ok()
            .filter(|it| self.algorithms.contains(it));
        let algorithm = allowed.ok_or(Refused::Bad(
            "the token is signed by an algorithm that is not allowed",
        ))?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| malformed.clone())?;
        let keys = self.keys.get();
        // Nothing inside is looked at before.
        if !keys.verify(
            header.kid.as_deref(),
            algorithm,
            message.as_bytes(),
            &signature,
        ) {
            return Err(Refused::Bad(
                "the token is not signed by a key that is known",
            ));
        }
        let claims: Claims =
            decode(claims).ok_or(Refused::Bad("the token lacks iss, sub, aud or exp"))?;
        self.check(&claims, now)?;
        self.principal(claims)
    }

    fn check(&self, claims: &Claims, now: Timestamp) -> Result<(), Refused> {
        if claims.iss != self.issuer {
            return Err(Refused::Bad("the token is of another issuer"));
        }
        if !claims.aud.as_slice().contains(&self.audience) {
            return Err(Refused::Bad("the token is for another audience"));
        }
        let now = now.unix_micros() as f64 / 1e6;
        let leeway = self.leeway.as_secs_f64();
        if claims.exp + leeway <= now {
            return Err(Refused::Bad("the token has expired"));
        }
        if claims.nbf.is_some_and(|begin| begin - leeway > now) {
            return Err(Refused::Bad("the token is not valid yet"));
        }
        Ok(())
    }

    fn principal(&self, claims: Claims) -> Result<Principal, Refused> {
        let name = claims.sub;
        let length = name.chars().count();
        if !(1..=MAX_NAME).contains(&length) || name.chars().any(char::is_control) {
            return Err(Refused::Bad(
                "the sub of the token is empty, too long or no line of text",
            ));
        }
        let roles = strings(at(&claims.others, &self.role_claim));
        let roles = roles.iter().filter_map(|text| text.parse::<Role>().ok());
        let role = roles
            .max()
            .ok_or(Refused::Bad("the token has no role of this headend"))?;
        let principal = Principal::new(format!("{NAMES}{name}")).with_role(role);
        let Some(claim) = &self.sites_claim else {
            return Ok(principal);
        };
        let sites = at(&claims.others, claim).ok_or(Refused::Bad("the token names no sites"))?;
        let sites = strings(Some(sites));
        if sites == ["*"] {
            return Ok(principal);
        }
        let sites: Result<Vec<SiteId>, _> = sites.iter().map(|site| site.parse()).collect();
        let sites = sites.map_err(|_| Refused::Bad("a site of the token is no id"))?;
        Ok(principal.limited_to(sites))
    }
}

#[async_trait]
impl Authenticate for Jwt {
    async fn authenticate(&self, token: &str) -> Result<Principal, Refused> {
        self.keys.look().await;
        self.find(token, Timestamp::now())
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn at<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    // A claim may have dots in its name, as URLs have.
    if let Some(whole) = claims.get(path) {
        return Some(whole);
    }
    let (first, rest) = path.split_once('.')?;
    at(claims.get(first)?.as_object()?, rest)
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
