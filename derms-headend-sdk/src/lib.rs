//! A DERMS headend as a tower service.


mod api;
mod auth;
mod body;
mod builder;
mod config;
mod core;
mod dispatcher;
mod error;
mod gateway;
mod headend;
mod ingest;
mod latest;
mod mailbox;
mod peer;
mod registry;
mod serve;
mod service;
pub mod store;

pub use api::openapi_json;
pub use auth::Principal;
pub use body::{Body, BodyError};
pub use builder::HeadendBuilder;
pub use derms_proto as proto;
pub use dispatcher::DispatchError;
pub use error::{BuildError, ServeError};
pub use headend::Headend;
pub use peer::PeerAddr;
pub use service::{HeadendService, ResponseFuture};
