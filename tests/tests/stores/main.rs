//! Stores on disks and servers, under the contract of all stores and under what only they can
//! suffer.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod contract;
mod days;
mod dictionary;
mod durable;
mod facts;
mod fleet;
mod holder;
mod hypertables;
mod opening;
mod outage;
mod partitions;
mod place;
mod race;
mod recent;
mod rollup;
mod scale;
mod server;
mod speed;
