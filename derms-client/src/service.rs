//! The headend itself.

use crate::client::Call;
use crate::query::Query;
use crate::{Client, Error};

impl Client {
    /// Whether the headend lives (`GET /healthz`). Never repeated by itself.
    ///
    /// # Errors
    /// It does not; see [`Error`].
    pub async fn healthz(&self) -> Result<(), Error> {
        self.probe(&once("/healthz")).await
    }

    /// Whether the headend takes work: its store can be reached and it is not shutting down
    /// (`GET /readyz`). Never repeated by itself.
    ///
    /// # Errors
    /// It does not: `store_unavailable`, `draining`; see [`Error`].
    pub async fn readyz(&self) -> Result<(), Error> {
        self.probe(&once("/readyz")).await
    }

    /// The OpenAPI 3.1 document of the headend (`GET /openapi.json`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn openapi(&self) -> Result<serde_json::Value, Error> {
        self.get("/openapi.json").await
    }
}

/// A probe tells how it is now, so one try is the answer.
fn once(path: &str) -> Call {
    Call {
        retry: false,
        ..Call::get(path, &Query::default())
    }
}
