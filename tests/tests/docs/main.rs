//! The pages for who operates a fleet: what they show is run, what they name exists.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod api;
mod commissioning;
mod page;
mod runbook;
mod store_guide;
