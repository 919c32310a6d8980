//! The words that all parts of a DERMS share: assets, telemetry, dispatches and the agent link.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use derms_proto::{Fleet, NewDispatch, Power};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let fleet = Fleet::load("assets.yaml")?;
//!     for asset in fleet.assets() {
//!         let order = NewDispatch::asset(asset.id, Power::from_kw(500.0))
//!             .lasting(Duration::from_secs(900));
//!         println!("{} at {}: allowed {}", asset.name, order.mw, asset.allows(order.mw));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Concepts
//! - **Power** is signed megawatts: positive = discharge, generation, export. See [`Power`].
//! - A **site** is a place, an **asset** one controllable or measured resource there, and all of
//!   them, checked, are the **fleet**, read from `assets.yaml`. See [`Fleet`].
//! - **Telemetry** is what was measured, with the time of the measurement; what was not measured is
//!   absent, never 0. See [`Measurements`].
//! - A **dispatch** is an operator's order with a life cycle that can be read back. See
//!   [`NewDispatch`] and [`DispatchStatus::may_become`].
//! - A **limit** holds over every order of its asset, a **stop** ends them. See [`PowerLimit`] and
//!   [`Stop`].
//! - An **event** is an alarm or a change of state that an operator acknowledges. See [`Event`].
//! - An order for a site is **split** over its assets by one pure function. See [`split()`].
//! - An **agent** is one process at the edge, with one session at a time. See [`AgentStatus`].
//! - REST answers in these types; long lists come in pages, errors as problems with a stable code.
//!   See [`Page`] and [`Problem`].
//! - What a program finds wrong with its configuration and surroundings is a **check** with a
//!   remedy. See [`CheckReport`].
//! - What happens now comes as a stream of items. See [`LiveItem`].
#![cfg_attr(
    feature = "grpc",
    doc = "- Agents and the headend talk over the **agent link**. See [`link`] for its messages and [`wire`]\n  for their form as protobuf."
)]
#![cfg_attr(
    not(feature = "grpc"),
    doc = "- Agents and the headend talk over the **agent link**: modules `link` and `wire`, with `grpc`."
)]
//!
//! # Features
//! | name | adds | default |
//! |---|---|---|
//! | `grpc` | `link`, `wire` and the generated protobuf code in `pb`; no `protoc` is needed | no |
//! | `client` | the generated gRPC client: what an agent needs; with `grpc` | no |
//! | `server` | the generated gRPC server: what a headend needs; with `grpc` | no |
//! | `schema` | `utoipa::ToSchema` on every REST type | no |
//! | `x509` | `CertificateFacts`: names and dates of a certificate | no |

mod agent;
mod asset;
mod audit;
#[cfg(feature = "x509")]
mod certificate;
mod check;
mod dispatch;
mod event;
mod fleet;
mod fleet_file;
mod id;
mod lenient;
mod limit;
mod live;
mod page;
mod preview;
mod problem;
mod quantity;
mod schedule;
mod shown;
mod split;
mod split_summary;
mod stop;
mod telemetry;
mod time;
mod trace;

pub use agent::{
    AgentMode, AgentStatus, AssetName, Availability, CloseReason, ControlSource, Heartbeat,
    SessionRecord,
};
pub use asset::{Asset, AssetKind, AssetStatus, Failsafe, FailsafePolicy, Site, SiteStatus};
pub use audit::AuditRecord;
#[cfg(feature = "x509")]
pub use certificate::CertificateFacts;
pub use check::{Check, CheckReport, CheckStatus};
pub use dispatch::{
    Actor, DEFAULT_TTL, Dispatch, DispatchStatus, MAX_DURATION, NewDispatch, ReasonCode, Transition,
};
pub use event::{Acknowledgement, Event, EventSource, NewAcknowledgement, Severity};
pub use fleet::{Fleet, FleetError};
pub use id::{
    AgentId, AssetId, AuditId, DispatchId, EventId, InstanceId, InvalidId, LimitId, LogId, SiteId,
    StopId,
};
pub use limit::{ControlStatus, LimitStatus, NewLimit, PowerLimit, PowerRange};
pub use live::{EndReason, InvalidLiveKind, LiveItem, LiveKind, ResetReason};
pub use page::{Cursor, Page};
pub use preview::{DispatchPreview, PreviewOrder, PreviewShare};
pub use problem::{Problem, ProblemCode, ProblemLimits};
pub use quantity::Power;
pub use schedule::{FollowUp, MAX_AHEAD};
pub use split::{Member, SPLIT_VERSION, Split, SplitPolicy, split};
pub use split_summary::{LeftOut, LeftOutReason, Resplit, SplitSummary};
pub use stop::{CONFIRM_STOP, DEFAULT_RETURN_WITHIN, NewStop, Stop, StopScope};
pub use telemetry::{
    Aggregate, Detail, DeviceStatus, Measurements, Quality, Telemetry, TelemetryBucket,
    TelemetryHistoryItem, TelemetrySnapshot,
};
pub use time::{InvalidTimestamp, Timestamp};
pub use trace::{SpanId, TraceId, Traceparent};

#[cfg(any(feature = "client", feature = "server"))]
mod codec;
#[cfg(feature = "grpc")]
pub mod link;
#[cfg(feature = "grpc")]
pub mod pb;
#[cfg(feature = "grpc")]
pub mod wire;
