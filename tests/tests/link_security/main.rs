//! Who may speak on the agent link: TLS, certificates, tokens and claims, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod claims;
mod identity;
mod reload;
mod rig;
mod thousand;
mod trust;
