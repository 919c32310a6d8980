//! The way to the headend, step by step, and what it answers.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::Duration;

use derms_proto::link::{Grant, GrantStatus, PROTOCOL_MINOR, Probe, ProbeAnswer};
use derms_proto::{AgentId, Asset, Check};
use http::Uri;
use tokio::net::lookup_host;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::overheard::Overheard;
use super::{
    CLOCK, GRANT, LINK, NAME_RESOLUTION, OWN_CERTIFICATE, PROTOCOL, SERVER_CERTIFICATE, TCP, TLS,
    TLS_FILES, TOKEN, chain,
};
use crate::AgentBuilder;
use crate::clock::Now;
use crate::connect::{self, Io, REFUSED};
use crate::session::MAX_CLOCK_ERROR;

const PATIENCE: Duration = Duration::from_secs(10);
/// A clock that is kept by NTP is nearer.
const CLOCK_WARN: Duration = Duration::from_secs(2);
/// What tonic says of an answer that is none of gRPC.
const NO_GRPC: &str = "grpc-status header missing";
/// What a headend says on a port for REST alone, by the same code as one that knows no probes.
const NOT_SERVED: &str = "the agent link is not served here";

/// Makes all checks of the link; gives the headend's answer.
pub(super) async fn look(
    builder: &AgentBuilder,
    agent: AgentId,
    checks: &mut Vec<Check>,
) -> Option<ProbeAnswer> {
    let uri = &builder.headend;
    let has_files = files(builder, agent, checks).await;
    token(builder, checks).await;
    let mut skip = Skip { checks };
    if !resolve(uri, skip.checks).await {
        return skip.from(TCP, "the headend's name can't be resolved");
    }
    let Some(io) = dial(builder, skip.checks).await else {
        return skip.from(TLS, "there is no connection");
    };
    let io = if uri.scheme_str() == Some("https") {
        if !has_files {
            return skip.from(TLS, "the files of TLS can't be used");
        }
        match handshake(builder, io, skip.checks).await {
            Some(io) => io,
            None => return skip.from(PROTOCOL, "there is no TLS connection"),
        }
    } else {
        let none = "the address is http: nothing is encrypted and nobody proved";
        let checks = [TLS, SERVER_CERTIFICATE].map(|name| Check::skip(name, none));
        skip.checks.extend(checks);
        io
    };
    let sent = builder.clock.now();
    let answer = ask(builder, agent, io).await;
    let received = builder.clock.now();
    match answer {
        Ok(answer) => {
            taken(&answer, skip.checks);
            skip.checks.push(clock(&answer, sent, received));
            let assets = builder.assets.iter().map(|(asset, _)| asset);
            let grants = assets.map(|asset| grant(asset, &answer.grants));
            skip.checks.extend(grants);
            Some(answer)
        }
        Err(status) => {
            refused(&status, skip.checks);
            skip.from(CLOCK, "the headend did not answer")
        }
    }
}

/// Skips the checks of the link from one on.
struct Skip<'a> {
    checks: &'a mut Vec<Check>,
}

impl Skip<'_> {
    fn from<T>(&mut self, first: &str, why: &str) -> Option<T> {
        let all = [TCP, TLS, SERVER_CERTIFICATE, PROTOCOL, LINK, CLOCK, GRANT];
        let rest = all.into_iter().skip_while(|name| *name != first);
        self.checks.extend(rest.map(|name| Check::skip(name, why)));
        None
    }
}

/// Whether TLS can be tried.
async fn files(builder: &AgentBuilder, agent: AgentId, checks: &mut Vec<Check>) -> bool {
    let Some(tls) = builder.security.tls.clone() else {
        let none = "no TLS is configured";
        checks.extend([TLS_FILES, OWN_CERTIFICATE].map(|name| Check::skip(name, none)));
        return false;
    };
    let (uri, now) = (builder.headend.clone(), builder.clock.now().wall);
    let looked = tokio::task::spawn_blocking(move || match tls.check(&uri) {
        Err(error) => [
            Check::fail(
                TLS_FILES,
                chain(&*error),
                "put the files in place, and let the agent read them",
            ),
            Check::skip(OWN_CERTIFICATE, "the files of TLS can't be used"),
        ],
        Ok(()) => [
            Check::ok(TLS_FILES, "can be read and go together"),
            tls.own_certificate(OWN_CERTIFICATE, agent, now),
        ],
    });
    match looked.await {
        Ok(found) => {
            let good = found[0].remedy.is_none();
            checks.extend(found);
            good
        }
        Err(error) => {
            let text = format!("can't be looked at: {error}");
            checks.push(Check::fail(TLS_FILES, text, "try again"));
            false
        }
    }
}

