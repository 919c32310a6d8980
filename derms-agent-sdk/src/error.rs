//! What keeps an agent from being built or from running.

use derms_proto::AssetId;

/// What keeps an agent from being built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The headend's address can't be used.
    #[error("the headend address `{uri}` {problem}")]
    Headend {
        /// As it was given.
        uri: http::Uri,
        /// What is wrong and what to change.
        problem: &'static str,
    },
    /// What TLS needs is missing or wrong.
    #[error("TLS can't be set up")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The bearer token can't be used.
    #[error("the bearer token can't be used")]
    Token(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is nothing to serve.
    #[error("the agent has no asset; add one with `adapter(asset, adapter)`")]
    NoAsset,
    /// An asset was given twice.
    #[error("asset {asset_id} was added twice; give each asset one adapter")]
    DuplicateAsset {
        /// The asset.
        asset_id: AssetId,
    },
    /// More assets than one agent may serve.
    #[error("the agent has {count} assets, at most {limit} are possible; use several agents")]
    TooManyAssets {
        /// How many it has.
        count: usize,
        /// How many are possible.
        limit: usize,
    },
    /// An asset's numbers make no sense.
    #[error("asset {asset_id} ({name}): {problem}")]
    InvalidAsset {
        /// The asset.
        asset_id: AssetId,
        /// Its name.
        name: String,
        /// What is wrong and what to change.
        problem: String,
    },
    /// Assets of several sites, and no `agent_id`.
    #[error("the assets belong to several sites; say who the agent is with `agent_id(…)`")]
    AgentIdMissing,
    /// The state directory can't be used.
    #[error("the state directory `{}` can't be used", path.display())]
    StateDir {
        /// As it was given.
        path: std::path::PathBuf,
        /// Why: it can't be written, another process or another agent uses it, or a later version
        /// wrote it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why an asset is not added to a running agent, or not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The asset's numbers make no sense.
    #[error("asset {asset_id} ({name}): {problem}")]
    InvalidAsset {
        /// The asset.
        asset_id: AssetId,
        /// Its name.
        name: String,
        /// What is wrong and what to change.
        problem: String,
    },
    /// The agent serves as many assets as it may.
    #[error("the agent has {limit} assets already; use another agent")]
    TooManyAssets {
        /// How many are possible.
        limit: usize,
    },
    /// The agent does not serve this asset.
    #[error("the agent has no asset {asset_id}; add it first")]
    UnknownAsset {
        /// The asset.
        asset_id: AssetId,
    },
    /// A later change of the same asset has taken the place of this one.
    #[error("another change of the asset came before this one was done")]
    Overtaken,
    /// The agent stops, or has stopped.
    #[error("the agent has stopped; start it again")]
    Stopped,
}

/// What ends [`AgentRuntime::run`](crate::AgentRuntime::run), apart from a shutdown.
///
/// A headend that can't be reached or refuses the agent never does: the agent keeps trying.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The handler for SIGTERM and Ctrl-C can't be installed.
    #[error("can't listen for SIGTERM and Ctrl-C")]
    Signal(#[source] std::io::Error),
}
