//! Reads certificates, CRLs and tokens again, and ends the sessions of those that count no longer.

use std::sync::Arc;
use std::time::Duration;

use derms_proto::link::Close;
use derms_proto::{CloseReason, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Credentials, LinkAuth};
use crate::config::Clock;
use crate::refusals::{Refusal, Refusals};
use crate::registry::{Registry, Session};

/// Agents add a random part of their own.
const RETURN: Duration = Duration::from_secs(2);

/// Looks every `period` until `stop`.
pub(crate) async fn keep(
    auth: Arc<LinkAuth>,
    registry: Arc<Registry>,
    refusals: Arc<Refusals>,
    clock: Clock,
    period: Duration,
    stop: CancellationToken,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first comes at once, and all was read just now.
    ticks.tick().await;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let (auth, registry) = (Arc::clone(&auth), Arc::clone(&registry));
        let (refusals, clock) = (Arc::clone(&refusals), clock.clone());
        // Files are read and signatures are checked: a thousand sessions take a tenth of a second.
        let looked = tokio::task::spawn_blocking(move || {
            auth.reload(clock.now());
            end_untrusted(&auth, &registry, &refusals, &clock);
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "can't look after certificates and tokens; trying again");
        }
    }
}

/// What has only run out has mostly been exchanged at the agent already: it may come back at once,
/// where a refusal that people must mend would keep it away for minutes.
fn close(credentials: &Credentials, text: &str, now: Timestamp) -> Close {
    if credentials.is_over(now) {
        Close {
            reason: CloseReason::Rebalance,
            text: format!("{text}; come back with a new one"),
            retry_after: Some(RETURN),
        }
    } else {
        Close::new(CloseReason::Revoked, text)
    }
}

fn end_untrusted(auth: &LinkAuth, registry: &Registry, refusals: &Refusals, clock: &Clock) {
    let now = clock.now();
    for session in registry.sessions() {
        end_if_untrusted(auth, &session, refusals, now);
    }
}

/// Ends a session whose certificate or token counts no longer.
pub(crate) fn end_if_untrusted(
    auth: &LinkAuth,
    session: &Session,
    refusals: &Refusals,
    now: Timestamp,
) {
    let Some(credentials) = &session.credentials else {
        return;
    };
    if let Err(text) = auth.recheck(credentials, now) {
        refusals.record(&Refusal::Revoked {
            peer: session.peer.as_deref(),
            agent: session.agent_id,
            text,
        });
        session.mailbox.close(close(credentials, text, now));
    }
}
