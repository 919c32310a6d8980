//! What strangers may send, mutated and fed to every decoder.
//!
//! A [`Target`] is one decoder: a plain function over bytes, the inputs it begins with, and the
//! bounds it must keep. A [`worker`] process feeds it mutations of those inputs; a
//! [`supervisor`](supervise) starts the worker under limits and keeps the input that broke one.
//! The same functions run under libFuzzer with coverage (`fuzz/README.md`).

mod mutate;
mod shape;
pub mod supervise;
mod target;
pub mod targets;
pub mod worker;

pub use shape::Shape;
pub use target::{Target, Verdict, files_in};
