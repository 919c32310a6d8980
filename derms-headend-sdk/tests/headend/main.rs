//! The headend as an integrator meets it: mostly requests into its service, without a socket.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod access;
mod agent;
mod agents;
mod audit;
mod bodies;
mod cancel;
mod dispatch;
mod document;
mod dropped;
mod events;
mod fleet;
mod following;
mod health;
mod limits;
mod live;
mod metrics;
mod mounted;
mod owasp;
mod parameters;
mod protection;
mod routing;
mod sick_store;
mod sockets;
mod stop;
mod support;
mod telemetry;
mod trouble;