async fn token(builder: &AgentBuilder, checks: &mut Vec<Check>) {
    checks.push(match connect::authorization(&builder.security).await {
        Ok(None) => Check::skip(TOKEN, "none is configured"),
        Ok(Some(_)) => Check::ok(TOKEN, "the file holds one"),
        Err(text) => Check::fail(
            TOKEN,
            text,
            "put the token that the headend knows into the file, alone, and let the agent read it",
        ),
    });
}

async fn resolve(uri: &Uri, checks: &mut Vec<Check>) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    if host.parse::<IpAddr>().is_ok() {
        checks.push(Check::ok(NAME_RESOLUTION, format!("{host} is an address")));
        return true;
    }
    let port = uri.port_u16().unwrap_or(0);
    let remedy = "correct the name, or the name service of this machine";
    let found = match timeout(PATIENCE, lookup_host((host, port))).await {
        Err(_) => Err(format!("no answer of the name service within {PATIENCE:?}")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(found)) => Ok(found.map(|address| address.ip().to_string())),
    };
    match found.map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if !addresses.is_empty() => {
            let text = format!("{host} is {}", addresses.join(", "));
            checks.push(Check::ok(NAME_RESOLUTION, text));
            true
        }
        Ok(_) => {
            let text = format!("{host} has no address");
            checks.push(Check::fail(NAME_RESOLUTION, text, remedy));
            false
        }
        Err(text) => {
            let text = format!("{host} can't be resolved: {text}");
            checks.push(Check::fail(NAME_RESOLUTION, text, remedy));
            false
        }
    }
}

async fn dial(builder: &AgentBuilder, checks: &mut Vec<Check>) -> Option<Box<dyn Io>> {
    let uri = &builder.headend;
    let start = builder.clock.now().mono;
    let dialled = connect::dial(&*builder.dialer, uri).await;
    let took = builder.clock.now().mono.saturating_since(start);
    match dialled {
        Ok(io) => {
            let text = format!("connected in {:.1} ms", took.as_secs_f64() * 1e3);
            checks.push(Check::ok(TCP, text));
            Some(io)
        }
        Err(text) => {
            checks.push(Check::fail(
                TCP,
                text,
                "start the headend, correct host and port, or open this way out in the firewalls",
            ));
            None
        }
    }
}

async fn handshake(
    builder: &AgentBuilder,
    io: Box<dyn Io>,
    checks: &mut Vec<Check>,
) -> Option<Box<dyn Io>> {
    let tls = builder.security.tls.as_ref()?;
    let now = builder.clock.now().wall;
    let shaken = timeout(
        PATIENCE,
        tls.handshake([TLS, SERVER_CERTIFICATE], io, &builder.headend, now),
    );
    match shaken.await {
        Ok((io, found)) => {
            checks.extend(found);
            io
        }
        Err(_) => {
            let text = format!("no answer to the TLS handshake within {PATIENCE:?}");
            let remedy = "look whether the headend serves TLS there, and what stands between";
            checks.push(Check::fail(TLS, text, remedy));
            checks.push(Check::skip(SERVER_CERTIFICATE, "it was not shown"));
            None
        }
    }
}

