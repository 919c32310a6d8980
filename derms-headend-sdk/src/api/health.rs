//! `/healthz`, `/readyz`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use derms_proto::link::LogKind;
use derms_proto::{Problem, ProblemCode};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use super::problem::Failure;
use crate::core::Core;
use crate::store::{Store, StoreError};

/// A headend that answers well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok` or `ready`.
    status: &'static str,
}

/// A probe is answered with what the store said at most this long ago.
const FRESH: Duration = Duration::from_secs(1);

/// What the store says to probes. Everyone may probe, and the store answers by a write: it is asked
/// by one at a time and once a second.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    asked: Mutex<Asked>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Asked {
    /// What it said last, and when.
    last: Option<(Instant, Result<(), Failure>)>,
    /// It has not answered yet.
    now: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Readiness {
    async fn check(&self, store: &Arc<dyn Store>) -> Result<(), Failure> {
        let mut asked = self.asked.lock().await;
        let fresh = asked.last.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        if let Some((_, said)) = fresh {
            return said.clone();
        }
        // To its end, even if who probes goes: a write that is given up costs the store a connection.
        let call = asked.now.get_or_insert_with(|| {
            let store = Arc::clone(store);
            self.tasks.spawn(async move { store.ping().await })
        });
        let said = call.await;
        asked.now = None;
        let said = match said {
            Ok(said) => said.map_err(Failure::from),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Problem::new(ProblemCode::Draining, "the headend ends").into()),
            },
        };
        asked.last = Some((Instant::now(), said.clone()));
        said
    }
}

/// Whether the headend lives
#[utoipa::path(get, path = "/healthz", operation_id = "get_liveness", tag = "service", responses(
    (status = 200, description = "It does", body = Health),
))]
pub(super) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether the headend takes work: its store takes what it is given, and it is not shutting down
#[utoipa::path(get, path = "/readyz", operation_id = "get_readiness", tag = "service", responses(
    (status = 200, description = "It does", body = Health),
    (status = 503, description = "`store_unavailable`, `draining`", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn readyz(State(core): State<Arc<Core>>) -> Result<Json<Health>, Failure> {
    match core.not_ready().await {
        None => Ok(Json(Health { status: "ready" })),
        Some((_, failure)) => Err(failure),
    }
}

/// Why a headend takes no work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotReady {
    Draining,
    StoreUnavailable,
    /// The store can be reached, and does not take these.
    Reports,
    Telemetry,
}

impl NotReady {
    pub(crate) const ALL: [Self; 4] = [
        Self::Draining,
        Self::StoreUnavailable,
        Self::Reports,
        Self::Telemetry,
    ];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::StoreUnavailable => "store_unavailable",
            Self::Reports => "reports_not_stored",
            Self::Telemetry => "telemetry_not_stored",
        }
    }
}

/// A store that does not answer a probe within this can't be reached, as it is told to those who must
/// not be kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

impl Core {
    /// Why it takes no work now, within 2 s whatever the store does.
    pub(crate) async fn not_ready_now(&self) -> Option<NotReady> {
        match timeout(PATIENCE, self.not_ready()).await {
            Ok(not_ready) => not_ready.map(|(why, _)| why),
            Err(_) => Some(NotReady::StoreUnavailable),
        }
    }

    /// Why it takes no work now, with the answer to who asks; `None` if it does.
    pub(crate) async fn not_ready(&self) -> Option<(NotReady, Failure)> {
        if self.drain.is_cancelled() {
            let text = match self.taken_over.is_cancelled() {
                true => "another headend has taken the store over; this one is shutting down",
                false => "the headend is shutting down",
            };
            let problem = Problem::new(ProblemCode::Draining, text);
            return Some((NotReady::Draining, problem.into()));
        }
        if let Err(failure) = self.readiness.check(&self.store).await {
            return Some((NotReady::StoreUnavailable, failure));
        }
        let kind = self.ingest.failing()?;
        let (why, what) = match kind {
            LogKind::Telemetry => (NotReady::Telemetry, "telemetry"),
            _ => (NotReady::Reports, "reports"),
        };
        let detail = format!("the store can be reached, but does not take {what}");
        let problem = Problem::new(ProblemCode::StoreUnavailable, detail);
        Some((why, problem.into()))
    }
}
