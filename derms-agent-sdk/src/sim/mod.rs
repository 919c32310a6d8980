//! Simulated devices: reference adapters for demonstrations, tests and bring-up.
//!
//! [`for_asset`] gives an adapter that fits the asset:
//!
//! | kind | what it does | a setpoint is |
//! |---|---|---|
//! | `battery` | state of charge, losses in each direction, stops softly at its bounds | followed |
//! | `pv` | half a sine of daylight by UTC (about 06:00 to 18:00), clouds | an upper limit |
//! | `wind` | slowly varying wind, power curve with cut-in and cut-out | an upper limit |
//! | `ev_charger` | vehicles come and go, each wants its own energy | a limit of its charging |
//! | `meter` | a daily load curve | refused as unsupported |
//! | `genset` | start-up delay, least load | followed once it runs |
//! | `other` | a battery where it stores and can charge, else a source without delay | followed |
//!
//! Power moves within the asset's ramp, or within that of the setpoint where it is tighter; what
//! weather does to a plant is not ramped. Values are plausible, differ from asset to asset, and
//! are the same for the same seed, asset and times of the calls. Time is that of
//! [`tokio::time::Instant`], so a paused clock drives them. A device is simulated when it is
//! called; between calls nothing runs.
//!
//! ```
//! use derms_agent_sdk::{DerAdapter, Setpoint, sim};
//! use derms_agent_sdk::proto::{Asset, AssetKind, Power};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut asset = Asset::new(
//!     "7ba7b810-9dad-11d1-80b4-00c04fd430c8".parse()?,
//!     "BESS-1",
//!     "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse()?,
//!     AssetKind::Battery,
//!     Power::from_mw(-60.0),
//!     Power::from_mw(60.0),
//! );
//! asset.capacity_mwhr = 120.0;
//! let device = sim::for_asset(&asset, 42);
//! device.apply(&Setpoint::new(Power::from_mw(5.0))).await?;
//! assert_eq!(device.read().await?.measurements.mw, Some(Power::from_mw(5.0)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod battery;
mod curtail;
mod device;
mod drive;
mod ev_charger;
mod genset;
mod meter;
mod noise;
mod pv;
mod source;
mod terminal;
#[cfg(test)]
mod tests;
mod wind;

pub use device::SimulatedDevice;

use derms_proto::Asset;

/// A simulated device for this asset; see the [module's page](self) for what it does.
///
/// `seed` and the asset's id choose its values. It starts now, by this machine's wall clock;
/// [`SimulatedDevice`] can start at any other time of day.
#[must_use]
pub fn for_asset(asset: &Asset, seed: u64) -> SimulatedDevice {
    SimulatedDevice::new(asset, seed)
}
