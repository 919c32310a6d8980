//! The decoders. A new one is a file here, a row in [`ALL`], and a folder in `corpus/`.
//!
//! What broke a decoder once lies in `corpus/<target>/` for ever: each run begins with it.

mod access_files;
mod answers;
mod fleet;
mod folder;
mod jwt;
mod messages;
mod pem;
#[doc(hidden)]
pub mod planted;
mod rest;
mod state_dir;
mod stream;

use std::sync::OnceLock;

use derms_headend_sdk::Headend;
use derms_proto::Fleet;
use tokio::runtime::Runtime;

use crate::Target;

/// Every decoder, in the order they are fed.
pub const ALL: &[Target] = &[
    messages::AGENT,
    messages::HEADEND,
    messages::PROBE_REQUEST,
    messages::PROBE_ANSWER,
    stream::TARGET,
    state_dir::TARGET,
    fleet::TARGET,
    rest::TARGET,
    answers::TARGET,
    jwt::TOKEN,
    jwt::CLAIMS,
    access_files::TOKEN_FILE,
    access_files::JWKS,
    access_files::AGENT_TOKENS,
    pem::TARGET,
];

/// The target of this name, the planted ones among them.
#[must_use]
pub fn named(name: &str) -> Option<&'static Target> {
    let mut all = ALL.iter().chain(planted::ALL);
    all.find(|target| target.name == name)
}

const MIB: u64 = 1 << 20;

/// The sample fleet.
fn fleet() -> &'static Fleet {
    static FLEET: OnceLock<Fleet> = OnceLock::new();
    let yaml = include_str!("../../../assets.yaml");
    FLEET.get_or_init(|| Fleet::from_yaml(yaml, "assets.yaml").expect("the sample fleet loads"))
}

/// One thread, and a clock that jumps when there is nothing to do: no input waits for a timer.
fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true);
    runtime.build().expect("a runtime starts")
}

/// A headend of the sample fleet that remembers nothing of the input before.
async fn headend() -> Headend {
    let builder = Headend::builder(fleet().clone());
    builder.build().await.expect("the defaults are valid")
}
