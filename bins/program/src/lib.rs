//! What the programs of this workspace have in common; no logic that an embedder of the SDKs
//! would miss.
//!
//! # How a program ends
//! 0: stopped on request, or `--help`. [`BAD_CONFIGURATION`] (64): flags, environment or a file
//! must be changed. [`START_FAILED`] (1): it could not do its work. Every failure is **one** line
//! on stderr that says what to change; see [`Failure`] and [`exit`].
//!
//! # Arguments
//! Flags first, environment second, default third; see [`parse`]. A subcommand lists what it uses;
//! see [`list_only`]. Addresses have one form in all
//! programs; see [`headend_uri`] and [`socket_address`].
//!
//! # Log
//! To stderr, as text or as JSON, as much as `RUST_LOG` says; see [`LogArgs`] and [`start_log`].
//! With the feature `otel`, spans go to the collector that `OTEL_EXPORTER_OTLP_ENDPOINT` names.
//!
//! # Checks
//! What a program finds out about itself, as text or as JSON; see [`tell_report`].
//!
//! # Being stopped
//! By SIGTERM, by Ctrl-C, or with whoever started the program; see [`Signals`] and [`parent_gone`].

mod address;
mod check;
mod failure;
mod log;
#[cfg(feature = "otel")]
mod otel;
mod parent;
mod parse;
mod signals;

pub use address::{headend_uri, socket_address};
pub use check::{ReportArgs, tell_report};
pub use failure::{BAD_CONFIGURATION, Failure, START_FAILED, chain};
pub use log::{Log, LogArgs, LogFormat, start_log};
pub use parent::parent_gone;
pub use parse::{Stop, exit, list_only, parse, parse_by, say};
pub use signals::{Hangups, Signals};
