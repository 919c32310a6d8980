//! Peers that abuse the protocol below: everybody else goes on as if they were not there.
//!
//! Each test starts `der_headend` and an honest agent as processes, abuses the port that agents use,
//! and meanwhile gives orders that must be in force within 2 s, reads REST, and looks at the
//! headend's memory.

#![allow(clippy::unwrap_used, reason = "a test that finds nothing has failed")]

mod floods;
mod frames;
mod plant;
mod slow;
