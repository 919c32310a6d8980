//! What can go wrong when a headend is put together or serves.

use std::net::SocketAddr;

use crate::store::StoreError;

/// Why a headend could not be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is out of its range.
    #[error("{setting} is out of range: {remedy}")]
    OutOfRange {
        /// The setting, by the name of its method.
        setting: &'static str,
        /// What to give instead.
        remedy: &'static str,
    },
    /// The store can't be read.
    #[error("can't take up what the store holds")]
    Store(#[from] StoreError),
    /// The metrics can't be set up: a fault of this crate.
    #[error("can't set up the metrics, which is a fault of the headend; report it")]
    Metrics(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a headend could not listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address can't be bound.
    #[error("can't listen on {address}; is the port taken?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}
