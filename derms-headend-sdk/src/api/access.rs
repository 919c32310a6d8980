//! Who may call what: the table of routes can't name one without saying it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use derms_proto::{AuditRecord, Problem, ProblemCode};
use http::{Extensions, HeaderMap, HeaderValue, header};
use tokio::time::{Instant, timeout};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::document::Refusal;
use super::problem::Failure;
use super::rates::Turn;
use super::record::{Note, Pending, is_miss};
use crate::auth::{Principal, Role, Unproved};
use crate::core::Core;
use crate::metrics::NO_ROUTE;
use crate::peer::PeerAddr;

/// A call is answered within this: the longest that a caller may ask to wait, and a store that tries
/// again for some time.
const LONGEST: Duration = Duration::from_secs(90);

/// An authenticator must tell within this who is calling.
pub(super) const LONGEST_PROOF: Duration = Duration::from_secs(10);

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Everyone: probes.
    Public,
    /// Everyone if the host says so, else a viewer: what the API says of itself.
    Docs,
    /// A viewer.
    Read,
    /// A viewer of all sites: what can't be told apart by site.
    Oversee,
    /// An operator; it changes something.
    Change,
    /// An operator; it makes something end or stand still, and is never held up by a rate.
    Halt,
    /// An admin of all sites.
    Administer,
}

impl Access {
    /// The least role, as the document tells it.
    const fn role(self) -> Option<Role> {
        match self {
            Self::Public => None,
            Self::Docs | Self::Read | Self::Oversee => Some(Role::Viewer),
            Self::Change | Self::Halt => Some(Role::Operator),
            Self::Administer => Some(Role::Admin),
        }
    }

    const fn changes(self) -> bool {
        matches!(self, Self::Change | Self::Halt)
    }

    /// What may be answered to a caller before the handler is asked, as the document tells it.
    pub(super) const fn refusals(self) -> &'static [Refusal] {
        use Refusal::{Forbidden, TooManyRequests, Unauthenticated};
        match self {
            Self::Public => &[],
            Self::Docs | Self::Read => &[Unauthenticated, TooManyRequests],
            Self::Oversee | Self::Change | Self::Halt | Self::Administer => {
                &[Unauthenticated, Forbidden, TooManyRequests]
            }
        }
    }

    fn check(self, principal: &Principal) -> Result<(), Problem> {
        let (has, needed) = (principal.role(), self.role());
        if let Some(needed) = needed.filter(|needed| has < *needed) {
            let text = format!("this needs the role {needed}, and yours is {has}");
            return Err(Problem::new(ProblemCode::Forbidden, text));
        }
        let of_all_sites = matches!(self, Self::Administer | Self::Oversee);
        if let Some(needed) = needed.filter(|_| of_all_sites && principal.sites().is_some()) {
            let text =
                format!("this needs the role {needed} of all sites, and you are limited to some");
            return Err(Problem::new(ProblemCode::Forbidden, text));
        }
        Ok(())
    }
}

/// The caller showed a token with the request: it can be asked again whether that still counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByToken;

/// A route, as the gate in front of it knows it.
#[derive(Debug, Clone)]
struct Route {
    access: Access,
    /// What it does, in the audit trail.
    action: Arc<str>,
    /// The template of its path.
    path: Arc<str>,
}

/// The table of routes.
pub(super) struct Routes(OpenApiRouter<Arc<Core>>);

impl Routes {
    pub(super) fn new(document: OpenApi) -> Self {
        Self(OpenApiRouter::with_openapi(document))
    }

    /// Adds a documented route.
    pub(super) fn to(self, access: Access, route: UtoipaMethodRouter<Arc<Core>>) -> Self {
        let (schemas, mut paths, methods) = route;
        let role = access
            .role()
            .map_or("none".to_owned(), |role| role.to_string());
        let mut action = None;
        for item in paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                let shown = BTreeMap::from([("x-role", role.as_str())]);
                operation.extensions = Some(shown.into_iter().collect());
                for refusal in access.refusals() {
                    let responses = &mut operation.responses.responses;
                    let status = responses.entry(refusal.status().to_owned());
                    // What a handler says of a status tells this, too.
                    status.or_insert_with(|| refusal.reference());
                }
                action = operation.operation_id.clone();
            }
        }
        let path = paths.paths.keys().next().map_or(NO_ROUTE, String::as_str);
        let methods = guarded(
            access,
            action.as_deref().unwrap_or("unknown"),
            path,
            methods,
        );
        Self(self.0.routes((schemas, paths, methods)))
    }

    /// Adds a route that is not documented.
    pub(super) fn undocumented(
        self,
        access: Access,
        path: &str,
        methods: MethodRouter<Arc<Core>>,
    ) -> Self {
        Self(
            self.0
                .route(path, guarded(access, "get_docs", path, methods)),
        )
    }

    pub(super) fn split(self) -> (Router<Arc<Core>>, OpenApi) {
        self.0.split_for_parts()
    }
}

fn guarded(
    access: Access,
    action: &str,
    path: &str,
    methods: MethodRouter<Arc<Core>>,
) -> MethodRouter<Arc<Core>> {
    let route = Route {
        access,
        action: action.into(),
        path: path.into(),
    };
    methods.route_layer(from_fn(move |request, next| {
        counted(route.clone(), request, next)
    }))
}

/// Lets a request pass to its handler, or not, and counts how it was answered.
async fn counted(route: Route, request: Request, next: Next) -> Response {
    let core = match core_of(&request) {
        Ok(core) => core,
        Err(failure) => return failure.into_response(),
    };
    let (method, began) = (request.method().clone(), Instant::now());
    let path = Arc::clone(&route.path);
    let response = gate(&core, route, request, next).await;
    let http = &core.metrics.http;
    http.answered(&method, &path, response.status(), began.elapsed());
    response
}

