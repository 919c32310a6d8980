//! The steps of `cargo xtask ci`, in their order.

use clap::ValueEnum;

use crate::shell::Result;
use crate::workspace::Workspace;
use crate::{
    advisories, api, bench, checks, codegen, contract, deny, deploy, fuzz, layering, metrics, msrv,
    openapi, package, python, sbom, timescaledb,
};

/// One step; the order of the variants is the order they run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Formatting of every crate.
    Fmt,
    /// The checked-in code of the agent link is what the .proto gives.
    Codegen,
    /// Lints of every crate, target and feature; warnings are errors.
    Clippy,
    /// Every library, program, example and test compiles.
    Build,
    /// The checked-in OpenAPI document is what the code gives.
    Openapi,
    /// Every test and documentation example passes.
    Test,
    /// Stores keep what they promise on TimescaleDB, too: its Apache edition, made from Debian's source.
    Timescaledb,
    /// The documentation has no warnings.
    Doc,
    /// The public API is as listed, shows no crate but those that may, and keeps to its version.
    Api,
    /// Each library builds with no feature and with each feature alone.
    Features,
    /// Each library can be published: what is in its package builds, and says what it is.
    Package,
    /// No dependency asks for a later Rust than the libraries do.
    Msrv,
    /// Layering, banned crates, licences, sources, and lints in every package.
    Deny,
    /// No dependency has a known vulnerability.
    Advisories,
    /// What is in each program and library can be told, and comes out the same each time.
    Sbom,
    /// Mutated inputs break no decoder; each is fed for some seconds.
    Fuzz,
    /// An agent in another language, made from the .proto alone, serves an asset.
    Python,
    /// A headend that runs answers generated requests as its OpenAPI document says, to each role.
    ContractRest,
    /// The units and the image of docs/deploy are read by systemd, and take what the programs take.
    Deploy,
    /// Prometheus takes the metrics and the alert rules, and whatever is asked for is printed.
    Metrics,
    /// The benchmark works, with a few agents; no figure is judged.
    Bench,
}

impl Step {
    /// The name that `--only` takes.
    pub(crate) fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What passes when this step passes.
    pub(crate) fn about(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }

    pub(crate) fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Fmt => checks::fmt(),
            Self::Codegen => codegen::check(workspace),
            Self::Clippy => checks::clippy(),
            Self::Build => checks::build(),
            Self::Openapi => {
                checks::build()?;
                openapi::check(&openapi::from_build(workspace)?)
            }
            Self::Test => checks::test(),
            Self::Timescaledb => timescaledb::check(workspace),
            Self::Doc => checks::doc(),
            Self::Api => api::check(workspace),
            Self::Features => checks::features(workspace),
            Self::Package => package::check(workspace),
            Self::Msrv => msrv::check(workspace),
            Self::Deny => {
                layering::check()?;
                layering::lints(workspace)?;
                deny::check(workspace)
            }
            Self::Advisories => advisories::check(workspace),
            Self::Sbom => sbom::check(workspace),
            Self::Fuzz => {
                checks::build()?;
                fuzz::check(workspace)
            }
            Self::Python => {
                checks::build()?;
                python::check(workspace)
            }
            Self::ContractRest => {
                checks::build()?;
                contract::check(workspace)
            }
            Self::Deploy => {
                checks::build()?;
                deploy::check(workspace)
            }
            Self::Metrics => {
                checks::build()?;
                metrics::check(workspace)
            }
            Self::Bench => {
                checks::build()?;
                bench::smoke(workspace)
            }
        }
    }
}
