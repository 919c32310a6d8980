//! Proves an adapter against the contract of [`DerAdapter`].
//!
//! One call runs an adapter through reading, setpoints over its whole range, repetitions, the end
//! of a lease, calls that are dropped at each of their await points, and reads beside commands,
//! and tells what became of each [`Rule`] by name, with a remedy for what was broken:
//!
#![cfg_attr(feature = "sim", doc = "```")]
#![cfg_attr(not(feature = "sim"), doc = "```ignore")]
//! use derms_agent_sdk::sim;
//! use derms_agent_sdk::testing::{asset, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread()
//! #     .enable_all().start_paused(true).build()?.block_on(async {
//! let asset = asset(1); // that of your device
//! let report = conformance::check(&asset, async || sim::for_asset(&asset, 7)).await;
//! println!("{report}");
//! report.assert_passed();
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Before you run it on a real device
//! **The device is moved over its whole range**, several times: use a test bench, or an asset
//! whose limits are narrow enough for the site. It is left at its default. Nothing else may
//! command it meanwhile. Each part of the kit opens the adapter anew and drops it after use, so a
//! serial port is never opened twice at once.
//!
//! # Time
//! Everything is timed by Tokio's clock. With simulated or scripted devices under a paused clock a
//! run takes milliseconds; with a real device about a minute plus the time that it needs to move.
//! How long a device may take to arrive is [`Kit::settling`] plus the way at the asset's ramp.
//!
//! # What it can't see
//! An adapter that never reads a power can't be followed, one that scales the power wrongly in
//! both directions looks right, and so does one that returns a made-up value which happens to
//! fit. Compare once with a meter of your own.

mod events;
mod follow;
mod kit;
mod orders;
mod probe;
mod report;
mod rule;
mod sweep;
#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
mod trouble;

use derms_proto::Asset;

pub use kit::{Kit, Response};
pub use report::{Checked, Outcome, Report};
pub use rule::Rule;

use crate::DerAdapter;

/// Runs an adapter through the kit with its stated defaults; see [`Kit`] for what can be set.
///
/// `open` gives the adapter of the device behind `asset`; it is called once for each part.
pub async fn check<A: DerAdapter>(asset: &Asset, open: impl AsyncFn() -> A) -> Report {
    Kit::new(asset).check(open).await
}
