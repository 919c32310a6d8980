//! The order protocol as a model, searched through whole: every interleaving within the bounds.
//!
//! One asset, two orders and one cancel; a headend whose store outlives it; two sessions, with
//! messages that are lost, overtake each other, or come late from the session before; an agent
//! whose state directory outlives it, and one that has none; a clock of a few ticks. Each rule
//! names the function that it mirrors, so that a rule which changes there is changed here.
//!
//! Left out, for other tests have them: the numbers and acknowledgements of the logs
//! (`session/tests/model.rs` of the agent, the contract of the stores), grants, ratings and the
//! estimate of the clock, a disk or a device that refuses, the link-loss failsafe, and an agent that
//! stops in good order. After its one restart the agent's disk answers at once.
//!
//! The bounds are in [`world`]; `checks.rs` says how many states they give. The search is our own:
//! `stateright`, the crate for this, brings a web server, two more hash maps and a random generator
//! along, for what is 70 lines here.

mod agent;
mod checks;
mod headend;
mod properties;
mod search;
mod step;
mod world;
