//! Implement one trait for your device and get a DER agent.
//!
//! ```no_run
//! use derms_agent_sdk::{AgentRuntime, proto::Fleet};
//! # use derms_agent_sdk::{AdapterError, Applied, DerAdapter, DeviceInfo, Reading, Setpoint, async_trait};
//! # struct Inverter;
//! # impl Inverter { fn open(_: &str) -> std::io::Result<Self> { Ok(Self) } }
//! # #[async_trait]
//! # impl DerAdapter for Inverter {
//! #     fn describe(&self) -> DeviceInfo { DeviceInfo::new(derms_agent_sdk::proto::AssetKind::Pv, "Acme", "I-1") }
//! #     async fn read(&self) -> Result<Reading, AdapterError> { Ok(Reading::default()) }
//! #     async fn apply(&self, _: &Setpoint) -> Result<Applied, AdapterError> { Ok(Applied::accepted()) }
//! #     async fn go_to_default(&self, _: derms_agent_sdk::proto::Power) -> Result<Applied, AdapterError> { Ok(Applied::accepted()) }
//! # }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let fleet = Fleet::load("assets.yaml")?;
//!     AgentRuntime::builder("http://headend.example:50051".parse()?)
//!         .adapter(fleet.assets()[0].clone(), Inverter::open("/dev/ttyS0")?)
//!         .shutdown_on_signal()
//!         .build()?
//!         .run()
//!         .await?;
//!     Ok(())
//! }
//! ```
//!
//! # The device
//! An adapter reads the device, applies setpoints and brings it to its default. Its page is the
//! contract between a device and this crate, and `testing::conformance` proves an adapter against
//! it, rule by rule. See [`DerAdapter`].
//!
//! # The agent
//! One process dials out and serves one asset or, as a gateway, many: each gets its adapter, and a
//! slow one delays no other. The link is built up again for ever. See [`AgentRuntime`] and
//! [`AgentBuilder`].
//!
//! # Orders
//! An order is checked, written down, started at most once, never after its deadline, and reported
//! with what the device answered. When its lease ends, the device is told what follows, with or
//! without a link. An order that comes again is answered with its outcome and not applied again.
//! When the link is lost for too long, an asset without a lease goes to its failsafe. Without a
//! [`state_dir`](AgentBuilder::state_dir) orders and logs are kept in memory: after a restart of
//! the process the asset is at its default. See [`DerAdapter`] for the device's part.
//!
//! # Telemetry
//! Each reading is stamped, numbered and kept until the headend has acknowledged it; after a lost
//! link it is sent again. The outbox is bounded, and what had to be dropped is declared. See
//! [`AgentBuilder::telemetry_outbox_bytes`].
//!
//! # Watching
//! [`AgentRuntime::handle`] gives a handle with a stream of events and a snapshot, and stops the
//! agent. See [`AgentEvent`] and [`AgentSnapshot`]; [`AgentHandle::counters`] gives numbers for
//! whatever collects metrics. The same events are logged with `tracing`;
//! the crate installs no subscriber and reads no environment.
//!
//! # Finding what is wrong
//! [`AgentBuilder::doctor`] looks at all that an agent needs, from its files to the headend's grants,
//! and says what to do; an agent that runs goes on. See [`doctor`].
//!
//! # Assets that come and go
//! [`AgentHandle::add`] and [`AgentHandle::remove`] change what a running agent serves. What is
//! removed ends truthfully and goes to its default; its revisions stay remembered.
//!
//! # Features
//! | name | what it adds | default |
//! |---|---|---|
//! | `sim` | simulated battery, PV, wind, EV charger, generating set, meter: reference adapters | no |
//! | `testing` | a scripted headend, a scripted device and the conformance kit, for tests | no |
//! | `tls` | `ClientTls`: `https` addresses, and a certificate of the agent's own | no |

mod adapter;
mod alarm;
mod backoff;
mod builder;
mod clock;
mod connect;
mod counters;
mod disk;
pub mod doctor;
mod error;
mod event;
mod forward;
mod outbox;
mod runtime;
mod session;
#[cfg(feature = "sim")]
pub mod sim;
mod state;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod token;

pub use adapter::{
    AdapterError, AdapterErrorKind, Applied, DerAdapter, DeviceInfo, Reading, Setpoint,
};
pub use alarm::{Alarm, AssetEvents};
pub use async_trait::async_trait;
pub use backoff::{Backoff, FullJitter};
pub use builder::AgentBuilder;
pub use counters::{AgentCounters, OrderCounters};
pub use derms_proto as proto;
pub use error::{BuildError, ChangeError, RunError};
pub use event::{AgentEvent, AgentSnapshot, AssetSnapshot, LinkState};
pub use runtime::{AgentEvents, AgentHandle, AgentRuntime};
#[cfg(feature = "tls")]
pub use tls::ClientTls;

#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(doctest, feature = "sim", feature = "testing"))]
#[doc = include_str!("../docs/adapter-guide.md")]
struct AdapterGuide;