/// Lets a request pass to its handler, or not, and records what became of it.
async fn gate(core: &Arc<Core>, route: Route, mut request: Request, next: Next) -> Response {
    let Route { access, action, .. } = route;
    if access == Access::Public || access == Access::Docs && core.config.public_docs {
        return next.run(request).await;
    }
    let note = Note::default();
    let record = begin(core, &action, &request);
    let mut pending = Pending::new(&core.audit, record, note.clone());
    let principal = match identify(core, request.extensions(), request.headers()).await {
        Ok(principal) => principal,
        Err(refusal) => return failed_login(core, &request, pending, refusal),
    };
    if let Some(principal) = &principal {
        pending.by(principal);
        if let Err(problem) = access.check(principal) {
            // Of a stop as well: what is refused ends nothing, and each would be a record.
            if let Err(failure) = core.rates.call(principal) {
                return failure.into_response();
            }
            let refusal = Failure::from(problem).into_response();
            pending.answered(&refusal);
            return refusal;
        }
        if access != Access::Halt
            && let Err(failure) = core.rates.call(principal)
        {
            return failure.into_response();
        }
    }
    let taken = core
        .rates
        .take_in_hand(principal.as_ref(), access.changes());
    let turn = match taken {
        Ok(in_hand) => Turn::new(in_hand),
        Err(_) if access == Access::Halt => Turn::default(),
        Err(failure) => return failure.into_response(),
    };
    let is_limited = principal.as_ref().is_some_and(|it| it.sites().is_some());
    if let Some(principal) = principal {
        if request.extensions_mut().insert(principal).is_none() {
            request.extensions_mut().insert(ByToken);
        }
        // Only theirs ends early: those who wait are bounded by their rate, and nobody else has one.
        request.extensions_mut().insert(turn.clone());
    }
    if !access.changes() {
        let response = answer(request, next).await;
        if is_limited && is_miss(&response) {
            pending.answered(&response);
        }
        return response;
    }
    pending.tell_if_left();
    request.extensions_mut().insert(note);
    let response = answer(request, next).await;
    pending.answered(&response);
    response
}

async fn answer(request: Request, next: Next) -> Response {
    let answered = timeout(LONGEST, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let text = "the store did not answer in time; what was asked for may have been done";
        Failure::from(Problem::new(ProblemCode::StoreUnavailable, text)).into_response()
    })
}

/// The answer to who is not known. When too many failed from one address, they are told so, and are
/// not worth a record each.
fn failed_login(core: &Core, request: &Request, pending: Pending, refusal: Response) -> Response {
    let peer: Option<&PeerAddr> = request.extensions().get();
    match core.rates.failed_login(peer.map(|peer| peer.0.ip())) {
        Ok(()) => {
            pending.answered(&refusal);
            refusal
        }
        Err(failure) => failure.into_response(),
    }
}

fn begin(core: &Core, action: &str, request: &Request) -> AuditRecord {
    let peer: Option<&PeerAddr> = request.extensions().get();
    AuditRecord {
        peer: peer.map(|peer| peer.0.to_string()),
        // Until its handler has read what it is about.
        target: Some(request.uri().path().to_owned()),
        ..core.audit.begin(action)
    }
}

/// Lets nobody see what is there and what is not who may not see anything.
pub(super) async fn known_caller(request: Request, next: Next) -> Response {
    let core = match core_of(&request) {
        Ok(core) => core,
        Err(failure) => return failure.into_response(),
    };
    let (method, began) = (request.method().clone(), Instant::now());
    let response = told_to_known(&core, request, next).await;
    let http = &core.metrics.http;
    http.answered(&method, NO_ROUTE, response.status(), began.elapsed());
    response
}

async fn told_to_known(core: &Arc<Core>, request: Request, next: Next) -> Response {
    match identify(core, request.extensions(), request.headers()).await {
        Ok(principal) => match principal.map_or(Ok(()), |who| core.rates.call(&who)) {
            Ok(()) => next.run(request).await,
            Err(failure) => failure.into_response(),
        },
        Err(refusal) => {
            let record = begin(core, "no_such_path", &request);
            let pending = Pending::new(&core.audit, record, Note::default());
            failed_login(core, &request, pending, refusal)
        }
    }
}

// Not the whole request: a body can't be shared with another thread.
async fn identify(
    core: &Core,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<Option<Principal>, Response> {
    let asked = &core.config.authentication;
    let identified = timeout(LONGEST_PROOF, asked.identify(extensions.get(), headers)).await;
    let identified = identified.map_err(|_| {
        tracing::warn!("an authenticator did not answer in time; its caller was turned away");
        let text = "who you are could not be found out in time; try again, the log tells more";
        Failure::from(Problem::new(ProblemCode::Internal, text)).into_response()
    })?;
    identified.map_err(challenge)
}

fn challenge(unproved: Unproved) -> Response {
    let problem = Problem::new(ProblemCode::Unauthenticated, unproved.text());
    let mut response = Failure::from(problem).into_response();
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(unproved.challenge()),
    );
    response
}

/// Put there by the router; without it nobody may do anything.
fn core_of(request: &Request) -> Result<Arc<Core>, Failure> {
    let core = request.extensions().get::<Arc<Core>>().cloned();
    core.ok_or_else(|| {
        tracing::error!("a route has no headend behind it");
        Problem::new(ProblemCode::Internal, "the log of the headend tells more").into()
    })
}
