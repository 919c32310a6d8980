//! What of a call goes into the audit trail.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::Response;
use derms_proto::{AuditRecord, ProblemCode};
use http::request::Parts;
use parking_lot::Mutex;

use super::problem::Told;
use crate::audit::Audit;
use crate::auth::Principal;

/// What a handler tells of its call, for the audit trail.
#[derive(Debug, Clone, Default)]
pub(super) struct Note(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    target: Option<String>,
    detail: Option<String>,
}

impl Note {
    /// What the call is about.
    pub(super) fn about(&self, kind: &str, id: impl Display) {
        self.0.lock().target = Some(format!("{kind} {id}"));
    }

    /// What the call is about: an asset, a site, or all.
    pub(super) fn about_assets(&self, asset: Option<impl Display>, site: Option<impl Display>) {
        match (asset, site) {
            (Some(asset), _) => self.about("asset", asset),
            (None, Some(site)) => self.about("site", site),
            (None, None) => self.0.lock().target = Some("all".to_owned()),
        }
    }

    /// What it asks for or has made.
    pub(super) fn detail(&self, detail: impl Into<String>) {
        self.0.lock().detail = Some(detail.into());
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Note {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

/// A record that waits for its answer. Dropped without one it is forgotten, or says that the caller
/// left.
pub(super) struct Pending {
    audit: Arc<Audit>,
    record: Option<AuditRecord>,
    note: Note,
    told_if_left: bool,
}

impl Pending {
    pub(super) fn new(audit: &Arc<Audit>, record: AuditRecord, note: Note) -> Self {
        Self {
            audit: Arc::clone(audit),
            record: Some(record),
            note,
            told_if_left: false,
        }
    }

    pub(super) fn by(&mut self, principal: &Principal) {
        if let Some(record) = &mut self.record {
            record.principal = Some(principal.name().to_owned());
        }
    }

    /// Something begins now that is carried out even if the caller leaves.
    pub(super) const fn tell_if_left(&mut self) {
        self.told_if_left = true;
    }

    pub(super) fn answered(mut self, response: &Response) {
        let Some(mut record) = self.record.take() else {
            return;
        };
        record.status = Some(response.status().as_u16());
        self.note.complete(&mut record);
        if let Some(Told { code, detail }) = response.extensions().get() {
            record.code = Some(*code);
            record.detail = Some(detail.clone());
        }
        self.audit.record(record);
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take().filter(|_| self.told_if_left) {
            self.note.complete(&mut record);
            let left = "no answer was given: the caller left before it, or the headend failed";
            let detail = record.detail.take();
            record.detail = Some(detail.map_or(left.to_owned(), |it| format!("{it}; {left}")));
            self.audit.record(record);
        }
    }
}

impl Note {
    fn complete(&self, record: &mut AuditRecord) {
        let mut noted = self.0.lock();
        record.target = noted.target.take().or(record.target.take());
        record.detail = noted.detail.take();
    }
}

/// Whether a limited caller asked for what is not theirs, or not there.
pub(super) fn is_miss(response: &Response) -> bool {
    let told: Option<&Told> = response.extensions().get();
    told.is_some_and(|told| {
        matches!(
            told.code,
            ProblemCode::UnknownAsset
                | ProblemCode::UnknownSite
                | ProblemCode::UnknownDispatch
                | ProblemCode::UnknownLimit
                | ProblemCode::UnknownStop
                | ProblemCode::UnknownEvent
        )
    })
}
