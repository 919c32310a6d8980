//! The OpenAPI document: what the attributes on handlers and types can't say.

use derms_proto::{FollowUp, LiveItem, Problem};
use utoipa::openapi::schema::{ArrayItems, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, Header, HeaderBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder,
};
use utoipa::{Modify, OpenApi as _, ToSchema as _};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "DERMS headend",
        description = "See and steer distributed energy resources.\n\n\
            Power is in MW: positive = discharge, generation, export; negative = charge, \
            consumption, import. Energy is in MWh, reactive power in MVAr, times are RFC 3339 UTC. \
            A value that was not measured is null, never 0. Every error is \
            application/problem+json with a stable `code`; an unknown query parameter is one.",
    ),
    // A type that only a parameter names is not found by itself.
    components(schemas(derms_proto::LiveKind)),
    // Relative to where this document is read, so that it holds under any prefix.
    servers((url = ".", description = "The headend that serves this document")),
    tags(
        (name = "fleet", description = "What is configured, and what of it is connected"),
        (name = "telemetry", description = "What is happening now, and what happened"),
        (name = "dispatch", description = "Orders, and what became of them"),
        (name = "limits", description = "What holds over all orders: limits and stops"),
        (name = "events", description = "Alarms and changes of state"),
        (name = "service", description = "About the headend itself"),
    )
)]
struct Document;

/// The document without its paths.
pub(super) fn start() -> OpenApi {
    Document::openapi()
}

/// Completes the document when all paths are in it.
pub(super) fn finish(document: &mut OpenApi) {
    Refusals.modify(document);
    Sent.modify(document);
    NamedItems.modify(document);
    TaggedItems.modify(document);
    AnyProblem.modify(document);
    Bearer.modify(document);
}

/// What a caller may be answered before a handler is asked, described once for all operations.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Unauthenticated,
    Forbidden,
    TooManyRequests,
}

impl Refusal {
    const ALL: [Self; 3] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::TooManyRequests,
    ];

    pub(super) const fn status(self) -> &'static str {
        match self {
            Self::Unauthenticated => "401",
            Self::Forbidden => "403",
            Self::TooManyRequests => "429",
        }
    }

    pub(super) fn reference(self) -> RefOr<Response> {
        Ref::from_response_name(self.name()).into()
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Unauthenticated",
            Self::Forbidden => "Forbidden",
            Self::TooManyRequests => "TooManyRequests",
        }
    }

    fn response(self) -> Response {
        let (text, header) = match self {
            Self::Unauthenticated => (
                "`unauthenticated`: the headend asks who is calling, and this is not known",
                Some(("WWW-Authenticate", "What to prove oneself by, RFC 6750")),
            ),
            Self::Forbidden => (
                "`forbidden`: the role of the caller or the sites that it is limited to do not reach",
                None,
            ),
            Self::TooManyRequests => (
                "`too_many_requests`: too often, too many at once, or too many failed logins",
                Some(("Retry-After", "When to try again, in whole seconds")),
            ),
        };
        let mut response = problem(text);
        response.headers.extend(header.map(|(name, text)| {
            let header = HeaderBuilder::from(Header::default()).description(Some(text));
            (name.to_owned(), header.build().into())
        }));
        response
    }
}

struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        if let Some(components) = &mut document.components {
            let all = Refusal::ALL.map(|it| (it.name().to_owned(), it.response().into()));
            components.responses.extend(all);
        }
    }
}

fn problem(text: &str) -> Response {
    let schema = Ref::from_schema_name(Problem::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(text)
        .content("application/problem+json", content)
        .build()
}

/// What callers prove themselves by, if the headend asks for it.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "Asked for if the headend is set up so. `x-role` of an operation is the least role.",
            ))
            .build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
        }
        // Either of the two: a headend without authentication asks nobody.
        document.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new("bearer", [] as [&str; 0]),
        ]);
    }
}

/// Requests, which are read more strictly than the types that they share with answers tell.
struct Sent;

impl Modify for Sent {
    fn modify(&self, document: &mut OpenApi) {
        let items = document.paths.paths.values_mut();
        let operations = items.flat_map(|item| [&mut item.get, &mut item.post, &mut item.delete]);
        let parameters = operations.flatten().flat_map(|it| &mut it.parameters);
        for parameter in parameters.flatten() {
            if let RefOr::T(parameter) = parameter {
                parameter.schema.iter_mut().for_each(without_unknown);
            }
        }
        let schemas = document.components.iter_mut().flat_map(|c| &mut c.schemas);
        for (name, schema) in schemas {
            if let RefOr::T(Schema::Object(body)) = schema
                && name.starts_with("New")
            {
                body.properties.values_mut().for_each(without_unknown);
            }
            // One of two words with a value is ambiguous, and refused.
            if *name == FollowUp::name()
                && let RefOr::T(Schema::OneOf(kinds)) = schema
            {
                for kind in &mut kinds.items {
                    if let RefOr::T(Schema::Object(kind)) = kind
                        && !kind.properties.is_empty()
                    {
                        kind.max_properties = Some(1);
                    }
                }
            }
        }
    }
}

/// `unknown` stands for a word of a newer headend; nobody can ask for it.
fn without_unknown(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let Some(words) = &mut object.enum_values {
                words.retain(|word| word != "unknown");
            }
        }
        RefOr::T(Schema::OneOf(either)) => either.items.iter_mut().for_each(without_unknown),
        _ => {}
    }
}

/// The items of a page by name: the derive of a generic type writes them out in place.
struct NamedItems;

impl Modify for NamedItems {
    fn modify(&self, document: &mut OpenApi) {
        let schemas = document.components.iter_mut().flat_map(|c| &mut c.schemas);
        for (name, schema) in schemas {
            if let Some(item) = name.strip_prefix("Page_")
                && let RefOr::T(Schema::Object(page)) = schema
                && let Some(RefOr::T(Schema::Array(items))) = page.properties.get_mut("items")
            {
                items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(item).into()));
            }
        }
    }
}

/// The word that tells the items of a live stream apart: the derive gives it no description.
struct TaggedItems;

impl Modify for TaggedItems {
    fn modify(&self, document: &mut OpenApi) {
        let schemas = document.components.as_mut().map(|c| &mut c.schemas);
        let items = schemas.and_then(|schemas| schemas.get_mut(&*LiveItem::name()));
        let Some(RefOr::T(Schema::OneOf(items))) = items else {
            return;
        };
        for item in &mut items.items {
            describe_kind(item);
        }
    }
}

fn describe_kind(item: &mut RefOr<Schema>) {
    match item {
        RefOr::T(Schema::AllOf(parts)) => parts.items.iter_mut().for_each(describe_kind),
        RefOr::T(Schema::Object(object)) => {
            if let Some(RefOr::T(Schema::Object(kind))) = object.properties.get_mut("kind") {
                kind.description = Some("What the item is.".to_owned());
            }
        }
        _ => {}
    }
}

/// What any call can meet: a fault of the headend, a host's layer that says no.
struct AnyProblem;

impl Modify for AnyProblem {
    fn modify(&self, document: &mut OpenApi) {
        let response = problem("Any other problem, with its `code`");
        for item in document.paths.paths.values_mut() {
            for operation in [&mut item.get, &mut item.post, &mut item.delete]
                .into_iter()
                .flatten()
            {
                let responses = &mut operation.responses.responses;
                responses.insert("default".to_owned(), response.clone().into());
            }
        }
    }
}
