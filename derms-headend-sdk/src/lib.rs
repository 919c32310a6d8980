//! A DERMS headend as a tower service: agents over gRPC, operators over REST.
//!
//! ```no_run
//! use derms_headend_sdk::{Headend, proto::Fleet};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let headend = Headend::builder(Fleet::load("assets.yaml")?).build().await?;
//!     let listener = Headend::bind("127.0.0.1:3001".parse()?)?;
//!     let interrupted = async { drop(tokio::signal::ctrl_c().await) };
//!     headend.serve(vec![(listener, headend.service())], interrupted).await;
//!     Ok(())
//! }
//! ```
//!
//! # The headend
//! One handle for everything: it is built from a fleet, gives services, takes orders, serves and
//! shuts down. Several run in one process. See [`Headend`] and [`HeadendBuilder`].
//!
//! # The service
//! REST and the agent link are one [`tower::Service`](tower_service::Service) over any body, or one
//! each. Mounted in an axum application it keeps to its prefix:
//! `Router::new().nest_service("/derms", headend.service())`. It never fails; every failure is a
//! response. See [`HeadendService`].
//!
//! # Serving
//! [`Headend::serve`] needs no other server: HTTP/1.1 and HTTP/2 on each port, keep-alive that
//! finds a black hole within 20 s, limits against slow clients, and an end that comes although
//! agents' streams never end by themselves. A host with a listener of its own owes its agents the
//! same, above all HTTP/2 keep-alive; or it mounts [`Headend::rest_service`] and lets
//! [`Headend::serve`] have the agents' port. See [`PeerAddr`] for what it should tell.
//!
//! # Who may do what
//! Unless told to, the service asks nobody who they are: put your own layer in front, which lets a
//! request pass and inserts who made it, or let the headend check bearer tokens. Roles, sites, rates
//! and an audit trail come with either. See [`auth`] and [`Principal`].
//!
//! Agents prove who they are by a certificate (`ServerTls`), a token ([`AgentTokens`]), the word of a
//! proxy ([`TrustedProxies`]) or that of the host ([`AgentIdentity`]); which assets they may serve is
//! in the fleet or said by an [`AgentPolicy`].
//!
//! # REST
//! Assets, agents, telemetry, dispatches, with OpenAPI 3.1 at `/openapi.json` and a page to try it
//! at `/docs`, both from the binary itself. Every error is `application/problem+json` with a stable
//! code. What happens comes as server-sent events at `/stream`. See [`openapi_json`],
//! [`proto::Problem`], [`proto::Dispatch`] and [`proto::LiveItem`].
//!
//! # Orders
//! An order is checked, split over a site's assets, committed, sent, and followed until its agent
//! has told its end; what is not known is never guessed. See [`Headend::dispatch`] and
//! [`proto::DispatchStatus`].
//!
//! # The store
//! History, orders and epochs are kept behind one trait; nothing is acknowledged to an agent before
//! it is stored. See [`store::Store`] and [`store::MemoryStore`].
//!
//! # Watching
//! The crate logs with `tracing`; it installs no subscriber, reads no environment and binds no port
//! unasked. `GET /healthz` and `GET /readyz` are for probes. What it counts is at `GET /metrics` and in
//! [`Headend::metrics`], of each headend for itself. See [`HeadendService`].
//!
//! # Features
//! | name | what it adds | default |
//! |---|---|---|
//! | `conformance` | contract tests that any [`store::Store`] can be run through | no |
//! | `sqlite` | `store::SqliteStore`, a file; SQLite itself is compiled in | no |
//! | `postgres` | `store::PostgresStore`, a database, with TimescaleDB where it is there | no |
//! | `tls` | `ServerTls`: TLS on the listeners, agents known by their certificates | no |

mod api;
mod audit;
pub mod auth;
mod backlog;
mod bell;
mod body;
mod builder;
mod certificate;
mod config;
mod core;
mod dispatcher;
mod error;
mod events;
pub mod following;
mod gateway;
mod headend;
mod idempotency;
mod identity;
mod ingest;
mod latest;
mod limits;
mod link_auth;
mod live;
mod mailbox;
mod metrics;
mod peer;
mod policy;
mod prune;
mod refusals;
mod registry;
mod serve;
mod service;
pub mod store;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod trace;

pub use api::openapi_json;
pub use async_trait::async_trait;
pub use auth::Principal;
pub use body::{Body, BodyError};
pub use builder::HeadendBuilder;
pub use derms_proto as proto;
pub use dispatcher::DispatchError;
pub use error::{BuildError, ServeError};
pub use headend::Headend;
pub use identity::AgentIdentity;
pub use limits::{LimitError, StopError};
pub use link_auth::{AgentTokens, InvalidProxy, TokensError, TrustedProxies};
pub use peer::{Encrypted, PeerAddr};
pub use policy::AgentPolicy;
pub use refusals::LinkRefusals;
pub use service::{HeadendService, ResponseFuture};
#[cfg(feature = "tls")]
pub use tls::{ServerTls, ServerTlsBuilder, TlsError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/embedding.md")]
struct EmbeddingGuide;

#[cfg(doctest)]
#[doc = include_str!("../docs/auth.md")]
struct AuthGuide;

#[cfg(all(doctest, feature = "conformance"))]
#[doc = include_str!("../docs/store-guide.md")]
struct StoreGuide;
