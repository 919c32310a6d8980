//! Link messages to protobuf and back: the only place that names generated fields, and the only
//! place where what comes from a peer is checked.
//!
//! - Out: `pb::AgentMessage::from(message)`, `pb::HeadendMessage::from(message)`. Nothing is
//!   checked; the sender is trusted to hold sense, and the receiver checks anyway.
//! - A [`Probe`](crate::link::Probe) and its answer, which are no messages of a stream, likewise.
//! - In: `AgentMessage::try_from(pb)?`, `HeadendMessage::try_from(pb)?`. Checked: numbers are
//!   finite, ids are UUIDs, times lie in the years 1 to 9999, durations are not negative, leases
//!   and intervals not zero, numbers of a log begin at 1 and do not overflow, gaps are in order.
//!
//! What can't be read costs as little as possible:
//!
//! | what | then |
//! |---|---|
//! | a sample, a report entry, a claim | `Err` in its place: the rest of the message counts |
//! | an asset in a heartbeat, a removed asset, a grant | left out |
//! | an agent's wall clock | no wall clock: it is a label |
//! | a text over [`MAX_TEXT_BYTES`], a name over [`MAX_NAME_BYTES`] | cut at a character |
//! | anything else | [`WireError`](crate::link::WireError): the session ends with `PROTOCOL_ERROR` |
//!
//! What a newer peer says is never an error: an unknown message is `Unknown`, an unknown field is
//! skipped, and an unknown enum value has the meaning that is stated for it:
//!
//! | enum | unspecified (0) | unknown |
//! |---|---|---|
//! | quality | good | uncertain |
//! | asset kind | other | other |
//! | availability | available | available |
//! | control source | default | default |
//! | device status | not measured | not measured |
//! | severity | info | warning |
//! | reason code | none | [`ReasonCode::Unknown`](crate::ReasonCode::Unknown) |
//! | close reason, grant status, gap reason, refusal code | unknown | unknown |
//! | setpoint phase | [`Report::Unknown`](crate::link::Report::Unknown) | the same |
//! | log kind in `Register` and `Registered` | `WireError` | left out |
//! | log kind in `LogAck` | `WireError` | the message is `Unknown` |

mod agent;
mod headend;
mod probe;
mod register;
mod report;
mod scalar;
mod telemetry;
mod trace;
mod word;

#[cfg(test)]
mod strategy;
#[cfg(test)]
mod tests;

pub use trace::TraceContext;

/// Longest text for people, bytes of UTF-8; what is longer is cut at a character.
pub const MAX_TEXT_BYTES: usize = 1024;

/// Longest name for programs (event code, software, capability, name of a detail), bytes of UTF-8.
///
/// Event codes and software are cut; a longer capability is left out; a sample with a longer name
/// of a detail is refused, for a cut one might be that of another detail.
pub const MAX_NAME_BYTES: usize = 128;

/// Most details of one sample; a sample with more is refused.
pub const MAX_DETAILS: usize = 64;

/// Most items in any list of a message; a message with more is a
/// [`WireError`](crate::link::WireError).
pub const MAX_ITEMS: usize = 4096;
