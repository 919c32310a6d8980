//! From what a request shows to who made it.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, header};

use super::Principal;

/// Longest bearer token that is looked at, bytes; a JWT with many claims has a few thousand.
const MAX_TOKEN: usize = 8 << 10;

/// Proves who shows a bearer token.
///
/// # Flow
/// Called once for each request that needs a principal and comes without one. Several are asked in
/// the order in which they were given until one knows the token.
///
/// # What you must ensure
/// - Fast, or bounded: the request waits for it.
/// - The token is a secret: it goes into no log, no error and no `Debug`.
/// - A text that you keep is compared in constant time, or only by its hash.
///
/// # Errors
/// [`Refused`]; the caller is answered 401.
#[async_trait]
pub trait Authenticate: Debug + Send + Sync + 'static {
    /// Who shows this token.
    async fn authenticate(&self, token: &str) -> Result<Principal, Refused>;
}

/// Why a token proves nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is none of those that this authenticator knows; another one may know it.
    #[error("the token is not known")]
    Unknown,
    /// It is one of those that this authenticator knows, and is not good. The reason is told to the
    /// caller and to the log, so it says nothing of the token itself.
    #[error("{0}")]
    Bad(&'static str),
}

/// What the headend asks for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Authentication {
    authenticators: Vec<Arc<dyn Authenticate>>,
    /// A request without a principal is refused.
    required: bool,
}

/// Why nobody is proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproved {
    /// No credentials were shown.
    Missing,
    /// Only the host can tell who calls, and it did not.
    Untold,
    /// Credentials that are no good, and why.
    Bad(&'static str),
}

impl Unproved {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Missing => "send the header authorization: Bearer TOKEN",
            Self::Untold => {
                "nothing in front of the headend said who is calling; use the address of the application \
                 that it is part of, whose layer inserts a principal"
            }
            Self::Bad(why) => why,
        }
    }

    /// `WWW-Authenticate`, RFC 6750. A request that shows nothing is told no error.
    pub(crate) const fn challenge(self) -> &'static str {
        match self {
            Self::Missing | Self::Untold => "Bearer realm=\"derms\"",
            Self::Bad(_) => "Bearer realm=\"derms\", error=\"invalid_token\"",
        }
    }
}

impl Authentication {
    pub(crate) fn add(&mut self, authenticator: Arc<dyn Authenticate>) {
        self.authenticators.push(authenticator);
        self.required = true;
    }

    pub(crate) const fn require(&mut self) {
        self.required = true;
    }

    /// Who a request comes from: whom a layer in front has proved, or whose token it shows. `Ok(None)`:
    /// nobody is asked.
    pub(crate) async fn identify(
        &self,
        proved: Option<&Principal>,
        headers: &HeaderMap,
    ) -> Result<Option<Principal>, Unproved> {
        if let Some(principal) = proved {
            return Ok(Some(principal.clone()));
        }
        if !self.required {
            return Ok(None);
        }
        if self.authenticators.is_empty() {
            return Err(Unproved::Untold);
        }
        let token = bearer(headers)?;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(token).await {
                Ok(principal) => return Ok(Some(principal)),
                Err(Refused::Unknown) => {}
                Err(Refused::Bad(why)) => return Err(Unproved::Bad(why)),
            }
        }
        Err(Unproved::Bad("the token is not known"))
    }
}

/// The one bearer token of a request. Two could be understood differently by two that read them.
fn bearer(headers: &HeaderMap) -> Result<&str, Unproved> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Unproved::Missing)?;
    if values.next().is_some() {
        return Err(Unproved::Bad("send one authorization header"));
    }
    let text = value.to_str().unwrap_or_default();
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > MAX_TOKEN {
        return Err(Unproved::Bad("send the header authorization: Bearer TOKEN"));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let all = values.iter().copied().map(HeaderValue::from_static);
        all.map(|value| (header::AUTHORIZATION, value)).collect()
    }

    #[test]
    fn one_bearer_token_is_read_and_nothing_else() {
        let map = headers(&["bearer  abc"]);
        assert_eq!(bearer(&map), Ok("abc"));
        assert_eq!(bearer(&HeaderMap::new()), Err(Unproved::Missing));
        for values in [&["Basic YTpi"][..], &["Bearer"], &["Bearer "], &["abc"]] {
            assert!(matches!(bearer(&headers(values)), Err(Unproved::Bad(_))));
        }
        let two = headers(&["Bearer a", "Bearer b"]);
        assert!(matches!(bearer(&two), Err(Unproved::Bad(_))));
        let long = HeaderValue::try_from(format!("Bearer {}", "a".repeat(MAX_TOKEN + 1))).unwrap();
        let long = HeaderMap::from_iter([(header::AUTHORIZATION, long)]);
        assert!(matches!(bearer(&long), Err(Unproved::Bad(_))));
    }

    #[derive(Debug)]
    struct Only(&'static str, Result<&'static str, Refused>);

    #[async_trait]
    impl Authenticate for Only {
        async fn authenticate(&self, token: &str) -> Result<Principal, Refused> {
            if token != self.0 {
                return Err(Refused::Unknown);
            }
            self.1.clone().map(Principal::new)
        }
    }

    #[tokio::test]
    async fn the_first_authenticator_that_knows_a_token_decides() {
        let mut asked = Authentication::default();
        asked.add(Arc::new(Only("a", Err(Refused::Bad("expired")))));
        asked.add(Arc::new(Only("a", Ok("never asked"))));
        asked.add(Arc::new(Only("b", Ok("ann"))));
        let identify = async |value| asked.identify(None, &headers(&[value])).await;
        assert_eq!(identify("Bearer a").await, Err(Unproved::Bad("expired")));
        let ann = identify("Bearer b").await.unwrap().unwrap();
        assert_eq!(ann.name(), "ann");
        assert!(matches!(identify("Bearer c").await, Err(Unproved::Bad(_))));
        let host = Principal::new("host");
        let proved = asked.identify(Some(&host), &HeaderMap::new()).await;
        assert_eq!(proved, Ok(Some(host)), "a layer in front has proved it");
    }

    #[tokio::test]
    async fn where_nobody_is_asked_a_token_is_not_looked_at() {
        let open = Authentication::default();
        assert_eq!(open.identify(None, &headers(&["Bearer x"])).await, Ok(None));
        let mut closed = Authentication::default();
        closed.require();
        for shown in [HeaderMap::new(), headers(&["Bearer x"])] {
            let answer = closed.identify(None, &shown).await;
            assert_eq!(answer, Err(Unproved::Untold), "a token would not help");
        }
    }
}
