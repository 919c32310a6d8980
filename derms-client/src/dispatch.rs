//! Orders: sending them, following them to their end.

use std::time::Duration;

use bytes::Bytes;
use derms_proto::{Dispatch, DispatchId, DispatchPreview, DispatchStatus, FollowUp, NewDispatch};
use http::{HeaderValue, Method};
use uuid::Uuid;

use crate::client::Call;
use crate::query::Query;
use crate::{Client, DispatchHistoryQuery, Error, PageRequest};

/// Delay between the first two looks at an order.
const FIRST_POLL: Duration = Duration::from_millis(50);
/// Delay that it grows to.
const SLOWEST_POLL: Duration = Duration::from_secs(1);

/// How an order is sent, for [`Client::dispatch_with`].
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct DispatchOptions {
    wait: Option<Duration>,
    idempotency_key: Option<String>,
}

impl DispatchOptions {
    /// The defaults: no waiting, a key made for this call.
    pub fn new() -> Self {
        Self::default()
    }

    /// The headend answers when the agent has acted on the order, or after this time.
    /// Default: at once, with the order stored and on its way.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// The `Idempotency-Key`: the same key with the same order gives the same dispatch, however
    /// often it is sent, also by another process. Default: a new UUID for each call.
    ///
    /// Choose one where a program may die between the order and the note that it was sent.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }
}

impl Client {
    /// Sends an order (`POST /dispatch`). It comes back as `sent` or, with its agent offline,
    /// `pending`: what the device made of it is told by [`wait`](Self::wait).
    ///
    /// The request carries an `Idempotency-Key` of its own, so the client's repeats after a
    /// broken connection never give a second order. A second *call* does.
    ///
    /// # Errors
    /// `unknown_asset`, `unknown_site`, `out_of_range` (with the limits in
    /// [`Problem::limits`](derms_proto::Problem::limits)), `site_offline`, `invalid_request`;
    /// [`Error::InvalidRequest`] for a number that is not finite; see [`Error`].
    pub async fn dispatch(&self, order: &NewDispatch) -> Result<Dispatch, Error> {
        self.dispatch_with(order, DispatchOptions::new()).await
    }

    /// Sends an order with options.
    ///
    /// # Errors
    /// As for [`dispatch`](Self::dispatch); `idempotency_conflict` if the key was used with
    /// another order; [`Error::InvalidRequest`] for a key that no header can hold.
    pub async fn dispatch_with(
        &self,
        order: &NewDispatch,
        options: DispatchOptions,
    ) -> Result<Dispatch, Error> {
        let body = body_of(order)?;
        let chosen = options.idempotency_key.is_some();
        let key = idempotency_key(options.idempotency_key.as_deref())?;
        let wait_s = options.wait.map(|wait| wait.as_secs_f64());
        self.call(&Call {
            method: Method::POST,
            target: Query::default().with("wait_s", wait_s).after("/dispatch"),
            body: Some(body),
            idempotency_key: Some(key),
            extra_time: options.wait.unwrap_or_default(),
            retry: true,
            repeatable: chosen,
            ..Call::default()
        })
        .await
    }

    /// Tells what an order would do (`POST /dispatch/preview`): what each asset would be ordered,
    /// whether that would be sent at once, which orders it would take the place of, and what would
    /// be left. Nothing is stored or sent.
    ///
    /// # Errors
    /// As for [`dispatch`](Self::dispatch).
    pub async fn preview(&self, order: &NewDispatch) -> Result<DispatchPreview, Error> {
        self.call(&Call {
            method: Method::POST,
            target: "/dispatch/preview".to_owned(),
            body: Some(body_of(order)?),
            retry: true,
            repeatable: true,
            ..Call::default()
        })
        .await
    }

    /// Asks for the end of an order (`DELETE /dispatch/{id}`), and returns it as it stands: one that
    /// was never sent is `cancelled`, of one that was sent the agent is asked, and
    /// [`wait`](Self::wait) tells how it ended. A site order ends with each of its shares. Asked
    /// again, or of what has ended, it does nothing; so the client repeats it by itself.
    ///
    /// While the headend's store is away the order ends all the same, and its
    /// [`text`](Dispatch::text) says that this is not stored yet.
    ///
    /// # Errors
    /// `unknown_dispatch`; see [`Error`].
    pub async fn cancel(&self, id: DispatchId) -> Result<Dispatch, Error> {
        self.cancel_within(id, Duration::ZERO).await
    }