async fn ask(
    builder: &AgentBuilder,
    agent: AgentId,
    io: Box<dyn Io>,
) -> Result<ProbeAnswer, Status> {
    let probe = Probe {
        agent_id: agent,
        asset_ids: builder.assets.iter().map(|(asset, _)| asset.id).collect(),
        protocol_minor: PROTOCOL_MINOR,
        software: builder.software.clone(),
    };
    // What keeps the token from being sent was told above.
    let authorization = connect::authorization(&builder.security)
        .await
        .ok()
        .flatten();
    let (io, fault) = Overheard::new(io);
    let probed = connect::probe(Box::new(io), &builder.headend, authorization, probe);
    let answer = timeout(PATIENCE, probed)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    answer.map_err(|status| {
        let broke = fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        broke.map_or(status, Status::unknown)
    })
}

fn taken(answer: &ProbeAnswer, checks: &mut Vec<Check>) {
    let theirs = answer.protocol_minor;
    let text = format!("version 1.{PROTOCOL_MINOR} here, 1.{theirs} at the headend");
    checks.push(Check::ok(PROTOCOL, text));
    let whom = match &answer.principal {
        Some(principal) => format!("the headend knows the agent as {principal}"),
        None => "the headend asks nobody for a proof".to_owned(),
    };
    let session = if answer.connected {
        "; an agent of this id is connected and stays so"
    } else {
        ""
    };
    let text = format!("{whom}{session}");
    checks.push(if answer.durable_acks {
        Check::ok(LINK, text)
    } else {
        Check::warn(
            LINK,
            format!("{text}; its store forgets all when it stops"),
            "give the headend a database",
        )
    });
}

/// Why the headend did not answer: of which step it is the fault.
fn refused(status: &Status, checks: &mut Vec<Check>) {
    let text = connect::told(status);
    if text.starts_with(REFUSED) {
        // In TLS 1.3 a client hears of it when the handshake is over.
        if let Some(tls) = checks.iter_mut().find(|check| check.name == TLS) {
            *tls = Check::fail(
                TLS,
                text,
                "give the agent a certificate of the headend's client CA that is good and not revoked",
            );
        }
        let why = "the agent's certificate is refused";
        checks.extend([PROTOCOL, LINK].map(|name| Check::skip(name, why)));
        return;
    }
    let spoken = || Check::ok(PROTOCOL, "the agent link is spoken there");
    // With a cause the status is of this side: the connection broke.
    let said = status.message();
    let is_answer =
        status.source().is_none() && !said.contains(NO_GRPC) && !said.contains(NOT_SERVED);
    let (protocol, link) = match status.code() {
        _ if !is_answer => stranger(&text),
        Code::Unimplemented => (
            Check::skip(
                PROTOCOL,
                "this headend is older than probes: version, link, clock and grants are not known",
            ),
            Check::skip(
                LINK,
                "a registration would take the place of an agent that runs",
            ),
        ),
        Code::Unauthenticated => (
            spoken(),
            Check::fail(
                LINK,
                format!("the headend does not know who is calling: {text}"),
                "give the agent its certificate or token, and make it known to the headend",
            ),
        ),
        Code::PermissionDenied => (
            spoken(),
            Check::fail(
                LINK,
                format!("the headend turns this agent away: {text}"),
                "make the agent's id fit its certificate or token and the headend's fleet file",
            ),
        ),
        Code::Unavailable | Code::ResourceExhausted => (
            spoken(),
            Check::fail(
                LINK,
                format!("the headend takes no agent now: {text}"),
                "look at the headend: its store, its log, `der_headend check`",
            ),
        ),
        _ => stranger(&text),
    };
    checks.extend([protocol, link]);
}

fn stranger(text: &str) -> (Check, Check) {
    let protocol = Check::fail(
        PROTOCOL,
        format!("what answers there does not speak the agent link: {text}"),
        "correct the port (the headend's --grpc-addr) and http or https; look what listens there",
    );
    (protocol, Check::skip(LINK, "there is no agent link"))
}

