//! A typed REST client for a DERMS headend: read assets and telemetry, send dispatches, follow them to their end.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use derms_client::{Client, proto::{NewDispatch, Power}};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::new("http://127.0.0.1:3001".parse()?)?;
//!     let assets = client.assets().await?;
//!     let battery = &assets.first().ok_or("the fleet is empty")?.asset;
//!     let order = NewDispatch::asset(battery.id, Power::from_mw(5.0));
//!     let dispatch = client.dispatch(&order.lasting(Duration::from_secs(900))).await?;
//!     let done = client.wait(dispatch.id).await?;
//!     println!("{} ended as {:?}", done.id, done.status);
//!     Ok(())
//! }
//! ```
//!
//! # Calls
//! One method per REST call, in the words of [`proto`] (`derms-proto`, re-exported): ids and
//! [`Power`](proto::Power) are types, `mw > 0` is export, a value that was not measured is `None`.
//! All calls share one request path and need a tokio runtime with its timer enabled. See
//! [`Client`].
//!
//! # Where requests go
//! [`Client::new`] speaks HTTP/1.1 over TCP. [`Client::with_service`] sends into any
//! [`tower::Service`](tower_service::Service) instead: a TLS connector, a stack of middleware, or a
//! headend in the same process, with no socket between. A base with a path reaches a headend that
//! is nested under that path. See [`ClientBuilder`] for time limits, credentials and headers.
//!
//! # Errors
//! [`Error`] tells who must act: the caller, the network, the headend. An answer of the headend
//! carries its stable [`code`](Error::code); [`is_retryable`](Error::is_retryable) says whether the
//! same call may be made again without a second effect. See [`Error`].
//!
//! # Retries
//! Reads, and orders under an `Idempotency-Key`, are repeated after a transient failure
//! ([`ClientBuilder::retries`]). [`Client::dispatch`] makes such a key for each call, so that a
//! repeat never gives a second order. Nothing else is repeated. See [`DispatchOptions`] for a key
//! of your own.
//!
//! # Histories
//! Long lists come in pages. A history call is a [`PageRequest`]: awaited, it gives one
//! [`Page`](proto::Page); [`items`](PageRequest::items) gives a stream over all of them, see
//! [`Items`]; [`csv`](PageRequest::csv) gives them as text for spreadsheets, see [`CsvPages`].
//!
//! # What happens now
//! [`Client::live`] is a stream of measurements, orders, sessions and events as they come. It
//! reconnects by itself and goes on where it was; where it can't, it says so. See [`Live`].
//! [`Client::events`] lists the alarms and changes of state that there were, and
//! [`Client::acknowledge`] takes note of one.
//!
//! # Features
//! | name | what it adds | default |
//! |---|---|---|
//! | `tls` | `https` base addresses, `ClientBuilder::ca` | no |

mod agents;
mod assets;
mod audit;
mod builder;
mod client;
mod csv;
mod dispatch;
mod error;
mod events;
mod heartbeat;
mod limits;
mod live;
mod pages;
mod query;
mod retry;
mod service;
mod sse;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod token;
mod transport;

pub use derms_proto as proto;

pub use builder::ClientBuilder;
pub use client::Client;
pub use csv::CsvPages;
pub use dispatch::DispatchOptions;
pub use error::{BoxError, Error};
pub use live::Live;
pub use pages::{Items, PageFuture, PageRequest};
pub use query::{
    AuditHistoryQuery, DispatchHistoryQuery, EventHistoryQuery, HistoryQuery, LimitHistoryQuery,
    LiveQuery, TelemetryHistoryQuery,
};
pub use transport::Body;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../docs/client-guide.md")]
struct ClientGuide;
