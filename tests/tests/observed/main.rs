//! What a host's own subscriber sees of a headend and an agent.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod quiet;
mod rig;
mod traces;