/// An exchange of clocks as the agent makes them; half the round trip is its error.
fn clock(answer: &ProbeAnswer, sent: Now, received: Now) -> Check {
    let error = received.mono.saturating_since(sent.mono) / 2;
    let here = sent.wall.saturating_add(error);
    let ahead = answer.server_time.saturating_since(here);
    let behind = here.saturating_since(answer.server_time);
    let off = ahead.max(behind);
    let side = if ahead.is_zero() {
        "ahead of"
    } else {
        "behind"
    };
    let text = format!(
        "this machine is {:.3} s {side} the headend (± {:.3} s)",
        off.as_secs_f64(),
        error.as_secs_f64()
    );
    if error > MAX_CLOCK_ERROR {
        let text = format!("{text}: the answer took too long for any order to be started");
        return Check::fail(
            CLOCK,
            text,
            "find out what makes the way to the headend so slow",
        );
    }
    // Orders start by the headend's clock as the agent estimates it; certificates, tokens and what was
    // measured before the first session go by this one.
    let remedy = "set the clock of both machines by NTP";
    if off > MAX_CLOCK_ERROR {
        Check::fail(CLOCK, text, remedy)
    } else if off > CLOCK_WARN {
        Check::warn(CLOCK, text, remedy)
    } else {
        Check::ok(CLOCK, text)
    }
}

fn grant(asset: &Asset, grants: &[Grant]) -> Check {
    let grant = grants.iter().find(|grant| grant.asset_id == asset.id);
    let (name, id) = (&asset.name, asset.id);
    let fail = |why: &str, remedy: &str| Check::fail(GRANT, format!("{name}: {why}"), remedy);
    let status = grant.map_or(GrantStatus::Unknown, |grant| grant.status);
    match status {
        GrantStatus::Granted => Check::ok(GRANT, format!("{name}: granted")),
        GrantStatus::UnknownAsset => fail(
            &format!("the headend's fleet file has no asset {id}"),
            "add it there, or correct the id",
        ),
        GrantStatus::Forbidden => fail(
            "this agent may not serve it",
            "let the agent have the id of the asset or of its site, or name it as the asset's agent_id",
        ),
        GrantStatus::ServedElsewhere => fail(
            "another agent that is connected serves it",
            "stop the other agent, or leave the asset to it",
        ),
        GrantStatus::TooMany => fail(
            "the agent has more assets than the headend allows",
            "raise --max-assets-per-agent at the headend, or use several agents",
        ),
        GrantStatus::Invalid => fail("the claim can't be read", "correct the asset's numbers"),
        _ => match grant.and_then(|grant| grant.text.as_deref()) {
            Some(text) => fail(text, "ask whoever runs the headend"),
            None => fail("not answered", "ask whoever runs the headend"),
        },
    }
}

#[cfg(test)]
mod tests {
    use derms_proto::{CheckStatus, Timestamp};

    use super::*;
    use crate::clock::MonoTime;

    fn at(millis: u64) -> Now {
        Now {
            mono: MonoTime::from_origin(Duration::from_millis(millis)),
            wall: Timestamp::UNIX_EPOCH.saturating_add(Duration::from_millis(millis)),
        }
    }

    fn judged(server_millis: u64, round_trip: u64) -> Check {
        let server_time = at(server_millis).wall;
        let answer = ProbeAnswer {
            server_time,
            protocol_minor: 0,
            capabilities: Vec::new(),
            principal: None,
            grants: Vec::new(),
            durable_acks: true,
            connected: false,
        };
        clock(&answer, at(100_000), at(100_000 + round_trip))
    }

    #[test]
    fn a_clock_may_be_two_seconds_off_and_must_not_be_more_than_ten() {
        for (server, status) in [
            (102_010, CheckStatus::Ok),
            (98_010, CheckStatus::Ok),
            (102_011, CheckStatus::Warn),
            (110_010, CheckStatus::Warn),
            (110_011, CheckStatus::Fail),
            (89_000, CheckStatus::Fail),
        ] {
            let check = judged(server, 20);
            assert_eq!(check.status, status, "{}", check.text);
        }
        assert!(judged(200_000, 0).text.contains("behind the headend"));
        assert!(judged(0, 0).text.contains("ahead of the headend"));
    }

    #[test]
    fn a_round_trip_by_which_no_order_would_start_fails_whatever_the_clocks_say() {
        let check = judged(110_001, 20_002);
        assert_eq!(check.status, CheckStatus::Fail, "{}", check.text);
        assert!(check.text.contains("took too long"), "{}", check.text);
    }
}
