//! `derms`, as an operator and a script use it: everything is a process.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod access;
mod asked;
mod events;
mod export;
mod help;
mod orders;
mod page;
mod secure;
mod shown;
mod terminal;
mod world;
