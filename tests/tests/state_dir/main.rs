//! Agents with a state directory, as processes that are killed.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod disk;
mod kill;
mod rig;

const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
