//! For tests: a scripted headend, a scripted device, and a kit that proves an adapter.
//!
//! [`FakeHeadend`] is a real gRPC server that does what the test says, in memory (with Tokio's
//! clock, which a test may pause) or on a loopback port. [`ScriptedAdapter`] records what it is
//! told and answers as it is told. What a test waits for and does not come within 60 s is a panic
//! that says what was missing. [`conformance`] runs an adapter of yours through its contract.
//!
//! ```
//! use derms_agent_sdk::AgentRuntime;
//! use derms_agent_sdk::testing::{Call, FakeHeadend, ScriptedAdapter, asset};
//! use derms_agent_sdk::proto::Power;
//! use derms_agent_sdk::proto::link::SetpointPhase;
//!
//! # tokio::runtime::Builder::new_current_thread()
//! #     .enable_all().start_paused(true).build()?.block_on(async {
//! let mut headend = FakeHeadend::in_memory();
//! let (asset, device) = (asset(1), ScriptedAdapter::new());
//! let agent = headend.agent().adapter(asset.clone(), device.clone()).build()?;
//! let mut tasks = tokio::task::JoinSet::new();
//! tasks.spawn(agent.run());
//!
//! let mut session = headend.accept_and_grant().await;
//! let order = session.order(asset.id, Power::from_mw(5.0));
//! session.setpoint(&order).await;
//! session.reported(order.dispatch_id, SetpointPhase::Started).await;
//! assert_eq!(device.setpoints(), [Power::from_mw(5.0)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod adapter;
pub mod conformance;
mod headend;
mod service;
mod session;

use std::time::Duration;

use derms_proto::{Asset, AssetId, AssetKind, Power, SiteId};

pub use self::adapter::{Call, ScriptedAdapter};
pub use self::headend::FakeHeadend;
pub use self::session::FakeSession;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asset number `number` of a test fleet: a battery of ±10 MW on site 0, with the default at
/// 0 MW and a failsafe after 90 s.
///
/// # Panics
/// Never.
#[must_use]
pub fn asset(number: u8) -> Asset {
    let id = |kind: &str, number: u8| format!("00000000-0000-4000-8000-{kind}{number:08x}");
    let asset: AssetId = id("a55e", number).parse().expect("this is a UUID");
    let site: SiteId = id("517e", 0).parse().expect("this is a UUID");
    let limit = Power::from_mw(10.0);
    let name = format!("BESS-{number}");
    let mut asset = Asset::new(asset, name, site, AssetKind::Battery, -limit, limit);
    asset.capacity_mwhr = 40.0;
    asset
}

/// Waits, but not for ever.
async fn patiently<T>(what: &str, future: impl Future<Output = Option<T>>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(Some(found)) => found,
        Ok(None) => panic!("the other side ended before {what} came"),
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}
