//! Limits and stops: what holds over all orders.

use std::time::Duration;

use derms_proto::{AssetId, LimitId, NewLimit, NewStop, PowerLimit, SiteId, Stop, StopId};
use http::Method;
use serde::Serialize;

use crate::client::Call;
use crate::dispatch::idempotency_key;
use crate::query::Query;
use crate::{Client, Error, HistoryQuery, LimitHistoryQuery, PageRequest};

impl Client {
    /// Limits the power of an asset (`POST /limits`). It comes back as `pending`; look it up with
    /// [`limit`](Self::limit) to see that the agent has it in force.
    ///
    /// The request carries an `Idempotency-Key` of its own, so the client's repeats after a broken
    /// connection never set a second one. A second *call* does; both must be removed.
    ///
    /// # Errors
    /// `unknown_asset`, `invalid_request`, `out_of_range` (nothing of the asset's range would be
    /// left; with it in [`Problem::limits`](derms_proto::Problem::limits)), `limit_conflict`,
    /// `too_many_limits`; [`Error::InvalidRequest`] for a number that is not finite; see [`Error`].
    pub async fn set_limit(&self, limit: &NewLimit) -> Result<PowerLimit, Error> {
        self.limit_with(limit, None).await
    }

    /// The same with an `Idempotency-Key` of yours: the same key with the same limit gives the same
    /// limit, however often it is sent, also by another process.
    ///
    /// # Errors
    /// As for [`set_limit`](Self::set_limit); `idempotency_conflict` if the key was used with another
    /// limit; [`Error::InvalidRequest`] for a key that no header can hold.
    pub async fn set_limit_with_key(
        &self,
        limit: &NewLimit,
        key: &str,
    ) -> Result<PowerLimit, Error> {
        self.limit_with(limit, Some(key)).await
    }

    async fn limit_with(&self, limit: &NewLimit, key: Option<&str>) -> Result<PowerLimit, Error> {
        // JSON knows no NaN: it would be written as `null`, which is no bound at all.
        let numbers = [
            ("min_mw", limit.min_mw.map(|mw| mw.mw())),
            ("max_mw", limit.max_mw.map(|mw| mw.mw())),
            ("duration_s", limit.duration_s),
        ];
        for (name, value) in numbers {
            if value.is_some_and(|value| !value.is_finite()) {
                return Err(Error::invalid_request(format!(
                    "`{name}` of the limit is not a finite number; nothing was sent",
                )));
            }
        }
        self.call(&post("/limits", limit, key)?).await
    }

    /// Limits that hold, oldest first (`GET /limits`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn limits(&self) -> Result<Vec<PowerLimit>, Error> {
        self.get("/limits").await
    }

    /// Limits that hold for an asset, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn limits_of(&self, asset: AssetId) -> Result<Vec<PowerLimit>, Error> {
        let query = Query::default().with("asset_id", Some(asset));
        self.call(&Call::get("/limits", &query)).await
    }

    /// Limits that hold for the assets of a site, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn limits_of_site(&self, site: SiteId) -> Result<Vec<PowerLimit>, Error> {
        let query = Query::default().with("site_id", Some(site));
        self.call(&Call::get("/limits", &query)).await
    }

    /// A limit as it stands (`GET /limits/{id}`).
    ///
    /// # Errors
    /// `unknown_limit`; see [`Error`].
    pub async fn limit(&self, id: LimitId) -> Result<PowerLimit, Error> {
        self.get(&format!("/limits/{id}")).await
    }

    /// Removes a limit (`DELETE /limits/{id}`) and returns it as it stands. May be repeated.
    ///
    /// # Errors
    /// `unknown_limit`; see [`Error`].
    pub async fn remove_limit(&self, id: LimitId) -> Result<PowerLimit, Error> {
        self.call(&delete(format!("/limits/{id}"))).await
    }

    /// All limits, newest first (`GET /limits/history`).
    pub fn limits_history(&self, mut query: LimitHistoryQuery) -> PageRequest<PowerLimit> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/limits/history", query.query(), cursor)
    }

    /// Stops an asset, a site or everything (`POST /stop`). How many agents were told and have
    /// confirmed is told by [`get_stop`](Self::get_stop).
    ///
    /// The request carries an `Idempotency-Key` of its own, so the client's repeats are one stop. After
    /// an error that leaves it open whether the headend has acted, call it again: two stops hold no
    /// less than one, and both must be ended.
    ///
    /// # Errors
    /// `confirmation_required`, `unknown_asset`, `unknown_site`, `invalid_request`; see [`Error`].
    pub async fn stop(&self, stop: &NewStop) -> Result<Stop, Error> {
        self.call(&post("/stop", stop, None)?).await
    }

    /// The same with an `Idempotency-Key` of yours: the same key with the same stop is one stop. While
    /// the headend's store is away it can't look up what another process did, and stops once more.
    ///
    /// # Errors
    /// As for [`stop`](Self::stop); `idempotency_conflict` if the key was used with another stop;
    /// [`Error::InvalidRequest`] for a key that no header can hold.
    pub async fn stop_with_key(&self, stop: &NewStop, key: &str) -> Result<Stop, Error> {
        self.call(&post("/stop", stop, Some(key))?).await
    }

    /// Stops that hold, newest first (`GET /stop`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stops(&self) -> Result<Vec<Stop>, Error> {
        self.get("/stop").await
    }

    /// A stop as it stands (`GET /stop/{id}`).
    ///
    /// # Errors
    /// `unknown_stop`; see [`Error`].
    pub async fn get_stop(&self, id: StopId) -> Result<Stop, Error> {
        self.get(&format!("/stop/{id}")).await
    }

    /// Ends a stop (`DELETE /stop/{id}`) and returns it as it stands: each of its assets that no
    /// other stop holds returns at a random time within `within`, by default 60 s. May be repeated.
    ///
    /// # Errors
    /// `unknown_stop`; see [`Error`].
    pub async fn resume(&self, id: StopId, within: Option<Duration>) -> Result<Stop, Error> {
        let within = within.map(|within| within.as_secs_f64());
        let query = Query::default().with("return_within_s", within);
        self.call(&delete(query.after(&format!("/stop/{id}"))))
            .await
    }

    /// All stops, newest first (`GET /stop/history`).
    pub fn stop_history(&self, mut query: HistoryQuery) -> PageRequest<Stop> {
        let cursor = query.take_cursor();
        PageRequest::new(self, "/stop/history", query.query(), cursor)
    }
}

/// A call that has its effect once for each key.
fn post(path: &str, body: &impl Serialize, key: Option<&str>) -> Result<Call, Error> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Error::invalid_request(format!("the request is no JSON: {error}")))?;
    Ok(Call {
        method: Method::POST,
        target: path.to_owned(),
        body: Some(body.into()),
        idempotency_key: Some(idempotency_key(key)?),
        retry: true,
        repeatable: key.is_some(),
        ..Call::default()
    })
}

/// A call that has its effect once, however often it is made.
fn delete(target: String) -> Call {
    Call {
        method: Method::DELETE,
        target,
        retry: true,
        repeatable: true,
        ..Call::default()
    }
}
