//! Development tasks: `cargo xtask ci` is what has to pass before anything is merged.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool talks on its standard streams"
)]

mod advisories;
mod api;
mod bench;
mod checks;
mod ci;
mod codegen;
mod contract;
mod deny;
mod deploy;
mod fuzz;
mod headend;
mod layering;
mod metrics;
mod msrv;
mod openapi;
mod package;
mod postgres;
mod python;
mod sbom;
mod shell;
mod step;
mod system;
mod timescaledb;
mod venv;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::shell::Result;
use crate::step::Step;
use crate::workspace::Workspace;

/// Development tasks of the DERMS core.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every check, in order, and stop at the first that fails.
    Ci {
        /// Print the names of the steps and run none.
        #[arg(long)]
        list: bool,
        /// Run this step alone; may be given several times.
        #[arg(long, value_name = "STEP", conflicts_with = "list")]
        only: Vec<Step>,
    },
    /// Write the Rust code and the descriptor set of the agent link.
    Codegen {
        /// Compare instead of writing, and fail on a difference.
        #[arg(long, conflicts_with = "release")]
        check: bool,
        /// Write the descriptor set that this release will be compared with for ever, such as 1.0.
        #[arg(long, value_name = "VERSION")]
        release: Option<String>,
        /// Overwrite the descriptor set of a release.
        #[arg(long, requires = "release")]
        force: bool,
    },
    /// Write the public API of each library to docs/api.
    Api {
        /// Compare instead of writing, and fail on a difference, on a crate that may not show, and
        /// on a break with the last release that the version does not tell.
        #[arg(long, conflicts_with = "release")]
        check: bool,
        /// Keep it as that of the version in Cargo.toml, with which later ones are compared.
        #[arg(long)]
        release: bool,
    },
    /// Write the OpenAPI document of the REST interface.
    Openapi {
        /// Compare instead of writing, and fail on a difference.
        #[arg(long)]
        check: bool,
    },
    /// Feed mutated inputs to the decoders of what strangers send.
    Fuzz(fuzz::Args),
    /// Write what is in each program and library, as CycloneDX, to target/sbom.
    Sbom,
    /// Measure the headend beside a bare gRPC server, and judge it by docs/performance.md.
    Bench {
        /// For the benchmark; `cargo xtask bench -- --help` tells which.
        #[arg(last = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    if let Some(code) = api::as_rustdoc() {
        return code;
    }
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    let workspace = Workspace::open()?;
    match args.task {
        Task::Ci { list: true, .. } => ci::list(),
        Task::Ci { only, .. } => ci::run(&workspace, &only)?,
        Task::Codegen {
            release: Some(version),
            force,
            ..
        } => codegen::release(&version, force)?,
        Task::Codegen { check: true, .. } => codegen::check(&workspace)?,
        Task::Codegen { .. } => codegen::write()?,
        Task::Api { check: true, .. } => api::check(&workspace)?,
        Task::Api { release: true, .. } => api::release(&workspace)?,
        Task::Api { .. } => api::write(&workspace)?,
        Task::Sbom => sbom::check(&workspace)?,
        Task::Fuzz(args) => fuzz::run(&workspace, &args)?,
        Task::Bench { args } => bench::run(&workspace, &args)?,
        Task::Openapi { check: true } => openapi::check(&openapi::generate()?)?,
        Task::Openapi { check: false } => openapi::write(&openapi::generate()?)?,
    }
    Ok(())
}
