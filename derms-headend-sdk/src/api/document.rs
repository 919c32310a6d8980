//! The OpenAPI document: what the attributes on handlers and types can't say.

use derms_proto::Problem;
use utoipa::openapi::schema::{ArrayItems, Schema};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
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
    NamedItems.modify(document);
    AnyProblem.modify(document);
    Bearer.modify(document);
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

/// What any call can meet: a fault of the headend, a method or a host's layer that says no.
struct AnyProblem;

impl Modify for AnyProblem {
    fn modify(&self, document: &mut OpenApi) {
        let problem = Ref::from_schema_name(Problem::name());
        let content = ContentBuilder::new().schema(Some(problem)).build();
        let response = ResponseBuilder::new()
            .description("Any other problem, with its `code`")
            .content("application/problem+json", content)
            .build();
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
