//! The programs as processes: what they say, how they end, what they survive.
#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod access;
mod check;
mod check_headend;
mod configuration;
mod control;
mod db;
mod events;
mod gateway;
mod help;
mod life;
mod logs;
mod metrics;
mod otel;
mod restart;
mod same_answers;
mod secrets;
mod taken_over;
mod tls;
mod watch;

const BESS_1: &str = "7ba7b810-9dad-11d1-80b4-00c04fd430c8";
const BESS_2: &str = "7ba7b811-9dad-11d1-80b4-00c04fd430c8";
const JERSEY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

const PROGRAMS: [&str; 3] = ["der_headend", "edge_agent", "agent_launcher"];
