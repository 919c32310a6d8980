//! TLS, and whether everyone who can reach the headend is asked who he is.

use std::net::SocketAddr;

use derms_headend_sdk::ServerTls;
use derms_headend_sdk::proto::{Check, Timestamp};

use super::{
    AGENT_PROOF, CLIENT_CA, REST_PROOF, REVOCATION_LIST, SAFE_START, TLS_CERTIFICATE, TLS_FILES,
};
use crate::access::{Access, AccessArgs};
use crate::link::{self, LinkArgs};
use crate::safe_start::{Guards, missing};

pub(super) fn look(
    link: &LinkArgs,
    access: AccessArgs,
    (http, grpc): (SocketAddr, SocketAddr),
    now: Timestamp,
    checks: &mut Vec<Check>,
) {
    let tls = files(link, now, checks);
    let agents = agents(link, tls.as_ref().ok().and_then(Option::as_ref), checks);
    let rest = rest(access, checks);
    let (Ok(tls), Ok(link_auth), Ok(rest_auth)) = (tls, agents, rest) else {
        checks.push(Check::skip(
            SAFE_START,
            "what keeps strangers out can't be read",
        ));
        return;
    };
    let guards = Guards {
        tls: tls.is_some(),
        link_auth,
        rest_auth,
    };
    let missing = missing(http, grpc, guards);
    let remedy = "give what is named, or listen on 127.0.0.1";
    checks.push(if missing.is_empty() {
        Check::ok(SAFE_START, "strangers are kept out, or can't reach it")
    } else if link.insecure {
        let text = format!("started all the same (--insecure): {}", missing.join("; "));
        Check::warn(SAFE_START, text, remedy)
    } else {
        Check::fail(SAFE_START, missing.join("; "), remedy)
    });
}

/// It was told that a file can't be used.
#[derive(Debug)]
struct Unusable;

fn files(
    link: &LinkArgs,
    now: Timestamp,
    checks: &mut Vec<Check>,
) -> Result<Option<ServerTls>, Unusable> {
    let rest = [TLS_CERTIFICATE, CLIENT_CA, REVOCATION_LIST];
    let tls = match link::tls(link) {
        Ok(Some(tls)) => tls,
        Ok(None) => {
            checks.push(Check::skip(TLS_FILES, "no TLS is configured"));
            checks.extend(rest.map(|name| Check::skip(name, "no TLS is configured")));
            return Ok(None);
        }
        Err(text) => {
            let remedy = "put the files in place, and let the headend read them";
            checks.push(Check::fail(TLS_FILES, text, remedy));
            let why = "the files of TLS can't be used";
            checks.extend(rest.map(|name| Check::skip(name, why)));
            return Err(Unusable);
        }
    };
    checks.push(Check::ok(
        TLS_FILES,
        "can be read; certificate and key go together",
    ));
    checks.push(match tls.certificate() {
        None => {
            let text = "the headend's certificate can't be read";
            Check::fail(TLS_CERTIFICATE, text, "make it anew")
        }
        Some(facts) if facts.names.is_empty() => {
            let text = format!(
                "the headend's certificate (`{}`) has no name (SAN)",
                facts.subject
            );
            let remedy = "make it anew with the names and addresses that agents and operators dial";
            Check::fail(TLS_CERTIFICATE, text, remedy)
        }
        Some(facts) => facts.check(TLS_CERTIFICATE, "the headend's certificate", now),
    });
    if !tls.asks_clients() {
        let none = "none: agents need no certificate";
        checks.extend([CLIENT_CA, REVOCATION_LIST].map(|name| Check::skip(name, none)));
        return Ok(Some(tls));
    }
    let cas = tls.client_ca();
    checks.extend(
        cas.iter()
            .map(|ca| ca.check(CLIENT_CA, "the client CA", now)),
    );
    checks.push(match tls.crl_until() {
        _ if !tls.has_crl() => Check::skip(
            REVOCATION_LIST,
            "none: no certificate is revoked (give --crl)",
        ),
        None => Check::ok(REVOCATION_LIST, "can be read"),
        Some(until) if now > until => Check::warn(
            REVOCATION_LIST,
            format!("should have been replaced by {until}; it is used all the same"),
            "fetch the new list from the CA",
        ),
        Some(until) => Check::ok(REVOCATION_LIST, format!("the next one is due by {until}")),
    });
    Ok(Some(tls))
}

/// Whether agents are asked who they are.
fn agents(
    link: &LinkArgs,
    tls: Option<&ServerTls>,
    checks: &mut Vec<Check>,
) -> Result<bool, Unusable> {
    let (tokens, proxies) = match (link::agent_tokens(link), link::proxies(link)) {
        (Ok(tokens), Ok(proxies)) => (tokens, proxies),
        (Err(text), _) | (_, Err(text)) => {
            checks.push(Check::fail(AGENT_PROOF, text, "correct what it names"));
            return Err(Unusable);
        }
    };
    let means = [
        ("a certificate", tls.is_some_and(ServerTls::asks_clients)),
        ("a token", tokens.is_some()),
        ("the word of a proxy", proxies.is_some()),
    ];
    let means: Vec<&str> = means
        .into_iter()
        .filter_map(|(name, there)| there.then_some(name))
        .collect();
    checks.push(if means.is_empty() {
        Check::ok(AGENT_PROOF, "none: an agent is believed who it is")
    } else {
        Check::ok(
            AGENT_PROOF,
            format!("an agent proves itself by {}", means.join(" or ")),
        )
    });
    Ok(!means.is_empty())
}

/// Whether operators are asked who they are.
fn rest(access: AccessArgs, checks: &mut Vec<Check>) -> Result<bool, Unusable> {
    match Access::check(access) {
        Ok(access) => {
            let text = if access.is_open() {
                "none: REST asks nobody for a proof"
            } else {
                "operators prove themselves; the files can be read"
            };
            checks.push(Check::ok(REST_PROOF, text));
            Ok(!access.is_open())
        }
        Err(text) => {
            checks.push(Check::fail(REST_PROOF, text, "correct what it names"));
            Err(Unusable)
        }
    }
}
