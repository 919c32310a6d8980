//! Contract tests that any [`Store`] can be run through.
//!
//! ```
//! use derms_headend_sdk::store::{MemoryStore, conformance};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), conformance::BrokenContract> {
//! conformance::check(async || MemoryStore::new()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Each [`Sentence`] of the contract has a check of its own on a fresh store, which makes up the
//! ids of its agents, assets and orders: a store must not ask for a fleet. Run it on a runtime of
//! several threads, so that calls are made at the same time. What can't be seen from outside is not
//! checked: that `Ok` is durable, and that a call that fails half-way leaves nothing.

mod audit;
mod cancels;
mod events;
pub(crate) mod kit;
mod limits;
mod lives;
mod orders;
mod pages;
mod reports;
mod retention;
mod samples;
mod shares;

#[cfg(test)]
mod tests;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Store, StoreError};

/// A sentence of the contract, with the check of it.
#[derive(Clone, Copy)]
pub struct Sentence {
    text: &'static str,
    check: fn(Arc<dyn Store>) -> Checking,
}

type Checking = Pin<Box<dyn Future<Output = Result<(), Broken>>>>;

/// How a store breaks a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Broken {
    /// It did something else.
    #[error("{0}")]
    Otherwise(String),
    /// A call failed.
    #[error("a call failed")]
    Failed(#[from] StoreError),
}

/// The sentences that a store breaks, with how it does.
#[non_exhaustive]
pub struct BrokenContract {
    /// At least one.
    pub sentences: Vec<(Sentence, Broken)>,
}

/// Checks every sentence, each on a store of its own that `make` gives: an empty one.
///
/// # Errors
/// The sentences that do not hold.
pub async fn check<S: Store>(make: impl AsyncFn() -> S) -> Result<(), BrokenContract> {
    let mut sentences = Vec::new();
    for sentence in Sentence::all() {
        if let Err(broken) = sentence.check(make().await).await {
            sentences.push((sentence, broken));
        }
    }
    if sentences.is_empty() {
        Ok(())
    } else {
        Err(BrokenContract { sentences })
    }
}

impl Sentence {
    /// The whole contract.
    #[must_use]
    pub fn all() -> Vec<Self> {
        [
            lives::ALL,
            samples::ALL,
            orders::ALL,
            cancels::ALL,
            shares::ALL,
            reports::ALL,
            limits::ALL,
            pages::ALL,
            retention::ALL,
            audit::ALL,
            events::ALL,
        ]
        .concat()
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Checks it on an empty store.
    ///
    /// # Errors
    /// It does not hold.
    pub async fn check(&self, store: impl Store) -> Result<(), Broken> {
        (self.check)(Arc::new(store)).await
    }
}

impl fmt::Debug for Sentence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Display for BrokenContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store breaks its contract:")?;
        for (sentence, broken) in &self.sentences {
            write!(f, "\n- {}: {broken}", sentence.text)?;
            if let Broken::Failed(error) = broken {
                write!(f, ": {error}")?;
            }
        }
        Ok(())
    }
}

/// As [`Display`](fmt::Display), so that a test that unwraps it can be read.
impl fmt::Debug for BrokenContract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for BrokenContract {}
