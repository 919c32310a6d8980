//! Who is at the other end of an agent stream, and whether that still holds.

mod keeper;
mod proxy;
mod settled;
mod tokens;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use derms_proto::{AgentId, Timestamp};
use http::{Extensions, HeaderMap, header};

use crate::auth::TokenHash;
use crate::certificate::PeerCertificate;
use crate::identity::AgentIdentity;
use crate::peer::PeerAddr;
use crate::tls::ServerTls;

pub(crate) use keeper::{end_if_untrusted, keep};
pub use proxy::{InvalidProxy, TrustedProxies};
#[cfg(feature = "tls")]
pub(crate) use settled::settled;
pub use tokens::{AgentTokens, TokensError};

/// What proves an agent's identity here.
#[derive(Debug, Default)]
pub(crate) struct LinkAuth {
    pub(crate) tls: Option<ServerTls>,
    pub(crate) tokens: Option<AgentTokens>,
    pub(crate) proxies: Option<TrustedProxies>,
    /// Even if none of them is there: the host inserts [`AgentIdentity`].
    pub(crate) demanded: bool,
    /// Counts the changes of certificates, CA, CRLs and tokens.
    generation: AtomicU64,
}

/// Who an agent has proved to be, and by what.
#[derive(Debug)]
pub(crate) struct Credentials {
    pub(crate) agent: AgentId,
    certificate: Option<Arc<PeerCertificate>>,
    token: Option<TokenHash>,
    /// The generation in which they were found to be good.
    checked: AtomicU64,
}

impl Credentials {
    /// Whether the certificate has run out.
    fn is_over(&self, now: Timestamp) -> bool {
        let certificate = self.certificate.as_ref();
        certificate.is_some_and(|certificate| certificate.is_over(now))
    }
}

impl LinkAuth {
    /// Whether an agent must prove who it is.
    pub(crate) fn is_demanded(&self) -> bool {
        self.demanded
            || self.tokens.is_some()
            || self.proxies.is_some()
            || self.tls.as_ref().is_some_and(ServerTls::asks_clients)
    }

    /// Who is calling: all that is there must be good and name one agent. `None`: nothing is there,
    /// and nothing is demanded.
    pub(crate) fn identify(
        &self,
        extensions: &Extensions,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Credentials>, &'static str> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut agents = Vec::new();
        if let Some(identity) = extensions.get::<AgentIdentity>() {
            agents.push(identity.agent());
        }
        let peer = extensions.get::<PeerAddr>().map(|peer| peer.0.ip());
        let proxy = self
            .proxies
            .as_ref()
            .filter(|proxies| peer.is_some_and(|peer| proxies.trusts(peer)));
        // The certificate on the connection of a proxy is the proxy's own.
        let certificate = match proxy {
            Some(proxies) => {
                agents.extend(proxies.agent(headers)?);
                None
            }
            None => extensions.get::<Arc<PeerCertificate>>().cloned(),
        };
        if let Some(certificate) = &certificate {
            self.check_certificate(certificate, now)?;
            agents.push(certificate.agent()?);
        }
        let mut token = None;
        if let Some(tokens) = &self.tokens
            && let Some(hash) = bearer(headers)?
        {
            agents.push(tokens.agent(&hash).ok_or(UNKNOWN_TOKEN)?);
            token = Some(hash);
        }
        let Some(agent) = agents.first().copied() else {
            return if self.is_demanded() {
                Err("the agent has not proved who it is; give it a certificate or a token")
            } else {
                Ok(None)
            };
        };
        if agents.iter().any(|other| *other != agent) {
            return Err("what the agent shows names different agents");
        }
        Ok(Some(Credentials {
            agent,
            certificate,
            token,
            checked: AtomicU64::new(generation),
        }))
    }

    /// Whether credentials that were good still are. Cheap unless something has changed.
    pub(crate) fn recheck(
        &self,
        credentials: &Credentials,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let generation = self.generation.load(Ordering::Acquire);
        let checked = credentials.checked.load(Ordering::Relaxed) == generation;
        if let Some(certificate) = &credentials.certificate
            && (!checked || certificate.is_over(now))
        {
            self.check_certificate(certificate, now)?;
        }
        if let (Some(hash), Some(tokens), false) = (&credentials.token, &self.tokens, checked)
            && tokens.agent(hash) != Some(credentials.agent)
        {
            return Err("the token counts no longer");
        }
        credentials.checked.store(generation, Ordering::Relaxed);
        Ok(())
    }

    fn check_certificate(
        &self,
        certificate: &PeerCertificate,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        match &self.tls {
            Some(tls) => tls.check(certificate, now),
            None => Err("nothing here checks certificates"),
        }
    }

    /// Whether there is anything that is read again.
    pub(crate) fn has_files(&self) -> bool {
        self.tls.is_some() || self.tokens.is_some()
    }

    /// Reads what has changed; what can't be used is logged, and what was in force stays.
    pub(crate) fn reload(&self, now: Timestamp) {
        let mut changed = false;
        if let Some(tls) = &self.tls {
            // Each by itself: a certificate that is being renewed must pardon nobody.
            changed |= told("client CA and revocation lists", tls.reload_trust());
            changed |= told("certificate and key of the headend", tls.reload_own());
            if tls.has_old_list(now) {
                tracing::warn!(
                    "a revocation list should have been replaced by now (nextUpdate); it is used \
                     on, but what was revoked since is not known"
                );
            }
        }
        if let Some(tokens) = &self.tokens {
            changed |= told("agent tokens", tokens.reload());
        }
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
    }
}

const UNKNOWN_TOKEN: &str = "the token is not known";

fn told<E: std::error::Error + 'static>(what: &str, changed: Result<bool, E>) -> bool {
    match changed {
        Ok(false) => false,
        Ok(true) => {
            tracing::info!("{what} have changed and are in force");
            true
        }
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, "{what} can't be read again; what was in force stays");
            false
        }
    }
}

/// The token of a request, if there is one.
fn bearer(headers: &HeaderMap) -> Result<Option<TokenHash>, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let form = "the authorization is no bearer token";
    if values.next().is_some() {
        return Err(form);
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or(form)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
        Ok(Some(TokenHash::of(token)))
    } else {
        Err(form)
    }
}
