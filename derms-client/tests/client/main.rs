//! The client against fakes of a headend, and against a real socket.

mod dispatch;
mod errors;
mod events;
mod fake;
mod limits;
mod live;
mod pages;
mod requests;
mod retries;
mod socket;
mod token;
