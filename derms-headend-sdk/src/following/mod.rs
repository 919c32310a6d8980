//! Whether an asset does what its order says.
//!
//! An agent reports `active` when the device has said yes; whether the device then moves is seen in
//! its telemetry. [`Watch`] compares the two, without I/O and without a clock; the headend keeps one
//! for every order that is in force and shows it as `following` of the dispatch. Nothing of it is
//! stored: after a restart it is found out again.

mod board;
mod watch;

pub(crate) use board::{Following, run};
pub use watch::{Rules, Watch};