    /// Asks for the end of an order; the headend answers when it has ended, or after this time, at
    /// most 60 s. Else as [`cancel`](Self::cancel).
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub async fn cancel_within(&self, id: DispatchId, wait: Duration) -> Result<Dispatch, Error> {
        let wait_s = (!wait.is_zero()).then_some(wait.as_secs_f64());
        self.call(&Call {
            method: Method::DELETE,
            target: Query::default()
                .with("wait_s", wait_s)
                .after(&format!("/dispatch/{id}")),
            extra_time: wait,
            retry: true,
            repeatable: true,
            ..Call::default()
        })
        .await
    }

    /// An order as it stands, with every step so far (`GET /dispatch/{id}`).
    ///
    /// # Errors
    /// `unknown_dispatch`; see [`Error`].
    pub async fn get_dispatch(&self, id: DispatchId) -> Result<Dispatch, Error> {
        self.get(&format!("/dispatch/{id}")).await
    }

    /// Waits until an order has ended, and returns it; how it ended is in
    /// [`status`](Dispatch::status).
    ///
    /// Looks again after 50 ms, growing to 1 s. **Without a time limit**: an order without a lease
    /// stays in force until another takes its place. Put `tokio::time::timeout` around it where
    /// that matters; it may be dropped and called again at any time.
    ///
    /// # Errors
    /// As for [`get_dispatch`](Self::get_dispatch); the order itself is not touched by that.
    pub async fn wait(&self, id: DispatchId) -> Result<Dispatch, Error> {
        self.wait_for(id, has_ended).await
    }

    /// Waits until an order is in force at the device (a site order: at all its assets), or has
    /// ended without or before that; look at [`status`](Dispatch::status). Else as
    /// [`wait`](Self::wait).
    ///
    /// # Errors
    /// As for [`wait`](Self::wait).
    pub async fn wait_until_active(&self, id: DispatchId) -> Result<Dispatch, Error> {
        let reached = |status| status == DispatchStatus::Active || has_ended(status);
        self.wait_for(id, reached).await
    }

    async fn wait_for(
        &self,
        id: DispatchId,
        reached: impl Fn(DispatchStatus) -> bool,
    ) -> Result<Dispatch, Error> {
        let mut delay = FIRST_POLL;
        loop {
            let dispatch = self.get_dispatch(id).await?;
            if reached(dispatch.status) {
                return Ok(dispatch);
            }
            tokio::time::sleep(delay).await;
            delay = delay.mul_f64(1.5).min(SLOWEST_POLL);
        }
    }

    /// Orders of all times (`GET /dispatch/history`).
    pub fn dispatch_history(&self, mut query: DispatchHistoryQuery) -> PageRequest<Dispatch> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/dispatch/history", query.query(), cursor)
    }
}

fn body_of(order: &NewDispatch) -> Result<Bytes, Error> {
    // JSON knows no NaN: it would be written as `null`, and a lease of NaN seconds would become an
    // order without an end.
    let follow_up = match order.follow_up {
        Some(FollowUp::Value(power)) => Some(power.mw()),
        _ => None,
    };
    let numbers = [
        ("mw", Some(order.mw.mw())),
        ("duration_s", order.duration_s),
        ("ttl_s", order.ttl_s),
        ("ramp_mw_per_min", order.ramp_mw_per_min),
        ("follow_up", follow_up),
    ];
    for (name, value) in numbers {
        if value.is_some_and(|value| !value.is_finite()) {
            return Err(Error::invalid_request(format!(
                "`{name}` of the order is not a finite number; nothing was sent",
            )));
        }
    }
    serde_json::to_vec(order)
        .map(Bytes::from)
        .map_err(|error| Error::invalid_request(format!("the order is no JSON: {error}")))
}

/// The header `Idempotency-Key`: as chosen, or made for one call.
pub(crate) fn idempotency_key(chosen: Option<&str>) -> Result<HeaderValue, Error> {
    let key = chosen.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    HeaderValue::from_str(&key)
        .ok()
        .filter(|key| !key.is_empty())
        .ok_or_else(|| {
            Error::invalid_request("an idempotency key is 1 or more printable characters")
        })
}

/// A status that this client does not know may be an end: nobody waits for another one.
fn has_ended(status: DispatchStatus) -> bool {
    status.is_terminal() || status == DispatchStatus::Unknown
}
